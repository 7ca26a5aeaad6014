//! Commands that find their daemon although something is in the way: a broken configuration, another user's locks.

use std::path::Path;
use std::time::Duration;

use turnout::domain::Color;

use crate::support::{BINARY, Daemon, Mode, Run, Site, as_user, is_root, shared, wait_for};

const PATIENCE: Duration = Duration::from_secs(20);

/// An embedded site with everything on green, so that there is a way back, and its daemon.
fn on_green() -> (Site, Daemon) {
    let site = Site::embedded("blue_green");
    let daemon = site.serve();
    wait_for("a switch to green", PATIENCE, || {
        (site.turnout().run(&["switch", "green"]).code() == Some(0)).then_some(())
    });
    (site, daemon)
}

fn add(path: &Path, line: &str) {
    let text = std::fs::read_to_string(path).unwrap();
    std::fs::write(path, format!("{text}{line}")).unwrap();
}

#[test]
fn a_configuration_broken_at_the_moment_does_not_stand_in_the_way_back() {
    let _turn = shared();
    for broken in ["bogus: 1\n", "\tservices: [\n"] {
        let (site, daemon) = on_green();
        let daemon = daemon.allow("configuration");
        add(&site.config(), broken);
        for verb in [&["status"][..], &["verify"], &["check"], &["history"]] {
            site.turnout()
                .ok(verb)
                .says("turnout.yaml:")
                .says("last good one");
        }
        site.turnout().ok(&["rollback"]).says("last good one");
        assert_eq!(site.served(), Color::Blue, "{broken:?}");
        site.turnout().ok(&["switch", "green"]);
        assert_eq!(site.served(), Color::Green, "{broken:?}");
        for verb in ["apply", "render", "reload", "diff"] {
            site.turnout().run(&[verb]).exits(78);
        }
        site.turnout().run(&["status", "--local"]).exits(78);
        drop(daemon);
        for verb in ["status", "rollback", "check"] {
            site.turnout().run(&[verb]).exits(78);
        }
    }
}

#[test]
fn a_named_server_needs_no_good_configuration() {
    let _turn = shared();
    let (site, daemon) = on_green();
    let _daemon = daemon.allow("configuration");
    add(&site.config(), "bogus: 1\n");
    let server = site.control.to_string();
    let ask = |verb: &str| site.turnout().ok(&[verb, "--server", &server]);
    ask("status");
    ask("check");
    ask("rollback");
    assert_eq!(site.served(), Color::Blue);
}

#[test]
fn another_user_asks_the_daemon_whose_locks_are_closed() {
    let _turn = shared();
    if !is_root("becoming another user") {
        return;
    }
    let (site, daemon) = on_green();
    let copy = site.folder().join("turnout");
    std::fs::copy(BINARY, &copy).unwrap();
    let run = |args: &[&str]| {
        Run::new(&copy)
            .arg("--config")
            .arg(site.config())
            .args(args)
            .under(as_user("nobody"))
            .run()
            .sane()
    };
    run(&["status"]).exits(0);
    run(&["rollback"]).exits(0);
    assert_eq!(site.served(), Color::Blue);
    // a script of another user's reads where the traffic is, and nothing else
    let read = |path: &str| {
        Run::new("cat")
            .arg(site.state_dir().join(path))
            .under(as_user("nobody"))
            .run()
            .code()
    };
    assert_eq!(read("active/shop"), Some(0));
    assert_eq!(read("state.json"), Some(1));
    drop(daemon);
    run(&["status"]).exits(77).says("ermission denied");
}

#[test]
fn a_daemon_and_a_command_alone_leave_the_same_record() {
    let _turn = shared();
    let (site, _daemon) = on_green();
    site.turnout().ok(&["rollback"]);
    let server = site.control.to_string();
    let log = Run::new(BINARY)
        .args(["history", "-o", "json", "-n", "1", "--server", &server])
        .run()
        .exits(0)
        .json();
    let actor = log[0]["actor"].as_str().unwrap();
    assert!(actor.contains('@'), "{actor}");
    assert!(actor.ends_with(" (cli, via loopback)"), "{actor}");
    assert_eq!(log[0]["action"], "rollback");
    assert_eq!(log.as_array().unwrap().len(), 1);
}

#[test]
fn health_counts_the_colors_that_clients_reach() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let text = std::fs::read_to_string(site.config()).unwrap();
    let own = "    strategy: blue_green\n";
    assert!(text.contains(own), "{text}");
    let text = text.replace(own, &format!("{own}    on_unhealthy: reject\n"));
    std::fs::write(site.config(), text).unwrap();
    let daemon = site.serve();
    let is = |status: u16| {
        wait_for(&format!("/health to say {status}"), PATIENCE, || {
            (daemon.api().get("/health").status == status).then_some(())
        });
    };
    is(200);
    site.blue.set(Mode::Status(500));
    is(503);
    site.blue.set(Mode::Healthy);
    is(200);
}

#[test]
fn local_does_not_claim_that_a_running_daemon_does_not_run() {
    let _turn = shared();
    let (site, mut daemon) = on_green();
    let pid = daemon.process().pid();
    site.turnout()
        .run(&["switch", "blue", "--local"])
        .exits(2)
        .says(&format!("pid {pid}"))
        .says("leave the flag out");
    assert_eq!(site.served(), Color::Green);
}

#[test]
fn who_asks_for_json_gets_json_for_a_failure_too() {
    let _turn = shared();
    let (site, _daemon) = on_green();
    let refused = site
        .turnout()
        .run(&["switch", "purple", "-o", "json"])
        .exits(2)
        .says("purple");
    let told = refused.json();
    assert_eq!(told["exit"], 2);
    assert!(told["error"].as_str().unwrap().contains("purple"), "{told}");
    let weights = ["weights", "blue=80", "green=20", "-o", "json"];
    let conflict = site.turnout().run(&weights).exits(1).json();
    assert_eq!(conflict["exit"], 1, "{conflict}");
    let table = site.turnout().run(&["switch", "purple"]).exits(2);
    assert_eq!(table.stdout, "", "words are for stderr alone");
}

#[test]
fn a_daemon_that_hangs_is_told_from_one_that_is_gone() {
    let _turn = shared();
    let (site, mut daemon) = on_green();
    daemon.process().signal(nix::sys::signal::Signal::SIGSTOP);
    let ran = site.turnout().run(&["status"]);
    daemon.process().signal(nix::sys::signal::Signal::SIGCONT);
    assert!(ran.took() < PATIENCE, "{:?}", ran.took());
    ran.exits_with_one_of(&[69, 124])
        .says("did not answer within 10 s")
        .says("status --local");
}

#[test]
fn lock_alone_shows_who_holds_one() {
    let _turn = shared();
    let (site, _daemon) = on_green();
    let alone = site.turnout().ok(&["lock"]);
    assert_eq!(alone.stdout, site.turnout().ok(&["lock", "status"]).stdout);
    assert!(
        alone.stdout.contains("serve lock   held by"),
        "{}",
        alone.stdout
    );
}

#[test]
fn a_dry_run_of_a_hold_holds_nothing_and_does_not_say_so() {
    let _turn = shared();
    let (site, _daemon) = on_green();
    let ran = site.turnout().ok(&["traffic", "hold", "--dry-run"]);
    assert!(
        ran.stdout.contains("shop: traffic → held"),
        "{}",
        ran.stdout
    );
    assert!(
        ran.stdout.contains("dry run: nothing was done"),
        "{}",
        ran.stdout
    );
    assert_eq!(site.served(), Color::Green);
}
