//! `GET /metrics`: everything that is counted or known, for Prometheus. `OpenMetrics`, or Prometheus' older text for who asks for
//! `text/plain` alone.
//!
//! What is not known has no series: an unprobed server is neither up nor down. A scrape waits for no change and asks no balancer.
//! A service with `metrics: false` has no series at all.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Method, header};
use jiff::Timestamp;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::error::Problem;
use super::known::Known;
use super::routes::Api;
use super::traffic::Traffic;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The commit that was built, where the build says it.
const COMMIT: &str = match option_env!("TURNOUT_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// The requests to this API that were answered. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Answered(Family<Question, Counter>);

/// The path is the API's own pattern and not what was asked, so that strangers cannot make series.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Question {
    route: String,
    method: &'static str,
    code: u16,
}

/// Counts an answer on its way out.
pub(super) async fn count(
    State(answered): State<Answered>,
    request: Request,
    next: Next,
) -> Response {
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or_else(|| "other".to_owned(), |path| path.as_str().to_owned());
    let method = match *request.method() {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    };
    let response = next.run(request).await;
    let code = response.status().as_u16();
    let question = Question {
        route,
        method,
        code,
    };
    answered.0.get_or_create(&question).inc();
    response
}

/// Figures for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "health", responses(
    (status = 200, description = "OpenMetrics. Names begin with `turnout_`; labels are `service` and `color`.", content(
        (String = "application/openmetrics-text"),
        (String = "text/plain"),
    )),
))]
pub(super) async fn metrics(
    State(api): State<Api>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let holder = api.handle.lock_holder().await;
    // with 2,000 services this takes long enough to be in others' way
    let written = tokio::task::spawn_blocking(move || {
        let held = holder.map(|holder| holder.since.duration_until(Timestamp::now()));
        write(&api, held.map_or(0.0, |held| held.as_secs_f64().max(0.0)))
    });
    let Ok(Ok(text)) = written.await else {
        return Err(Problem::incomplete("the metrics cannot be written"));
    };
    Ok(if wants_plain(&headers) {
        ([(header::CONTENT_TYPE, PLAIN)], plain(&text)).into_response()
    } else {
        ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response()
    })
}

fn write(api: &Api, lock_held: f64) -> Result<String, std::fmt::Error> {
    let mut registry = Registry::with_prefix("turnout");
    registry.register(
        "build",
        "The program that runs",
        Info::new([("version", env!("CARGO_PKG_VERSION")), ("commit", COMMIT)]),
    );
    api.handle.meter().register(&mut registry);
    registry.register(
        "api_requests",
        "Requests to the control API, by its own pattern of their path",
        api.answered.0.clone(),
    );
    let sight = api.handle.meter().sight();
    let status = api.handle.status();
    let counted = api.handle.counted();
    registry.register_collector(Box::new(Traffic {
        status: Arc::clone(&status),
        counted,
    }));
    registry.register_collector(Box::new(Known {
        status,
        sight,
        last: api.handle.meter().last_apply(),
        lock_held,
    }));
    let mut out = String::new();
    text::encode(&mut out, &registry)?;
    Ok(out)
}

/// True for who names the older form and not the newer one.
fn wants_plain(headers: &HeaderMap) -> bool {
    let mut accepted = headers.get_all(header::ACCEPT).iter();
    let named = |word: &str| {
        let mut lines = headers.get_all(header::ACCEPT).iter();
        lines.any(|line| line.to_str().is_ok_and(|line| line.contains(word)))
    };
    accepted.next().is_some() && named("text/plain") && !named("openmetrics")
}

/// The same in Prometheus' text format 0.0.4: a counter's family is called as its samples are, and there is no `info`, `UNIT` or
/// `EOF`.
fn plain(open: &str) -> String {
    let mut out = String::with_capacity(open.len());
    let mut help: Option<(&str, &str)> = None;
    for line in open.lines() {
        if let Some((name, text)) = line
            .strip_prefix("# HELP ")
            .and_then(|rest| rest.split_once(' '))
        {
            // its name is known once the type is, on the next line
            help = Some((name, text));
        } else if let Some((name, kind)) = line
            .strip_prefix("# TYPE ")
            .and_then(|rest| rest.split_once(' '))
        {
            let (ending, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                other => ("", other),
            };
            let text = help.take().filter(|(of, _)| *of == name);
            let text = text.map_or("", |(_, text)| text);
            // writing to a String cannot fail
            let (Ok(()) | Err(_)) = writeln!(
                out,
                "# HELP {name}{ending} {text}\n# TYPE {name}{ending} {kind}"
            );
        } else if !line.starts_with('#') {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn the_older_text_names_families_as_their_samples() {
        let open = "# HELP a Things.\n# TYPE a counter\na_total{x=\"1\"} 2\n# HELP b B.\n# TYPE b info\nb_info{v=\"1\"} 1\n\
                    # HELP c C.\n# TYPE c gauge\n# UNIT c seconds\nc 0.5\n# EOF\n";
        assert_eq!(
            plain(open),
            "# HELP a_total Things.\n# TYPE a_total counter\na_total{x=\"1\"} 2\n# HELP b_info B.\n# TYPE b_info gauge\n\
             b_info{v=\"1\"} 1\n# HELP c C.\n# TYPE c gauge\nc 0.5\n"
        );
    }

    #[test]
    fn only_who_names_the_older_form_alone_gets_it() {
        for (accept, older) in [
            (None, false),
            (Some("*/*"), false),
            (Some("text/plain"), true),
            (
                Some(
                    "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                ),
                false,
            ),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            }
            assert_eq!(wants_plain(&headers), older, "{accept:?}");
        }
    }
}
