//! A real nginx with a folder, ports and a pid file of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Background, Run, SOON, wait_for};

/// How an nginx is to be started.
#[derive(Debug, Clone, Default)]
pub(crate) struct NginxSetup {
    /// Text at the end of the `http` block: a user's own server, say.
    pub(crate) http: String,
    /// The user to run master and workers as; default: this process's.
    pub(crate) user: Option<&'static str>,
    /// Leaves out the line that includes `conf.d`.
    pub(crate) without_include: bool,
}

/// A running nginx. Stopped when dropped.
#[derive(Debug)]
pub(crate) struct Nginx {
    folder: PathBuf,
    setup: NginxSetup,
    master: Option<Background>,
}

impl Nginx {
    /// Writes the configuration into `folder` and starts it; `conf.d` is made if there is none.
    pub(crate) fn start(folder: &Path, setup: NginxSetup) -> Self {
        for name in ["conf.d", "temp"] {
            std::fs::create_dir_all(folder.join(name)).unwrap();
        }
        let mut nginx = Self {
            folder: folder.to_owned(),
            setup,
            master: None,
        };
        nginx.write_main();
        if let Some(user) = nginx.setup.user {
            Run::new("chown")
                .args(["-R", user])
                .arg(folder)
                .run()
                .exits(0);
        }
        nginx.restart();
        nginx
    }

    /// The main file, from the set-up.
    fn write_main(&self) {
        let folder = self.folder.display();
        let include = if self.setup.without_include {
            String::new()
        } else {
            format!("include {folder}/conf.d/*.conf;")
        };
        let http = &self.setup.http;
        let temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("    {kind}_temp_path {folder}/temp/{kind};\n"))
            .concat();
        // keepalive_requests: the default of 1000 closes busy connections, which would be counted as a reload's doing
        let text = format!(
            "daemon off;
worker_processes 2;
pid {folder}/nginx.pid;
error_log {folder}/error.log notice;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    keepalive_requests 10000000;
{temp}    {include}
{http}
}}
"
        );
        std::fs::write(self.main(), text).unwrap();
    }

    pub(crate) fn main(&self) -> PathBuf {
        self.folder.join("nginx.conf")
    }

    /// The file that turnout owns.
    pub(crate) fn config(&self) -> PathBuf {
        self.conf_d().join("turnout.conf")
    }

    pub(crate) fn conf_d(&self) -> PathBuf {
        self.folder.join("conf.d")
    }

    pub(crate) fn pid_file(&self) -> PathBuf {
        self.folder.join("nginx.pid")
    }

    /// The master's process id.
    pub(crate) fn master(&self) -> i32 {
        self.master.as_ref().expect("nginx is stopped").pid()
    }

    /// Everything in the error log.
    pub(crate) fn errors(&self) -> String {
        std::fs::read_to_string(self.folder.join("error.log")).unwrap_or_default()
    }

    /// The workers, old ones that are shutting down included.
    pub(crate) fn workers(&self) -> Vec<i32> {
        let master = self.master();
        let children = std::fs::read_to_string(format!("/proc/{master}/task/{master}/children"));
        children
            .unwrap_or_default()
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .collect()
    }

    /// The workers that accept connections.
    pub(crate) fn accepting(&self) -> Vec<i32> {
        let mut workers = self.workers();
        workers.retain(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|title| title.trim_end_matches(['\0', ' ']) == "nginx: worker process")
        });
        workers
    }

    /// SIGHUP, as `kill -HUP` or `nginx -s reload` sends it, and nothing else: what a person does by hand.
    pub(crate) fn hup(&self) {
        self.master
            .as_ref()
            .expect("nginx is stopped")
            .signal(Signal::SIGHUP);
    }

    /// A reload by hand, finished: none of the workers that accepted before does so any more.
    pub(crate) fn reload(&self) {
        let before = self.accepting();
        self.hup();
        wait_for("the end of a reload", SOON, || {
            let now = self.accepting();
            (now.len() == 2 && now.iter().all(|pid| !before.contains(pid))).then_some(())
        });
    }

    /// Ends it as a power cut would not: fast shutdown, pid file removed.
    pub(crate) fn stop(&mut self) {
        if let Some(mut master) = self.master.take() {
            master.signal(Signal::SIGTERM);
            master.wait(SOON);
        }
    }

    /// SIGKILL for the master and for each worker at once, those that a reload has just begun too: nothing of it is left.
    pub(crate) fn crash(&mut self) {
        let mut master = self.master.take().expect("nginx is stopped");
        master.kill_all();
        master.wait(SOON);
    }

    /// SIGKILL for the master alone: its workers serve on. Returns them.
    pub(crate) fn behead(&mut self) -> Vec<i32> {
        let workers = self.workers();
        let mut master = self.master.take().expect("nginx is stopped");
        kill(Pid::from_raw(master.pid()), Signal::SIGKILL).unwrap();
        master.wait(SOON);
        workers
    }

    /// Stops it, if it runs, and starts it with what is on disk now.
    pub(crate) fn restart(&mut self) {
        self.stop();
        let mut run = Run::new("nginx")
            .arg("-p")
            .arg(&self.folder)
            .arg("-c")
            .arg(self.main());
        if let Some(user) = self.setup.user {
            run = run.under(as_user(user));
        }
        let mut master = run.background(&self.folder.join("start.log"));
        wait_for("nginx to start", SOON, || {
            assert!(
                master.ended().is_none(),
                "nginx did not start: {}",
                master.printed()
            );
            std::fs::read_to_string(self.pid_file())
                .is_ok_and(|pid| pid.trim() == master.pid().to_string())
                .then_some(())
        });
        self.master = Some(master);
        wait_for("nginx's workers", SOON, || {
            (self.accepting().len() == 2).then_some(())
        });
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // SIGTERM, which `Background` sends, is nginx's fast shutdown: it takes the workers along
        self.master = None;
    }
}

/// What to put in front of a command so that it runs as `user`, with nothing left of root's rights.
pub(crate) fn as_user(user: &str) -> [String; 6] {
    [
        "setpriv".to_owned(),
        format!("--reuid={user}"),
        "--regid=nogroup".to_owned(),
        "--clear-groups".to_owned(),
        "--inh-caps=-all".to_owned(),
        "--no-new-privs".to_owned(),
    ]
}

/// A self-signed certificate for `localhost`: `(certificate, key)`.
pub(crate) fn certificate(folder: &Path) -> (PathBuf, PathBuf) {
    let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    Run::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt"])
        .args(["ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=localhost", "-addext"])
        .arg("subjectAltName=DNS:localhost,IP:127.0.0.1")
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .run()
        .exits(0);
    (certificate, key)
}

/// A server block of a user's own, with TLS, that takes `snippet` into its only location.
pub(crate) fn own_tls_server(listen: SocketAddr, folder: &Path, location: &str) -> String {
    let (certificate, key) = certificate(folder);
    format!(
        "    server {{
        listen {listen} ssl;
        server_name localhost;
        ssl_certificate {};
        ssl_certificate_key {};
        location / {{
            {location}
        }}
    }}",
        certificate.display(),
        key.display()
    )
}
