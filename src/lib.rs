//! turnout: blue/green and canary releases for the nginx or HAProxy that already runs, proved before they are recorded.
//!
//! # The way of the data
//!
//! ```text
//! turnout.yaml ─► config ─► domain::RoutingTable (desired, generation n+1)
//!                                  │
//!          balancer.observe() ─► plan ─► journal: intent, fsync
//!                                  │
//!                                  ▼
//!               balancer.apply(): render ─► check what is staged ─► install (keep last good) ─► reload ─► prove
//!                                  │                                            │ any step fails
//!                                  ▼                                            ▼
//!                     Applied (the proof)                     restore last good, prove that, report
//!                                  │
//!                                  ▼
//!               journal: done, fsync ─► state file ─► audit log, status
//! ```
//!
//! One way only. Facts (a failed probe, a command, a changed file) come back as events into the one owner of the state,
//! the [`controller`]; nothing below calls upward.
//!
//! # The map
//!
//! | layer | modules |
//! |---|---|
//! | 0, pure | [`domain`] |
//! | 1, pure | [`plan`], [`render`], [`rollout`], [`config`] |
//! | 2, the world | [`exec`], [`resolve`], [`balancer`], [`proxy`], [`probe`], [`traffic`], [`store`] |
//! | 3, deciding | [`controller`], [`release`] |
//! | 4, edges | [`exit`], [`api`], [`watch`], [`signals`], [`telemetry`] |
//! | 5, the program | [`cli`] |
//!
//! A layer imports only from those above it in this table, and layer 2 only from 0, 1, `exec` and `resolve` (with the exceptions that
//! `tests/house.rs` lists and enforces).
//!
//! # Invariants
//!
//! 1. **Proof before record.** A color is recorded as active only with a [`balancer::Applied`], which only a balancer's
//!    proof can make. `nginx -t` passing and `nginx -s reload` returning 0 prove nothing.
//! 2. **After a failed apply, file, balancer and state are as before.** If one cannot be restored: exit 4, and the message
//!    says what to do.
//! 3. **The file owns shape, the state owns position.** Reloading the configuration never moves traffic.
//! 4. **The way back never depends on the color being left.**
//! 5. **No color that is seen serving is ever stopped**, whatever the state file says.
//! 6. **One writer.** Every change holds the state directory's change lock, which the kernel frees when its holder dies.
//! 7. **Unknown means hold.**
//! 8. **The data path never waits for the control path.** Routing reads one immutable snapshot, swapped atomically.
//! 9. **The embedded proxy gives a key the same color as the balancer it stands in for** ([`domain::Bucket`]).
//! 10. **Recovery trusts the journal and what the balancer is seen to serve, never the state file alone.**

pub mod api;
pub mod balancer;
pub mod cli;
pub mod config;
pub mod controller;
pub mod domain;
pub mod exec;
pub mod exit;
pub mod plan;
pub mod probe;
pub mod proxy;
pub mod release;
pub mod render;
pub mod resolve;
pub mod rollout;
pub mod signals;
pub mod store;
pub mod telemetry;
pub mod traffic;
pub mod watch;
