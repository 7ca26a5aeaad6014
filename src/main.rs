//! The program: parse, telemetry, run, print the error chain, exit code.

use std::process::ExitCode;

use clap::Parser;
use turnout::cli::{self, Cli, Command};
use turnout::exit::{self, Chain};
use turnout::telemetry;

/// glibc's gives memory back to the kernel and asks for it again all the time where many connections share a thread, which costs
/// CPU for each request, and holds more for each idle connection (`benches/proxy` measures both).
// not optimised it slows a test build (measured: 1,951 requests a second, 3,204 with glibc)
#[cfg(not(debug_assertions))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return said_by_clap(&error),
    };
    if cli.globals.no_color() {
        cli::without_color();
    }
    let daemon = matches!(cli.command, Command::Serve(_));
    if let Err(error) = telemetry::init(&cli.globals.telemetry(daemon)) {
        cli::talk(Chain(&error));
        return exit::ExitCode::Usage.into();
    }
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        tracing::debug!("another TLS provider is installed already");
    }
    let format = cli.globals.format();
    match cli::run(cli) {
        Ok(code) => code.into(),
        Err(error) => {
            cli::failure(format, &error);
            error.exit().into()
        }
    }
}

/// Help and version are answers (on stdout), all else is wrong usage (on stderr).
fn said_by_clap(error: &clap::Error) -> ExitCode {
    if error.print().is_err() {
        // the reader has gone away; the exit code still says which of the two it was
    }
    if error.use_stderr() {
        exit::ExitCode::Usage.into()
    } else {
        exit::ExitCode::Done.into()
    }
}
