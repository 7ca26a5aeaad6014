//! The configuration: read, checked, and turned into a [`Config`] without a single "maybe".
//!
//! ```text
//! text ─► yaml: tree with places ─► expand: ${VAR} ─► shape: known keys, right kinds ─► file: the serde mirror
//!                                                       fragments the same way ─► merged ─► check ─► Config
//! ```
//!
//! Three types, each made from the one before: `file` (the serde mirror of the YAML), the merged services of all fragments,
//! and the valid [`Config`] that the rest of turnout uses. Unknown and duplicate keys are refused; all problems of all files
//! come at once, each with file, line, snippet and, for a misspelt key, the nearest right one. Never touches anything but
//! the files it reads. `yaml` alone names a YAML crate.

mod check;
mod document;
mod environment;
mod expand;
mod file;
mod load;
mod problem;
mod prometheus;
mod quantity;
mod shape;
mod source;
mod valid;
mod whereabouts;
mod yaml;

pub use file::schema;
pub use load::Overlay;
pub use problem::{ConfigError, Place, Problem};
pub use prometheus::PrometheusSettings;
pub use source::{Env, Source};
pub use valid::{
    AliasConfig, BalancerKind, BalancerSettings, Config, Control, ControlListen, ExecSettings,
    Follow, HaproxySettings, Mode, NginxReload, NginxSettings, NotInForce, Permission,
    ServiceConfig, Switching, Token, TokenSource, Workload,
};
pub use whereabouts::Whereabouts;
