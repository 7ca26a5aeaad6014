//! Everything that one workload is started with, worked out once: command, folder, environment, and where its record is.
//! Starts the process, or finds that it runs already. Decides nothing about when.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::output::Output;
use super::process::{Process, Record};
use super::workload::WorkloadError;
use crate::config::Workload;
use crate::domain::{Color, ServiceName};
use crate::exec;

/// Everything that one workload is started with.
#[derive(Debug)]
pub(super) struct Launch {
    pub(super) service: ServiceName,
    pub(super) color: Color,
    command: Vec<String>,
    dir: PathBuf,
    env: BTreeMap<String, String>,
    pub(super) grace: Duration,
    pub(super) record: PathBuf,
    output: PathBuf,
    pub(super) spec: String,
}

impl Launch {
    pub(super) fn new(
        (records, dir): (&Path, &Path),
        service: &ServiceName,
        workload: &Workload,
        color: Color,
        version: Option<&str>,
    ) -> Result<Self, WorkloadError> {
        let binary = std::env::current_exe().map_err(WorkloadError::Binary)?;
        let version = version
            .or(workload.versions[color].as_deref())
            .unwrap_or_default();
        let port = workload.ports[color].to_string();
        let filled = |text: &str| {
            fill(
                text,
                &[
                    ("turnout", &binary.to_string_lossy()),
                    ("color", color.as_str()),
                    ("port", &port),
                    ("version", version),
                ],
            )
        };
        let mut env: BTreeMap<String, String> = [
            ("ENVIRONMENT_COLOR", color.as_str()),
            ("APPLICATION_PORT", &port),
            ("PORT", &port),
            ("APP_VERSION", version),
        ]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
        env.extend(
            workload
                .env
                .iter()
                .map(|(name, value)| (name.clone(), filled(value))),
        );
        let command: Vec<String> = workload.command.iter().map(|word| filled(word)).collect();
        let dir = workload
            .dir
            .as_deref()
            .map_or_else(|| dir.to_owned(), |dir| PathBuf::from(filled(dir)));
        let spec = digest(&command, &dir, &env);
        Ok(Self {
            record: records.join(format!("{service}-{color}.json")),
            output: records.join(format!("{service}-{color}.out")),
            spec,
            service: service.clone(),
            color,
            command,
            dir,
            env,
            grace: workload.stop_grace,
        })
    }

    fn unrecorded(&self, path: &Path) -> impl Fn(io::Error) -> WorkloadError {
        let (service, color, path) = (self.service.clone(), self.color, path.to_owned());
        move |source| WorkloadError::Record {
            service: service.clone(),
            color,
            path: path.clone(),
            source,
        }
    }

    /// The recorded process, if it still runs, and what it was started with.
    pub(super) fn running(&self) -> Result<Option<(Process, Output, String)>, WorkloadError> {
        let Some(record) = Record::load(&self.record) else {
            return Ok(None);
        };
        // an error means that it does not run any more
        let Ok(process) = Process::adopt(record.identity) else {
            return Ok(None);
        };
        let output = Output::resumed(&self.output).map_err(self.unrecorded(&self.output))?;
        Ok(Some((process, output, record.spec)))
    }

    /// Starts it, and records it before anything else can happen to it.
    pub(super) fn spawn(&self) -> Result<(Process, Output), WorkloadError> {
        let failed = |source| WorkloadError::Spawn {
            service: self.service.clone(),
            color: self.color,
            program: self.command.first().cloned().unwrap_or_default(),
            dir: self.dir.clone(),
            source,
        };
        if let Some(folder) = self.record.parent() {
            std::fs::create_dir_all(folder).map_err(self.unrecorded(folder))?;
        }
        let (output, end) = Output::fresh(&self.output).map_err(self.unrecorded(&self.output))?;
        let also = end.try_clone().map_err(self.unrecorded(&self.output))?;
        // turnout's own settings and secrets are none of the workload's business
        let mut env: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| !name.starts_with("TURNOUT_") && name != "ORCH_TOKEN")
            .collect();
        env.extend(self.env.clone());
        let mut command = exec::command(&self.command, &env, Some(&self.dir));
        let child = command
            // it outlives a turnout that is killed, and the next one adopts it
            .kill_on_drop(false)
            .stdin(Stdio::null())
            .stdout(end)
            .stderr(also)
            .spawn()
            .map_err(failed)?;
        let process = Process::child(child).map_err(failed)?;
        let record = Record {
            identity: process.identity.clone(),
            spec: self.spec.clone(),
        };
        if let Err(source) = record.save(&self.record) {
            // unrecorded it would be started a second time by the next turnout; it has done nothing yet
            process.kill();
            return Err(self.unrecorded(&self.record)(source));
        }
        Ok((process, output))
    }

    /// Logs what was printed since the last time.
    pub(super) fn pass_on(&self, output: &mut Output) {
        if let Err(error) = output.pass_on(&self.service, self.color) {
            tracing::debug!(service = %self.service, color = %self.color, error = &error as &dyn std::error::Error, "output unread");
        }
    }
}

/// Tells one set of command, folder and environment from another; a digest, since the environment may hold secrets.
fn digest(command: &[String], dir: &Path, env: &BTreeMap<String, String>) -> String {
    let mut hash = Sha256::new();
    let pairs = env.iter().flat_map(|(name, value)| [name, value]);
    for text in command.iter().chain(pairs) {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    }
    hash.update(dir.as_os_str().as_bytes());
    let mut text = String::new();
    for byte in hash.finalize() {
        use std::fmt::Write;
        // writing into a String cannot fail
        write!(text, "{byte:02x}").ok();
    }
    text
}

/// `text` with `{name}` filled in. One pass, so that a value with braces stays as it is; unknown names stay too.
fn fill(text: &str, values: &[(&str, &str)]) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('{') {
        let (before, from) = rest.split_at(at);
        filled.push_str(before);
        let known = values.iter().find_map(|(name, value)| {
            let tail = from[1..].strip_prefix(name)?.strip_prefix('}')?;
            Some((value, tail))
        });
        rest = if let Some((value, tail)) = known {
            filled.push_str(value);
            tail
        } else {
            filled.push('{');
            &from[1..]
        };
    }
    filled.push_str(rest);
    filled
}

#[cfg(test)]
mod tests {
    use super::fill;

    #[test]
    fn placeholders_are_filled_once_and_unknown_ones_stay() {
        let values = [("color", "blue"), ("port", "{color}")];
        for (text, expected) in [
            ("{color}:{port}", "blue:{color}"),
            ("{{color}}", "{blue}"),
            ("{unknown} {", "{unknown} {"),
            ("", ""),
        ] {
            assert_eq!(fill(text, &values), expected);
        }
    }
}
