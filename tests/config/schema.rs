//! The JSON schema, against the examples, the documented file and what does not fit.

use std::fs;
use std::path::Path;

use serde_json::Value as Json;
use turnout::config::{Config, Env, Source, schema};

use super::documented::CONTRACT;

fn as_json(yaml: &str) -> Json {
    serde_json::to_value(serde_yaml::from_str::<serde_yaml::Value>(yaml).unwrap()).unwrap()
}

#[test]
fn every_example_loads_and_fits_the_schema() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "yaml") {
            continue;
        }
        let json = as_json(&fs::read_to_string(&path).unwrap());
        let errors: Vec<String> = validator
            .iter_errors(&json)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{}: {errors:#?}", path.display());
        let env = Env::new(folder.clone(), |_| None);
        let config = Config::load(&Source::file(&path, &env), &env).unwrap();
        assert_eq!(config.not_in_force, [], "{}", path.display());
        names.push(path.file_name().unwrap().to_str().unwrap().to_owned());
    }
    names.sort();
    assert_eq!(
        names,
        [
            "alias.yaml",
            "canary.yaml",
            "exec-router.yaml",
            "haproxy-sidecar.yaml",
            "nginx-own-server.yaml",
            "nginx-sidecar.yaml",
            "one-shot.yaml",
            "quickstart.yaml",
            "vm-daemon.yaml"
        ]
    );
}

#[test]
fn the_schema_takes_the_documented_file_and_refuses_what_is_unknown() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    assert!(validator.is_valid(&as_json(CONTRACT)));
    for (text, fits) in [
        ("services: { shop: { sticky: false } }", true),
        ("services: { shop: { sticky: \"${STICKY}\" } }", true),
        (
            "services: { shop: { workload: { ports: { blue: \"${P}\", green: 2 } } } }",
            true,
        ),
        (
            "services: { shop: { workload: { ports: { blue: 70000, green: 2 } } } }",
            false,
        ),
        ("services: { shop: { stikcy: false } }", false),
        ("services: { shop: { strategy: random } }", false),
        ("version: 2", false),
    ] {
        assert_eq!(validator.is_valid(&as_json(text)), fits, "{text}");
    }
}
