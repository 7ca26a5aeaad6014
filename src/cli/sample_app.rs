//! `turnout sample-app`: a small application to try turnout with. It says who it is, and fails, waits and echoes on request.
//! Never part of what turnout does for others.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Request, State};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, http};
use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::domain::Color;

const BACKEND: HeaderName = HeaderName::from_static("x-backend");

/// A small application to try turnout with.
#[derive(Debug, Clone, Args)]
pub struct SampleApp {
    /// The color it says it is.
    #[arg(long, env = "ENVIRONMENT_COLOR")]
    pub color: Color,
    /// Where it listens; without it the variable PORT, then `APPLICATION_PORT`.
    #[arg(long, env = "PORT")]
    pub port: Option<u16>,
    /// The version it says it is.
    #[arg(long, env = "APP_VERSION", default_value = "v1.0.0")]
    pub app_version: String,
    /// The address it listens on.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub listen: IpAddr,
    /// The share of requests, from 0 to 1, that get status 500 (/health aside).
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    pub error_rate: f64,
    /// How long each request waits (/health aside), such as 50ms.
    #[arg(long, default_value = "0ms", value_parser = duration)]
    pub delay: Duration,
}

fn share(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| "it is a number from 0 to 1".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    text.parse::<jiff::SignedDuration>()
        .ok()
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or_else(|| "it is a duration such as 50ms or 2s".to_owned())
}

/// Why the sample application does not run.
#[derive(Debug, thiserror::Error)]
pub enum SampleAppError {
    /// No port was given.
    #[error("name the port: --port, or one of the variables PORT and APPLICATION_PORT")]
    NoPort,
    /// The address cannot be listened on.
    #[error("failed to listen on {address}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// SIGTERM cannot be waited for, or accepting failed.
    #[error("failed to serve")]
    Serve(#[source] std::io::Error),
}

/// Runs until SIGTERM or SIGINT, then finishes what is in flight.
pub(super) async fn run(args: SampleApp) -> Result<(), SampleAppError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(SampleAppError::Serve)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(SampleAppError::Serve)?;
    let port = args
        .port
        .or_else(|| std::env::var("APPLICATION_PORT").ok()?.parse().ok())
        .ok_or(SampleAppError::NoPort)?;
    let address = SocketAddr::new(args.listen, port);
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| SampleAppError::Listen { address, source })?;
    tracing::info!(color = %args.color, version = args.app_version, %address, "sample application serves");
    let asked_to_end = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    axum::serve(listener, router(args))
        .with_graceful_shutdown(asked_to_end)
        .await
        .map_err(SampleAppError::Serve)
}

#[derive(Debug)]
struct App {
    args: SampleApp,
    begun: Instant,
}

fn router(args: SampleApp) -> Router {
    let app = Arc::new(App {
        args,
        begun: Instant::now(),
    });
    Router::new()
        .route("/", get(page))
        .route("/slow/{milliseconds}", get(slow))
        .route("/status/{code}", get(status))
        .route("/echo", post(echo))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), trouble))
        .route("/health", get(health))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), signed))
        .with_state(app)
}

/// Waits and fails as told on the command line.
async fn trouble(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if !app.args.delay.is_zero() {
        tokio::time::sleep(app.args.delay).await;
    }
    if app.args.error_rate > 0.0 && rand::random::<f64>() < app.args.error_rate {
        return (StatusCode::INTERNAL_SERVER_ERROR, "failed as told\n").into_response();
    }
    next.run(request).await
}

async fn signed(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let color = HeaderValue::from_static(app.args.color.as_str());
    response.headers_mut().insert(BACKEND, color);
    response
}

/// The health document of CONTRACT 7.
async fn health(State(app): State<Arc<App>>) -> Json<Value> {
    // a name that is no text is `null`, like one that cannot be had
    let hostname = nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok());
    Json(json!({
        "status": "healthy",
        "environment": app.args.color,
        "version": app.args.app_version,
        "uptime_seconds": app.begun.elapsed().as_secs(),
        "timestamp": jiff::Timestamp::now().to_string(),
        "hostname": hostname,
        "database_connected": true,
    }))
}

async fn page(State(app): State<Arc<App>>) -> Html<String> {
    let (color, version) = (app.args.color, escaped(&app.args.app_version));
    let background = match color {
        Color::Blue => "#1f5fbf",
        Color::Green => "#1e7d45",
    };
    let pid = std::process::id();
    Html(format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>{color} {version}</title>\
         <body style=\"margin:0;min-height:100vh;display:grid;place-content:center;text-align:center;\
         background:{background};color:#fff;font-family:system-ui,sans-serif\">\
         <h1 style=\"font-size:4rem;margin:0\">{color}</h1><p>{version} · pid {pid}</p></body></html>\n"
    ))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

