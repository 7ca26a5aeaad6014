//! The three proxies, as processes: started with the same routing, looked at, ended.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::Group;
use crate::backend::{Servers, command, end};
use crate::{measure, settings};

/// For a proxy to answer for its last service.
const START: Duration = Duration::from_mins(2);
/// The proxies' cpu.
const CPU: usize = 0;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Nginx,
    Haproxy,
    Turnout,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Nginx, Self::Haproxy, Self::Turnout];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "HAProxy",
            Self::Turnout => "turnout",
        }
    }
}

/// A running proxy.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) kind: Kind,
    pub(crate) address: SocketAddr,
    child: Child,
    _dir: tempfile::TempDir,
}

impl Peer {
    /// `None`, and a line that says so, if it does not answer in time.
    pub(crate) fn start(
        kind: Kind,
        group: Group,
        servers: &Servers,
        turnout: &Path,
    ) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let address = free_port();
        let text = settings::of(kind, group, address, servers, dir.path());
        let file = dir.path().join("configuration");
        std::fs::write(&file, text).expect("the configuration is written");
        let mut start = match kind {
            Kind::Nginx => {
                let mut start = command("nginx", CPU);
                start.arg("-p").arg(dir.path()).arg("-c").arg(&file);
                start
            }
            Kind::Haproxy => {
                let mut start = command("haproxy", CPU);
                start.arg("-db").arg("-f").arg(&file);
                start
            }
            Kind::Turnout => {
                let mut start = command(turnout, CPU);
                start.arg("--config").arg(&file).arg("serve");
                start
            }
        };
        let log = std::fs::File::create(dir.path().join("log")).expect("a log");
        let child = start
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("it is installed");
        let peer = Self {
            kind,
            address,
            child,
            _dir: dir,
        };
        let begin = Instant::now();
        match peer.serves(group.services) {
            Ok(()) => {
                println!(
                    "{} with {} services answers after {:.1?}",
                    kind.name(),
                    group.services,
                    begin.elapsed()
                );
                Some(peer)
            }
            Err(last) => {
                println!(
                    "{} with {} services does not answer after {START:?}; it said {last:?}",
                    kind.name(),
                    group.services
                );
                None
            }
        }
    }

    /// Waits until the last service answers through it, from a server, in the right way.
    fn serves(&self, services: usize) -> Result<(), String> {
        use std::io::{Read, Write};
        let deadline = Instant::now() + START;
        let last = services - 1;
        loop {
            let mut answer = String::new();
            let asked = std::net::TcpStream::connect(self.address).and_then(|mut stream| {
                write!(stream, "GET / HTTP/1.1\r\nHost: service-{last}.example.com\r\nConnection: close\r\n\r\n")?;
                stream.read_to_string(&mut answer)
            });
            let lower = answer.to_ascii_lowercase();
            if asked.is_ok()
                && lower.starts_with("http/1.1 200")
                && lower.contains("\r\nx-routed-to: ")
                && lower.contains("\r\nx-upstream-url: http://127.0.0.1:")
            {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(answer);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// What it used so far.
    pub(crate) fn cpu(&self) -> Duration {
        measure::cpu(&measure::family(self.child.id()))
    }

    pub(crate) fn pss(&self) -> u64 {
        measure::pss(&measure::family(self.child.id()))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // nginx's worker outlives a master that is killed
        let mut family = measure::family(self.child.id());
        family.retain(|pid| *pid != self.child.id());
        end(&mut self.child);
        for pid in family {
            let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).expect("a process id"));
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).ok();
        }
    }
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
}
