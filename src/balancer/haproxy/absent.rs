//! An HAProxy that is gone: how that is known, and its files for its return.

use std::io;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::timeout;

use super::super::install::{self, LastGood, NotInstalled};
use super::super::process::is_zombie;
use super::super::{ApplyError, Change, Presence, Put, Step};
use super::apply::installed;
use super::process::{Master, MasterError};
use super::restore::{not_put_back, settle_undone};
use super::{Haproxy, check};

/// For a connection to the socket. One whose queue is full, or that is stopped, is still there.
const CONNECT: Duration = Duration::from_secs(1);

/// Whether it is there. The listen addresses are tried by whoever takes over.
pub(super) async fn presence(haproxy: &Haproxy) -> Presence {
    let reason = match Master::look(&haproxy.settings.pid) {
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
    let socket = haproxy.settings.socket.display();
    match timeout(CONNECT, UnixStream::connect(&haproxy.settings.socket)).await {
        Ok(Err(error))
            if matches!(
                error.kind(),
                io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
            ) =>
        {
            Presence::Gone(reason)
        }
        Ok(Err(error)) => {
            Presence::Unclear(format!("{reason}, but {socket} cannot be asked: {error}"))
        }
        Ok(Ok(_)) => Presence::Unclear(format!(
            "{reason}, but {socket} still accepts: a worker that its master left behind serves on"
        )),
        Err(_) => Presence::Unclear(format!(
            "{reason}, but {socket} neither accepts nor refuses"
        )),
    }
}

/// [`super::super::Principal::put`].
pub(super) async fn put(haproxy: &Haproxy, change: &Change<'_>) -> Result<Put, ApplyError> {
    let files = &change.rendered.files;
    install::sweep(files.iter().map(|file| file.path.as_path()));
    let folder = install::Folder::make(&haproxy.settings.maps)?;
    let targets = install::targets(files, &[], change.foreign)?;
    let translate = |said: &str| haproxy.translate(said, change.desired);
    let warned = check::staged(haproxy, files, translate).await?;
    change.progress.tell(Step::Check, "haproxy -c");
    let generation = change.rendered.generation;
    let last_good = LastGood::keep(&haproxy.state_dir, generation, change.previous, &targets)?;
    let mut warnings = match install::install(&haproxy.state_dir, generation, &targets, &last_good)
    {
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
    folder.keep();
    let warned = warned.into_iter();
    warnings.extend(warned.map(|line| format!("haproxy warns: {line}")));
    Ok(Put {
        evidence: format!("{}, checked by haproxy -c", installed(&targets)),
        last_good,
        warnings,
    })
}
