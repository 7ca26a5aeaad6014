//! What happened in a rollout and why, for people: as text, and as one HTML page that needs nothing else, with pictures.
//!
//! Pure: a [`Record`] in, a text out. The same pages are made of a running rollout, of one that is over, and of recorded counts that
//! judges were run over ([`judge::replay`](super::judge::replay)).

mod bins;
mod chart;
mod html;
mod record;
mod text;
mod wilson;

pub use html::page;
pub use record::{Record, Step};
pub use text::text;
