//! Files that others change: the configuration with its fragments, the template, a followed file, the state.
//!
//! `files` says what is watched and tells by stat whether it changed, `eyes` does the watching on a thread of its own,
//! `follow` reads another tool's file. Nothing here decides what a change means, and nothing here writes.

mod eyes;
mod files;
mod follow;

pub use eyes::{Watch, WatchError, start};
pub use files::{Changed, Watched};
pub use follow::{FollowError, read as followed};
