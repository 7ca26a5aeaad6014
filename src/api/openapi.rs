//! The OpenAPI document of the control API, at `/openapi.json`.
//!
//! Nothing in it is written twice: each handler says its path, bodies and answers beside itself (`#[utoipa::path]`), the routes
//! are made of the same words, the schemas are those of the types that are read and written, and what each request needs is
//! asked of the guard. A new path is a handler with `#[utoipa::path]` and a `.routes(routes!(…))` in `routes`; this file adds
//! what the guard and the reading of bodies may answer to any of them. It must never describe what is not served.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Extension;
use axum::response::{IntoResponse, Response};
use http::header;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::Operation;
use utoipa::openapi::response::Response as Answer;
use utoipa::openapi::schema::AdditionalProperties;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, ObjectBuilder, RefOr, ResponseBuilder, Schema, Type};
use utoipa::openapi::{OpenApi as Document, Ref};
use utoipa::{IntoResponses, OpenApi};

use super::error::{PROBLEM_JSON, Problem};
use super::guard::{self, Guard};
use super::request::MAX_BODY;
use super::wire::ProblemBody;
use crate::config::Permission;

/// The name of the security scheme.
const BEARER: &str = "bearer";

/// Everything that is said of the API as a whole.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "turnout control API",
        description = "Blue/green and canary traffic of services: read it, move it. A write answers once the balancer is proved to serve it. Every refusal is a problem document (RFC 9457); a refused request changes nothing.",
    ),
    tags(
        (name = "health", description = "For monitors and load balancers; no token."),
        (name = "orchestration", description = "One service's position. With several services, `?service=NAME` says which."),
        (name = "rollouts", description = "The walk of a candidate from its first percent to all of the traffic, judged on its way."),
        (name = "turnout", description = "What the command line asks."),
    ),
    components(schemas(ProblemBody))
)]
struct Described;

/// The document before any route: what is said of the whole.
pub(super) fn blank() -> Document {
    Described::openapi()
}

/// Completes the document of the routes with what the guard says and does.
pub(super) fn completed(mut document: Document, guard: &Guard) -> Document {
    let scheme = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some(
            "A token of `control.tokens`, or ORCH_TOKEN. Each may read, write, or both.",
        ))
        .build();
    let components = document.components.get_or_insert_default();
    components.add_security_scheme(BEARER, SecurityScheme::Http(scheme));
    for name in ["Verb", "Traffic"] {
        if let Some(schema) = components.schemas.get_mut(name) {
            strict(schema);
        }
    }
    for (path, item) in &mut document.paths.paths {
        let operations = [
            (http::Method::GET, &mut item.get),
            (http::Method::POST, &mut item.post),
        ];
        for (method, operation) in operations {
            if let Some(operation) = operation {
                complete(operation, guard::needs(&method, path), guard);
            }
        }
    }
    document
}

/// Security and the answers that every such operation may give.
fn complete(operation: &mut Operation, needs: Option<Permission>, guard: &Guard) {
    let asked = needs.map(|permission| match permission {
        Permission::Read => "read",
        Permission::Write => "write",
    });
    operation.security = Some(match asked {
        None => Vec::new(),
        Some(scope) if guard.is_without_tokens() => vec![
            SecurityRequirement::default(),
            SecurityRequirement::new(BEARER, [scope]),
        ],
        Some(scope) => vec![SecurityRequirement::new(BEARER, [scope])],
    });
    let mut answers = vec![
        (
            400,
            "The request cannot be meant: its Host, its query or its body is malformed.",
        ),
        (
            403,
            "The Host or Origin is not this API's, or the caller may not do this.",
        ),
        (
            500,
            "Something is wrong on the side of turnout; the detail says what to do.",
        ),
    ];
    if asked.is_some() {
        answers.extend([
            (401, "A token is needed, and none or a wrong one came."),
            (429, "Too many wrong tokens from this address."),
        ]);
    }
    if operation.request_body.is_some() {
        answers.extend([
            (408, "The body did not come in time."),
            (413, "The body is too large."),
            (
                422,
                "The body is JSON and does not fit; the detail names the field.",
            ),
        ]);
    }
    for (status, description) in answers {
        let known = &mut operation.responses.responses;
        known
            .entry(status.to_string())
            .or_insert_with(|| RefOr::T(problem(status, description)));
    }
    if let Some(RefOr::T(body)) = &mut operation.request_body {
        body.description = Some(format!("At most {MAX_BODY} bytes."));
        for content in body.content.values_mut() {
            if let RefOr::T(content) = content {
                content.schema = content.schema.take().map(present);
            }
        }
    }
}

