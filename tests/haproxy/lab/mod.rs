//! A real HAProxy, master and worker, with a folder, ports, sockets and a pid file of its own, and turnout beside it.

mod files;
mod seen;

use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;
use turnout::domain::Color;

use crate::support::{Backend, Background, Daemon, Ports, Run, Turnout, wait_for};

/// How turnout's file stands to HAProxy's other ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// It is the whole configuration.
    Whole,
    /// Beside the user's `global` and `defaults`.
    Beside,
    /// The service stands in a frontend of the user's own.
    OwnFrontend,
}

/// One host with HAProxy, a service `shop`, and its servers.
#[derive(Debug)]
pub(crate) struct Lab {
    master: Option<Background>,
    pub(crate) blue: Backend,
    pub(crate) green: Backend,
    pub(crate) front: SocketAddr,
    control: SocketAddr,
    pub(crate) layout: Layout,
    /// More lines of the service, and more services.
    pub(crate) shop: String,
    pub(crate) services: String,
    /// More lines of turnout.yaml, and of `balancer.haproxy`.
    pub(crate) top: String,
    pub(crate) settings: String,
    /// The level of the user's stats socket.
    pub(crate) level: &'static str,
    pub(crate) kind: &'static str,
    /// A line of `balancer`.
    pub(crate) fallback: &'static str,
    folder: TempDir,
}

impl Lab {
    /// Files and ports; nothing runs but the servers.
    pub(crate) fn new(layout: Layout) -> Self {
        let folder = TempDir::with_prefix("turnout-haproxy-").unwrap();
        let lab = Self {
            master: None,
            blue: Backend::start(Color::Blue),
            green: Backend::start(Color::Green),
            front: Ports::address(),
            control: Ports::address(),
            layout,
            shop: String::new(),
            services: String::new(),
            top: String::new(),
            settings: String::new(),
            level: "admin",
            kind: "haproxy",
            fallback: "",
            folder,
        };
        lab.write();
        lab
    }

    /// HAProxy runs, and everything is on blue and proved.
    pub(crate) fn on_blue(layout: Layout) -> Self {
        let mut lab = Self::new(layout);
        lab.begin();
        lab.turnout().ok(&["apply"]);
        assert_eq!(lab.served(), Color::Blue);
        lab
    }

    /// Writes turnout.yaml and the user's files anew, and starts HAProxy as the README says.
    pub(crate) fn begin(&mut self) {
        self.write();
        let to = self.config().display().to_string();
        if self.layout == Layout::Beside {
            // `-f` of a file that is not there ends HAProxy
            std::fs::write(self.config(), "").unwrap();
        } else {
            self.turnout().ok(&["render", "--to", &to]);
            self.write_user();
        }
        self.start();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.path("turnout.cfg")
    }

    pub(crate) fn map(&self) -> PathBuf {
        self.path("maps/position.map")
    }

    pub(crate) fn turnout(&self) -> Turnout {
        Turnout::new(&self.path("turnout.yaml"), self.control)
    }

    pub(crate) fn serve(&self) -> Daemon {
        self.turnout().serve()
    }

    /// Starts HAProxy with what is on disk.
    pub(crate) fn start(&mut self) {
        self.stop();
        let mut run = Run::new("haproxy")
            .args(["-W", "-S"])
            .arg(self.path("master.sock"))
            .arg("-p")
            .arg(self.path("haproxy.pid"));
        if self.layout != Layout::Whole {
            run = run.arg("-f").arg(self.path("user.cfg"));
        }
        let mut master = run
            .arg("-f")
            .arg(self.config())
            .background(&self.path("haproxy.log"));
        wait_for("HAProxy to start", Duration::from_secs(10), || {
            assert!(
                master.ended().is_none(),
                "HAProxy did not start: {}",
                master.printed()
            );
            let pid = std::fs::read_to_string(self.path("haproxy.pid")).ok()?;
            (pid.trim() == master.pid().to_string()
                && UnixStream::connect(self.path("admin.sock")).is_ok())
            .then_some(())
        });
        self.master = Some(master);
        wait_for("HAProxy's worker", Duration::from_secs(10), || {
            (self.workers().len() == 1).then_some(())
        });
    }

    pub(crate) fn stop(&mut self) {
        if let Some(mut master) = self.master.take() {
            if master.ended().is_none() {
                master.signal(Signal::SIGTERM);
            }
            master.wait(Duration::from_secs(10));
        }
    }

    /// SIGKILL for master and workers at once: nothing of it is left.
    pub(crate) fn crash(&mut self) {
        let mut master = self.master.take().expect("HAProxy is stopped");
        master.kill_all();
        master.wait(Duration::from_secs(10));
    }

    pub(crate) fn master(&mut self) -> &mut Background {
        self.master.as_mut().expect("HAProxy is stopped")
    }

    pub(crate) fn master_pid(&self) -> i32 {
        self.master.as_ref().expect("HAProxy is stopped").pid()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("haproxy.log")).unwrap_or_default()
    }

    /// The workers, old ones included.
    pub(crate) fn workers(&self) -> Vec<i32> {
        let master = self.master_pid();
        let children = std::fs::read_to_string(format!("/proc/{master}/task/{master}/children"));
        children
            .unwrap_or_default()
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .collect()
    }

    /// A reload by somebody else, finished.
    pub(crate) fn reload_by_hand(&self) {
        let before = self.workers();
        self.master.as_ref().unwrap().signal(Signal::SIGUSR2);
        wait_for("the end of a reload", Duration::from_secs(10), || {
            let now = self.workers();
            (now.len() == 1 && !before.contains(&now[0])).then_some(())
        });
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.master = None;
    }
}
