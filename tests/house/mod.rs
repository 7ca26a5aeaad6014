//! The house rules that a compiler does not know: who may import whom, how a file begins, and what it may be called.
//!
//! Reads the sources as text. The table below is the design's, as data: an edge that is not in it is an error, so that a
//! new dependency between modules is a decision and not an accident.

mod imports;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use imports::{blank, imports};

/// What each top-level module may import: other top-level modules, or one path in them. `*` is everything.
///
/// Layers, from the bottom: domain · plan, render, rollout, config · exec, resolve, balancer, proxy, probe, traffic, store · controller, release ·
/// exit · api, watch, signals, telemetry · cli, main.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("plan", &["domain"]),
    ("render", &["domain"]),
    ("rollout", &["domain"]),
    ("config", &["domain"]),
    ("exec", &["domain"]),
    ("resolve", &["domain"]),
    (
        "balancer",
        &["domain", "plan", "render", "config", "exec", "proxy"],
    ),
    (
        "proxy",
        &["domain", "plan", "render", "config", "exec", "resolve"],
    ),
    (
        "probe",
        &["domain", "plan", "render", "config", "exec", "resolve"],
    ),
    (
        "traffic",
        &["domain", "plan", "render", "config", "exec", "proxy"],
    ),
    (
        "store",
        &[
            "domain",
            "plan",
            "render",
            "rollout",
            "config",
            "exec",
            "balancer::Applied",
        ],
    ),
    (
        "controller",
        &[
            "domain", "plan", "render", "rollout", "config", "exec", "balancer", "proxy", "probe",
            "store",
        ],
    ),
    (
        "release",
        &[
            "domain",
            "plan",
            "render",
            "config",
            "exec",
            "balancer",
            "proxy",
            "probe",
            "store",
            "controller::Handle",
        ],
    ),
    // a problem document names the exit code of the command line
    (
        "api",
        &[
            "domain",
            "config",
            "controller",
            "exit",
            "traffic::Book",
            "traffic::Loss",
            "traffic::Minute",
        ],
    ),
    ("watch", &["domain", "config", "controller"]),
    ("signals", &["domain", "config", "controller"]),
    ("telemetry", &["domain", "config"]),
    ("exit", &["domain", "balancer", "store", "controller"]),
    ("cli", &["*"]),
    ("main", &["*"]),
];

/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &["utils", "helpers", "common", "types", "manager"];

/// Longer files are two files. Tests below the code do not count; files that hold tests alone count whole.
const LONGEST: usize = 400;

/// The crates that read or write YAML, and the only places that name them: the mirror of the file, and the output.
const YAML_CRATES: &[&str] = &["serde_saphyr", "serde_yaml"];
const YAML_READER: &str = "config/yaml";
const YAML_WRITER: &str = "cli/output";

struct Source {
    /// From the folder that was read, `src/` for most rules, such as `balancer/nginx/mod.rs`.
    name: String,
    text: String,
}

impl Source {
    /// Without tests: everything before the first `#[cfg(test)]`.
    fn code(&self) -> &str {
        self.text.split("#[cfg(test)]").next().unwrap_or(&self.text)
    }

    /// `code`, with comments and the insides of strings blanked out.
    fn bare(&self) -> String {
        blank(self.code())
    }

    /// The modules on the way to this file: `balancer/nginx/mod.rs` is `["balancer", "nginx"]`.
    fn path(&self) -> Vec<&str> {
        let mut path: Vec<_> = self.name.trim_end_matches(".rs").split('/').collect();
        if path.last() == Some(&"mod") {
            path.pop();
        }
        path
    }
}

fn sources() -> Vec<Source> {
    let found = sources_in("src");
    assert!(found.len() > 20, "src/ has {} files alone", found.len());
    found
}

/// Every file of Rust below a folder of the crate.
fn sources_in(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&root).unwrap().display().to_string();
                let text = std::fs::read_to_string(&path).unwrap();
                found.push(Source { name, text });
            }
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// Files that hold tests alone.
fn is_test(name: &str) -> bool {
    name.ends_with("tests.rs") || name.contains("/tests/")
}

