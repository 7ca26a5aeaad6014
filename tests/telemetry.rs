//! The log: one line for a change, with the names that the API uses, as text, as JSON and in journald's own form.

use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;
use std::time::Instant;

use serde_json::Value;

use crate::support::{Background, Run, SOON, Site, get, is_root, shared, wait_for};

fn serve(site: &Site, front: &[&str], variables: &[(&str, &str)]) -> Background {
    let mut command = site.turnout().command(&["serve"]);
    for (name, value) in variables {
        command = command.env(name, value);
    }
    let daemon = command
        .under(front)
        .background(&site.folder().join("daemon.log"));
    wait_for("the daemon to be ready", SOON, || {
        let answer = get(site.control, "/readyz", &[]).ok()?;
        (answer.status == 200).then_some(())
    });
    daemon
}

fn is_switch(line: &Value) -> bool {
    line["event"] == "switch"
}

#[test]
fn a_line_of_json_for_a_switch_has_the_fields_of_the_api() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let daemon = serve(&site, &[], &[("TURNOUT_LOG_FORMAT", "json")]);
    let switched = site
        .turnout()
        .ok(&["switch", "green", "-m", "release 1.9", "-o", "json"])
        .json();
    let line = wait_for("the line", SOON, || {
        let log = daemon.printed();
        let mut lines = log
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        lines.find(is_switch)
    });
    let field = |name: &str| line[name].clone();
    assert_eq!(field("outcome"), "done");
    assert_eq!(field("service"), "shop");
    assert_eq!(field("color"), "green");
    assert_eq!(field("version"), "1.0.0-green");
    assert_eq!(field("generation"), switched["generation"]);
    assert_eq!(field("reason"), "release 1.9");
    assert_eq!(field("level"), "INFO");
    assert!(field("duration_ms").is_u64(), "{line}");
    let history = site
        .turnout()
        .ok(&["history", "-n", "1", "-o", "json"])
        .json();
    assert_eq!(field("actor"), history[0]["actor"]);
    site.turnout()
        .run(&["switch", "green", "--lock-wait", "0s"])
        .exits(0);
    wait_for("the line of what was so already", SOON, || {
        daemon
            .printed()
            .contains(r#""outcome":"same""#)
            .then_some(())
    });
}

#[test]
fn a_line_of_text_for_a_switch_has_the_same_fields() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let daemon = serve(&site, &[], &[]);
    site.turnout().ok(&["switch", "green"]);
    wait_for("the line", SOON, || {
        let log = daemon.printed();
        let line = log.lines().find(|line| line.contains("event=\"switch\""))?;
        for field in [
            "outcome=\"done\"",
            "service=\"shop\"",
            "color=\"green\"",
            "generation=2",
            "actor=",
        ] {
            assert!(line.contains(field), "{field}: {line}");
        }
        Some(())
    });
}

/// What came to the socket, one entry for each datagram, in journald's form of `NAME=value` lines.
fn entries(socket: &UnixDatagram) -> Vec<BTreeMap<String, String>> {
    let mut buffer = vec![0; 65536];
    let mut entries = Vec::new();
    while let Ok(length) = socket.recv(&mut buffer) {
        let mut entry = BTreeMap::new();
        let mut rest = &buffer[..length];
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(&rest[..end]).into_owned();
            rest = &rest[end + 1..];
            if let Some((name, value)) = line.split_once('=') {
                entry.insert(name.to_owned(), value.to_owned());
            } else {
                // the name alone, then the length in 8 bytes, the value and a line end
                let size = u64::from_le_bytes(rest[..8].try_into().unwrap());
                let size = usize::try_from(size).unwrap();
                let value = String::from_utf8_lossy(&rest[8..8 + size]).into_owned();
                entry.insert(line, value);
                rest = &rest[8 + size + 1..];
            }
        }
        entries.push(entry);
    }
    entries
}

/// In a mount namespace of its own, where `/run/systemd/journal` is a folder of the test's.
#[test]
fn journald_gets_the_fields_as_fields() {
    let _turn = shared();
    if !is_root("a mount namespace for journald's socket") {
        return;
    }
    let site = Site::embedded("blue_green");
    let journal = site.folder().join("journal");
    std::fs::create_dir(&journal).unwrap();
    let socket = UnixDatagram::bind(journal.join("socket")).unwrap();
    socket.set_nonblocking(true).unwrap();
    let script = format!(
        "mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/journal && mount --bind {} /run/systemd/journal && exec \"$@\"",
        journal.display()
    );
    let front = ["unshare", "--mount", "sh", "-c", script.as_str(), "sh"];
    let _daemon = serve(&site, &front, &[("TURNOUT_LOG_FORMAT", "journald")]);
    site.turnout().ok(&["switch", "green"]);
    let mut all = Vec::new();
    let entry = wait_for("the switch in the journal", SOON, || {
        all.extend(entries(&socket));
        all.iter()
            .find(|entry| entry.get("EVENT").is_some_and(|event| event == "switch"))
            .cloned()
    });
    let field = |name: &str| entry.get(name).map(String::as_str);
    assert_eq!(field("SERVICE"), Some("shop"), "{entry:?}");
    assert_eq!(field("COLOR"), Some("green"));
    assert_eq!(field("GENERATION"), Some("2"));
    assert_eq!(field("OUTCOME"), Some("done"));
    assert_eq!(field("PRIORITY"), Some("5"), "info is journald's notice");
    assert_eq!(field("SYSLOG_IDENTIFIER"), Some("turnout"));
    assert_eq!(field("MESSAGE"), Some("change"));
    assert!(field("ACTOR").is_some_and(|actor| !actor.is_empty()));
}

#[test]
fn a_stream_that_is_called_the_journal_without_a_journald_gets_text() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let log = site.folder().join("stream.log");
    // the variable names the very file that stderr is, as systemd does it
    let script = format!(
        "exec 2>>{0}; JOURNAL_STREAM=$(stat -L -c %d:%i {0}); export JOURNAL_STREAM; exec \"$@\"",
        log.display()
    );
    let ran = Run::new(crate::support::BINARY)
        .args([
            "-v",
            "sample-app",
            "--port",
            "1",
            "--color",
            "blue",
            "--listen",
            "192.0.2.1",
        ])
        .env("TURNOUT_LOG_FORMAT", "")
        .under(["sh", "-c", script.as_str(), "sh"])
        .run();
    let said = std::fs::read_to_string(&log).unwrap();
    // not there: no address of this host's
    assert_eq!(ran.code(), Some(69), "{ran}\n{said}");
    assert!(!said.contains("failed to reach journald"), "{said}");
    let begun = Instant::now();
    Run::new(crate::support::BINARY)
        .args(["--log-format", "journald", "schema"])
        .under([
            "unshare",
            "--mount",
            "sh",
            "-c",
            "mount -t tmpfs tmpfs /run && exec \"$@\"",
            "sh",
        ])
        .run()
        .exits(2)
        .says("failed to reach journald");
    assert!(begun.elapsed() < SOON);
}
