//! The way back: releases with nothing to release, a balancer that does not come, one that turnout starts, a start without it.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use turnout::domain::Color;

use super::{wait_for_duty, wait_for_none};
use crate::support::{Connection, NginxSetup, Run, Site, shared, wait_for};

fn site(fallback: &str) -> Site {
    let mut site = Site::nginx_with("blue_green", NginxSetup::default());
    site.use_fallback(fallback);
    site.turnout().ok(&["apply"]);
    site
}

#[test]
fn a_release_without_a_daemon_or_a_fallback_is_told_and_done() {
    let _turn = shared();
    let site = site("true");
    let turnout = site.turnout();
    turnout
        .ok(&["fallback", "release"])
        .says("no fallback is in force");
    let daemon = site.serve();
    let told = turnout.ok(&["fallback", "release", "-o", "json"]).json();
    assert_eq!(told["outcome"], "not_in_force");
    turnout
        .ok(&["fallback", "status"])
        .says("no fallback is in force");
    let doctor = turnout.ok(&["doctor"]);
    let doctor = doctor.says("stands in when nginx is gone for three probe intervals");
    assert!(!doctor.stdout.contains("not in force"), "{}", doctor.stdout);
    drop(daemon);
}

#[test]
fn an_nginx_that_does_not_come_is_stood_in_for_again_and_what_is_in_flight_ends_well() {
    let _turn = shared();
    let mut site = site("true");
    let turnout = site.turnout();
    let daemon = site.serve();
    site.balancer_mut().crash();
    wait_for_duty(&turnout, "serving");
    let front = site.front;
    let slow = std::thread::spawn(move || {
        let mut connection = Connection::open(front, Duration::from_secs(10)).unwrap();
        connection.send(b"GET /slow/800 HTTP/1.1\r\nHost: shop.example.com\r\n\r\n")
    });
    std::thread::sleep(Duration::from_millis(200));
    turnout.ok(&["fallback", "release"]);
    // free when the answer is there, whatever is still in flight
    drop(std::net::TcpListener::bind(front).unwrap());
    let answer = slow.join().unwrap().unwrap();
    assert_eq!((answer.status, answer.keeps), (200, false));
    wait_for_duty(&turnout, "serving");
    assert_eq!(site.served(), Color::Blue);
    turnout
        .ok(&["fallback", "status"])
        .says("did not start after its listeners were given back");
    turnout.ok(&["switch", "green"]);
    assert_eq!(site.served(), Color::Green);
    turnout.ok(&["fallback", "release"]);
    site.balancer_mut().restart();
    wait_for_none(&turnout);
    assert_eq!(site.served(), Color::Green);
    drop(daemon);
}

#[test]
fn a_change_that_nginx_s_own_check_refuses_changes_nothing_while_turnout_stands_in() {
    let _turn = shared();
    let mut site = site("true");
    let turnout = site.turnout();
    let daemon = site.serve();
    site.balancer_mut().crash();
    wait_for_duty(&turnout, "serving");
    let before = site.picture();
    let broken = site.balancer().conf_d().join("broken.conf");
    std::fs::write(&broken, "no_such_directive;\n").unwrap();
    turnout
        .run(&["switch", "green"])
        .exits(65)
        .says("no_such_directive");
    assert_eq!(site.picture(), before);
    assert_eq!(site.served(), Color::Blue);
    std::fs::remove_file(&broken).unwrap();
    turnout.ok(&["switch", "green"]);
    assert_eq!(
        (site.served(), site.recorded()),
        (Color::Green, Color::Green)
    );
    drop(daemon);
}

#[test]
fn turnout_starts_nginx_itself_where_it_is_told_how() {
    let _turn = shared();
    let mut site = Site::nginx_with("blue_green", NginxSetup::default());
    let script = site.folder().join("start");
    let nginx = site.folder().join("nginx");
    // what a drop-in does: a release that turnout has already made must not hold it up
    let text = format!(
        "#!/bin/sh\n{} --config {} fallback release || exit 1\nnginx -p {n} -c {n}/nginx.conf -g 'master_process on;' &\nexit 0\n",
        crate::support::BINARY,
        site.config().display(),
        n = nginx.display()
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    site.use_fallback(&format!("{{ start: [{}] }}", script.display()));
    site.turnout().ok(&["apply"]);
    let turnout = site.turnout();
    let daemon = site.serve();
    site.balancer_mut().crash();
    wait_for_duty(&turnout, "serving");
    turnout.ok(&["switch", "green"]);
    wait_for_none(&turnout);
    assert_eq!(site.served(), Color::Green);
    turnout.ok(&["verify"]).says("no drift");
    let pid = std::fs::read_to_string(site.balancer().pid_file()).unwrap();
    Run::new("kill").args(["-TERM", pid.trim()]).run().exits(0);
    drop(daemon);
}

#[test]
fn auto_remembers_nginx_and_stands_in_for_it_at_a_start_without_it() {
    let _turn = shared();
    let mut site = site("true");
    site.use_kind("auto");
    let turnout = site.turnout();
    turnout.ok(&["switch", "green"]);
    site.balancer_mut().crash();
    let daemon = turnout.serve_unready();
    wait_for("readiness", Duration::from_secs(20), || {
        crate::support::get(site.control, "/readyz", &[])
            .is_ok_and(|answer| answer.status == 200)
            .then_some(())
    });
    let status = daemon.api().get("/v1/status").json();
    assert_eq!(status["balancer"], "nginx", "it is down, and not none");
    assert_eq!(status["fallback"]["duty"], "serving");
    assert_eq!(site.served(), Color::Green);
    turnout.ok(&["fallback", "release"]);
    site.balancer_mut().restart();
    wait_for_none(&turnout);
    assert_eq!(site.served(), Color::Green);
    drop(daemon.allow("could not be put into force"));
}
