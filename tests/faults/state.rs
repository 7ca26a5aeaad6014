//! The state directory: two writers, torn files, files of another version, files that are no files.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use turnout::domain::Color;

use super::recovers;
use crate::support::{Background, Site, shared, wait_for};

/// A switch that holds the change lock until it is killed or a few seconds have gone by.
fn slow_switch(site: &mut Site, seconds: u32) -> Background {
    let script = site.folder().join("slow-nginx");
    let text = format!("#!/bin/sh\nsleep {seconds}\nexec nginx \"$@\"\n");
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    site.use_binary(&script);
    let holder = site
        .turnout()
        .command(&["switch", "green", "-m", "a slow one"])
        .background(&site.folder().join("holder.log"));
    wait_for("the lock to be held", Duration::from_mins(1), || {
        let status = site.turnout().run(&["lock", "status"]);
        status
            .stdout
            .contains(&holder.pid().to_string())
            .then_some(())
    });
    holder
}

#[test]
fn a_second_writer_is_told_who_holds_the_lock() {
    let _turn = shared();
    let mut site = Site::nginx_on_blue();
    let mut holder = slow_switch(&mut site, 3);
    site.turnout()
        .run(&["switch", "green", "--lock-wait", "0s"])
        .exits(75)
        .says(&holder.pid().to_string())
        .says("since");
    assert_eq!(site.recorded(), Color::Blue);
    // who waits long enough gets it; the first one's switch is done by then
    site.turnout().ok(&["switch", "blue", "--lock-wait", "60s"]);
    assert_eq!(holder.wait(Duration::from_mins(1)).code(), Some(0));
    assert_eq!(site.served(), Color::Blue);
    assert_eq!(site.recorded(), Color::Blue);
}

#[test]
fn the_lock_of_a_killed_holder_is_free_at_once() {
    let _turn = shared();
    let mut site = Site::nginx_on_blue();
    let mut holder = slow_switch(&mut site, 600);
    holder.kill();
    let nginx = std::path::PathBuf::from("nginx");
    site.use_binary(&nginx);
    site.turnout().ok(&["switch", "green", "--lock-wait", "0s"]);
    assert_eq!(site.served(), Color::Green);
}

#[test]
fn two_writers_at_once_end_on_one_color() {
    let _turn = shared();
    let site = Site::nginx_on_blue();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            for color in ["green", "blue"] {
                let turnout = site.turnout();
                scope.spawn(move || turnout.ok(&["switch", color, "--lock-wait", "60s"]));
            }
        }
    });
    assert_eq!(site.served(), site.recorded());
    site.turnout().ok(&["verify"]);
}

#[test]
fn a_torn_state_file_is_read_from_its_backup_and_never_overwritten() {
    let _turn = shared();
    let site = Site::nginx_on_blue();
    site.turnout().ok(&["switch", "green"]);
    let path = site.state_dir().join("state.json");
    let whole = std::fs::read(&path).unwrap();
    let mut torn: Vec<Vec<u8>> = [0, 1, whole.len() / 2, whole.len() - 3]
        .iter()
        .map(|length| whole[..*length].to_vec())
        .collect();
    torn.push(vec![0; whole.len()]);
    torn.push(b"{\"version\": 1}".to_vec());
    for bytes in torn {
        std::fs::write(&path, &bytes).unwrap();
        let status = site.turnout().ok(&["status", "-o", "json"]).json();
        assert_eq!(
            status["services"][0]["active"],
            "green",
            "{} bytes: {status}",
            bytes.len()
        );
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "status wrote it");
        site.turnout().ok(&["switch", "blue"]);
        assert_eq!(site.recorded(), Color::Blue);
        let is_kept = std::fs::read_dir(site.state_dir()).unwrap().any(|entry| {
            let path = entry.unwrap().path();
            path.is_file() && std::fs::read(path).unwrap() == bytes
        });
        assert!(is_kept, "the torn file was not kept");
        site.turnout().ok(&["switch", "green"]);
    }
}

#[test]
fn without_any_readable_record_what_nginx_serves_decides() {
    let _turn = shared();
    let site = Site::nginx_on_blue();
    site.turnout().ok(&["switch", "green"]);
    for name in ["state.json", "state.json.bak", "journal.jsonl"] {
        std::fs::write(site.state_dir().join(name), "garbage").unwrap();
    }
    site.turnout().ok(&["apply"]);
    assert_eq!(site.served(), Color::Green);
    assert_eq!(site.recorded(), Color::Green);
}

#[test]
fn without_any_readable_record_and_without_nginx_a_person_is_needed() {
    let _turn = shared();
    let mut site = Site::nginx_on_blue();
    site.turnout().ok(&["switch", "green"]);
    for name in ["state.json", "state.json.bak", "journal.jsonl"] {
        std::fs::write(site.state_dir().join(name), "garbage").unwrap();
    }
    site.balancer_mut().stop();
    site.turnout()
        .run(&["switch", "blue"])
        .exits(4)
        .says("state.json");
    for name in ["state.json", "state.json.bak", "journal.jsonl"] {
        assert_eq!(
            std::fs::read_to_string(site.state_dir().join(name)).unwrap(),
            "garbage"
        );
    }
}

