//! `turnout history`: the audit log, newest last. Read as it stands, without a lock; by the daemon where this
//! user may not read it, or where the daemon is on another host (`--server`).

use std::time::Duration;

use comfy_table::Cell;

use super::output::{self, DIM};
use super::table::{self, Page, Tone};
use super::target::{self, Recall};
use super::{CliError, Format, Globals, HistoryArgs};
use crate::exit::ExitCode;
use crate::store::{AuditEntry, Store};

pub(super) async fn run(globals: &Globals, args: &HistoryArgs) -> Result<ExitCode, CliError> {
    let mut entries = match target::to_recall(globals).await? {
        Recall::Daemon(daemon) => {
            let service = args.service.as_ref();
            daemon.client.history(service, args.number).await?
        }
        Recall::Here(state_dir) => {
            Store::new(state_dir).history(args.service.as_ref(), args.number)?
        }
    };
    entries.reverse();
    if entries.is_empty() && globals.format() == Format::Table {
        output::talk("nothing was ever changed here");
        return Ok(ExitCode::Done);
    }
    output::value(globals.format(), &entries, |entries| view(entries))?;
    Ok(ExitCode::Done)
}

fn view(entries: &[AuditEntry]) -> String {
    let mut table = table::new(&[
        "TIME", "SERVICE", "ACTION", "COLOR", "VERSION", "RESULT", "TOOK", "BY", "MESSAGE",
    ]);
    for entry in entries {
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
            Cell::new(table::took(Duration::from_millis(entry.duration_ms))),
            Cell::new(&entry.actor),
            Cell::new(entry.message.lines().next().unwrap_or_default()),
        ]);
    }
    let more = entries
        .iter()
        .any(|entry| entry.message.lines().count() > 1);
    let mut page = Page::default();
    page.add(&table::render(table));
    if more {
        page.line(format_args!(
            "{DIM}messages of several lines are cut: -o json has all of them{DIM:#}"
        ));
    }
    page.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"timestamp":"2026-11-21T09:12:04Z","service":"shop","environment":"green","version":"1.9.0","action":"switch","success":true,"message":"release\nnotes","actor":"anna@host (cli)","duration_ms":412}"#;

    #[test]
    fn an_entry_is_a_row() {
        let entry: AuditEntry = serde_json::from_str(LINE).unwrap();
        insta::assert_snapshot!(anstream::adapter::strip_str(&view(&[entry])), @r#"
        TIME                  SERVICE  ACTION  COLOR  VERSION  RESULT  TOOK   BY               MESSAGE
        2026-11-21 09:12:04Z  shop     switch  green  1.9.0    ✔ done  412ms  anna@host (cli)  release
        messages of several lines are cut: -o json has all of them
        "#);
    }
}
