//! The configuration: read, checked, and turned into a [`Config`] without a single "maybe".
//!
//! Three types, each made from the one before: `file` (the serde mirror of the YAML, the only file that names a YAML
//! crate), the merged map of all fragments, and the valid [`Config`] that the rest of turnout uses. Unknown and duplicate
//! keys are refused; all problems of a file come at once, each with file, line, snippet and, for a misspelt key, the
//! nearest right one. Never touches anything but the files it reads.

mod valid;

pub use valid::{
    BalancerKind, BalancerSettings, Config, Control, ControlListen, ExecSettings, Follow,
    HaproxySettings, Mode, NginxReload, NginxSettings, NotInForce, Permission, ServiceConfig,
    Switching, Token, TokenSource, Workload,
};
