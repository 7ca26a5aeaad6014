//! `turnout init --from` an HAProxy that somebody runs: its steps, done one after the other, end with a switch.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use turnout::domain::Color;

use crate::support::{
    BINARY, Backend, Background, Connection, Ports, Run, Turnout, get, shared, wait_for,
};

fn start(folder: &Path, files: &[&str]) -> Background {
    let mut run = Run::new("haproxy")
        .args(["-W", "-S"])
        .arg(folder.join("master.sock"));
    for file in files {
        run = run.arg("-f").arg(folder.join(file));
    }
    let mut haproxy = run.background(&folder.join("haproxy.log"));
    wait_for("HAProxy to start", Duration::from_secs(10), || {
        assert!(haproxy.ended().is_none(), "{}", haproxy.printed());
        let pid = std::fs::read_to_string(folder.join("haproxy.pid")).ok()?;
        let is_new = pid.trim() == haproxy.pid().to_string();
        (is_new && UnixStream::connect(folder.join("admin.sock")).is_ok()).then_some(())
    });
    haproxy
}

#[test]
fn the_steps_of_a_proposal_lead_to_a_switch() {
    let _turn = shared();
    let folder = tempfile::TempDir::with_prefix("turnout-init-").unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (blue, green) = (Backend::start(Color::Blue), Backend::start(Color::Green));
    let front = Ports::address();
    let users = format!(
        "global\n    stats socket {} mode 600 level admin\n    pidfile {}\ndefaults\n    mode http\n    timeout connect 5s\n    \
         timeout client 9s\n    timeout server 9s\nfrontend web\n    bind {front}\n    acl is_shop hdr(host) -i \
         shop.example.com\n    use_backend shop if is_shop\nbackend shop\n    server a {}\n",
        path("admin.sock"),
        path("haproxy.pid"),
        blue.address()
    );
    std::fs::write(folder.path().join("haproxy.cfg"), &users).unwrap();
    let mut haproxy = start(folder.path(), &["haproxy.cfg"]);

    let proposed = Run::new(BINARY)
        .args(["init", "--from", &path("haproxy.cfg")])
        .run()
        .sane()
        .exits(0);
    let text = proposed.stdout;
    let guess = format!("127.0.0.1:{}", blue.address().port() + 1);
    assert!(
        text.contains("CHANGE: where the next version runs"),
        "{text}"
    );
    let text = text
        .replace(&guess, &green.address().to_string())
        .replace("/run/haproxy-master.sock", &path("master.sock"))
        // no such name is known on this host
        .replace(
            "public: http://shop.example.com",
            "# public: http://shop.example.com",
        );
    let text = format!("{text}state: {{ dir: {} }}\n", path("state"));
    let config = folder.path().join("turnout.yaml");
    std::fs::write(&config, text).unwrap();
    let turnout = Turnout::new(&config, Ports::address());

    turnout.ok(&["render", "--to", &path("turnout.cfg")]);
    let findings = turnout.run(&["doctor", "-o", "json"]).json();
    let found = findings.as_array().unwrap().iter();
    let lines = found
        .filter_map(|finding| finding["found"].as_str())
        .find_map(|found| found.split_once("without `listen`:\n"))
        .unwrap_or_else(|| panic!("no lines in {findings:#}"));
    let restart = |haproxy: &mut Background, text: &str| {
        std::fs::write(folder.path().join("haproxy.cfg"), text).unwrap();
        Run::new("haproxy")
            .args(["-c", "-f", &path("haproxy.cfg"), "-f", &path("turnout.cfg")])
            .run()
            .exits(0);
        haproxy.signal(Signal::SIGTERM);
        haproxy.wait(Duration::from_secs(10));
        start(folder.path(), &["haproxy.cfg", "turnout.cfg"])
    };
    let ask = || {
        let request = b"GET / HTTP/1.1\r\nHost: shop.example.com\r\nConnection: close\r\n\r\n";
        let opened = Connection::open(front, Duration::from_secs(10));
        opened.unwrap().send(request).unwrap()
    };
    // a step left out
    let mut haproxy = restart(&mut haproxy, &users);
    turnout
        .run(&["apply"])
        .exits(3)
        .says("put the lines of `turnout doctor` into yours");
    assert_eq!(ask().backend(), Some(Color::Blue), "as before");

    let routed = users.replace(
        "    use_backend shop if is_shop\n",
        &format!("{}\n", lines.1),
    );
    let haproxy = restart(&mut haproxy, &routed);
    turnout.ok(&["apply"]);
    assert_eq!(ask().color("x-routed-to"), Some(Color::Blue));
    turnout.ok(&["verify"]);
    turnout.ok(&["switch", "green"]);
    assert_eq!(ask().backend(), Some(Color::Green));
    assert!(get(front, "/", &[]).is_ok_and(|answer| answer.status != 200));
    turnout.ok(&["verify"]);
    drop(haproxy);
}

#[test]
fn a_file_that_is_no_balancer_s_gives_no_proposal_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    for (text, says) in [
        (
            "root:x:0:0\n",
            "it is not nginx's language, and does not begin like HAProxy's",
        ),
        (
            "global\n  daemon \"\n",
            "it begins like HAProxy's configuration, and cannot be read as that",
        ),
        (
            "global\n  daemon\ndefaults\n  mode http\nfrontend a\n  bind :80\n  default_backend b\n",
            "no frontend or listen section with a backend of servers HOST:PORT was found there; frontend a, line 7",
        ),
    ] {
        let path = folder.path().join("file.cfg");
        std::fs::write(&path, text).unwrap();
        let run = Run::new(BINARY).args(["init", "--from"]).arg(&path);
        let ran = run.run().sane().exits(1);
        assert_eq!(ran.stdout, "");
        assert!(ran.stderr.contains(says), "{text}\n{}", ran.stderr);
        assert!(
            ran.stderr.contains("failed to find a place for turnout in"),
            "{}",
            ran.stderr
        );
    }
}
