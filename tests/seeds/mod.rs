//! The examples of the pages that turnout is measured by, run one by one as they are written there, with turnout's words in place
//! of theirs. `NNN-*.sh` has the lines, each with the page and the line that it comes from; this runs them.
//!
//! | line | means |
//! |---|---|
//! | `# seed 000:29 …` | where what follows stands |
//! | `export NAME=VALUE` | for all that follows |
//! | `& COMMAND` | started, and stopped at the end |
//! | `until COMMAND` | again until it exits with 0: for what comes by itself, not for what an example does |
//! | `exits N: COMMAND` | must exit with N |
//! | `COMMAND` | must exit with 0 |
//! | `= TEXT` | what the last command printed has this |
//! | `not TEXT` | and not this |
//! | `<< FILE`, up to `.` | a file |
//!
//! Ports are replaced by free ones, the same for the same number; nothing else is.

use std::collections::BTreeMap;
use std::path::Path;

use tempfile::TempDir;

use crate::support::{BINARY, Background, Ports, Ran, Run, SOON, is_root, shared, wait_for};

/// The ports of the pages. `:80/` is the public one of 003.
const PORTS: [&str; 10] = [
    "3000", "5001", "5002", "5004", "5005", "5006", "8080", "8081", "9180", "9999",
];

struct Script {
    folder: TempDir,
    variables: BTreeMap<String, String>,
    running: Vec<Background>,
    last: Option<Ran>,
    place: String,
}

impl Script {
    fn command(&self, line: &str) -> Run {
        let mut run = Run::new("bash").args(["-ec", line]).under(
            ["env", "-C"].map(str::to_owned).into_iter().chain([self
                .folder
                .path()
                .display()
                .to_string()]),
        );
        let path = format!(
            "{}:/usr/sbin:/usr/bin:/sbin:/bin",
            self.folder.path().join("bin").display()
        );
        for (name, value) in &self.variables {
            run = run.env(name, value);
        }
        run.env("PATH", path).env("NO_COLOR", "1")
    }

    fn step(&mut self, line: &str) {
        if let Some(comment) = line.strip_prefix('#') {
            if let Some(place) = comment.trim().strip_prefix("seed ") {
                place.clone_into(&mut self.place);
            }
        } else if let Some(variable) = line.strip_prefix("export ") {
            let (name, value) = variable.split_once('=').unwrap();
            self.variables.insert(name.to_owned(), value.to_owned());
        } else if let Some(command) = line.strip_prefix("& ") {
            let log = self
                .folder
                .path()
                .join(format!("{}.log", self.running.len()));
            // the program itself and not a shell around it, so that the end reaches it
            let command = self.command(&format!("exec {command}"));
            self.running.push(command.background(&log));
        } else if let Some(command) = line.strip_prefix("until ") {
            let run = self.command(command);
            let ran = wait_for(&format!("{} ({line})", self.place), SOON, || {
                let ran = run.run();
                (ran.code() == Some(0)).then_some(ran)
            });
            self.last = Some(ran);
        } else if let Some(text) = line.strip_prefix("= ") {
            let last = self.last.as_ref().unwrap();
            assert!(
                last.stdout.contains(text) || last.stderr.contains(text),
                "{}: expected {text:?}\n{last}",
                self.place
            );
        } else if let Some(text) = line.strip_prefix("not ") {
            let last = self.last.as_ref().unwrap();
            assert!(
                !last.stdout.contains(text),
                "{}: {text:?}\n{last}",
                self.place
            );
        } else {
            let (code, command) = match line
                .strip_prefix("exits ")
                .and_then(|rest| rest.split_once(": "))
            {
                Some((code, command)) => (code.parse().unwrap(), command),
                None => (0, line),
            };
            let ran = self.command(command).run();
            assert!(
                ran.code() == Some(code),
                "{}: expected exit {code}\n{ran}",
                self.place
            );
            self.last = Some(ran);
        }
    }
}

/// The text with free ports in place of the pages'.
fn with_free_ports(text: &str) -> String {
    let free: BTreeMap<&str, String> = PORTS
        .iter()
        .map(|port| (*port, Ports::free().to_string()))
        .collect();
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(|letter: char| letter.is_ascii_digit()) {
        let length = rest[at..]
            .find(|letter: char| !letter.is_ascii_digit())
            .unwrap_or(rest.len() - at);
        let number = &rest[at..at + length];
        // `seed 000:29` has no port in it
        let is_place = out.ends_with("# seed ") || rest[..at].ends_with("# seed ");
        out.push_str(&rest[..at]);
        out.push_str(match free.get(number) {
            Some(port) if !is_place => port,
            _ => number,
        });
        rest = &rest[at + length..];
    }
    out.push_str(rest);
    out.replace(":80/", &format!(":{}/", Ports::free()))
}

fn run(name: &str) {
    let _turn = shared();
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/seeds")
        .join(name);
    let text = with_free_ports(&std::fs::read_to_string(path).unwrap());
    let folder = TempDir::with_prefix("turnout-seed-").unwrap();
    std::fs::create_dir(folder.path().join("bin")).unwrap();
    std::os::unix::fs::symlink(BINARY, folder.path().join("bin/turnout")).unwrap();
    let mut script = Script {
        folder,
        variables: BTreeMap::new(),
        running: Vec::new(),
        last: None,
        place: String::new(),
    };
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(file) = line.strip_prefix("<< ") {
            let content: Vec<_> = lines.by_ref().take_while(|line| *line != ".").collect();
            let path = script.folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content.join("\n") + "\n").unwrap();
        } else if !line.trim().is_empty() {
            script.step(line);
        }
    }
    let log: String = script.running.iter().map(Background::printed).collect();
    assert!(!log.contains("panicked at"), "{log}");
    // the router before its backends
    while let Some(last) = script.running.pop() {
        drop(last);
    }
}

#[test]
fn page_000_the_router_and_its_orchestration() {
    run("000-orchestration.sh");
}

#[test]
fn page_000_the_token() {
    run("000-token.sh");
}

#[test]
fn page_000_the_variables() {
    run("000-variables.sh");
}

#[test]
fn page_001_a_canary_by_pushed_metrics() {
    run("001-canary.sh");
}

#[test]
fn page_002_the_router_that_owns_its_state() {
    run("002-router.sh");
}

#[test]
fn page_002_the_router_that_follows_bg_state_json() {
    run("002-follow.sh");
}

#[test]
fn page_003_switching_and_the_state_file() {
    run("003-switching.sh");
}

#[test]
fn page_004_host_routing_to_a_network_alias() {
    if is_root("a hosts file of the router's own, in a private mount namespace") {
        run("004-alias.sh");
    }
}

#[test]
fn ports_are_replaced_the_same_for_the_same_number_and_nothing_else() {
    let text = with_free_ports("# seed 002:5004 x\n8080 18080 http://a:8080/ 80 :80/ 1\n");
    assert!(text.starts_with("# seed 002:"), "{text}");
    let words: Vec<_> = text.lines().nth(1).unwrap().split(' ').collect();
    assert_eq!(words[2], format!("http://a:{}/", words[0]));
    assert_ne!(words[0], "8080");
    assert_eq!((words[1], words[3], words[5]), ("18080", "80", "1"));
    assert_ne!(words[4], ":80/");
}
