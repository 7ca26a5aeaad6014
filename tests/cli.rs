//! The command line as scripts see it: help, wrong usage, exit codes, what goes to stdout and what to stderr.

use std::process::{Output, Stdio};

use insta::assert_snapshot;
use tempfile::TempDir;

/// The binary in an empty folder, with none of its variables set.
#[expect(
    clippy::disallowed_methods,
    reason = "a test runs the program as a shell does"
)]
fn turnout(folder: &TempDir, args: &[&str]) -> std::process::Command {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_turnout"));
    command
        .args(args)
        .current_dir(folder.path())
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null());
    command
}

struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn ran(output: Output) -> Ran {
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn run(args: &[&str]) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    ran(turnout(&folder, args).output().unwrap())
}

#[test]
fn help_is_data_and_lists_every_verb() {
    let help = run(&["--help"]);
    assert_eq!((help.code, help.stderr.as_str()), (Some(0), ""));
    assert_snapshot!(help.stdout);
}

#[test]
fn each_verb_that_changes_something_takes_the_same_flags() {
    for verb in [
        "switch", "rollback", "strategy", "weights", "shift", "apply", "reload",
    ] {
        let help = run(&[verb, "--help"]);
        assert_eq!(help.code, Some(0), "{verb}");
        for flag in ["--dry-run", "-m, --message", "--lock-wait", "--force"] {
            assert!(help.stdout.contains(flag), "{verb} does not take {flag}");
        }
        assert!(help.stdout.contains("Example"), "{verb} has no example");
    }
}

#[test]
fn wrong_usage_exits_2_and_says_what_is_wrong() {
    for (args, part) in [
        (&[][..], "Usage: turnout"),
        (&["frobnicate"], "unrecognized subcommand 'frobnicate'"),
        (&["switch", "shop", "red"], "[possible values: blue, green]"),
        (&["switch", "Shop"], "`Shop` is not a service name"),
        (
            &["switch", "green", "--lock-wait", "10"],
            "500ms, 10s or 1m 30s",
        ),
        (&["weights", "blue=80", "green=30"], "add up to 110"),
        (&["weights", "shop"], "blue=80 green=20"),
        (
            &["shift", "--by", "NaN", "--towards", "green"],
            "percent points",
        ),
        (&["shift", "--by", "10"], "--towards"),
        (&["strategy", "rolling"], "blue_green or canary"),
        (&["-o", "xml", "status"], "table, json, yaml"),
        (&["--log-format", "loud", "status"], "text, json, journald"),
        (&["--server", "localhost", "status"], "unix:/PATH"),
        (
            &["--server", "a:1", "--local", "status"],
            "leave one of them out",
        ),
        (&["status", "--watch", "--exit-code"], "cannot be used with"),
        (
            &["--token-file", "none", "--server", "a:1", "status"],
            "none",
        ),
    ] {
        let wrong = run(args);
        assert_eq!(wrong.code, Some(2), "{args:?}\n{}", wrong.stderr);
        assert!(wrong.stderr.contains(part), "{args:?}\n{}", wrong.stderr);
        assert_eq!(wrong.stdout, "", "{args:?}");
    }
}

#[test]
fn global_flags_stand_before_or_after_the_verb() {
    for args in [
        ["--config", "absent.yaml", "status"],
        ["status", "--config", "absent.yaml"],
        ["status", "-c", "absent.yaml"],
    ] {
        let wrong = run(&args);
        assert_eq!(wrong.code, Some(78), "{args:?}");
        assert!(wrong.stderr.contains("absent.yaml"), "{}", wrong.stderr);
    }
}

