//! nginx without reloads, as clients and as a person at the shell see it: switches under load beside those by reload, kills of
//! nginx, a restart from the files, markers changed by hand, and what its workers may not read.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use turnout::domain::Color;

use crate::load::{Between, assert_common, assert_none, drive, print, stale};
use crate::support::{Connection, NginxSetup, Ports, Site, alone, shared, wait_for};

/// How often nginx was told to load its configuration anew.
fn reloads(site: &Site) -> usize {
    let log = site.balancer().errors();
    log.lines()
        .filter(|line| line.contains("signal 1 (SIGHUP)"))
        .count()
}

fn complaints(site: &Site) -> Vec<String> {
    let is_bad = |line: &&str| {
        ["[alert]", "[emerg]", "[crit]"]
            .iter()
            .any(|level| line.contains(level))
    };
    let log = site.balancer().errors();
    log.lines().filter(is_bad).map(str::to_owned).collect()
}

fn set_by_hand(site: &Site, target: &str) {
    let link = site.markers().join("shop");
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(target, &link).unwrap();
}

#[test]
fn fifty_switches_without_a_reload_lose_nothing_where_reloads_cut_idle_connections() {
    let _turn = alone();
    let mut site = Site::nginx_instant_on_blue("blue_green");
    let before = reloads(&site);
    for name in ["instant, daemon", "instant, one-shot commands"] {
        let daemon = name.ends_with("daemon").then(|| site.serve());
        let turnout = site.turnout();
        let (report, events) = drive(
            &site,
            |color| {
                if let Some(daemon) = &daemon {
                    let asked = Instant::now();
                    daemon.api().activate(color);
                    (asked, Instant::now())
                } else {
                    let ran = turnout.ok(&["switch", &color.to_string()]);
                    (ran.began, ran.ended)
                }
            },
            Between::Nothing,
        );
        print(name, &report, &events);
        assert_common(&report);
        assert_none("failures", &report.failures());
        assert_none(
            "old answers to requests that began after the switch was answered",
            &stale(&report, &events, |sample| sample.start),
        );
        assert_eq!(site.recorded(), site.served());
        assert_eq!(reloads(&site), before, "no switch reloads nginx");
        assert_eq!(complaints(&site), Vec::<String>::new());
    }

    // the other way beside it, for its figures
    site.use_switching("reload");
    site.turnout().ok(&["apply"]);
    assert!(!site.markers().exists());
    let daemon = site.serve();
    let (report, events) = drive(
        &site,
        |color| {
            let asked = Instant::now();
            daemon.api().activate(color);
            (asked, Instant::now())
        },
        Between::Nothing,
    );
    print("reload, daemon", &report, &events);
    assert_eq!(reloads(&site), before + 1 + events.len());
}

#[test]
fn a_restart_and_another_way_of_switching_keep_the_position() {
    let _turn = shared();
    let mut site = Site::nginx_instant_on_blue("canary");
    let turnout = site.turnout();
    turnout.ok(&["switch", "green"]);
    let before = reloads(&site);
    turnout.ok(&["weights", "blue=33.33", "green=66.67"]);
    assert_eq!(reloads(&site), before, "no weight reloads nginx");
    let keys: Vec<String> = (0..300).map(|number| format!("user-{number}")).collect();
    let colors = site.colors_of(&keys);
    site.balancer_mut().restart();
    assert_eq!(site.colors_of(&keys), colors, "from the files alone");
    turnout.ok(&["verify"]);

    site.use_switching("reload");
    turnout.ok(&["apply"]).says("✔");
    assert_eq!(site.colors_of(&keys), colors);
    assert!(!site.markers().exists());
    turnout.ok(&["verify"]);
    turnout.ok(&["switch", "blue"]);
    site.use_switching("instant");
    turnout.ok(&["apply"]);
    assert_eq!(site.served(), Color::Blue);
    turnout.ok(&["verify"]);
    let before = reloads(&site);
    turnout.ok(&["rollback"]);
    assert_eq!(site.served(), Color::Green);
    assert_eq!(reloads(&site), before, "nor does the way back");
}

#[test]
fn a_marker_changed_or_removed_by_hand_is_drift_and_put_right() {
    let _turn = shared();
    let site = Site::nginx_instant_on_blue("canary");
    let turnout = site.turnout();
    turnout.ok(&["switch", "green"]);

    std::fs::write(site.markers().join(".blue"), "").unwrap();
    set_by_hand(&site, ".blue");
    assert_eq!(site.served(), Color::Blue, "nginx reads it at once");
    turnout.run(&["verify"]).exits(1).says("serves blue 100%");
    turnout.run(&["status"]).says("Drift");
    turnout.ok(&["apply"]).says("had been set to blue by hand");
    assert_eq!(site.served(), Color::Green);
    turnout.ok(&["verify"]);

    // what it cannot follow, or is no position, falls back to the last load: everybody is served, and it is said
    for target in [".nowhere", ".w2500-000-000", "/etc/passwd"] {
        set_by_hand(&site, target);
        site.served();
        turnout.run(&["verify"]).exits(1).says("shop");
        turnout.ok(&["apply"]);
        assert_eq!(site.served(), Color::Green, "{target}");
        turnout.ok(&["verify"]);
    }

    std::fs::remove_dir_all(site.markers()).unwrap();
    assert_eq!(site.served(), Color::Blue, "the position of the last load");
    turnout
        .run(&["verify"])
        .exits(1)
        .says("nginx's workers do not find the positions in");
    turnout.ok(&["switch", "green"]);
    assert_eq!(site.served(), Color::Green);
    turnout.ok(&["verify"]);
    let before = reloads(&site);
    turnout.ok(&["switch", "blue"]);
    assert_eq!(reloads(&site), before);
}

