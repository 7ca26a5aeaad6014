//! An nginx that is killed, and what is never taken for one.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use turnout::domain::Color;

use super::gap::Client;
use super::{LOOKS, SLACK, count, keys, wait_for_duty, wait_for_none};
use crate::support::{Daemon, NginxSetup, Site, alone, shared, wait_for};

/// nginx with a canary at 70 : 30, a daemon, and a fallback.
fn site() -> (Site, Daemon) {
    let mut site = Site::nginx_with("canary", NginxSetup::default());
    site.use_fallback("true");
    site.turnout().ok(&["apply"]);
    site.turnout()
        .ok(&["weights", "shop", "blue=70", "green=30"]);
    let daemon = site.serve();
    (site, daemon)
}

#[test]
fn a_killed_nginx_is_stood_in_for_with_each_key_on_its_color_and_gets_its_listeners_back() {
    let _turn = alone();
    let (mut site, daemon) = site();
    let turnout = site.turnout();
    let before = site.colors_of(&keys());
    assert!((60..180).contains(&count(&before, Color::Green)));

    let client = Client::start(site.front);
    std::thread::sleep(Duration::from_millis(200));
    site.balancer_mut().crash();
    let told = wait_for_duty(&turnout, "serving");
    assert_eq!(told["balancer"], "nginx");
    let there = client.finish();
    println!(
        "nginx killed: nobody served for {:?}, of {} requests others than refused: {:?}",
        there.longest(),
        there.requests,
        there.others
    );
    assert!(there.longest() < LOOKS + SLACK, "{:?}", there.longest());
    assert_eq!(site.colors_of(&keys()), before, "pinned users moved");
    assert_eq!(daemon.api().get("/readyz").status, 200);

    turnout
        .ok(&["status"])
        .says("nginx is gone since")
        .says("turnout itself serves")
        .says("turnout fallback release && systemctl start nginx");
    turnout.ok(&["verify"]).says("nginx is gone since");
    turnout
        .run(&["doctor"])
        .exits(1)
        .says("nginx is gone since");
    let status = daemon.api().get("/v1/status").json();
    assert_eq!(status["fallback"]["duty"], "serving");
    assert_eq!(
        status["balancer"], "nginx",
        "a fallback is no other balancer"
    );

    // a change meanwhile is served at once, and stands in nginx's files
    turnout
        .ok(&["weights", "shop", "blue=20", "green=80"])
        .says("in place of nginx");
    let moved = site.colors_of(&keys());
    assert!((280..360).contains(&count(&moved, Color::Green)));
    assert!(
        before
            .iter()
            .zip(&moved)
            .all(|(was, is)| *was == Color::Blue || *is == Color::Green),
        "a user moved back"
    );
    let text = std::fs::read_to_string(site.balancer().config()).unwrap();
    assert!(
        text.contains("20% blue") || text.contains("20.00% blue"),
        "{text}"
    );
    turnout.ok(&["verify"]);

    let client = Client::start(site.front);
    std::thread::sleep(Duration::from_millis(200));
    let released = turnout.ok(&["fallback", "release", "-o", "json"]).json();
    assert_eq!(released["outcome"], "released");
    site.balancer_mut().restart();
    wait_for_none(&turnout);
    std::thread::sleep(Duration::from_millis(100));
    let back = client.finish();
    println!(
        "nginx back: nobody served for {:?}, of {} requests others than refused: {:?}",
        back.longest(),
        back.requests,
        back.others
    );
    assert!(back.longest() < LOOKS + SLACK, "{:?}", back.longest());
    assert_eq!(
        site.colors_of(&keys()),
        moved,
        "the same once more from nginx"
    );
    turnout.ok(&["verify"]).says("no drift");
    let history = turnout.ok(&["history", "-n", "10"]);
    let history = history
        .says("fallback")
        .says("release")
        .says("nobody's for at most");
    println!("{}", history.stdout);
}

