//! The nginx configuration: one file with everything, and a snippet for each service that stands in a user's own server
//! block.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde::Serialize;

use super::counts::{Counts, NginxCounts};
use super::instant::{self, Instant};
use super::view::{ServiceView, View};
use super::{Error, head, lines};
use crate::domain::{AliasRoute, Route, RoutingTable};

/// The part of the template that stands in a `location`: in turnout's own server blocks and in every snippet.
const LOCATION: (&str, &str) = (
    "nginx-location.conf.j2",
    include_str!("../../templates/nginx-location.conf.j2"),
);

const SNIPPET: (&str, &str) = (
    "nginx-snippet.conf.j2",
    include_str!("../../templates/nginx-snippet.conf.j2"),
);

/// The http-level directives that the built-in template may set. nginx refuses a second one, so whoever finds one in the
/// user's main file says so in [`NginxContext::already_set`].
pub const HASH_DIRECTIVES: [&str; 4] = [
    "variables_hash_bucket_size",
    "variables_hash_max_size",
    "server_names_hash_bucket_size",
    "server_names_hash_max_size",
];

/// What a rendering needs besides the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NginxContext {
    /// The private listener.
    pub prove: SocketAddr,
    /// Peers whose `X-Forwarded-*` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Those of [`HASH_DIRECTIVES`] that the user's configuration sets.
    pub already_set: BTreeSet<&'static str>,
    /// The name servers of `resolver`, with a space between them, for aliases; `None`: there is none.
    pub resolver: Option<String>,
    /// The folder of the markers, where color and weights change without a reload; `None`: every change is a reload.
    pub markers: Option<PathBuf>,
    /// Where each request is told of, to be counted; `None`: nowhere.
    pub counts: Option<NginxCounts>,
}

/// A template: the built-in one, or a user's in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// The name that messages use.
    pub name: String,
    /// Its text.
    pub source: String,
}

impl Template {
    /// The built-in template.
    pub fn built_in() -> Self {
        Self {
            name: "nginx.conf.j2".to_owned(),
            source: include_str!("../../templates/nginx.conf.j2").to_owned(),
        }
    }
}

/// The template line that a rendered line comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The template's name.
    pub file: String,
    /// Its line, from 1.
    pub line: usize,
}

/// The whole file for a table, with its head.
///
/// With markers the text names its shape, a digest of the same text and of all snippets in a position that is always the same:
/// what differs in it alone is a reload's matter.
pub fn nginx(
    table: &RoutingTable,
    context: &NginxContext,
    template: &Template,
) -> Result<String, Error> {
    let shape = shape_of(table, context, template)?;
    let body = body(table, context, template, shape.as_deref())?;
    if let Some(shape) = &shape
        && instant::shape(&body) != Some(shape)
    {
        return Err(Error::Template {
            file: template.name.clone(),
            line: None,
            message: format!(
                "the private listener does not answer `shape {{{{ instant.shape }}}}` in a line of its own, as \
                 `switching: instant` needs it: look at the built-in {}",
                Template::built_in().name
            ),
        });
    }
    Ok(head::sealed(Some(table), &body))
}

fn shape_of(
    table: &RoutingTable,
    context: &NginxContext,
    template: &Template,
) -> Result<Option<String>, Error> {
    if context.markers.is_none() {
        return Ok(None);
    }
    let table = instant::anywhere(table);
    let mut text = body(&table, context, template, Some(""))?;
    // a snippet that another one stands in for is a reload's matter like the rest
    for (service, view) in table.shapes().zip(views(&table, context)?) {
        if service.listen.is_none() {
            text.push_str(&snippet_body(view, context)?);
        }
    }
    Ok(Some(instant::digest(&text)))
}

fn body(
    table: &RoutingTable,
    context: &NginxContext,
    template: &Template,
    shape: Option<&str>,
) -> Result<String, Error> {
    let views = views(table, context)?;
    let view = View::of(table, &views, context, shape)?;
    let sources = [(template.name.as_str(), template.source.as_str()), LOCATION];
    render(&template.name, &sources, &view)
}

/// The snippet of one service behind an alias, with its head. It says whether requests go on.
pub fn nginx_alias_snippet(route: &AliasRoute, context: &NginxContext) -> Result<String, Error> {
    snippet(ServiceView::of_alias(route, context)?, context)
}