#[test]
fn without_a_configuration_every_verb_that_needs_one_exits_78() {
    for args in [
        &["switch", "green"][..],
        &["rollback"],
        &["apply"],
        &["reload"],
        &["render"],
        &["diff"],
        &["status"],
        &["verify"],
        &["check"],
        &["history"],
        &["lock", "status"],
        &["lock", "release"],
    ] {
        let wrong = run(args);
        assert_eq!(wrong.code, Some(78), "{args:?}\n{}", wrong.stderr);
        assert!(
            wrong.stderr.starts_with("error: no configuration"),
            "{args:?}"
        );
        assert_eq!(wrong.stdout, "", "{args:?}");
    }
    let doctor = run(&["doctor"]);
    assert_eq!(doctor.code, Some(1));
    assert!(
        doctor.stdout.starts_with("✖ configuration"),
        "{}",
        doctor.stdout
    );
}

#[test]
fn every_flag_has_a_variable_and_an_empty_one_counts_as_unset() {
    let folder = tempfile::tempdir().unwrap();
    let named = ran(turnout(&folder, &["status"])
        .env("TURNOUT_CONFIG", "absent.yaml")
        .output()
        .unwrap());
    assert!(named.stderr.contains("absent.yaml"), "{}", named.stderr);
    let mut empty = turnout(&folder, &["status"]);
    for name in [
        "CONFIG",
        "SERVER",
        "TOKEN",
        "TOKEN_FILE",
        "OUTPUT",
        "LOCAL",
        "LOG_FORMAT",
        "LOG",
        "NO_COLOR",
    ] {
        empty.env(format!("TURNOUT_{name}"), "");
    }
    let empty = ran(empty.output().unwrap());
    assert_eq!(empty.code, Some(78), "{}", empty.stderr);
    assert!(empty.stderr.starts_with("error: no configuration"));
}

#[test]
fn a_server_that_does_not_answer_exits_69_without_any_configuration() {
    // nothing listens on port 1 of loopback
    let silent = run(&["--server", "127.0.0.1:1", "status"]);
    assert_eq!(silent.code, Some(69), "{}", silent.stderr);
    assert!(silent.stderr.contains("127.0.0.1:1"), "{}", silent.stderr);
}

#[test]
fn init_writes_a_first_configuration_and_never_over_another() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("turnout.yaml");
    let dry = ran(turnout(&folder, &["init", "--dry-run"]).output().unwrap());
    assert_eq!(dry.code, Some(0), "{}", dry.stderr);
    assert!(!path.exists());
    let first = ran(turnout(&folder, &["init", "-o", "json"]).output().unwrap());
    assert_eq!(first.code, Some(0), "{}", first.stderr);
    let told: serde_json::Value = serde_json::from_str(&first.stdout).unwrap();
    assert_eq!(told["file"], "turnout.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, dry.stdout);
    assert!(text.contains("version: 1"), "{text}");
    for again in [&["init"][..], &["init", "--dry-run"]] {
        let second = ran(turnout(&folder, again).output().unwrap());
        assert_eq!(second.code, Some(1));
        assert!(second.stderr.contains("turnout.yaml"), "{}", second.stderr);
    }
    // nothing half written is left either
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn completions_and_manual_pages_are_made_for_every_verb() {
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&["completion", shell]);
        assert_eq!(script.code, Some(0));
        assert!(script.stdout.contains("rollback"), "{shell}");
    }
    let folder = tempfile::tempdir().unwrap();
    let pages = ran(turnout(&folder, &["man", "--to", "pages"])
        .output()
        .unwrap());
    assert_eq!((pages.code, pages.stdout.as_str()), (Some(0), ""));
    for page in ["turnout.1", "turnout-switch.1", "turnout-lock-status.1"] {
        assert!(folder.path().join("pages").join(page).is_file(), "{page}");
    }
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let folder = tempfile::tempdir().unwrap();
    for args in [&["--help"][..], &["completion", "bash"], &["man"]] {
        let mut child = turnout(&folder, args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let ended = ran(child.wait_with_output().unwrap());
        assert_eq!(
            (ended.code, ended.stderr.as_str()),
            (Some(0), ""),
            "{args:?}"
        );
    }
}
