//! State file and journal: told as broken, and never written to by reading.

use turnout::store::Store;

use super::fuzz;
use crate::support::{Site, shared};

/// A state directory that a daemon has written.
fn lived_in() -> Site {
    let site = Site::embedded("canary");
    let daemon = site.serve();
    site.turnout()
        .ok(&["weights", "shop", "blue=80", "green=20"]);
    site.turnout()
        .ok(&["switch", "green", "-m", "ünïcode \"quoted\""]);
    assert_eq!(daemon.stop().code(), Some(0));
    site
}

#[test]
fn a_broken_state_or_journal_is_told_and_never_written_to() {
    let _turn = shared();
    let site = lived_in();
    let words = [
        "null",
        "{}",
        "[]",
        "\"\"",
        "-1",
        "18446744073709551616",
        "1e400",
        "NaN",
        "\\u0000",
        "\\ud800",
        "blue",
        "green",
        "red",
        "\n",
        "{\"",
        "}",
        "\"generation\":",
        "\"version\":",
        "\"kind\":",
        "\"done\"",
        "\"intent\"",
        "\"id\":",
    ];
    for file in ["state.json", "journal.jsonl"] {
        let good = std::fs::read(site.state_dir().join(file)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        for other in ["state.json", "state.json.bak", "journal.jsonl"] {
            if let Ok(text) = std::fs::read(site.state_dir().join(other)) {
                std::fs::write(folder.path().join(other), text).unwrap();
            }
        }
        let store = Store::new(folder.path().to_owned());
        fuzz(file, &[good], &words, |input| {
            let path = folder.path().join(file);
            std::fs::write(&path, input).unwrap();
            match store.load() {
                Ok(loaded) => assert!(loaded.state.services.len() <= 8),
                Err(error) => assert!(!error.to_string().is_empty()),
            }
            assert_eq!(std::fs::read(&path).unwrap(), input, "reading wrote");
        });
    }
}
