//! The integration tests: the real binary, real nginx, real loopback servers. One binary with modules, so that it links once.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test that cannot go on says so by a panic, and what it measured by printing"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "`exec`, `store` and `install` are under test: what surrounds them must not go through them"
)]

mod support;

mod alias;
mod api;
mod asking;
mod cli;
mod config;
mod crash;
mod drift;
mod embedded;
mod examples;
mod exec;
mod fallback;
mod faults;
mod fuzz;
mod handover;
mod haproxy;
mod house;
mod instant;
mod judges;
mod kills;
mod live;
mod load;
mod metrics;
mod nginx;
mod openapi;
mod page;
mod proxy;
mod rollout;
mod routing;
mod scale;
mod seeds;
mod senses;
mod sticky;
mod succession;
mod telemetry;
mod traffic;