async fn slow(Path(milliseconds): Path<u64>) -> String {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    format!("after {milliseconds} ms\n")
}

async fn status(Path(code): Path<u16>) -> Response {
    match StatusCode::from_u16(code) {
        Ok(status) if (200..600).contains(&code) => status.into_response(),
        Ok(_) | Err(_) => (StatusCode::BAD_REQUEST, "from 200 to 599\n").into_response(),
    }
}

async fn echo(method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Json<Value> {
    let mut lines = Map::new();
    for name in headers.keys() {
        let values: Vec<_> = headers
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()))
            .collect();
        lines.insert(name.to_string(), values.join(", ").into());
    }
    Json(json!({
        "method": method.as_str(),
        "path": uri.path_and_query().map(ToString::to_string),
        "headers": lines,
        "body": String::from_utf8_lossy(&body),
    }))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use clap::{Command, FromArgMatches};
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    fn parsed(words: &[&str]) -> Result<SampleApp, String> {
        let command = SampleApp::augment_args(Command::new("sample-app"));
        let words = ["sample-app"].iter().chain(words);
        let matches = command
            .try_get_matches_from(words)
            .map_err(|error| error.to_string())?;
        SampleApp::from_arg_matches(&matches).map_err(|error| error.to_string())
    }

    fn app(words: &[&str]) -> Router {
        let mut all = vec![
            "--color",
            "green",
            "--port",
            "5002",
            "--app-version",
            "v1.1.0",
        ];
        all.extend(words);
        router(parsed(&all).unwrap())
    }

    async fn asked(app: Router, request: http::Request<Body>) -> (StatusCode, HeaderMap, Bytes) {
        let (parts, body) = app.oneshot(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (parts.status, parts.headers, body)
    }

    fn to(path: &str) -> http::Request<Body> {
        http::Request::get(path).body(Body::empty()).unwrap()
    }

    #[tokio::test]
    async fn the_health_document_has_the_fields_of_the_design() {
        let (status, headers, body) = asked(app(&["--error-rate", "1"]), to("/health")).await;
        assert_eq!(
            (status, &headers[BACKEND]),
            (StatusCode::OK, &HeaderValue::from_static("green"))
        );
        let document: Value = serde_json::from_slice(&body).unwrap();
        let keys: Vec<_> = document.as_object().unwrap().keys().collect();
        assert_eq!(
            keys,
            [
                "status",
                "environment",
                "version",
                "uptime_seconds",
                "timestamp",
                "hostname",
                "database_connected"
            ]
        );
        assert_eq!(document["environment"], "green");
        assert_eq!(document["version"], "v1.1.0");
        assert_eq!(document["status"], "healthy");
    }

    #[tokio::test]
    async fn an_echo_shows_the_request_as_it_came() {
        let request = http::Request::post("/echo?a=%20b&&c")
            .header("x-one", "1")
            .header("x-one", "2")
            .body(Body::from("hello"))
            .unwrap();
        let (_, _, body) = asked(app(&[]), request).await;
        assert_eq!(
            serde_json::from_slice::<Value>(&body).unwrap(),
            json!({"method": "POST", "path": "/echo?a=%20b&&c", "headers": {"x-one": "1, 2"}, "body": "hello"})
        );
    }

    #[tokio::test]
    async fn status_and_failure_come_as_told() {
        for (path, expected) in [
            ("/status/418", 418),
            ("/status/99", 400),
            ("/", 200),
            ("/nothing", 404),
        ] {
            let (status, headers, _) = asked(app(&[]), to(path)).await;
            assert_eq!(
                (status.as_u16(), &headers[BACKEND]),
                (expected, &HeaderValue::from_static("green")),
                "{path}"
            );
        }
        let (status, _, _) = asked(app(&["--error-rate", "1"]), to("/")).await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    }

    #[test]
    fn arguments_out_of_range_are_refused() {
        for (words, expected) in [
            (&["--color", "red"][..], "it is blue or green"),
            (&["--color", "blue", "--error-rate", "1.5"], "from 0 to 1"),
            (&["--color", "blue", "--delay", "soon"], "such as 50ms"),
        ] {
            let error = parsed(words).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        assert_eq!(
            parsed(&["--color", "blue", "--delay", "1s 50ms"])
                .unwrap()
                .delay,
            Duration::from_millis(1_050)
        );
    }
}
