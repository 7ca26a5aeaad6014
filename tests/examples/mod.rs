//! Every example is run for real. Only its addresses and paths are replaced, by free ports and by a folder of the test's.
//!
//! The servers that an example names are started here, unless it says itself how to start them.

mod addresses;
mod example;
mod quickstart;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use example::Example;
use turnout::domain::Color;

use crate::support::{Backend, Connection, Run, get, shared, wait_for};

/// Everything that can be seen of a switch, through the command.
fn switch_moves_traffic(example: &Example) {
    assert_eq!(example.routed(), Some(Color::Blue));
    let ran = example.turnout.ok(&["switch", "green"]);
    assert_eq!(example.routed(), Some(Color::Green));
    example.turnout.ok(&["verify"]);
    example.turnout.ok(&["rollback"]);
    assert_eq!(example.routed(), Some(Color::Blue), "{ran}");
}

#[test]
fn all_examples_are_run_here() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path: &PathBuf| {
            path.extension()
                .is_some_and(|extension| extension == "yaml")
        })
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "alias.yaml",
            "canary.yaml",
            "exec-router.yaml",
            "haproxy-sidecar.yaml",
            "nginx-own-server.yaml",
            "nginx-sidecar.yaml",
            "one-shot.yaml",
            "quickstart.yaml",
            "vm-daemon.yaml",
        ]
    );
}

#[test]
fn a_router_is_driven_by_its_commands() {
    let _turn = shared();
    let example = Example::new("exec-router.yaml");
    let script = example.folder.path().join("exec-router.sh");
    std::fs::copy(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/exec-router.sh"),
        &script,
    )
    .unwrap();
    let weights = || {
        Run::new(&script)
            .args(["get", "shop"])
            .run()
            .exits(0)
            .stdout
    };
    example.turnout.ok(&["apply"]);
    assert_eq!(weights(), "100 0\n");
    example.turnout.ok(&["weights", "blue=90", "green=10"]);
    assert_eq!(weights(), "90 10\n");
    example.turnout.ok(&["switch", "green"]);
    assert_eq!(weights(), "0 100\n");
    example.turnout.ok(&["verify"]);
}

#[test]
fn an_alias_is_served_and_a_service_is_added_beside_it() {
    let _turn = shared();
    let example = Example::new("alias.yaml");
    let target = example.service["target"].as_str().unwrap().to_owned();
    let (_, port) = target.rsplit_once(':').unwrap();
    let _server = Backend::start_on(Color::Blue, port.parse().unwrap());
    let _daemon = example.serve();
    let front = example.service["listen"].as_str().unwrap();
    let (_, front) = front.rsplit_once(':').unwrap();
    let front = SocketAddr::from(([127, 0, 0, 1], front.parse().unwrap()));
    let set = ["service", "set", "news", "--host", "news.com", "--target"];
    let more = [target.as_str(), "--project", "myproject"];
    example.turnout.ok(&[&set[..], &more[..]].concat());
    for host in ["blog.com", "www.blog.com", "news.com"] {
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let mut connection = Connection::open(front, Duration::from_secs(10)).unwrap();
        let answer = connection.send(request.as_bytes()).unwrap();
        assert_eq!(answer.status, 200, "{host}");
        assert_eq!(answer.header("x-routed-to"), None, "{host}");
        let url = format!("http://{target}");
        assert_eq!(
            answer.header("x-upstream-url"),
            Some(url.as_str()),
            "{host}"
        );
    }
    let listed = example
        .turnout
        .ok(&["service", "list", "-o", "json"])
        .json();
    assert_eq!(listed.as_array().map(Vec::len), Some(2), "{listed}");
}

#[test]
fn nginx_sidecar_serves_and_switches() {
    let _turn = shared();
    let example = Example::new("nginx-sidecar.yaml");
    let _daemon = example.serve();
    switch_moves_traffic(&example);
    assert!(example.ask().backend().is_some(), "no server answered");
}

#[test]
fn haproxy_sidecar_serves_and_switches() {
    let _turn = shared();
    let example = Example::new("haproxy-sidecar.yaml");
    let _daemon = example.serve();
    switch_moves_traffic(&example);
    assert!(example.ask().backend().is_some(), "no server answered");
}

#[test]
fn vm_daemon_serves_and_switches() {
    let _turn = shared();
    let example = Example::new("vm-daemon.yaml");
    let _daemon = example.serve();
    switch_moves_traffic(&example);
}

#[test]
fn canary_promotes_a_version_that_its_users_are_served_well_by() {
    let _turn = shared();
    let example = Example::new("canary.yaml");
    let daemon = example.serve();
    wait_for("both colors healthy", Duration::from_mins(1), || {
        let health = daemon.api().get("/health").json();
        (health["upstreams"]["green"]["healthy"] == true).then_some(())
    });
    example.turnout.ok(&["canary", "start", "v1.1.0"]);
    let over = wait_for("the end of the rollout", Duration::from_mins(2), || {
        for _ in 0..20 {
            example.ask();
        }
        let all = daemon.api().get("/deployments").json();
        let status = all[0]["status"].as_str()?.to_owned();
        let is_over = ["promoted", "rolled_back", "cancelled"].contains(&status.as_str());
        is_over.then_some(status)
    });
    assert_eq!(over, "promoted");
    assert_eq!(example.routed(), Some(Color::Green));
}

#[test]
fn one_shot_renders_reloads_and_switches() {
    let _turn = shared();
    let example = Example::new("one-shot.yaml");
    example.turnout.run(&["reload"]).exits(1).says("staged");
    // what the page promises literally: `turnout render && turnout reload`
    example.turnout.ok(&["render"]);
    example.turnout.ok(&["reload"]);
    switch_moves_traffic(&example);
    assert!(
        get(example.control, "/livez", &[]).is_err(),
        "a one-shot command left a daemon behind"
    );
}

#[test]
fn nginx_own_server_switches_inside_the_users_tls_server() {
    let _turn = shared();
    let example = Example::new("nginx-own-server.yaml");
    assert!(!example.servers.is_empty());
    // as a user does it: nothing can be included before the first apply has written it
    let ran = example.turnout.run(&["apply"]);
    ran.exits(0)
        .says("does not go through turnout yet")
        .says("nginx/snippets/shop.conf;");
    assert!(example.curl().contains("mine"), "{}", example.curl());
    for verb in ["verify", "status"] {
        let ran = example.turnout.run(&[verb]);
        assert!(
            ran.stdout.contains("not routed by turnout yet"),
            "{}",
            ran.stdout
        );
    }
    example
        .turnout
        .run(&["switch", "green"])
        .exits(3)
        .says("without X-Routed-To");

    let nginx = example.nginx.as_ref().unwrap();
    let main = std::fs::read_to_string(nginx.main()).unwrap();
    let snippet = example.folder.path().join("nginx/snippets/shop.conf");
    let include = format!("include {};", snippet.display());
    std::fs::write(nginx.main(), main.replace("return 200 mine;", &include)).unwrap();
    nginx.reload();
    let verified = example.turnout.ok(&["verify"]);
    assert!(verified.stdout.contains("is blue"), "{verified}");
    assert!(
        example.curl().contains("x-backend: blue"),
        "{}",
        example.curl()
    );
    example.turnout.ok(&["switch", "green"]);
    let answer = example.curl();
    assert!(answer.contains("x-backend: green"), "{answer}");
    assert!(answer.contains("x-routed-to: green"), "{answer}");
    example.turnout.ok(&["verify"]);
}
