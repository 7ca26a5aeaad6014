//! The log by which nginx tells of each request: where it goes, in which block it stands, and what a person has to add.
//!
//! nginx takes access logs from the innermost block that has any: a log of turnout's in a server block would silence the user's
//! at http level. So it stands at http level beside the user's, or, where the user has none there, in turnout's own server blocks.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::counts::CountsSocket;
use super::{Nginx, main_file};
use crate::config::NginxReload;
use crate::render::{NginxCounts, NginxLog};

impl Nginx {
    /// Where each request is told of.
    pub fn counts_socket(&self) -> CountsSocket {
        CountsSocket::in_state(&self.state_dir)
    }

    /// The private listener's own total of requests, where this nginx has one.
    pub fn counts_total(&self) -> Option<std::net::SocketAddr> {
        has_total(self).then_some(self.settings.prove)
    }

    /// What a server block of the user's needs for its requests to be counted: always, and where it has a log of its own.
    pub fn counts_lines(&self) -> (String, String) {
        let main = fs::read_to_string(&self.settings.main).unwrap_or_default();
        lines(self, &main)
    }

    /// The master's pid file: its workers may tell.
    pub fn pid_file(&self) -> &Path {
        &self.settings.pid
    }
}

/// The module's name, as it stands in a program that has it. Every package of nginx does.
const TOTAL: &[u8] = b"stub_status";

pub(super) fn of(nginx: &Nginx, main: &str) -> NginxCounts {
    let CountsSocket { told, reader, .. } = CountsSocket::in_state(&nginx.state_dir);
    NginxCounts {
        socket: told,
        reader,
        place: if main_file::logs_at_http_level(main) {
            NginxLog::Http
        } else {
            NginxLog::Server
        },
        total: has_total(nginx),
    }
}

/// Whether `stub_status` may stand in the configuration. An nginx in another container is not looked into.
pub(super) fn has_total(nginx: &Nginx) -> bool {
    if matches!(nginx.settings.reload, NginxReload::Command(_)) {
        return false;
    }
    let program = program(&nginx.settings.binary);
    let bytes = program.and_then(|path| fs::read(path).ok());
    bytes.is_some_and(|bytes| memchr::memmem::find(&bytes, TOTAL).is_some())
}

fn program(binary: &str) -> Option<PathBuf> {
    if binary.contains('/') {
        return Some(binary.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = std::env::split_paths(&path).collect();
    // Debian keeps nginx out of a normal user's PATH
    let all = folders
        .iter()
        .map(PathBuf::as_path)
        .chain([Path::new("/usr/sbin"), Path::new("/usr/local/sbin")]);
    all.map(|folder| folder.join(binary))
        .find(|file| file.is_file())
}

/// What a server block of the user's needs for its requests to be counted: always, and where it has a log of its own.
pub(super) fn lines(nginx: &Nginx, main: &str) -> (String, String) {
    let CountsSocket { reader, told, .. } = CountsSocket::in_state(&nginx.state_dir);
    let (reader, told) = (reader.display(), told.display());
    let reads = format!("if (-e {reader}) {{ set $turnout__reads 1; }}");
    let log = format!(
        "access_log syslog:server=unix:{told},tag=turnout,nohostname turnout__counts if=$turnout__counted;"
    );
    if main_file::logs_at_http_level(main) {
        (reads, log)
    } else {
        (format!("{reads}\n{log}"), log)
    }
}
