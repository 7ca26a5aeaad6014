//! `turnout doctor`: what would keep turnout from working here, each with the way out. Looks, and changes nothing but a
//! probe file in the state directory that is gone again.

mod carrier;
mod daemon;
mod fallback;
mod finding;
mod state;

use super::{CliError, Globals, output, target};
use crate::config::{Config, Mode};
use crate::exit::ExitCode;
use crate::store::Store;
use finding::{Finding, Verdict, said};

pub(super) async fn run(globals: &Globals) -> Result<ExitCode, CliError> {
    let mut findings = Vec::new();
    match target::config(globals) {
        Err(error) => findings.push(Finding::wrong(
            "configuration",
            said(&error),
            "put that right; `turnout init` writes a first configuration",
        )),
        Ok(config) => {
            configuration(&config, &mut findings);
            let store = Store::new(config.state_dir.clone());
            state::directory(&config.state_dir, &mut findings);
            state::state(&store, &mut findings);
            let daemon = daemon::locks(globals, &config, &store, &mut findings).await;
            carrier::carrier(&config, &store, daemon, &mut findings).await;
        }
    }
    let wrong = findings
        .iter()
        .any(|finding| finding.verdict == Verdict::Wrong);
    output::value(globals.format(), &findings, |findings| {
        finding::view(findings)
    })?;
    Ok(if wrong { ExitCode::No } else { ExitCode::Done })
}

fn configuration(config: &Config, findings: &mut Vec<Finding>) {
    let from = match &config.mode {
        Mode::File(path) => path.display().to_string(),
        Mode::Environment => "the environment".to_owned(),
    };
    findings.push(Finding::fine(
        "configuration",
        format_args!("{from}: valid, services: {}", config.services.len()),
    ));
    for key in &config.not_in_force {
        findings.push(Finding::note(
            "configuration",
            format_args!("{} is not in force: {}", key.key, key.consequence),
            "",
        ));
    }
}
