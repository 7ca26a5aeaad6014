//! The control API: what the outside may ask and change, over TCP, a unix socket, or the router's own port.
//!
//! The order of a request is `guard` (names, tokens, scopes) → `routes` → `orchestration`, `deployments`, `v1`, `health`, `events`, `page` (thin handlers) → the controller's
//! [`Handle`](crate::controller::Handle), which alone changes anything. `wire` has the bodies, `error` is the only place
//! with statuses, `openapi` describes all of it to programs, `metrics` (with `known` and `traffic`) is what Prometheus reads. [`Client`] is the other end,
//! for the command line. A token's text is never kept, and never logged.

mod actor;
mod address;
mod attempts;
pub mod client;
mod deployments;
mod error;
mod events;
mod gauges;
mod guard;
mod head;
mod health;
mod history;
mod known;
mod local;
mod metrics;
mod openapi;
mod orchestration;
mod page;
mod patient;
mod request;
mod reread;
mod routes;
mod samples;
mod server;
mod socket;
mod token;
mod traffic;
mod v1;
mod wire;
mod wire_rollouts;

pub use address::{InvalidAddress, ServerAddress};
pub use client::{Client, ClientError};
pub use local::{LocalApi, router_service};
pub use reread::{Reading, Reread};
pub use server::{ApiError, Server};
pub use socket::{ControlSocket, SocketFile};
pub use token::TokenError;
pub use wire::Identity;
