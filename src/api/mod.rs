//! Stub, to be replaced by the control API at the merge.

mod address;
pub mod client;

pub use address::{InvalidAddress, ServerAddress};
