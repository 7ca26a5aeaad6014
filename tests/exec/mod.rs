//! `balancer.kind: exec`: a router of the user's behind four commands, which in these tests are a shell script and a file. It works,
//! lies, hangs, fails and prints rubbish; turnout must never take its word for more than `get` says.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;
use turnout::domain::Color;

use crate::support::{Backend, Ports, Turnout, shared, wait_for};

/// A router whose split is a file, and what it does wrong is another.
struct Router {
    folder: TempDir,
    _blue: Backend,
    _green: Backend,
    turnout: Turnout,
}

const SCRIPT: &str = r#"#!/bin/sh
# $1: the verb; then its arguments
cd "$(dirname "$0")"
echo "$@ [$TURNOUT_SERVICE $TURNOUT_BLUE $TURNOUT_GREEN $TURNOUT_COLOR]" >> calls
wrong=$(cat wrong 2>/dev/null)
case "$wrong:$1" in
    lies:set) exit 0 ;;
    fails:set) echo "the router is on fire" >&2; exit 7 ;;
    half:set) echo "$3 $4" > split; exit 1 ;;
    hangs:set) sleep 600 & sleep 600 ;;
    rubbish:get) echo "all is well"; exit 0 ;;
    gone:get) exit 9 ;;
esac
case "$1" in
    set) echo "$3 $4" > split ;;
    promote) [ "$3" = green ] && echo "0 100" > split || echo "100 0" > split ;;
    rollback) [ "$3" = green ] && echo "0 100" > split || echo "100 0" > split ;;
    get) read blue green < split; echo "{\"blue\": $blue, \"green\": $green}" ;;
esac
"#;

