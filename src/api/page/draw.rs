//! The templates, compiled in, with every value escaped for HTML. A template that fails is a defect of this program.

use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Error, UndefinedBehavior};
use serde::Serialize;

use super::super::error::Problem;
use crate::domain::describe;

const TEMPLATES: [(&str, &str); 6] = [
    (
        "base.html",
        include_str!("../../../templates/dashboard/base.html"),
    ),
    (
        "parts.html",
        include_str!("../../../templates/dashboard/parts.html"),
    ),
    (
        "overview.html",
        include_str!("../../../templates/dashboard/overview.html"),
    ),
    (
        "service.html",
        include_str!("../../../templates/dashboard/service.html"),
    ),
    (
        "login.html",
        include_str!("../../../templates/dashboard/login.html"),
    ),
    (
        "refusal.html",
        include_str!("../../../templates/dashboard/refusal.html"),
    ),
];

static ENVIRONMENT: LazyLock<Result<Environment<'static>, Error>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    // whatever a template is called: all of them are pages
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()?;
    environment.set_syntax(syntax);
    for (name, source) in TEMPLATES {
        environment.add_template(name, source)?;
    }
    Ok(environment)
});

#[derive(Serialize)]
struct Said<'a> {
    title: &'a str,
    detail: Option<&'a str>,
    /// Whether ticking a box would help.
    can_force: bool,
}

fn text(name: &str, values: &impl Serialize) -> Result<String, Problem> {
    let broken = |error: &Error| {
        let error = describe(error);
        tracing::error!(error, template = name, "the page could not be drawn");
        Problem::incomplete(format!("the page could not be drawn: {error}"))
    };
    let environment = ENVIRONMENT.as_ref().map_err(broken)?;
    environment
        .get_template(name)
        .and_then(|template| template.render(Serde(values)))
        .map_err(|error| broken(&error))
}

/// A page of this template.
pub(super) fn page(name: &str, values: &impl Serialize) -> Result<Response, Problem> {
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, html)], text(name, values)?).into_response())
}

/// The form for the token, and why the last one was not taken.
pub(super) fn login(problem: Option<&str>) -> Result<Response, Problem> {
    page(
        "login.html",
        &Said {
            title: "Log in – turnout",
            detail: problem,
            can_force: false,
        },
    )
}

/// A problem in its own words, with its status.
pub(super) fn refusal(problem: &Problem) -> Result<Response, Problem> {
    let said = Said {
        title: problem.title(),
        detail: Some(problem.detail()),
        can_force: problem.detail().contains("--force"),
    };
    let mut response = page("refusal.html", &said)?;
    *response.status_mut() =
        StatusCode::from_u16(problem.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Ok(response)
}
