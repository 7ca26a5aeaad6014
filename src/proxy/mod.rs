//! The embedded data plane: HTTP/1.1, HTTP/2 and TLS in, HTTP/1.1 out, by the same rules as the balancers it stands in for (CONTRACT 6).
//!
//! Parsing and framing are hyper's. Routing, pooling, header rules, retries, deadlines and drain are here, a file each:
//!
//! | file | owns |
//! |---|---|
//! | `snapshot` | one immutable routing snapshot, made from a routing table |
//! | `choose` | the color of one request |
//! | `host` | the host that a connection asked for last |
//! | `headers` | what is removed from and added to a message on its way |
//! | `listen` | binding, and who holds an address that cannot be bound |
//! | `handle` | [`Proxy`]: start, install, drain |
//! | `thread` | one thread: runtime, accept, commands, sweep of what is overdue |
//! | `gate` | what stands before the color: maintenance, rate limits, hold |
//! | `hold` | the requests that wait while the traffic is held |
//! | `rate` | token buckets |
//! | `record` | one request's line in the access log |
//! | `access` | the thread that writes those lines |
//! | `path` | a path in the one form in which paths are compared |
//! | `mark` | what the traffic says of a server: marked, circuit open |
//! | `entry` | one service of a snapshot |
//! | `names` | what aliases resolve to, on a thread of its own |
//! | `lane` | where a request goes: a color, or the alias |
//! | `view` | a snapshot with one thread's pools and turns |
//! | `accept` | one client connection from its first byte to its last: PROXY head, TLS, HTTP, tunnel |
//! | `client` | its state: phase, deadlines, what it works on |
//! | `backlog` | what waits for the client: how much, and for how long |
//! | `rest` | a connection between two requests that are far apart |
//! | `transport` | its bytes, over TCP or TLS |
//! | `proxy_protocol` | who the client is, said by a balancer in front |
//! | `told` | what the handle is told of all threads |
//! | `tls` | certificates: by name, reloaded, a bad one alone |
//! | `h2` | HTTP/2 streams as requests |
//! | `windows` | which of them wait for their client's window |
//! | `strict` | what a client's HTTP/1 bytes must not say |
//! | `upgrade` | tunnels after a 101 |
//! | `tenure` | how long what is in flight stays on a color that was left |
//! | `refused` | what was refused, by reason |
//! | `forward` | one request: from the head to the answer |
//! | `elder` | the process before this one, which finishes what it has and routes by what this one says |
//! | `elsewhere` | a request whose alias has moved |
//! | `tries` | what the attempts of a request teach |
//! | `again` | a request once more, from the bytes that went out |
//! | `upload` | the body of a request: how far it is, how much may come and may wait |
//! | `upstream` | one server's connections: pool, connect, exchange |
//! | `room` | how much connections to servers may read at once |
//! | `early` | what a server says before its answer |
//! | `wire` | hyper's half of a server's connection, driven by the request that has it |
//! | `deadline` | when an exchange is overdue, without a timer for each |
//! | `part` | a part of it, counted until it is gone |
//! | `body` | the body of an answer, and what happens when it ends |
//! | `answer` | the answers that are the proxy's own |
//! | `counters` | what is in flight and what was served, in shards without locks |
//! | `in_flight` | one request that is counted |
//! | `readings` | all of it, for whoever asks |
//! | `ledger` | how what was served ended, for metrics |
//! | `own_paths` | `/__router_health` and its like |
//!
//! Each thread is a current-thread runtime with connections of its own: nothing that a request touches is shared but the
//! snapshot (one atomic load) and its shard of the counters. Nothing here decides where traffic should go, reads a
//! configuration file, or writes anything to disk.

mod accept;
mod access;
mod again;
mod answer;
mod attempt;
mod backlog;
mod body;
mod choose;
mod client;
mod counters;
mod deadline;
mod early;
mod elder;
mod elsewhere;
mod entry;
mod forward;
mod gate;
mod h2;
mod handle;
mod headers;
mod hold;
mod host;
mod in_flight;
mod lane;
mod ledger;
mod listen;
mod mark;
mod names;
mod own_paths;
mod part;
mod path;
mod proxy_protocol;
mod rate;
mod readings;
mod record;
mod refused;
mod rest;
mod room;
mod snapshot;
mod strict;
mod tenure;
mod thread;
mod tls;
mod told;
mod transport;
mod tries;
mod upgrade;
mod upload;
mod upstream;
mod view;
mod windows;
mod wire;

pub use body::{BoxError, LocalAnswer};
pub use counters::{DoorTotals, Totals};
pub use elder::{Reply, Wire, Word};
pub use handle::{LocalService, Proxy};
pub use listen::{ListenError, try_listen};
pub use mark::MarkTotals;
pub use snapshot::Snapshot;
pub use tls::{CertificateError, check_certificate};
pub use told::{Drained, Unacknowledged};

#[cfg(test)]
pub(crate) mod tests;
