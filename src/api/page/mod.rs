//! The page at `/` of the control listener: where the traffic is, live, and buttons for what the caller may do.
//!
//! Server-rendered, so that it reads without a script and its forms work without one; the script only fetches the same page
//! again when `/events` says that something happened, and puts the parts that changed in place. Everything that is shown came
//! from a configuration, a server or a person, and is escaped by the template engine; the policy in [`POLICY`] leaves nothing
//! to run or to load that is not one of the three files here.
//!
//! | file | owns |
//! |---|---|
//! | `session` | who is logged in |
//! | `viewer` | who looks, what they may do, and that a form came from this very page |
//! | `show` | the overview and one service |
//! | `card` | one service as values for the templates |
//! | `behind` | one service behind an alias, likewise |
//! | `action` | the buttons, each with the command that does the same |
//! | `chart` | the last hour as paths of pictures |
//! | `act` | what a button does |
//! | `login` | the form for the token |
//! | `draw` | the templates |
//!
//! **Forged requests.** A form is taken only with an `Origin` that is this listener's own scheme, host and port, or with
//! `Sec-Fetch-Site: same-origin`; a browser sends one of them with every POST, and no page can change either. That is needed
//! besides `SameSite=Strict`, for which all ports of a host are one site, and where there is no token and so no cookie. It makes
//! a token in each form unnecessary, and works with any number of open tabs after a restart.

mod act;
mod action;
mod behind;
mod card;
mod chart;
mod draw;
mod login;
mod session;
mod show;
mod viewer;
mod walk;

use std::sync::Arc;

use axum::Router;
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::{HeaderName, HeaderValue, header};

use super::guard::Guard;
use super::routes::Api;
pub(super) use session::{Sessions, Stay};

/// Own style sheet, own script, own icon, own addresses; nothing inline, no frames, no other base, forms to here alone.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// What the handlers of the page need.
#[derive(Debug, Clone)]
struct Desk {
    api: Api,
    guard: Arc<Guard>,
}

/// True if this path is the page's: it decides itself what to show to whom.
pub(super) fn owns(path: &str) -> bool {
    path == "/" || path.starts_with("/page/")
}

/// Its paths, behind no guard yet.
pub(super) fn paths(api: Api, guard: Arc<Guard>) -> Router {
    Router::new()
        .route("/", get(show::overview))
        .route("/page/services/{service}", get(show::service))
        .route("/page/services/{service}/{verb}", post(act::act))
        .route("/page/login", get(login::form).post(login::log_in))
        .route("/page/logout", post(login::log_out))
        .route("/page/style.css", get(style))
        .route("/page/live.js", get(script))
        .route("/page/icon.svg", get(icon))
        .layer(map_response(headers))
        .with_state(Desk { api, guard })
}

async fn headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let texts = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_FRAME_OPTIONS, "DENY"),
        // not `no-referrer`: with that, browsers send `Origin: null` with the page's own forms
        (header::REFERRER_POLICY, "same-origin"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ];
    for (name, text) in texts {
        headers.insert(name, HeaderValue::from_static(text));
    }
    response
}

async fn style() -> impl IntoResponse {
    file(
        "text/css; charset=utf-8",
        include_str!("../../../templates/dashboard/style.css"),
    )
}

async fn script() -> impl IntoResponse {
    file(
        "text/javascript; charset=utf-8",
        include_str!("../../../templates/dashboard/live.js"),
    )
}

async fn icon() -> impl IntoResponse {
    file(
        "image/svg+xml",
        include_str!("../../../templates/dashboard/icon.svg"),
    )
}

fn file(kind: &'static str, text: &'static str) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, kind)], text)
}
