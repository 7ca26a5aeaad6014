//! The form for the token, and the way out again.

use axum::Extension;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Redirect, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize;

use super::super::error::Problem;
use super::super::guard::Peer;
use super::super::request::read;
use super::session::{COOKIE, LONGEST};
use super::viewer::{Scheme, own_page};
use super::{Desk, draw};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Presented {
    token: String,
}

pub(super) async fn form(State(desk): State<Desk>) -> Result<Response, Problem> {
    if desk.guard.is_without_tokens() {
        return Ok(Redirect::to("/").into_response());
    }
    draw::login(None)
}

pub(super) async fn log_in(
    State(desk): State<Desk>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Result<Response, Problem> {
    let scheme = own_page(request.headers())?;
    let bytes = read(request).await?;
    let presented: Presented = serde_urlencoded::from_bytes(&bytes)
        .map_err(|error| Problem::malformed(format!("the form: {error}")))?;
    match desk.guard.log_in(presented.token.trim().as_bytes(), &peer) {
        Ok(id) => {
            let secure = match scheme {
                Scheme::Http => "",
                Scheme::Https => "; Secure",
            };
            let cookie = format!(
                "{COOKIE}={id}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}{secure}",
                LONGEST.as_secs()
            );
            Ok(go_home(&cookie))
        }
        Err(problem) => {
            let mut response = draw::login(Some(problem.detail()))?;
            // a wait that is asked for, and the challenge, are the problem's
            let refused = problem.into_response();
            *response.status_mut() = refused.status();
            for name in [header::RETRY_AFTER, header::WWW_AUTHENTICATE] {
                if let Some(value) = refused.headers().get(&name) {
                    response.headers_mut().insert(name, value.clone());
                }
            }
            Ok(response)
        }
    }
}

pub(super) async fn log_out(
    State(desk): State<Desk>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    own_page(&headers)?;
    desk.guard.sessions().close(&headers);
    Ok(go_home(&format!(
        "{COOKIE}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0"
    )))
}

fn go_home(cookie: &str) -> Response {
    let mut response = (StatusCode::SEE_OTHER, [(header::LOCATION, "/")]).into_response();
    // hexadecimal and what stands above
    if let Ok(cookie) = HeaderValue::from_str(cookie) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}
