//! nginx refuses, is not there, is another process, or says yes and does not do it.

use std::net::TcpListener;
use std::time::Duration;

use nix::sys::signal::kill;
use nix::unistd::Pid;
use turnout::domain::Color;

use super::{recovers, refused, untouched};
use crate::support::{Background, Mode, NginxSetup, Ports, Run, Site, shared};

/// A fragment of somebody else's beside turnout's.
fn write_other(site: &Site, text: &str) {
    std::fs::write(site.balancer().conf_d().join("other.conf"), text).unwrap();
}

#[test]
fn a_reload_that_lies_is_seen_and_undone() {
    let _turn = shared();
    let site = Site::nginx_on_blue();
    // `nginx -t` does not mind, `nginx -s reload` returns 0, and the master keeps its old workers
    let busy = TcpListener::bind(Ports::address()).unwrap();
    let address = busy.local_addr().unwrap();
    write_other(
        &site,
        &format!("server {{ listen {address}; return 204; }}\n"),
    );
    refused(&site, 3)
        .says("Address already in use")
        .says(&address.to_string());
    assert_eq!(site.recorded(), Color::Blue);
    site.turnout().ok(&["verify"]);
    drop(busy);
    recovers(&site);
}

#[test]
fn a_busy_listen_address_of_a_service_is_found_before_anything_is_touched() {
    let _turn = shared();
    let mut site = Site::nginx_on_blue();
    let busy = TcpListener::bind(Ports::address()).unwrap();
    let address = busy.local_addr().unwrap();
    let _servers = site.add_service("blog", address);
    let workers = site.balancer().workers();
    let ran = untouched(&site, || site.turnout().run(&["apply"]))
        .exits(3)
        .says(&address.to_string())
        .says("in use");
    assert_eq!(site.balancer().workers(), workers, "nginx was told\n{ran}");
    drop(busy);
    site.turnout().ok(&["apply"]);
    assert_eq!(
        crate::support::get(address, "/", &[]).unwrap().backend(),
        Some(Color::Blue)
    );
}

#[test]
fn what_nginx_refuses_is_shown_with_the_line_of_the_template() {
    let _turn = shared();
    let mut site = Site::nginx_on_blue();
    let built_in = concat!(env!("CARGO_MANIFEST_DIR"), "/templates/nginx.conf.j2");
    let template = site.folder().join("mine.conf.j2");
    let text = std::fs::read_to_string(built_in).unwrap();
    std::fs::write(&template, format!("{text}\nno_such_directive on;\n")).unwrap();
    let line = text.lines().count() + 2;
    site.use_template(&template);
    refused(&site, 65)
        .says("no_such_directive")
        .says(&format!("{}:{line}", template.display()));
}

#[test]
fn a_template_that_cannot_be_rendered_names_its_line() {
    let _turn = shared();
    let mut site = Site::nginx_on_blue();
    let template = site.folder().join("mine.conf.j2");
    std::fs::write(&template, "# mine\n# {{ no_such_value }}\n").unwrap();
    site.use_template(&template);
    refused(&site, 65)
        .says("no_such_value")
        .says(&format!("{}:2", template.display()));
}

#[test]
fn a_broken_file_of_somebody_elses_is_named() {
    let _turn = shared();
    let site = Site::nginx_on_blue();
    write_other(&site, "server { listen\n");
    refused(&site, 65).says("other.conf");
    std::fs::remove_file(site.balancer().conf_d().join("other.conf")).unwrap();
    recovers(&site);
}

#[test]
fn a_new_warning_that_means_ignored_is_a_refusal() {
    let _turn = shared();
    let mut site = Site::nginx_on_blue();
    let address = Ports::address();
    write_other(
        &site,
        &format!("server {{ listen {address}; return 204; }}\n"),
    );
    site.balancer().reload();
    let _servers = site.add_service("blog", address);
    untouched(&site, || site.turnout().run(&["apply"]))
        .exits(65)
        .says("conflicting server name");
}

#[test]
fn a_warning_that_was_there_before_does_not_stop_a_switch() {
    let _turn = shared();
    let site = Site::nginx_on_blue();
    let address = Ports::address();
    let twice = format!("server {{ listen {address}; return 204; }}\n").repeat(2);
    write_other(&site, &twice);
    site.balancer().reload();
    recovers(&site);
}

