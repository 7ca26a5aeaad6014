//! `turnout history`: the audit log, newest last. Read as it stands: no lock, no daemon.

use std::io::{self, BufRead, BufReader};
use std::path::Path;

use comfy_table::Cell;

use super::output::{self, DIM};
use super::table::{self, Tone};
use super::{CliError, Format, Globals, HistoryArgs, target};
use crate::exit::ExitCode;
use crate::store::AuditEntry;

/// The audit log's name in the state directory (CONTRACT 3).
const FILE: &str = "deployments.jsonl";

pub(super) fn run(globals: &Globals, args: &HistoryArgs) -> Result<ExitCode, CliError> {
    let config = target::config(globals)?;
    let (entries, unreadable) = read(&config.state_dir.join(FILE))?;
    if unreadable > 0 {
        output::warn(format_args!(
            "{unreadable} lines of {FILE} are not entries of the audit log and are left out"
        ));
    }
    let mut entries: Vec<AuditEntry> = entries
        .into_iter()
        // what concerns all services concerns each of them
        .filter(|entry| {
            args.service.is_none() || entry.service.is_none() || entry.service == args.service
        })
        .collect();
    entries.drain(..entries.len().saturating_sub(args.number));
    if entries.is_empty() && globals.format() == Format::Table {
        output::talk("nothing was ever changed here");
        return Ok(ExitCode::Done);
    }
    output::value(globals.format(), &entries, |entries| view(entries))?;
    Ok(ExitCode::Done)
}

/// All entries, and how many lines are none. A torn last line is what a crash leaves, and counts as nothing.
fn read(path: &Path) -> Result<(Vec<AuditEntry>, usize), CliError> {
    let fail = |source| CliError::Read {
        path: path.to_owned(),
        source,
    };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
        Err(error) => return Err(fail(error)),
    };
    let mut entries = Vec::new();
    let mut unreadable = 0;
    for line in BufReader::new(file).split(b'\n') {
        match serde_json::from_slice::<AuditEntry>(&line.map_err(fail)?) {
            Ok(entry) => entries.push(entry),
            Err(error) if error.is_eof() => {}
            Err(_) => unreadable += 1,
        }
    }
    Ok((entries, unreadable))
}

fn view(entries: &[AuditEntry]) -> String {
    let mut table = table::new(&[
        "TIME", "SERVICE", "ACTION", "COLOR", "VERSION", "RESULT", "TOOK", "BY", "MESSAGE",
    ]);
    for entry in entries {
        let seconds = f64::from(u32::try_from(entry.duration_ms).unwrap_or(u32::MAX)) / 1000.0;
        table.add_row(vec![
            Cell::new(entry.timestamp.strftime("%Y-%m-%d %H:%M:%SZ")),
            Cell::new(table::or_dash(entry.service.as_ref())),
            Cell::new(&entry.action),
            entry
                .environment
                .map_or_else(|| Cell::new("-"), table::color),
            Cell::new(table::or_dash(entry.version.as_ref())),
            if entry.success {
                table::toned("✔ done", Tone::Good)
            } else {
                table::toned("✖ failed", Tone::Bad)
            },
            Cell::new(format!("{seconds:.1}s")),
            Cell::new(&entry.actor),
            Cell::new(entry.message.lines().next().unwrap_or_default()),
        ]);
    }
    let more = entries
        .iter()
        .any(|entry| entry.message.lines().count() > 1);
    let mut text = table::render(table);
    if more {
        text.push_str(&format!(
            "\n{DIM}messages of several lines are cut: -o json has all of them{DIM:#}"
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const LINE: &str = r#"{"timestamp":"2026-11-21T09:12:04Z","service":"shop","environment":"green","version":"1.9.0","action":"switch","success":true,"message":"release\nnotes","actor":"anna@host (cli)","duration_ms":412}"#;

    #[test]
    fn a_torn_last_line_is_dropped_and_a_strange_one_is_counted() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        write!(file, "{LINE}\n{{\"strange\":1}}\n{LINE}\n{}", &LINE[..40]).unwrap();
        let (entries, unreadable) = read(file.path()).unwrap();
        assert_eq!((entries.len(), unreadable), (2, 1));
        assert_eq!(entries[0].actor, "anna@host (cli)");
    }

    #[test]
    fn no_file_is_no_history() {
        let (entries, unreadable) = read(Path::new("/nonexistent/deployments.jsonl")).unwrap();
        assert_eq!((entries.len(), unreadable), (0, 0));
    }

    #[test]
    fn an_entry_is_a_row() {
        let entry: AuditEntry = serde_json::from_str(LINE).unwrap();
        insta::assert_snapshot!(anstream::adapter::strip_str(&view(&[entry])), @"");
    }
}