impl Router {
    /// `more`: lines of `balancer.exec`.
    fn new(more: &[&str]) -> Self {
        let folder = TempDir::with_prefix("turnout-exec-").unwrap();
        let script = folder.path().join("router");
        std::fs::write(&script, SCRIPT).unwrap();
        std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::write(folder.path().join("split"), "100 0\n").unwrap();
        let (blue, green) = (Backend::start(Color::Blue), Backend::start(Color::Green));
        let control = Ports::address();
        let script = script.display();
        let mut text = format!(
            "version: 1\nstate: {{ dir: {}/state }}\ncontrol: {{ listen: \"{control}\" }}\nservices:\n  shop:\n    strategy: canary\n    blue: {{ servers: [\"{}\"] }}\n    green: {{ servers: [\"{}\"] }}\n    health: {{ interval: 200ms }}\nbalancer:\n  kind: exec\n  exec:\n    set: [{script}, set]\n    get: [{script}, get, \"{{service}}\"]\n    timeout: 2s\n",
            folder.path().display(),
            blue.url(),
            green.url(),
        );
        for line in more {
            text.extend(["    ", &line.replace("ROUTER", &script.to_string()), "\n"]);
        }
        let config = folder.path().join("turnout.yaml");
        std::fs::write(&config, text).unwrap();
        Self {
            turnout: Turnout::new(&config, control),
            folder,
            _blue: blue,
            _green: green,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn split(&self) -> String {
        std::fs::read_to_string(self.path("split"))
            .unwrap()
            .trim()
            .to_owned()
    }

    /// What it was told, and forgets that.
    fn calls(&self) -> Vec<String> {
        let calls = std::fs::read_to_string(self.path("calls")).unwrap_or_default();
        std::fs::write(self.path("calls"), "").unwrap();
        let told = calls.lines().filter(|line| !line.starts_with("get "));
        told.map(str::to_owned).collect()
    }

    fn goes_wrong(&self, how: &str) {
        std::fs::write(self.path("wrong"), how).unwrap();
    }

    /// The state says what the router does.
    #[track_caller]
    fn agrees(&self, split: &str) {
        assert_eq!(self.split(), split);
        self.turnout.ok(&["verify"]);
        let state = std::fs::read_to_string(self.path("state/state.json")).unwrap();
        let state: serde_json::Value = serde_json::from_str(&state).unwrap();
        assert!(state["generation"].as_u64().unwrap() > 0, "{state}");
    }
}

#[test]
fn weights_and_switches_go_through_the_commands_and_are_proved_by_get() {
    let _turn = shared();
    let router = Router::new(&["promote: [ROUTER, promote]", "rollback: [ROUTER, rollback]"]);
    router.turnout.ok(&["apply"]);
    // it was so already
    assert_eq!(router.calls(), [""; 0]);
    router.turnout.ok(&["weights", "blue=90", "green=10"]);
    assert_eq!(router.calls(), ["set shop 90 10 [shop 90 10 ]"]);
    router.agrees("90 10");
    router.turnout.ok(&["switch", "blue"]);
    assert_eq!(router.calls(), ["rollback shop blue [shop   blue]"]);
    router.agrees("100 0");
    router.turnout.ok(&["switch", "green"]);
    assert_eq!(router.calls(), ["promote shop green [shop   green]"]);
    router.agrees("0 100");
    router.turnout.ok(&["rollback"]);
    router.agrees("100 0");
}

#[test]
fn what_the_router_does_wrong_changes_nothing_that_is_not_undone() {
    let _turn = shared();
    let router = Router::new(&[]);
    router.turnout.ok(&["apply"]);
    router.turnout.ok(&["weights", "blue=80", "green=20"]);
    let state = std::fs::read_to_string(router.path("state/state.json")).unwrap();
    for (how, said) in [
        ("lies", "`get` still says"),
        ("fails", "failed with exit status: 7: the router is on fire"),
        ("half", "failed with exit status: 1"),
    ] {
        router.goes_wrong(how);
        let refused = router.turnout.run(&["weights", "blue=50", "green=50"]);
        // half: the way back takes the same command, which ends with 1 although it has done its work
        let refused = refused.exits(3);
        assert!(refused.stderr.contains(said), "{how}: {}", refused.stderr);
        assert!(
            refused.stderr.contains("router set shop 50 50") || how == "lies",
            "{}",
            refused.stderr
        );
        router.goes_wrong("");
        router.agrees("80 20");
    }
    let now = std::fs::read_to_string(router.path("state/state.json")).unwrap();
    let weights = |text: &str| {
        let state: serde_json::Value = serde_json::from_str(text).unwrap();
        state["services"]["shop"]["position"].clone()
    };
    assert_eq!(weights(&now), weights(&state));
}

#[test]
fn a_router_that_hangs_is_ended_with_all_that_it_started() {
    let _turn = shared();
    let router = Router::new(&[]);
    router.turnout.ok(&["apply"]);
    router.goes_wrong("hangs");
    let begun = Instant::now();
    let refused = router
        .turnout
        .run(&["weights", "blue=50", "green=50"])
        .exits(3);
    assert!(
        refused
            .stderr
            .contains("did not end within 2 s and was killed"),
        "{}",
        refused.stderr
    );
    assert!(
        begun.elapsed() < Duration::from_secs(30),
        "{:?}",
        begun.elapsed()
    );
    router.goes_wrong("");
    router.agrees("100 0");
}

#[test]
fn a_router_that_cannot_be_asked_is_told_nothing() {
    let _turn = shared();
    let router = Router::new(&[]);
    router.turnout.ok(&["apply"]);
    router.calls();
    for (how, said) in [
        ("rubbish", "printed \"all is well\""),
        ("gone", "failed with exit status: 9"),
    ] {
        router.goes_wrong(how);
        let refused = router
            .turnout
            .run(&["weights", "blue=50", "green=50"])
            .exits(69);
        assert!(refused.stderr.contains(said), "{}", refused.stderr);
        assert_eq!(router.calls(), [""; 0]);
    }
    router.goes_wrong("");
    router.agrees("100 0");
}

#[test]
fn a_rollout_by_the_traffic_is_refused_where_nobody_tells_of_it() {
    let _turn = shared();
    let router = Router::new(&[]);
    let daemon = router.turnout.serve();
    for judge in ["thresholds", "sequential"] {
        let body = json!({ "new_version": "v2", "source": "traffic", "judge": judge });
        let answer = daemon.api().post("/deployments", &body);
        assert_eq!(answer.status, 422, "{}", answer.text());
        assert_eq!(
            answer.json()["detail"],
            "source: traffic cannot tell how shop does: a router that is driven by commands does not tell of its requests; push \
             samples (source: pushed), or name a Prometheus"
        );
    }
    drop(daemon);
    router.agrees("100 0");
}

#[test]
fn a_split_that_was_set_by_hand_is_drift_and_a_daemon_serves_the_api() {
    let _turn = shared();
    let router = Router::new(&[]);
    let daemon = router.turnout.serve();
    let answer = daemon.api().post(
        "/orchestration/canary/weights",
        &json!({ "blue": 70, "green": 30 }),
    );
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(router.split(), "70 30");
    std::fs::write(router.path("split"), "10 90\n").unwrap();
    wait_for("the drift to be seen", Duration::from_mins(1), || {
        let status = router.turnout.run(&["verify"]);
        (status.code() == Some(1) && (status.stdout + &status.stderr).contains("90")).then_some(())
    });
    router.turnout.ok(&["apply"]);
    assert_eq!(router.split(), "70 30");
    drop(daemon);
    router.agrees("70 30");
}
