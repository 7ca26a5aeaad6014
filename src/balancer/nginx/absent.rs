//! An nginx that is gone: how that is known, and its files for its return.
//!
//! Its own check runs without a master too, but leaves an empty pid file behind where there was none, which is removed. While
//! turnout holds the listen addresses, the check passes over them (`nginx -t` tolerates a busy address).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::super::install::{self, LastGood, NotInstalled};
use super::super::process::is_zombie;
use super::super::{ApplyError, Change, Presence, Principal, Put, Step};
use super::Nginx;
use super::apply::{explained, installed};
use super::check::{Check, Failed, Passed};
use super::folder::{Made, forsaken};
use super::instant;
use super::process::{Master, MasterError};
use super::prove;
use super::restore::{not_put_back, settle_undone};
use crate::config::NginxReload;
use crate::domain::Hashing;
use crate::exec::CommandError;

/// For a connection on this host. A listener whose queue is full, or that is stopped, is still there.
const CONNECT: Duration = Duration::from_secs(1);

/// For an nginx that is being started to answer; one with 3,000 services takes 0.6 s.
const STARTING: Duration = Duration::from_secs(5);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// Whether it is there. The listen addresses are tried by whoever takes over.
pub(super) async fn presence(nginx: &Nginx) -> Presence {
    let reason = match Master::look(&nginx.settings.pid) {
        Ok(_) | Err(MasterError::NotPermitted { .. }) => return Presence::Here,
        Err(MasterError::NoMaster { pid, .. }) if !is_zombie(pid) => return Presence::Here,
        Err(error @ (MasterError::Unreadable { .. } | MasterError::Garbage { .. })) => {
            return Presence::Unclear(crate::domain::describe(&error));
        }
        Err(MasterError::NoMaster { pid, .. }) => format!("its master {pid} has ended"),
        Err(MasterError::Stale { pid, .. }) => format!("its master {pid} is gone"),
        Err(MasterError::Reused { pid, .. }) => format!("process {pid} is another one by now"),
        Err(MasterError::Missing { path } | MasterError::Empty { path }) => {
            format!("{} names no master", path.display())
        }
    };
    match silence(nginx.settings.prove).await {
        Ok(()) => Presence::Gone(reason),
        // in another container its master is never seen, and its private listener is its word
        Err(_) if matches!(nginx.settings.reload, NginxReload::Command(_)) => Presence::Here,
        Err(seen) => Presence::Unclear(format!("{reason}, but {seen}")),
    }
}

/// Waits, on the way back of a change, until the private listener answers: a worker that was killed is started anew by its
/// master, and nginx by systemd. Gone: whatever starts, starts with the files.
pub(super) async fn answering(nginx: &Nginx) -> Presence {
    let started = Instant::now();
    loop {
        if prove::generation(nginx.settings.prove).await.is_ok() {
            return Presence::Here;
        }
        let seen = presence(nginx).await;
        if matches!(seen, Presence::Gone(_)) || started.elapsed() >= STARTING {
            return seen;
        }
        sleep(PAUSE).await;
    }
}

/// `Ok`: the system itself says that nobody listens there.
async fn silence(address: SocketAddr) -> Result<(), String> {
    match timeout(CONNECT, TcpStream::connect(address)).await {
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => Ok(()),
        Ok(Err(error)) => Err(format!("{address} does not refuse: {error}")),
        Ok(Ok(_)) => Err(format!(
            "{address} still accepts: workers that its master left behind serve on"
        )),
        Err(_) => Err(format!("{address} neither accepts nor refuses")),
    }
}

impl Principal for Nginx {
    fn hashing(&self) -> Hashing {
        Hashing::SplitClients
    }

    fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    fn leading_file(&self) -> PathBuf {
        self.settings.config.clone()
    }

    async fn put(&self, change: &Change<'_>) -> Result<Put, ApplyError> {
        put(self, change).await
    }
}

async fn put(nginx: &Nginx, change: &Change<'_>) -> Result<Put, ApplyError> {
    let made = Made::for_the_snippets_of(change.rendered, &nginx.settings.snippets)?;
    let files = &change.rendered.files;
    install::sweep(
        files
            .iter()
            .map(|file| file.path.as_path())
            .chain([nginx.settings.main.as_path()]),
    );
    let gone = forsaken(change.rendered, &nginx.settings.snippets);
    let targets = install::targets(files, &gone, change.foreign)?;
    let explain = |said: &str| explained(nginx, change.desired, change.rendered, &gone, said);
    let passed = {
        let _traceless = Traceless::of(&nginx.settings.pid);
        let check = Check::new(&nginx.settings, &nginx.state_dir, None);
        match check.staged(&targets).await {
            Ok(passed) => passed,
            Err(Failed::NoWay) => unchecked("it cannot be done without installing the files"),
            Err(Failed::Command(error @ CommandError::NotFound { .. })) => {
                unchecked(&error.to_string())
            }
            Err(failed) => return Err(failed.into_apply_error(explain)),
        }
    };
    change.progress.tell(Step::Check, passed.way);
    let generation = change.rendered.generation;
    let last_good = LastGood::keep(&nginx.state_dir, generation, change.previous, &targets)?;
    let mut warnings = match install::install(&nginx.state_dir, generation, &targets, &last_good) {
        Ok(warnings) => warnings,
        Err(NotInstalled::Undone(failure)) => {
            settle_undone(last_good);
            return Err(failure.into());
        }
        Err(NotInstalled::Halfway { failure, undo }) => {
            let message = crate::domain::describe(&failure);
            return Err(not_put_back(&last_good, message, &undo));
        }
    };
    // without markers nginx starts by the positions in its file, whichever of the two stands there by then
    instant::forget(nginx);
    made.keep();
    let warned = passed.warnings.iter();
    warnings.extend(warned.map(|line| format!("nginx warns: {line}")));
    Ok(Put {
        evidence: format!("{}, checked {}", installed(&targets), passed.way),
        last_good,
        warnings,
    })
}

fn unchecked(why: &str) -> Passed {
    Passed {
        way: "not at all",
        warnings: vec![format!(
            "the files for its return were not checked: {why}. Run `nginx -t` before you start it"
        )],
        ..Passed::default()
    }
}

/// Removes the empty pid file that a check leaves where there was none.
struct Traceless<'a>(Option<&'a Path>);

impl<'a> Traceless<'a> {
    fn of(pid: &'a Path) -> Self {
        Self((!pid.exists()).then_some(pid))
    }
}

impl Drop for Traceless<'_> {
    fn drop(&mut self) {
        if let Some(path) = self.0
            && std::fs::metadata(path).is_ok_and(|file| file.len() == 0)
        {
            // an empty one that stays misleads nobody but a reader
            std::fs::remove_file(path).ok();
        }
    }
}
