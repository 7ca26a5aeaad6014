//! A routing table as the text of a balancer's configuration, through a strict template.
//!
//! Pure: no file, no clock. What reaches a template is made of the types of [`crate::domain`] alone, which admit only
//! harmless characters, because `nginx -t` executes what it reads; an undefined name is an error and nothing is escaped.
//! The head of a rendered file ([`Head`]) is written here and not by the template, so that no template of a user's can
//! leave out what recovery reads from it.

mod counts;
mod haproxy;
mod haproxy_backend;
mod haproxy_view;
mod hashes;
mod head;
mod instant;
mod ladder;
mod lines;
mod nginx;
mod nginx_alias;
mod view;

pub use counts::{NginxCounts, NginxLog};
pub use haproxy::{
    HaproxyContext, HaproxyPosition, SHAPE, haproxy, haproxy_frontend_lines, haproxy_keys,
    haproxy_map, haproxy_origins, haproxy_shape, haproxy_template,
};
pub use head::{Head, sealed};
pub use instant::{Marker, nginx_markers, nginx_shape};
pub use nginx::{
    HASH_DIRECTIVES, NginxContext, Origin, Template, nginx, nginx_alias_snippet, nginx_origins,
    nginx_snippet,
};

/// Why there is no text. Nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The template is at fault.
    #[error("{file}:{}: {message}", line.map_or_else(|| "?".to_owned(), |line| line.to_string()))]
    Template {
        /// The template's name.
        file: String,
        /// Its line, from 1; `None` where the engine does not know.
        line: Option<usize>,
        /// What the engine said, with the source line.
        message: String,
    },
    /// A value of the configuration that this balancer cannot put into force.
    #[error("{key} {rule}")]
    Value {
        /// Its path, such as `services.shop.tls`.
        key: String,
        /// What it may be here, and what to do.
        rule: &'static str,
    },
}
