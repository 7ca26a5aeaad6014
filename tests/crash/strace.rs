//! strace as the hand that strikes: records the system calls of a command on files, then kills or fails one of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::support::{Ran, Run, Site};

/// What changes a file, and the loop's bounds.
const CALLS: &[&str] = &[
    "openat",
    "write",
    "pwrite64",
    "ftruncate",
    "fsync",
    "fdatasync",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "linkat",
    "symlink",
    "symlinkat",
    "fchmod",
    "fchmodat",
    "fchown",
    "mkdir",
    "mkdirat",
];

/// A system call of a command, and where in it the fault strikes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) call: String,
    /// Only calls on these files count; none: on whatever it is.
    pub(super) paths: Vec<String>,
    /// From 1.
    pub(super) nth: u32,
}

/// What happens there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Kill,
    Once(&'static str),
    FromThenOn(&'static str),
}

/// A command under strace, with `options` in front.
fn traced(site: &Site, command: &[&str], options: &[String]) -> Run {
    let log = site.folder().join("strace.log");
    site.turnout()
        .command(command)
        .under(
            [
                "strace".to_owned(),
                "-f".to_owned(),
                "-qq".to_owned(),
                "-o".to_owned(),
                log.display().to_string(),
            ]
            .iter()
            .chain(options),
        )
        .deadline(Duration::from_mins(1))
}

fn trace(site: &Site) -> String {
    std::fs::read_to_string(site.folder().join("strace.log")).unwrap()
}

/// Runs the command with one fault; `None` if the point was not reached.
pub(super) fn strike(site: &Site, command: &[&str], point: &Point, fault: Fault) -> Option<Ran> {
    let (what, when) = match fault {
        Fault::Kill => ("signal=KILL".to_owned(), point.nth.to_string()),
        Fault::Once(error) => (format!("error={error}"), point.nth.to_string()),
        Fault::FromThenOn(error) => (format!("error={error}"), format!("{}+", point.nth)),
    };
    let call = &point.call;
    let mut options = vec![
        "-e".to_owned(),
        format!("trace=?{call}"),
        "-e".to_owned(),
        format!("inject=?{call}:{what}:when={when}"),
    ];
    for path in &point.paths {
        options.extend(["-P".to_owned(), path.clone()]);
    }
    let ran = traced(site, command, &options).run().sane();
    let trace = trace(site);
    let is_reached = match fault {
        Fault::Kill => trace.contains("killed by SIGKILL"),
        Fault::Once(_) | Fault::FromThenOn(_) => trace.contains("(INJECTED)"),
    };
    is_reached.then_some(ran)
}

/// The calls of one whole command on files of the site, each as often as one thread made it.
///
/// strace counts for each thread, so a point is a call on one file: no file is written by two threads at once.
pub(super) fn record(site: &Site, command: &[&str]) -> Vec<Point> {
    let calls: Vec<_> = CALLS.iter().map(|call| format!("?{call}")).collect();
    let options = [
        "-y".to_owned(),
        "-e".to_owned(),
        format!("trace={}", calls.join(",")),
    ];
    traced(site, command, &options).run().sane().exits(0);
    let folder = site.folder().display().to_string();
    let mut counts: BTreeMap<(String, String, String), u32> = BTreeMap::new();
    for line in trace(site).lines() {
        let Some((call, path)) = parse(line, &folder) else {
            continue;
        };
        let thread = line
            .split_whitespace()
            .next()
            .unwrap_or_default()
            .to_owned();
        *counts.entry((call, path, thread)).or_default() += 1;
    }
    let mut most: BTreeMap<(String, String), u32> = BTreeMap::new();
    for ((call, path, _), count) in counts {
        let entry = most.entry((call, path)).or_default();
        *entry = (*entry).max(count);
    }
    most.into_iter()
        .flat_map(|((call, path), count)| {
            (1..=count).map(move |nth| Point {
                call: call.clone(),
                paths: vec![path.clone()],
                nth,
            })
        })
        .collect()
}

/// The call and the first file of the site in a line such as `12 write(9</tmp/x/state.json.tmp>, "…", 3) = 3`.
fn parse(line: &str, folder: &str) -> Option<(String, String)> {
    let (head, arguments) = line.split_once('(')?;
    let call = head.split_whitespace().last()?;
    let path = arguments[arguments.find(folder)?..]
        .split(['"', '>', ',', '\\'])
        .next()?;
    let is_ours = path != folder && Path::new(path).extension() != Some("log".as_ref());
    is_ours.then(|| (call.to_owned(), path.to_owned()))
}