#[test]
fn turnout_killed_while_it_stands_in_takes_it_up_again_at_once() {
    let _turn = shared();
    let (mut site, daemon) = site();
    let turnout = site.turnout();
    let before = site.colors_of(&keys());
    site.balancer_mut().crash();
    let told = wait_for_duty(&turnout, "serving");
    daemon.kill();
    turnout.run(&["doctor"]).exits(1).says("nothing is served");
    let begin = Instant::now();
    let daemon = site.serve();
    println!("taken up {:?} after the start of turnout", begin.elapsed());
    assert_eq!(site.colors_of(&keys()), before);
    let again = wait_for_duty(&turnout, "serving");
    assert_eq!(again["since"], told["since"], "gone since when it was");
    drop(daemon);
}

#[test]
fn turnout_killed_at_any_moment_of_a_switch_in_a_fallback_leaves_one_color() {
    let _turn = shared();
    let (mut site, mut daemon) = site();
    let turnout = site.turnout();
    site.balancer_mut().crash();
    wait_for_duty(&turnout, "serving");
    turnout.ok(&["switch", "green"]);
    let mut color = Color::Green;
    let log = site.folder().join("switch.log");
    let mut counted = [0, 0];
    for moment in (20..=480).step_by(30) {
        let run = turnout.command(&["switch", &(!color).to_string()]);
        let mut switching = run.background(&log);
        std::thread::sleep(Duration::from_millis(moment));
        let status = switching.ended();
        daemon.kill();
        switching.wait(crate::support::SOON);
        daemon = site.serve();
        let now = site.recorded();
        assert_eq!(site.served(), now, "killed after {moment} ms");
        turnout.ok(&["verify"]);
        if status.is_some_and(|status| status.code() == Some(0)) {
            assert_eq!(now, !color, "an answered switch was lost");
        }
        counted[usize::from(now != color)] += 1;
        color = now;
    }
    println!("undone or not begun {}, made {}", counted[0], counted[1]);
    turnout.ok(&["fallback", "release"]);
    site.balancer_mut().restart();
    wait_for_none(&turnout);
    assert_eq!(site.served(), color);
    turnout.ok(&["verify"]);
    drop(daemon);
}

#[test]
fn an_nginx_that_hangs_reloads_or_lost_its_master_is_never_taken_over() {
    let _turn = shared();
    let (mut site, daemon) = site();
    let turnout = site.turnout();
    let none = || {
        turnout
            .ok(&["fallback", "status", "-o", "json"])
            .json()
            .is_null()
    };
    let long = LOOKS * 3;

    let mut all = site.balancer().workers();
    all.push(site.balancer().master());
    for pid in &all {
        kill(Pid::from_raw(*pid), Signal::SIGSTOP).unwrap();
    }
    std::thread::sleep(long);
    assert!(none(), "a stopped nginx was taken over");
    for pid in &all {
        kill(Pid::from_raw(*pid), Signal::SIGCONT).unwrap();
    }
    site.served();

    let begin = Instant::now();
    while begin.elapsed() < long {
        site.balancer().reload();
        assert!(none(), "a reloading nginx was taken over");
    }

    let workers = site.balancer_mut().behead();
    std::thread::sleep(long);
    assert!(none(), "workers that serve on were taken over");
    assert_eq!(site.ask("/").status, 200);
    turnout
        .ok(&["status"])
        .says("workers that its master left behind serve on");
    for pid in workers {
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    }
    wait_for_duty(&turnout, "serving");
    assert_eq!(site.ask("/").status, 200);
    drop(daemon);
}

#[test]
fn an_address_that_somebody_else_took_is_said_and_taken_over_when_it_is_free() {
    let _turn = shared();
    let (mut site, daemon) = site();
    let turnout = site.turnout();
    site.balancer_mut().crash();
    let other = wait_for("the address", Duration::from_secs(5), || {
        std::net::TcpListener::bind(site.front).ok()
    });
    wait_for("the word of it", Duration::from_secs(20), || {
        let status = turnout.ok(&["status", "-o", "json"]).json();
        let problems = status["problems"].to_string();
        (problems.contains("cannot stand in") && problems.contains("bind() to")).then_some(())
    });
    drop(other);
    wait_for_duty(&turnout, "serving");
    assert_eq!(site.ask("/").status, 200);
    drop(daemon);
}