#[track_caller]
fn assert_house(rule: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

#[test]
fn modules_import_only_what_the_table_allows() {
    let mut broken = Vec::new();
    for source in sources() {
        let path = source.path();
        let top = path[0];
        if top == "lib" || is_test(&source.name) {
            continue;
        }
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(module, _)| *module == top) else {
            broken.push(format!("{}: {top} is not in the table", source.name));
            continue;
        };
        for import in imports(&source.bare(), &path) {
            let target = import.split("::").next().unwrap_or_default();
            let is_fine = target == top
                || allowed.iter().any(|allowed| {
                    *allowed == "*"
                        || import == *allowed
                        || import.starts_with(&format!("{allowed}::"))
                });
            if !is_fine {
                broken.push(format!("{} uses {import}", source.name));
            }
        }
    }
    assert_house("imports that the table does not allow", &broken);
}

#[test]
fn nobody_imports_the_program() {
    let broken: Vec<_> = sources()
        .iter()
        .filter(|source| !matches!(source.path()[0], "cli" | "main"))
        .flat_map(|source| {
            imports(&source.bare(), &source.path())
                .into_iter()
                .filter(|import| import == "cli" || import.starts_with("cli::"))
                .map(|import| format!("{} uses {import}", source.name))
                .collect::<Vec<_>>()
        })
        .collect();
    assert_house("cli is for main alone", &broken);
}

#[test]
fn every_module_of_the_crate_is_in_the_table() {
    let library = sources()
        .into_iter()
        .find(|source| source.name == "lib.rs")
        .unwrap();
    let declared: BTreeSet<_> = library
        .bare()
        .lines()
        .filter_map(|line| line.trim().strip_prefix("pub mod ")?.strip_suffix(';'))
        .map(str::to_owned)
        .collect();
    let listed: BTreeSet<_> = MAY_IMPORT
        .iter()
        .map(|(module, _)| (*module).to_owned())
        .filter(|module| module != "main")
        .collect();
    assert_eq!(declared, listed);
}

#[test]
fn lib_is_a_list_of_modules_and_nothing_else() {
    let library = sources()
        .into_iter()
        .find(|source| source.name == "lib.rs")
        .unwrap();
    let broken: Vec<_> = library
        .bare()
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("pub mod "))
        .map(str::to_owned)
        .collect();
    assert_house("lib.rs", &broken);
}

#[test]
fn files_begin_with_what_they_are() {
    let broken: Vec<_> = sources()
        .into_iter()
        .filter(|source| !source.text.starts_with("//! "))
        .map(|source| source.name)
        .collect();
    assert_house("the first line must be `//!`", &broken);
}

#[test]
fn files_have_names_that_say_something() {
    let broken: Vec<_> = sources()
        .into_iter()
        .filter(|source| source.path().iter().any(|part| EMPTY_NAMES.contains(part)))
        .map(|source| source.name)
        .collect();
    assert_house("a name that says nothing", &broken);
}

#[test]
fn files_are_short_enough_to_read() {
    let mut broken = Vec::new();
    for folder in ["src", "tests", "benches"] {
        for source in sources_in(folder) {
            let is_whole = folder != "src" || is_test(&source.name);
            let text = if is_whole {
                source.text.as_str()
            } else {
                source.code()
            };
            let lines = text.lines().count();
            if lines > LONGEST {
                broken.push(format!(
                    "{folder}/{}: {lines} lines{}",
                    source.name,
                    if is_whole { "" } else { " before its tests" }
                ));
            }
        }
    }
    assert_house("longer than 400 lines", &broken);
}

#[test]
fn exceptions_from_lints_have_a_reason_and_end_with_it() {
    let broken: Vec<_> = sources()
        .into_iter()
        .filter(|source| {
            let bare = blank(&source.text);
            bare.contains("#[allow(") || bare.contains("#![allow(")
        })
        .map(|source| source.name)
        .collect();
    assert_house("use #[expect(…, reason = …)]", &broken);
}

#[test]
fn nothing_is_left_to_be_done() {
    let broken: Vec<_> = sources()
        .into_iter()
        .filter(|source| {
            let bare = blank(&source.text);
            ["todo!(", "unimplemented!(", "dbg!("]
                .iter()
                .any(|macro_name| bare.contains(macro_name))
                || source.text.contains("To be written")
        })
        .map(|source| source.name)
        .collect();
    assert_house("unfinished", &broken);
}

#[test]
fn one_file_reads_yaml() {
    let mut broken = Vec::new();
    for source in sources() {
        if is_test(&source.name) || source.name.starts_with(YAML_WRITER) {
            continue;
        }
        let bare = source.bare();
        for name in YAML_CRATES {
            if bare.contains(name) && !source.name.starts_with(YAML_READER) {
                broken.push(format!("{} names {name}", source.name));
            }
        }
    }
    assert_house("YAML is read by config/yaml alone", &broken);
}