#[test]
fn nginx_that_does_not_run_is_named_and_no_empty_pid_file_is_left() {
    let _turn = shared();
    let mut site = Site::nginx_on_blue();
    site.balancer_mut().stop();
    let before = site.picture();
    let ran = site.turnout().run(&["switch", "green"]).exits(69);
    let pid_file = site.balancer().pid_file();
    let ran = ran.says(&pid_file.display().to_string());
    assert!(
        site.picture() == before,
        "it left something behind\n{ran}\n{before:?}\n{:?}",
        site.picture()
    );
    assert!(!pid_file.exists(), "an empty pid file was left\n{ran}");
    site.balancer_mut().restart();
    recovers(&site);
}

#[test]
fn a_main_file_without_the_include_is_named() {
    let _turn = shared();
    let setup = NginxSetup {
        without_include: true,
        ..NginxSetup::default()
    };
    let site = Site::nginx_with("blue_green", setup);
    let before = site.picture();
    site.turnout()
        .run(&["apply"])
        .sane()
        .exits_with_one_of(&[3, 65])
        .says("include")
        .says(&site.balancer().main().display().to_string());
    assert!(site.picture() == before, "{:?}", site.picture());
}

#[test]
fn a_stale_pid_file_signals_nobody() {
    let _turn = shared();
    let mut site = Site::nginx_on_blue();
    let dead = {
        let mut gone = Run::new("true").background(&site.folder().join("gone.log"));
        gone.wait(Duration::from_mins(1));
        gone.pid()
    };
    let pid_file = site.balancer().pid_file();
    std::fs::write(&pid_file, format!("{dead}\n")).unwrap();
    refused(&site, 69)
        .says(&pid_file.display().to_string())
        .says(&dead.to_string());
    site.balancer_mut().restart();
    recovers(&site);
}

#[test]
fn an_innocent_process_with_nginxs_old_pid_survives() {
    let _turn = shared();
    let mut site = Site::nginx_on_blue();
    let mut innocent = Run::new("sleep")
        .arg("600")
        .background(&site.folder().join("innocent.log"));
    let pid_file = site.balancer().pid_file();
    std::fs::write(&pid_file, format!("{}\n", innocent.pid())).unwrap();
    refused(&site, 69).says(&innocent.pid().to_string());
    assert_still_runs(&mut innocent);
    site.balancer_mut().restart();
    recovers(&site);
    assert_still_runs(&mut innocent);
}

#[track_caller]
fn assert_still_runs(process: &mut Background) {
    assert_eq!(process.ended(), None, "it was killed");
    kill(Pid::from_raw(process.pid()), None).unwrap();
}

#[test]
fn an_empty_pid_file_is_named() {
    let _turn = shared();
    let mut site = Site::nginx_on_blue();
    let pid_file = site.balancer().pid_file();
    std::fs::write(&pid_file, "").unwrap();
    refused(&site, 69).says(&pid_file.display().to_string());
    site.balancer_mut().restart();
    recovers(&site);
}

#[test]
fn a_switch_to_the_active_color_does_nothing() {
    let _turn = shared();
    let site = Site::nginx_on_blue();
    let workers = site.balancer().workers();
    let state = site.state();
    site.turnout().ok(&["switch", "blue"]).says("already");
    assert_eq!(site.balancer().workers(), workers, "nginx was reloaded");
    assert_eq!(site.state(), state);
}

#[test]
fn a_dry_run_changes_nothing_and_says_what_it_would() {
    let _turn = shared();
    let site = Site::nginx_on_blue();
    let workers = site.balancer().workers();
    untouched(&site, || {
        site.turnout().run(&["switch", "green", "--dry-run"])
    })
    .exits(0)
    .says("green");
    assert_eq!(site.balancer().workers(), workers);
}

#[test]
fn an_unhealthy_color_gets_no_traffic_unless_it_is_forced() {
    let _turn = shared();
    let mut site = Site::nginx_on_blue();
    site.green.set(Mode::Status(500));
    refused(&site, 1).says("500").says("--force");
    site.green.set(Mode::Hang);
    refused(&site, 1).says("green");
    site.green.set(Mode::Healthy);
    site.green.claim_environment("blue");
    refused(&site, 1).says("environment");
    site.green.claim_environment("green");
    site.green.refuse();
    refused(&site, 1).says("refused");

    site.turnout().ok(&["switch", "green", "--force"]);
    assert_eq!(site.recorded(), Color::Green);
    assert_eq!(site.ask("/").status, 502);
    // the way back needs nothing from the bad color
    site.turnout().ok(&["rollback"]);
    assert_eq!(site.served(), Color::Blue);
}
