//! What a person should know about this nginx before the first change. Looks, and never changes anything.

use super::super::Finding;
use super::Nginx;
use super::check::{Check, Failed};
use super::process::Master;
use super::{instant, loads};
use crate::exec::Program;

pub(super) async fn examine(nginx: &Nginx) -> Vec<Finding> {
    let settings = &nginx.settings;
    let mut findings = Vec::new();
    match Program::new([settings.binary.as_str(), "-v"]).run().await {
        Ok(output) => findings.push(Finding::Fine(output.stderr.trim().to_owned())),
        Err(error) => findings.push(Finding::Problem(error.to_string())),
    }
    let master = match Master::find(&settings.pid).await {
        Ok(master) => {
            findings.push(Finding::Fine(format!(
                "the master is process {}",
                master.pid
            )));
            master
        }
        Err(error) => {
            findings.push(Finding::Problem(error.to_string()));
            return findings;
        }
    };
    if !nix::unistd::geteuid().is_root() {
        findings.push(Finding::Advice(
            "not root: the check needs a copy of the main file beside it, or the installed files"
                .to_owned(),
        ));
    }
    match Check::new(settings, &nginx.state_dir, Some(&master))
        .live()
        .await
    {
        Ok(_) => findings.push(Finding::Fine(format!(
            "{} loads {}",
            settings.main.display(),
            settings.config.display()
        ))),
        Err(Failed::NotIncluded(_))
            if !settings.config.exists() && loads::wanted(&settings.main, &settings.config) =>
        {
            findings.push(Finding::Fine(format!(
                "{} loads {} once it is there",
                settings.main.display(),
                settings.config.display()
            )));
        }
        Err(failed) => findings.push(Finding::Problem(
            failed.into_apply_error(str::to_owned).to_string(),
        )),
    }
    findings.extend(instant::examine(nginx).await);
    let main = std::fs::read_to_string(&settings.main).unwrap_or_default();
    if !main
        .lines()
        .any(|line| line.trim_start().starts_with("worker_shutdown_timeout"))
    {
        findings.push(Finding::Advice(format!(
            "worker_shutdown_timeout is not set in {}: a WebSocket keeps an old worker alive for ever. Set it longer than \
             the longest request",
            settings.main.display()
        )));
    }
    findings
}