#[test]
fn a_daemon_sets_markers_again_that_were_wiped_and_leaves_those_that_were_moved() {
    let _turn = shared();
    let site = Site::nginx_instant_on_blue("blue_green");
    let turnout = site.turnout();
    let daemon = site.serve();
    turnout.ok(&["switch", "green"]);
    let before = reloads(&site);
    let back = |what: &str| {
        wait_for(what, Duration::from_secs(20), || {
            let said = site.markers().join("shop");
            let generation = site.markers().join("_generation");
            (site.served() == Color::Green && said.exists() && generation.exists()).then_some(())
        });
        turnout.ok(&["verify"]);
    };

    // a tmpfs, or a cleaner with a folder's name in its list
    std::fs::remove_dir_all(site.markers()).unwrap();
    assert_eq!(site.served(), Color::Blue, "the position of the last load");
    back("the wiped markers");
    // a cleaner of old and empty files
    std::fs::remove_file(site.markers().join(".green")).unwrap();
    back("a marker's end");
    std::fs::remove_file(site.markers().join("_generation")).unwrap();
    back("the generation");
    let put_right = turnout.ok(&["history", "-o", "json"]).json();
    let entries = put_right.as_array().unwrap().iter();
    let entries = entries.filter(|entry| entry["action"] == "put_right");
    let messages: Vec<_> = entries.map(|entry| entry["message"].to_string()).collect();
    assert_eq!(messages.len(), 3, "{messages:#?}");
    assert!(messages[0].contains("2 of 2 markers in "), "{messages:#?}");
    assert!(
        messages[2].contains("_generation was the first"),
        "{messages:#?}"
    );
    assert_eq!(reloads(&site), before);

    // a person's doing is drift, as it is on HAProxy's socket
    std::fs::write(site.markers().join(".blue"), "").unwrap();
    set_by_hand(&site, ".blue");
    wait_for("the word of it", Duration::from_secs(20), || {
        let status = turnout.run(&["status"]);
        status.stdout.contains("Drift").then_some(())
    });
    assert_eq!(site.served(), Color::Blue);
    turnout.ok(&["apply"]);
    assert_eq!(site.served(), Color::Green);
    drop(daemon);
}

#[test]
fn an_edit_by_hand_that_nginx_may_have_loaded_is_replaced_by_a_reload() {
    let _turn = shared();
    let site = Site::nginx_instant_on_blue("blue_green");
    let config = site.balancer().config();
    let text = std::fs::read_to_string(&config).unwrap();
    let edited = text.replace("proxy_redirect off;", "add_header X-Edited yes;");
    assert_ne!(edited, text);
    std::fs::write(&config, edited).unwrap();
    site.balancer().reload();
    let is_edited = |site: &Site| site.ask("/").header("x-edited").is_some();
    assert!(is_edited(&site));
    site.turnout().run(&["switch", "green"]).exits(1);
    site.turnout().ok(&["switch", "green", "--force"]);
    assert_eq!(site.served(), Color::Green);
    assert!(
        !is_edited(&site),
        "the edit is out of the running nginx too"
    );
    site.turnout().ok(&["verify"]);
}

#[test]
fn markers_that_the_workers_may_not_read_stop_a_change_and_are_named() {
    let _turn = shared();
    let site = Site::nginx_instant_on_blue("blue_green");
    let snippets = site.markers().parent().unwrap().to_owned();
    std::fs::set_permissions(&snippets, PermissionsExt::from_mode(0o700)).unwrap();
    let ran = site.turnout().run(&["switch", "green"]);
    ran.says(&format!("chmod o+x {}", snippets.display()));
    assert_eq!(site.served(), Color::Blue);
    assert_eq!(site.recorded(), Color::Blue);
    site.turnout()
        .run(&["doctor"])
        .says(&format!("chmod o+x {}", snippets.display()));
    std::fs::set_permissions(&snippets, PermissionsExt::from_mode(0o755)).unwrap();
    site.turnout().ok(&["switch", "green"]);
    site.turnout().ok(&["verify"]);
}