/// The snippet of one service, with its head. It says the same in every position, so a switch does not touch it.
pub fn nginx_snippet(route: &Route, context: &NginxContext) -> Result<String, Error> {
    snippet(ServiceView::of(route)?, context)
}

fn snippet(service: ServiceView, context: &NginxContext) -> Result<String, Error> {
    Ok(head::sealed(None, &snippet_body(service, context)?))
}

fn snippet_body(service: ServiceView, context: &NginxContext) -> Result<String, Error> {
    let view = Snippet {
        service,
        instant: Instant::of(context, "")?,
        counts: context.counts.as_ref().and_then(Counts::of),
    };
    render(SNIPPET.0, &[SNIPPET, LOCATION], view)
}

#[derive(Debug, Serialize)]
struct Snippet {
    service: ServiceView,
    instant: Option<Instant>,
    counts: Option<Counts>,
}

/// For each line of [`nginx`]'s text, where it comes from. Empty where that cannot be told. Costs a second rendering, so it
/// is for the case that nginx has named a line.
pub fn nginx_origins(
    table: &RoutingTable,
    context: &NginxContext,
    template: &Template,
) -> Result<Vec<Option<Origin>>, Error> {
    let shape = shape_of(table, context, template)?;
    let views = views(table, context)?;
    let view = View::of(table, &views, context, shape.as_deref())?;
    let sources = [(template.name.as_str(), template.source.as_str()), LOCATION];
    located(&template.name, &sources, &view, |plain| {
        head::sealed(Some(table), plain)
    })
}

/// The template line of each line of a rendered and sealed text.
pub(super) fn located(
    name: &str,
    sources: &[(&str, &str); 2],
    view: &impl Serialize,
    sealed: impl FnOnce(&str) -> String,
) -> Result<Vec<Option<Origin>>, Error> {
    let plain = render(name, sources, view)?;
    let marked = sources.map(|(name, source)| (name, lines::marked(name, source)));
    let marked = render(
        name,
        &marked
            .each_ref()
            .map(|(name, source)| (*name, source.as_str())),
        view,
    )?;
    let origins = lines::origins(&plain, &marked);
    if origins.is_empty() {
        return Ok(Vec::new());
    }
    let head_lines = sealed(&plain).lines().count().saturating_sub(origins.len());
    Ok(std::iter::repeat_n(None, head_lines)
        .chain(
            origins
                .into_iter()
                .map(|origin| origin.map(|(file, line)| Origin { file, line })),
        )
        .collect())
}

/// In the order of [`RoutingTable::shapes`].
fn views(table: &RoutingTable, context: &NginxContext) -> Result<Vec<ServiceView>, Error> {
    let colored = table.routes.values().map(ServiceView::of);
    let aliases = table.aliases.values();
    colored
        .chain(aliases.map(|route| ServiceView::of_alias(route, context)))
        .collect()
}

pub(super) fn render(
    name: &str,
    sources: &[(&str, &str)],
    view: impl Serialize,
) -> Result<String, Error> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_syntax(
        SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .keep_trailing_newline(true)
            .build()
            .map_err(|error| at_fault(name, sources, &error))?,
    );
    for (name, source) in sources {
        environment
            .add_template(name, source)
            .map_err(|error| at_fault(name, sources, &error))?;
    }
    environment
        .get_template(name)
        .and_then(|template| template.render(Serde(view)))
        .map_err(|error| at_fault(name, sources, &error))
}

/// The innermost place that the engine knows, with the source line: an include reports itself, not what it includes.
fn at_fault(name: &str, sources: &[(&str, &str)], error: &minijinja::Error) -> Error {
    let mut innermost = error;
    while let Some(cause) = std::error::Error::source(innermost)
        .and_then(|cause| cause.downcast_ref::<minijinja::Error>())
    {
        innermost = cause;
    }
    let file = innermost.name().unwrap_or(name);
    let line = innermost.line();
    let mut message = innermost.kind().to_string();
    if let Some(detail) = innermost.detail() {
        message = format!("{message}: {detail}");
    }
    let source_line = line.and_then(|line| {
        let (_, source) = sources.iter().find(|(name, _)| *name == file)?;
        source.lines().nth(line.checked_sub(1)?)
    });
    if let (Some(line), Some(text)) = (line, source_line) {
        message = format!("{message}\n  {line} | {text}");
    }
    Error::Template {
        file: file.to_owned(),
        line,
        message,
    }
}

#[cfg(test)]
#[path = "nginx_tests.rs"]
pub(super) mod tests;
