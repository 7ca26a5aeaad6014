//! Configurations: taken or refused, and never with one server in both colors.

use std::path::Path;

use turnout::config::{Config, Env, Source};
use turnout::domain::Color;

use super::fuzz;

#[test]
fn a_configuration_is_taken_or_refused_with_its_problems() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("turnout.yaml");
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let seeds: Vec<Vec<u8>> = std::fs::read_dir(examples)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        // an example that another test runs keeps its state beside it
        .filter(|path| path.extension().is_some_and(|end| end == "yaml"))
        .map(|path| std::fs::read(path).unwrap())
        .collect();
    let words = [
        "${",
        "${A:-",
        "}",
        "\"",
        "'",
        "|",
        ">",
        "&a ",
        "*a",
        "<<: ",
        "!!",
        "null",
        "~",
        "[",
        "]",
        "{",
        ": ",
        "- ",
        "\n  ",
        "1e999",
        "-1",
        "0",
        "99999999999999999999",
        "0x10",
        "on",
        "300%",
        "5s",
        "1m 30s",
        "1y",
        "32KiB",
        "127.0.0.1:0",
        "[::1]:80",
        "unix:",
        "http://",
        "blue",
        "green",
        "all",
        "*.a",
        "..",
        "target: ",
        "listen: ",
        "hosts: ",
        "\u{feff}",
        "\0",
        "%YAML",
        "---\n",
    ];
    fuzz("configuration", &seeds, &words, |input| {
        std::fs::write(&path, input).unwrap();
        let source = Source::File {
            path: path.clone(),
            shown: "turnout.yaml".into(),
        };
        match Config::load(&source, &Env::of_process()) {
            Ok(config) => {
                for service in config.services.values() {
                    let servers = |color| service.shape.servers(color);
                    assert!(
                        servers(Color::Blue)
                            .iter()
                            .all(|server| !servers(Color::Green).contains(server))
                    );
                }
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    });
}
