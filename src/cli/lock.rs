//! `turnout lock status|release`: who holds the locks. The kernel frees a lock when its holder dies, so that there is
//! nothing to break: `release` says so, and never takes a lock from a living holder.

use std::path::Path;

use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::output::{self, BOLD};
use super::{CliError, Globals, target};
use crate::exit::ExitCode;
use crate::store::{Holder, LockStatus, Store};

pub(super) fn status(globals: &Globals) -> Result<ExitCode, CliError> {
    let status = Store::new(target::state_dir(globals)?).lock_status()?;
    output::value(globals.format(), &status, view)?;
    Ok(ExitCode::Done)
}

fn view(status: &LockStatus) -> String {
    let line = |name: &str, holder: Option<&Holder>| {
        let name = format!("{BOLD}{name:<12}{BOLD:#}");
        holder.map_or_else(
            || format!("{name} free"),
            |holder| {
                let message = holder
                    .message
                    .as_ref()
                    .map_or_else(String::new, |message| format!("  \"{message}\""));
                format!("{name} held by {holder}{message}")
            },
        )
    };
    format!(
        "{}\n{}",
        line("change lock", status.change.as_ref()),
        line("serve lock", status.serve.as_ref())
    )
}

pub(super) fn release(globals: &Globals) -> Result<ExitCode, CliError> {
    let store = Store::new(target::state_dir(globals)?);
    let status = store.lock_status()?;
    output::value(globals.format(), &status, view)?;
    let Some(holder) = status.change else {
        output::talk(
            "the change lock is free. A crashed holder never keeps it: the kernel frees it with the process",
        );
        return Ok(ExitCode::Done);
    };
    output::talk(advice(&holder, &store.change_lock()));
    Ok(ExitCode::No)
}

/// What to do about a holder.
fn advice(holder: &Holder, file: &Path) -> String {
    // `kill 0` would end the reader's own shell
    if holder.pid == 0 {
        let file = file.display();
        return format!(
            "the holder has not said who it is, so it is no turnout (or has just begun): `fuser {file}` or `lsof {file}` names the process; stop that one"
        );
    }
    if is_alive(holder.pid) {
        format!(
            "the holder is alive, and what it does ends with a proof or restored: wait for it, or stop it with `kill {}`; the lock is then free at once",
            holder.pid
        )
    } else {
        format!(
            "pid {} is not to be seen from here (another pid namespace?), but its lock is held, so it lives: stop it where it runs",
            holder.pid
        )
    }
}

/// True if a process of that number exists. Signal 0 asks and does nothing; "not permitted" is a yes.
fn is_alive(pid: u32) -> bool {
    let Ok(pid) = i32::try_from(pid) else {
        return false;
    };
    !matches!(
        kill(Pid::from_raw(pid), None),
        Err(nix::errno::Errno::ESRCH)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_is_shown_with_what_it_does() {
        let status = LockStatus {
            change: Some(Holder {
                pid: 4711,
                command: "turnout switch green".to_owned(),
                user: "anna".to_owned(),
                since: "2026-11-21T09:12:04.332571497Z".parse().unwrap(),
                message: Some("release".to_owned()),
            }),
            serve: None,
        };
        assert_eq!(
            anstream::adapter::strip_str(&view(&status)).to_string(),
            "change lock  held by anna (pid 4711, `turnout switch green`) since 2026-11-21T09:12:04Z  \"release\"\n\
             serve lock   free"
        );
    }

    #[test]
    fn a_holder_without_a_pid_is_looked_for_and_never_killed_as_number_0() {
        let mut holder = Holder::current("turnout", None);
        let file = Path::new("/var/lib/turnout/change.lock");
        assert!(advice(&holder, file).contains(&format!("`kill {}`", std::process::id())));
        holder.pid = 0;
        let text = advice(&holder, file);
        assert!(!text.contains("kill 0"), "{text}");
        assert!(
            text.contains("`fuser /var/lib/turnout/change.lock`"),
            "{text}"
        );
    }

    #[test]
    fn this_process_is_alive() {
        assert!(is_alive(std::process::id()));
        assert!(!is_alive(u32::MAX));
    }
}