#[test]
fn failover_goes_on_while_turnout_stands_in_and_is_in_nginx_s_files_when_it_comes_back() {
    let _turn = shared();
    let mut site = Site::nginx_on_blue();
    site.use_fallback("true");
    let turnout = site.turnout();
    let daemon = site.serve();
    site.balancer_mut().crash();
    wait_for_duty(&turnout, "serving");
    let served = |site: &Site, color| {
        wait_for("the color", Duration::from_secs(20), || {
            (site.ask("/").backend() == Some(color)).then_some(())
        });
    };
    let overlay = || turnout.ok(&["status", "-o", "json"]).json()["services"][0]["overlay"].clone();
    site.blue.refuse();
    wait_for("the failover", Duration::from_secs(20), || {
        (overlay() == "green").then_some(())
    });
    served(&site, Color::Green);
    assert_eq!(site.recorded(), Color::Blue, "a failover moves no position");
    turnout.ok(&["fallback", "release"]);
    site.balancer_mut().restart();
    wait_for_none(&turnout);
    assert_eq!(site.served(), Color::Green);
    site.blue.listen();
    served(&site, Color::Blue);
    drop(daemon);
}

#[test]
fn a_successor_takes_the_sockets_over_and_goes_on_to_stand_in() {
    let _turn = alone();
    let (mut site, daemon) = site();
    let turnout = site.turnout();
    site.balancer_mut().crash();
    wait_for_duty(&turnout, "serving");
    let client = Client::start(site.front);
    let log = site.folder().join("successor.log");
    let mut successor = turnout.command(&["serve", "--takeover"]).background(&log);
    let holder = |pid: i32| {
        let status = turnout.run(&["lock", "status", "-o", "json"]).json();
        (status["serve"]["pid"] == pid).then_some(())
    };
    let pid = successor.pid();
    wait_for("the successor", Duration::from_secs(30), || holder(pid));
    let mut daemon = daemon;
    daemon.process().wait(Duration::from_mins(1));
    std::thread::sleep(Duration::from_millis(300));
    let gaps = client.finish();
    assert!(gaps.all.is_empty(), "{:?} {:?}", gaps.all, gaps.others);
    assert_eq!(wait_for_duty(&turnout, "serving")["balancer"], "nginx");
    turnout.ok(&["switch", "green"]);
    assert_eq!(site.served(), Color::Green);
    turnout.ok(&["fallback", "release"]);
    site.balancer_mut().restart();
    wait_for_none(&turnout);
    assert_eq!(site.served(), Color::Green);
    successor.signal(Signal::SIGTERM);
    assert_eq!(successor.wait(Duration::from_mins(1)).code(), Some(0));
}

#[test]
fn an_nginx_without_reloads_comes_back_on_the_color_that_was_switched_to_meanwhile() {
    let _turn = shared();
    let mut site = Site::nginx_instant_on_blue("blue_green");
    site.use_fallback("true");
    let daemon = site.serve();
    let turnout = site.turnout();
    site.balancer_mut().crash();
    wait_for_duty(&turnout, "serving");
    turnout.ok(&["switch", "green"]);
    assert_eq!(site.served(), Color::Green);
    turnout.ok(&["fallback", "release"]);
    site.balancer_mut().restart();
    // its first answer already, before turnout has looked
    assert_eq!(site.served(), Color::Green);
    wait_for_none(&turnout);
    wait_for("the markers to be back", SLACK, || {
        let verified = turnout.run(&["verify"]);
        (verified.code() == Some(0) && site.markers().join("shop").is_symlink()).then_some(())
    });
    turnout.ok(&["switch", "blue"]);
    assert_eq!((site.served(), site.recorded()), (Color::Blue, Color::Blue));
    drop(daemon);
}
