//! The integration tests: the real binary, real nginx, real loopback servers. One binary with modules, so that it links once.

mod support;

mod api;
mod cli;
mod config;
mod crash;
mod drift;
mod embedded;
mod examples;
mod faults;
mod house;
mod load;
mod nginx;
mod sticky;
