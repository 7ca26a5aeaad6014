//! What the daemon notices and says by itself: a followed file, a changed configuration or template, and systemd.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use nix::sys::signal::Signal;
use turnout::domain::Color;

use crate::support::{Site, shared, wait_for};

/// For a machine that does much else besides.
const SOON: Duration = Duration::from_mins(1);

/// The site's configuration with `state.follow`.
fn follow(site: &Site, file: &str) {
    let old = std::fs::read_to_string(site.config()).unwrap();
    let state = old.lines().find(|line| line.starts_with("state:")).unwrap();
    let dir = site.state_dir();
    let with = format!(
        "state: {{ dir: {}, follow: {{ file: {file}, field: active_version }} }}",
        dir.display()
    );
    std::fs::write(site.config(), old.replace(state, &with)).unwrap();
}

#[test]
fn a_followed_file_moves_the_traffic_and_forbids_every_other_way() {
    let _turn = shared();
    let site = Site::nginx();
    let foreign = site.folder().join("bg_state.json");
    follow(&site, "bg_state.json");
    std::fs::write(&foreign, r#"{"active_version": "green", "other": 1}"#).unwrap();
    let daemon = site.serve().allow("followed");
    // it is ready only now, and never served anything else
    assert_eq!(site.served(), Color::Green);
    let status = daemon.api().get("/orchestration/status").json();
    assert_eq!(
        (&status["active"], &status["generation"]),
        (&"green".into(), &1.into())
    );
    // another tool replaces its file by rename
    let next = site.folder().join("bg_state.new");
    std::fs::write(&next, r#"{"active_version": "blue"}"#).unwrap();
    std::fs::rename(&next, &foreign).unwrap();
    wait_for("blue to serve", SOON, || {
        (site.served() == Color::Blue).then_some(())
    });
    site.turnout()
        .run(&["switch", "green"])
        .exits(1)
        .says("bg_state.json");
    for broken in ["{", r#"{"active_version": "red"}"#, "{}"] {
        std::fs::write(&foreign, broken).unwrap();
        wait_for("the broken file to be told", SOON, || {
            let status = site.turnout().run(&["status", "-o", "json"]);
            status.stdout.contains("bg_state.json").then_some(())
        });
        assert_eq!(site.served(), Color::Blue);
    }
    std::fs::write(&foreign, r#"{"active_version": "green"}"#).unwrap();
    wait_for("green to serve again", SOON, || {
        (site.served() == Color::Green).then_some(())
    });
    drop(daemon);
}

#[test]
fn systemd_is_told_of_readiness_only_after_the_first_proof() {
    let _turn = shared();
    let mut site = Site::nginx();
    let path = site.folder().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_nonblocking(true).unwrap();
    let said = || {
        let mut buffer = [0; 4096];
        let mut text = String::new();
        while let Ok(length) = socket.recv(&mut buffer) {
            text.push_str(&String::from_utf8_lossy(&buffer[..length]));
            text.push('\n');
        }
        text
    };
    site.balancer_mut().stop();
    let mut daemon = site
        .turnout()
        .command(&["serve"])
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "1000000")
        .background(&site.folder().join("daemon.log"));
    wait_for("the daemon to look for nginx", SOON, || {
        daemon.printed().contains("trying again").then_some(())
    });
    let before = said();
    assert!(!before.contains("READY=1"), "{before}");
    site.balancer_mut().restart();
    let mut all = String::new();
    wait_for("READY and the watchdog", Duration::from_mins(1), || {
        all.push_str(&said());
        (all.contains("READY=1") && all.contains("WATCHDOG=1")).then_some(())
    });
    assert_eq!((site.served(), site.recorded()), (Color::Blue, Color::Blue));
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait(SOON).code(), Some(0));
    assert!(said().contains("STOPPING=1"));
}

#[test]
fn render_and_reload_work_beside_a_daemon_that_reads_the_same_edit() {
    let _turn = shared();
    let mut site = Site::nginx_on_blue();
    let turnout = site.turnout();
    let serves = |at| {
        let answer = crate::support::get(at, "/", &[]);
        assert_eq!(answer.unwrap().status, 200);
    };

    // the daemon was first: what was staged is in force when `reload` comes
    let first = crate::support::Ports::address();
    let _first = site.add_service("first", first);
    let would = turnout.ok(&["render", "--dry-run", "-o", "json"]).json();
    turnout.run(&["reload"]).exits(1).says("nothing is staged");
    let does = turnout.ok(&["render", "-o", "json"]).json();
    assert_eq!(would, does);
    let _daemon = site.serve();
    serves(first);
    turnout
        .ok(&["reload"])
        .says("nothing to do: all is already so");
    turnout.run(&["reload"]).exits(1).says("nothing is staged");

    // the commands are first, or at the same time: whoever it is, both end well and the edit is in force
    let second = crate::support::Ports::address();
    let _second = site.add_service("second", second);
    turnout.ok(&["render"]);
    turnout.ok(&["reload"]);
    serves(second);
    let third = crate::support::Ports::address();
    let _third = site.add_service("third", third);
    turnout.ok(&["apply"]);
    serves(third);
    turnout.ok(&["verify"]);
}

#[test]
fn a_changed_configuration_is_taken_without_moving_the_traffic() {
    let _turn = shared();
    let mut site = Site::nginx_on_blue();
    let daemon = site.serve();
    site.turnout().ok(&["switch", "green"]);
    let other = crate::support::Ports::address();
    let _servers = site.add_service("other", other);
    wait_for("the new service to serve", SOON, || {
        let answer = crate::support::get(other, "/", &[]).ok()?;
        (answer.status == 200).then_some(())
    });
    assert_eq!(
        (site.served(), site.recorded()),
        (Color::Green, Color::Green)
    );
    drop(daemon);
}

#[test]
fn a_changed_template_is_taken_and_a_broken_one_is_told() {
    let _turn = shared();
    let mut site = Site::nginx();
    let template = site.folder().join("mine.conf.j2");
    let built_in = include_str!("../templates/nginx.conf.j2");
    std::fs::write(&template, built_in).unwrap();
    site.use_template(&template);
    let daemon = site.serve().allow("put into force");
    let live = || std::fs::read_to_string(site.balancer().config()).unwrap_or_default();
    std::fs::write(&template, format!("{built_in}\n# a line of mine\n")).unwrap();
    wait_for("the template to be taken", SOON, || {
        live().contains("# a line of mine").then_some(())
    });
    std::fs::write(&template, "{{ nothing }}").unwrap();
    wait_for("the broken template to be told", SOON, || {
        let status = site.turnout().run(&["status", "-o", "json"]);
        status.stdout.contains("mine.conf.j2:1").then_some(())
    });
    assert!(live().contains("# a line of mine"));
    assert_eq!(site.served(), Color::Blue);
    drop(daemon);
}

#[test]
fn environment_mode_needs_no_file_at_all() {
    let _turn = shared();
    let (blue, green) = (
        crate::support::Backend::start(Color::Blue),
        crate::support::Backend::start(Color::Green),
    );
    let folder = tempfile::tempdir().unwrap();
    let front = crate::support::Ports::address();
    let mut daemon = crate::support::Run::new(crate::support::BINARY)
        .args(["serve", "--blue", &blue.url(), "--green", &green.url()])
        .env("ROUTER_HOST", "127.0.0.1")
        .env("ROUTER_PORT", front.port().to_string())
        .env("TURNOUT_STATE_DIR", folder.path().join("state"))
        .background(&folder.path().join("daemon.log"));
    let ask = |path: &str| crate::support::get(front, path, &[]).ok();
    wait_for("the router to serve", SOON, || {
        ask("/").filter(|answer| answer.status == 200)
    });
    // until the controller has begun, its paths on the router's port are answered with 503
    let health = wait_for("the health of the whole", SOON, || {
        ask("/health").filter(|answer| answer.status == 200)
    });
    assert!(
        health.text().contains(r#""active":"blue""#),
        "{}",
        health.text()
    );
    daemon.signal(Signal::SIGINT);
    assert_eq!(daemon.wait(SOON).code(), Some(0), "{}", daemon.printed());
}

#[test]
fn what_only_a_start_takes_is_told_until_it_is_taken_back() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let daemon = site.serve();
    let before = std::fs::read_to_string(site.config()).unwrap();
    let other = crate::support::Ports::address();
    let with = before.replace(&site.control.to_string(), &other.to_string());
    std::fs::write(
        site.config(),
        format!("{with}trusted_proxies: [10.0.0.0/8]\n"),
    )
    .unwrap();
    let problems = || daemon.api().get("/v1/status").json()["problems"].to_string();
    wait_for("it to be told", SOON, || {
        problems()
            .contains("restart needed: control, trusted_proxies changed")
            .then_some(())
    });
    assert!(std::net::TcpStream::connect(other).is_err());
    std::fs::write(site.config(), before).unwrap();
    wait_for("it to be gone", SOON, || (problems() == "[]").then_some(()));
    assert_eq!(site.served(), Color::Blue);
}

#[test]
fn turnout_control_opens_a_listener_of_its_own_and_the_router_keeps_its_endpoints() {
    let _turn = shared();
    let (blue, green) = (
        crate::support::Backend::start(Color::Blue),
        crate::support::Backend::start(Color::Green),
    );
    let folder = tempfile::tempdir().unwrap();
    let (front, control) = (
        crate::support::Ports::address(),
        crate::support::Ports::address(),
    );
    let _daemon = crate::support::Run::new(crate::support::BINARY)
        .arg("serve")
        .env("BLUE_URL", blue.url())
        .env("GREEN_URL", green.url())
        .env("ROUTER_HOST", "127.0.0.1")
        .env("ROUTER_PORT", front.port().to_string())
        .env("TURNOUT_CONTROL", control.to_string())
        .env("TURNOUT_STATE_DIR", folder.path().join("state"))
        .background(&folder.path().join("daemon.log"));
    let ask = |address, path: &str| crate::support::get(address, path, &[]).ok();
    wait_for("the control listener to be ready", SOON, || {
        ask(control, "/readyz").filter(|answer| answer.status == 200)
    });
    // 5.1 on both; what is not the API's goes to the application on the router alone
    for address in [front, control] {
        let status = ask(address, "/orchestration/status").unwrap();
        assert_eq!(status.json()["service"], "app", "{address}");
        assert_eq!(ask(address, "/health").unwrap().json()["active"], "blue");
    }
    assert_eq!(ask(control, "/anything").unwrap().status, 404);
    let to_the_application = ask(front, "/anything").unwrap();
    assert_eq!(to_the_application.backend(), Some(Color::Blue));
    // a switch through either door is one and the same
    for (address, color) in [(control, Color::Green), (front, Color::Blue)] {
        crate::support::Api::new(address).activate(color);
        assert_eq!(ask(front, "/").unwrap().backend(), Some(color));
        for door in [front, control] {
            let status = ask(door, "/orchestration/status").unwrap().json();
            assert_eq!(status["active"], color.to_string());
        }
    }
}