#[test]
fn a_switch_of_one_of_300_services_moves_its_marker_alone() {
    const SERVICES: u32 = 300;
    let _turn = shared();
    let mut site = Site::nginx_with("blue_green", NginxSetup::default());
    site.use_switching("instant");
    let mut text = std::fs::read_to_string(site.config()).unwrap();
    let (blue, green) = (site.blue.address(), site.green.address());
    let front = Ports::address();
    for number in 0..SERVICES {
        writeln!(
            text,
            "  service-{number}:\n    hosts: [service-{number}.example.com]\n    listen: {front}\n    blue: {{ servers: [\"http://{blue}\"] }}\n    green: {{ servers: [\"http://{green}\"] }}"
        )
        .unwrap();
    }
    std::fs::write(site.config(), text).unwrap();
    let turnout = site.turnout();
    turnout.ok(&["apply"]);
    let before = reloads(&site);
    // a link that is set again is a new one
    let links = || -> BTreeMap<String, u64> {
        let entries = std::fs::read_dir(site.markers()).unwrap().flatten();
        let entries = entries.map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, entry.path().symlink_metadata().unwrap().ino())
        });
        entries.filter(|(name, _)| !name.starts_with('.')).collect()
    };
    let served = |number: u32| {
        let request = format!(
            "GET / HTTP/1.1\r\nHost: service-{number}.example.com\r\nConnection: close\r\n\r\n"
        );
        let mut client = Connection::open(front, Duration::from_secs(10)).unwrap();
        client.send(request.as_bytes()).unwrap().backend().unwrap()
    };

    let daemon = site.serve();
    let standing = links();
    assert_eq!(
        standing.len(),
        SERVICES as usize + 2,
        "shop and the generation"
    );
    let begin = Instant::now();
    turnout.ok(&["switch", "service-123", "green"]);
    println!("a switch of one of {SERVICES}: {:?}", begin.elapsed());
    let moved: Vec<_> = links()
        .into_iter()
        .filter(|(name, inode)| standing.get(name) != Some(inode))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(moved, ["_generation", "service-123"]);
    assert_eq!(reloads(&site), before, "no reload");
    for number in (0..SERVICES).step_by(41) {
        let expected = if number == 123 {
            Color::Green
        } else {
            Color::Blue
        };
        assert_eq!(served(number), expected, "service-{number}");
    }
    assert_eq!(served(122), Color::Blue);
    turnout.ok(&["verify"]);
    // from the files alone, and back
    site.balancer_mut().restart();
    assert_eq!((served(123), served(124)), (Color::Green, Color::Blue));
    turnout.ok(&["rollback", "service-123"]);
    assert_eq!(served(123), Color::Blue);
    turnout.ok(&["verify"]);
    drop(daemon);
}

#[test]
fn nginx_killed_during_switches_comes_back_to_what_was_answered() {
    let _turn = shared();
    let mut site = Site::nginx_instant_on_blue("blue_green");
    let mut color = Color::Blue;
    for round in 0..12_u32 {
        let to = !color;
        let run = site.turnout().command(&["switch", &to.to_string()]);
        let log = site.folder().join(format!("switch-{round}.log"));
        let mut switching = run.background(&log);
        std::thread::sleep(Duration::from_millis(u64::from(round) * 40));
        let victim = if round % 2 == 0 {
            site.balancer().accepting()[0]
        } else {
            site.balancer().master()
        };
        let orphans = site.balancer().workers();
        kill(Pid::from_raw(victim), Signal::SIGKILL).unwrap();
        let status = switching.wait(Duration::from_secs(30));
        let context = format!("round {round}, {status}: {}", switching.printed());
        assert!(!context.contains("panicked"), "{context}");
        if round % 2 == 1 {
            for orphan in orphans {
                // it may have ended by itself
                kill(Pid::from_raw(orphan), Signal::SIGKILL).ok();
            }
            site.balancer_mut().restart();
        }
        if status.code() == Some(0) {
            assert_eq!(site.served(), to, "{context}");
        }
        site.turnout().ok(&["apply"]);
        color = site.served();
        assert_eq!(site.recorded(), color, "{context}");
        site.turnout().ok(&["verify"]);
        if status.code() == Some(0) {
            assert_eq!(color, to, "an answered switch was lost, {context}");
        }
    }
}

#[test]
fn turnout_killed_during_a_new_shape_leaves_one_that_agrees() {
    let _turn = shared();
    let mut site = Site::nginx_instant_on_blue("blue_green");
    site.turnout().ok(&["switch", "green"]);
    for round in 0..10_u32 {
        site.use_switching(if round % 2 == 0 { "reload" } else { "instant" });
        let run = site.turnout().command(&["apply"]);
        let mut applying = run.background(&site.folder().join("apply.log"));
        std::thread::sleep(Duration::from_millis(u64::from(round) * 70));
        applying.kill();
        site.turnout().ok(&["apply"]);
        assert_eq!(site.served(), Color::Green, "round {round}");
        assert_eq!(site.recorded(), Color::Green, "round {round}");
        site.turnout().ok(&["verify"]);
    }
}