/// The schema of a body that may be left out, for when it is not: leaving it out is not saying `null`.
fn present(schema: RefOr<Schema>) -> RefOr<Schema> {
    let RefOr::T(Schema::OneOf(mut one_of)) = schema else {
        return schema;
    };
    let is_null = |item: &RefOr<Schema>| matches!(item, RefOr::T(Schema::Object(object)) if object.schema_type == Type::Null.into());
    one_of.items.retain(|item| !is_null(item));
    match (one_of.items.pop(), one_of.items.is_empty()) {
        (Some(only), true) => only,
        (last, _) => {
            one_of.items.extend(last);
            RefOr::T(Schema::OneOf(one_of))
        }
    }
}

/// The alternatives that are told apart by a tag take no other fields either, which the derive does not say.
fn strict(schema: &mut RefOr<Schema>) {
    if let RefOr::T(Schema::OneOf(one_of)) = schema {
        for item in &mut one_of.items {
            if let RefOr::T(Schema::Object(object)) = item {
                object.additional_properties =
                    Some(Box::new(AdditionalProperties::FreeForm(false)));
            }
        }
    }
}

/// An answer that is a problem document.
fn problem(status: u16, description: &str) -> Answer {
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name("Problem")))
        .build();
    let mut response = ResponseBuilder::new()
        .description(description)
        .content(PROBLEM_JSON, content);
    let header = match status {
        401 => Some(("WWW-Authenticate", Type::String)),
        429 => Some(("Retry-After", Type::Integer)),
        _ => None,
    };
    if let Some((name, kind)) = header {
        let schema = ObjectBuilder::new().schema_type(kind).build();
        response = response.header(name, HeaderBuilder::new().schema(Some(schema)).build());
    }
    response.build()
}

fn problems(of: &[(u16, &str)]) -> BTreeMap<String, RefOr<Answer>> {
    of.iter()
        .map(|(status, description)| (status.to_string(), RefOr::T(problem(*status, description))))
        .collect()
}

/// What else a request that names a service may be answered.
pub(super) struct OfAService;

impl IntoResponses for OfAService {
    fn responses() -> BTreeMap<String, RefOr<Answer>> {
        problems(&[(404, "There is no such service.")])
    }
}

/// What else a request that names a rollout may be answered.
pub(super) struct OfARollout;

impl IntoResponses for OfARollout {
    fn responses() -> BTreeMap<String, RefOr<Answer>> {
        problems(&[(404, "There is no such rollout.")])
    }
}

/// The answer before the first proof.
pub(super) struct NotYet;

impl IntoResponses for NotYet {
    fn responses() -> BTreeMap<String, RefOr<Answer>> {
        problems(&[(503, "Nothing is proved to be served yet.")])
    }
}

/// What else a request that asks the controller or its files may be answered.
pub(super) struct OfALook;

impl IntoResponses for OfALook {
    fn responses() -> BTreeMap<String, RefOr<Answer>> {
        problems(&[
            (502, "The balancer could not be looked at."),
            (
                503,
                "The balancer is not reachable, or turnout is shutting down.",
            ),
        ])
    }
}

/// What else a change may be answered.
pub(super) struct OfAChange;

impl IntoResponses for OfAChange {
    fn responses() -> BTreeMap<String, RefOr<Answer>> {
        problems(&[
            (404, "There is no such service or rollout."),
            (
                409,
                "The position does not allow it: an unhealthy target, a strategy that does not fit, a file edited by hand, a rollout that runs or is over.",
            ),
            (
                423,
                "The change lock was not free in time; the detail names its holder.",
            ),
            (
                500,
                "It failed for a reason on the side of turnout; the detail says whether everything is as before, and what to do.",
            ),
            (
                502,
                "The balancer did not take it; everything is as before.",
            ),
            (
                503,
                "The balancer is not reachable, or the source of a rollout's figures, or turnout is shutting down.",
            ),
            (
                504,
                "It is done and recorded, but the color that was left did not drain in time; or a rollout is on its way back, which is tried until it is done.",
            ),
        ])
    }
}

/// The finished document, as it is served.
#[derive(Clone)]
pub(super) struct Published(pub(super) Arc<Document>);

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "turnout", responses(
    (status = 200, description = "OpenAPI 3.1.", body = serde_json::Value),
))]
pub(super) async fn openapi(
    Extension(Published(document)): Extension<Published>,
) -> Result<Response, Problem> {
    let text = document
        .to_json()
        .map_err(|error| Problem::incomplete(format!("the document cannot be written: {error}")))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
}

#[cfg(test)]
#[path = "openapi_tests.rs"]
mod tests;
