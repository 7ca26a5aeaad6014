//! The embedded data plane: HTTP/1.1 in, HTTP/1.1 out, by the same rules as the balancers it stands in for (CONTRACT 6).
//!
//! Parsing and framing are hyper's. Routing, pooling, header rules, retries, deadlines and drain are here, a file each:
//!
//! | file | owns |
//! |---|---|
//! | `snapshot` | one immutable routing snapshot, made from a routing table |
//! | `choose` | the color of one request |
//! | `headers` | what is removed from and added to a message on its way |
//! | `listen` | binding, and who holds an address that cannot be bound |
//! | `handle` | [`Proxy`]: start, install, drain |
//! | `thread` | one thread: runtime, accept, commands, sweep of what is overdue |
//! | `view` | a snapshot with one thread's pools and turns |
//! | `client` | one client connection: its phase, its bytes, its end |
//! | `forward` | one request: from the head to the answer |
//! | `upstream` | one server's connections: pool, connect, exchange |
//! | `deadline` | when an exchange is overdue, without a timer for each |
//! | `body` | bodies on the way, and what happens when they end |
//! | `answer` | the answers that are the proxy's own |
//! | `counters` | what is in flight and what was served, in shards without locks |
//!
//! Each thread is a current-thread runtime with connections of its own: nothing that a request touches is shared but the
//! snapshot (one atomic load) and its shard of the counters. Nothing here decides where traffic should go, reads a
//! configuration file, or writes anything to disk.

mod answer;
mod body;
mod choose;
mod client;
mod counters;
mod deadline;
mod forward;
mod handle;
mod headers;
mod listen;
mod snapshot;
mod thread;
mod upstream;
mod view;

pub use body::{BoxError, LocalAnswer};
pub use counters::Totals;
pub use handle::{Drained, LocalService, Proxy, Unacknowledged};
pub use listen::{ListenError, holder_of, try_listen};
pub use snapshot::Snapshot;

#[cfg(test)]
mod tests;
