//! One nginx in a folder of its own, two backends and their ports. Ends what it started.

#![expect(
    clippy::unwrap_used,
    reason = "a laboratory that cannot be set up has nothing to say"
)]

use std::fs::{self, File};
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::PathBuf;

use nix::sys::signal::{Signal, kill};
use turnout::balancer::Nginx;
use turnout::config::{NginxReload, NginxSettings, Switching};
use turnout::domain::{Color, Colors, Server};
use turnout::exec::Program;

use super::master::until;
use super::traffic::backend;
use crate::support::Ports;

const NOBODY: u32 = 65_534;

pub(super) struct Lab {
    dir: tempfile::TempDir,
    front: SocketAddr,
    own: SocketAddr,
    servers: Colors<Server>,
    pub(super) settings: NginxSettings,
    pub(super) trusted: Vec<ipnet::IpNet>,
}

impl Lab {
    pub(super) async fn start() -> Self {
        Self::begin("include conf.d/*.conf;", None).await
    }

    pub(super) async fn start_without_include() -> Self {
        Self::begin("", None).await
    }

    pub(super) async fn start_as_nobody() -> Self {
        Self::begin("include conf.d/*.conf;", Some(NOBODY)).await
    }

    /// With a TLS server block of the user's that includes a snippet which is not there yet: nginx starts before it is added.
    pub(super) async fn start_with_own_server() -> Self {
        let lab = Self::start().await;
        let (key, cert) = (lab.path("key.pem"), lab.path("cert.pem"));
        Program::new([
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=shop.example.com",
            "-keyout",
            &key.display().to_string(),
            "-out",
            &cert.display().to_string(),
        ])
        .run()
        .await
        .unwrap()
        .success()
        .unwrap();
        fs::create_dir(lab.path("snippets")).unwrap();
        lab.put(
            "conf.d/z-own.conf",
            &format!(
                "server {{ listen {} ssl; server_name shop.example.com; ssl_certificate {}; ssl_certificate_key {};\n\
                 location / {{ include {}; }} }}\n",
                lab.own,
                cert.display(),
                key.display(),
                lab.snippet().display()
            ),
        );
        lab
    }

    async fn begin(include: &str, user: Option<u32>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(dir.path().join("conf.d")).unwrap();
        let path = |name: &str| dir.path().join(name);
        let mut temporary = String::new();
        for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
            temporary.extend([format!("{kind}_temp_path {};\n", path(kind).display())]);
        }
        let main = format!(
            "{}worker_processes 2;\npid {};\nerror_log {} notice;\nevents {{ worker_connections 512; }}\n\
             http {{\naccess_log off;\n{temporary}{include}\n}}\n",
            if user.is_none() { "user root;\n" } else { "" },
            path("nginx.pid").display(),
            path("error.log").display(),
        );
        File::create(path("nginx.conf"))
            .unwrap()
            .write_all(main.as_bytes())
            .unwrap();
        let settings = NginxSettings {
            config: path("conf.d/turnout.conf"),
            main: path("nginx.conf"),
            binary: "nginx".into(),
            pid: path("nginx.pid"),
            template: None,
            prove: Ports::address(),
            switching: Switching::Reload,
            snippets: path("snippets"),
            reload: NginxReload::Signal,
            resolver: None,
        };
        let mut argv = Vec::new();
        if let Some(user) = user {
            chown(dir.path(), Some(user), Some(user)).unwrap();
            for part in [
                format!("--reuid={user}"),
                format!("--regid={user}"),
                "--clear-groups".into(),
            ] {
                argv.push(part);
            }
            argv.insert(0, "setpriv".into());
        }
        argv.extend([
            "nginx".into(),
            "-p".into(),
            dir.path().display().to_string(),
        ]);
        argv.extend(["-c".into(), settings.main.display().to_string()]);
        Program::new(argv).run().await.unwrap().success().unwrap();
        let lab = Self {
            front: Ports::address(),
            own: Ports::address(),
            servers: Colors {
                blue: backend("blue"),
                green: backend("green"),
            },
            settings,
            trusted: Vec::new(),
            dir,
        };
        if user.is_none() {
            until("nginx calls itself a master", || lab.master().is_some()).await;
        }
        lab
    }

    pub(super) fn nginx(&self) -> Nginx {
        Nginx::new(
            self.settings.clone(),
            self.path("state"),
            self.trusted.clone(),
        )
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn config(&self) -> PathBuf {
        self.settings.config.clone()
    }

    pub(super) fn main(&self) -> PathBuf {
        self.settings.main.clone()
    }

    pub(super) fn pid_file(&self) -> PathBuf {
        self.settings.pid.clone()
    }

    pub(super) fn snippet(&self) -> PathBuf {
        self.path("snippets/shop.conf")
    }

    pub(super) fn front(&self) -> SocketAddr {
        self.front
    }

    pub(super) fn public_url(&self) -> String {
        format!("https://{}/health", self.own)
    }

    pub(super) fn server(&self, color: Color) -> &Server {
        &self.servers[color]
    }

    pub(super) fn put(&self, name: &str, text: &str) {
        File::create(self.path(name))
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
    }

    pub(super) fn set_template(&mut self, text: &str) {
        self.put("mine.conf.j2", text);
        self.settings.template = Some(self.path("mine.conf.j2"));
    }

    pub(super) fn program(&self, name: &str, script: &str) -> String {
        self.put(name, &format!("#!/bin/sh\n{script}\n"));
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
        self.path(name).display().to_string()
    }

    pub(super) fn leftovers(&self) -> Vec<String> {
        [self.path(""), self.path("conf.d")]
            .iter()
            .flat_map(|dir| fs::read_dir(dir).unwrap())
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with('.'))
            .collect()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(master) = self.master() {
            kill(master, Signal::SIGTERM).ok();
        }
    }
}