#[test]
fn a_torn_last_line_of_the_journal_is_dropped() {
    let _turn = shared();
    let site = Site::nginx_on_blue();
    let path = site.state_dir().join("journal.jsonl");
    let mut text = std::fs::read_to_string(&path).unwrap();
    text.push_str("{\"intent\": {\"gen");
    std::fs::write(&path, text).unwrap();
    recovers(&site);
    site.turnout().ok(&["history"]).says("switch");
}

#[test]
fn a_state_of_a_later_version_is_left_alone() {
    let _turn = shared();
    let site = Site::nginx_on_blue();
    let path = site.state_dir().join("state.json");
    let mut state = site.state();
    state["version"] = 999.into();
    // a flipped digit alone would be a damaged file of this version
    state["since_version_999"] = true.into();
    let later = state.to_string();
    std::fs::write(&path, &later).unwrap();
    site.turnout()
        .run(&["switch", "green"])
        .exits(3)
        .says("upgrade")
        .says("999");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), later);
    assert_eq!(site.served(), Color::Blue);
}

#[test]
fn a_state_file_that_is_no_plain_file_of_ours_is_refused() {
    let _turn = shared();
    let site = Site::nginx_on_blue();
    let path = site.state_dir().join("state.json");
    let whole = std::fs::read(&path).unwrap();
    let elsewhere = site.folder().join("elsewhere.json");

    std::fs::write(&elsewhere, &whole).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
    site.turnout()
        .run(&["switch", "green"])
        .exits_with_one_of(&[3, 4, 77])
        .says("refused");
    assert_eq!(std::fs::read(&elsewhere).unwrap(), whole);

    std::fs::remove_file(&path).unwrap();
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    site.turnout()
        .run(&["switch", "green"])
        .exits_with_one_of(&[3, 4, 77])
        .says("refused");

    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, &whole).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).unwrap();
    site.turnout()
        .run(&["switch", "green"])
        .exits_with_one_of(&[3, 4, 77])
        .says("refused");
    assert_eq!(site.served(), Color::Blue);

    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    recovers(&site);
}

#[test]
fn an_absent_state_starts_from_the_configuration_and_is_not_made_by_looking() {
    let _turn = shared();
    let site = Site::nginx();
    site.turnout().run(&["status"]);
    assert!(!site.state_dir().join("state.json").exists());
    site.turnout().ok(&["apply"]);
    assert_eq!(site.recorded(), Color::Blue);
}

#[test]
fn a_state_that_no_file_tells_any_more_is_read_off_the_balancer_that_auto_finds() {
    let _turn = shared();
    let mut site = Site::nginx();
    let text = std::fs::read_to_string(site.config()).unwrap();
    std::fs::write(site.config(), text.replace("kind: nginx", "kind: auto")).unwrap();
    site.turnout().ok(&["apply"]);
    site.turnout().ok(&["switch", "green"]);
    let files = ["state.json", "state.json.bak", "journal.jsonl"];
    // as many as are broken: the backup tells, then the journal, then what nginx serves
    for count in 1..=3 {
        let whole = files.map(|file| std::fs::read(site.state_dir().join(file)).unwrap());
        for file in &files[..count] {
            std::fs::write(site.state_dir().join(file), "{ torn").unwrap();
        }
        let status = site.turnout().ok(&["status", "-o", "json"]).json();
        assert_eq!(status["balancer"], "nginx", "{count}: {status}");
        assert_eq!(
            status["services"][0]["active"], "green",
            "{count}: {status}"
        );
        assert!(
            status["problems"].to_string().contains("state"),
            "{count}: {status}"
        );
        if count < 3 {
            for (file, bytes) in files.iter().zip(whole) {
                std::fs::write(site.state_dir().join(file), bytes).unwrap();
            }
        }
    }
    // nobody can tell
    site.balancer_mut().stop();
    let ran = site.turnout().run(&["status"]).exits(4);
    for file in files {
        assert!(ran.stderr.contains(file), "{file} is not named\n{ran}");
    }
    site.turnout()
        .run(&["serve"])
        .exits(4)
        .says("move all three");
    for file in files {
        let left = std::fs::read(site.state_dir().join(file)).unwrap();
        assert_eq!(left, b"{ torn", "{file} was overwritten");
    }
    // nginx again can
    site.balancer_mut().restart();
    site.turnout().ok(&["switch", "blue"]);
    assert_eq!((site.served(), site.recorded()), (Color::Blue, Color::Blue));
    site.turnout().ok(&["verify"]);
}

#[test]
fn the_way_out_of_a_state_that_is_lost_works_as_it_is_told() {
    let _turn = shared();
    let site = Site::nginx_on_blue();
    let broken = site.state_dir().join("broken");
    std::fs::create_dir(&broken).unwrap();
    for file in ["state.json", "state.json.bak", "journal.jsonl"] {
        let path = site.state_dir().join(file);
        if path.exists() {
            std::fs::rename(path, broken.join(file)).unwrap();
        }
    }
    site.turnout().ok(&["apply", "--force"]);
    assert_eq!((site.served(), site.recorded()), (Color::Blue, Color::Blue));
    site.turnout().ok(&["verify"]);
}
