//! turnout.yaml as the lab's fields say, and the user's own files beside turnout's.

use super::{Lab, Layout};

impl Lab {
    /// turnout.yaml, as the fields say now.
    pub(crate) fn write(&self) {
        let path = |name: &str| self.path(name).display().to_string();
        let files = match self.layout {
            Layout::Whole => String::new(),
            Layout::Beside | Layout::OwnFrontend => {
                format!(
                    "    files: [{}, {}]\n",
                    path("user.cfg"),
                    path("turnout.cfg")
                )
            }
        };
        let door = match self.layout {
            Layout::Whole | Layout::Beside => format!("listen: {}", self.front),
            Layout::OwnFrontend => format!("public: http://{}/", self.front),
        };
        let text = format!(
            "version: 1
state: {{ dir: {} }}
balancer:
  kind: {}
{}  haproxy:
    config: {}
    maps: {}
    socket: {}
    pid: {}
{files}{}control: {{ listen: \"{}\" }}
{}services:
  shop:
    {door}
    blue: {{ servers: [\"{}\"] }}
    green: {{ servers: [\"{}\"] }}
    health: {{ path: /health, interval: 200ms, timeout: 1s, unhealthy_after: 2, healthy_after: 1 }}
{}{}",
            path("state"),
            self.kind,
            self.fallback,
            path("turnout.cfg"),
            path("maps"),
            path("admin.sock"),
            path("haproxy.pid"),
            self.settings,
            self.control,
            self.top,
            self.blue.url(),
            self.green.url(),
            self.shop,
            self.services
        );
        std::fs::write(self.path("turnout.yaml"), text).unwrap();
        self.write_user();
    }

    pub(super) fn write_user(&self) {
        let frontend = match self.layout {
            Layout::Whole => return,
            Layout::Beside => String::new(),
            Layout::OwnFrontend => {
                let doctor = self.turnout().run(&["doctor", "-o", "json"]);
                let findings = doctor.json();
                let lines = findings
                    .as_array()
                    .unwrap()
                    .iter()
                    .filter_map(|finding| finding["found"].as_str())
                    .find_map(|found| found.split_once("without `listen`:\n"))
                    .map_or_else(String::new, |(_, lines)| lines.to_owned());
                format!("frontend own\n    bind {}\n{lines}\n", self.front)
            }
        };
        // what Debian ships, and what collides with turnout's own
        let text = format!(
            "global
    stats socket {} mode 660 level {} expose-fd listeners
defaults
    mode http
    option forwardfor
    option httplog
    option dontlognull
    timeout connect 5000
    timeout client 50000
    timeout server 50000
    errorfile 503 /etc/haproxy/errors/503.http
{frontend}",
            self.path("admin.sock").display(),
            self.level
        );
        std::fs::write(self.path("user.cfg"), text).unwrap();
    }
}
