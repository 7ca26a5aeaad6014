//! The nginx that checks what is staged hangs, floods, lies or is not there.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use super::{recovers, refused};
use crate::support::{Site, shared, wait_for};

/// A shell script in place of nginx. Everything but `-t` and `-T` goes to the real one.
fn fake(site: &Site, on_check: &str) -> PathBuf {
    let path = site.folder().join("fake-nginx");
    let text = format!(
        "#!/bin/sh\ncase \" $* \" in *\" -t \"*|*\" -T \"*|*\" -tq \"*|*\" -qt \"*) {on_check} ;; esac\nexec nginx \"$@\"\n"
    );
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    path
}

#[test]
fn a_check_that_hangs_is_ended_with_all_its_children() {
    let _turn = shared();
    let mut site = Site::nginx_on_blue();
    let pids = site.folder().join("pids");
    let script = fake(
        &site,
        &format!(
            "echo $$ >> {0}; sleep 600 & echo $! >> {0}; wait",
            pids.display()
        ),
    );
    site.use_binary(&script);
    // names in somebody's upstreams may take nginx long, so the check has 30 s
    super::untouched(&site, || {
        site.turnout()
            .command(&["switch", "green"])
            .deadline(Duration::from_mins(1))
            .run()
    })
    .exits(3)
    .says(&script.display().to_string());
    let pids = std::fs::read_to_string(pids).unwrap();
    assert!(pids.lines().count() >= 2, "the check was never run");
    for pid in pids.lines() {
        wait_for("the end of the check", Duration::from_mins(1), || {
            let state = std::fs::read_to_string(format!("/proc/{pid}/stat"));
            state
                .map_or(true, |state| state.contains(") Z"))
                .then_some(())
        });
    }
}

#[test]
fn a_check_that_prints_a_gigabyte_is_cut() {
    let _turn = shared();
    let mut site = Site::nginx_on_blue();
    let script = fake(
        &site,
        "yes 'nginx: [emerg] too much' | head -c 1000000000 >&2; exit 1",
    );
    site.use_binary(&script);
    let ran = super::untouched(&site, || {
        // a gigabyte does not fit: whoever keeps it all is killed
        site.turnout()
            .command(&["switch", "green"])
            .under(["prlimit", "--data=400000000"])
            .deadline(Duration::from_mins(1))
            .run()
    })
    .exits_with_one_of(&[3, 65]);
    assert!(
        ran.stderr.len() < 100_000,
        "{} bytes of somebody else's talk",
        ran.stderr.len()
    );
}

#[test]
fn a_check_that_says_no_without_a_word_is_refused_all_the_same() {
    let _turn = shared();
    let mut site = Site::nginx_on_blue();
    let script = fake(&site, "exit 1");
    site.use_binary(&script);
    refused(&site, 65);
}

#[test]
fn a_check_that_is_killed_is_no_yes() {
    let _turn = shared();
    let mut site = Site::nginx_on_blue();
    let script = fake(&site, "kill -9 $$");
    site.use_binary(&script);
    super::untouched(&site, || site.turnout().run(&["switch", "green"]))
        .exits_with_one_of(&[3, 65]);
}

#[test]
fn an_nginx_that_is_not_there_or_not_executable_is_named() {
    let _turn = shared();
    let mut site = Site::nginx_on_blue();
    let script = fake(&site, "exit 0");
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o644)).unwrap();
    for binary in [PathBuf::from("/no/such/nginx"), script.clone()] {
        site.use_binary(&binary);
        super::untouched(&site, || site.turnout().run(&["switch", "green"]))
            .exits_with_one_of(&[3, 69, 77])
            .says(&binary.display().to_string());
    }
    let script = fake(&site, ":");
    site.use_binary(&script);
    recovers(&site);
}
