//! The files themselves: where they are looked for, fragments beside them, and those that are too large to read or not there.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use turnout::config::{Config, Env, Source};

use super::{load, load_with, messages, shop, vars};

#[test]
fn huge_deep_and_exploding_files_are_refused_within_a_second() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let inner = format!("*a{}", level - 1);
        bomb += &format!("a{level}: &a{level} [{}]\n", vec![inner; 10].join(", "));
    }
    for (bytes, wanted) in [
        (vec![b'#'; 10 << 20], "a configuration has at most 4194304"),
        (vec![b'['; 100_000], "YAML: "),
        (
            (0..200)
                .map(|depth| format!("{}a:\n", " ".repeat(depth)))
                .collect::<String>()
                .into_bytes(),
            "YAML: ",
        ),
        (bomb.into_bytes(), "more than 400000 values"),
        (
            b"services: { sh\xffop: {} }\n".to_vec(),
            "is not UTF-8 from here on",
        ),
        (
            b"a: &a [*a]\n".to_vec(),
            "this alias stands inside what it names",
        ),
        (b"state: { dir: \"a\0b\" }\n".to_vec(), ""),
        (b"? [a]\n: b\n".to_vec(), "a key is a plain word"),
    ] {
        let start = Instant::now();
        let error = load(&bytes).unwrap_err().to_string();
        assert!(error.contains(wanted), "{wanted}: {error}");
        assert!(start.elapsed() < Duration::from_secs(20), "{wanted}");
    }
}

#[test]
fn fragments_add_services_and_a_service_has_one_home() {
    let folder = tempfile::tempdir().unwrap();
    let fragments = folder.path().join("services.d");
    fs::create_dir(&fragments).unwrap();
    fs::write(
        folder.path().join("turnout.yaml"),
        shop("include: [services.d/*.yaml, none.d/*.yaml]\n"),
    )
    .unwrap();
    let blog = "services:\n  blog:\n    listen: 127.0.0.1:8081\n    blue: { servers: [\"http://h:1\"] }\n    green: { servers: [\"http://h:2\"] }\n    workload: { command: [x], dir: run }\n";
    fs::write(fragments.join("blog.yaml"), blog).unwrap();
    let config = load_with(folder.path(), &[]).unwrap();
    assert_eq!(
        config.files,
        [
            folder.path().join("turnout.yaml"),
            fragments.join("blog.yaml")
        ]
    );
    assert_eq!(
        config.include,
        [
            fragments.join("*.yaml"),
            folder.path().join("none.d/*.yaml")
        ]
    );
    let blog_config = config.services.values().next().unwrap();
    assert_eq!(
        blog_config.workload.as_ref().unwrap().dir.as_deref(),
        Some(fragments.join("run").to_str().unwrap())
    );

    fs::write(fragments.join("x.yaml"), shop("balancer: {}\n")).unwrap();
    assert_eq!(
        messages(load_with(folder.path(), &[])),
        [
            "services.d/x.yaml:2:3: the service `shop` is defined twice, first in turnout.yaml:2",
            "services.d/x.yaml:6:1: unknown field `balancer` at the top",
        ]
    );
    fs::write(fragments.join("x.yaml"), [0xff]).unwrap();
    assert_eq!(
        messages(load_with(folder.path(), &[])),
        ["services.d/x.yaml:1:1: services.d/x.yaml is not UTF-8 from here on"]
    );
}

#[test]
fn the_search_goes_in_order_and_says_where_it_looked() {
    let folder = tempfile::tempdir().unwrap();
    let find = |explicit: Option<&str>, list: &[(&str, &str)]| {
        let vars = vars(list);
        let env = Env::new(folder.path().to_owned(), |name| vars.get(name).cloned());
        Source::find(explicit.map(Path::new), &env)
    };
    let file = |name: &str| Source::File {
        path: folder.path().join(name),
        shown: name.into(),
    };
    assert_eq!(
        find(None, &[]).unwrap_err().to_string(),
        "no configuration: looked for turnout.yaml, /etc/turnout/turnout.yaml, and neither BLUE_URL nor GREEN_URL is set. Name one with --config, or let `turnout init` write a first one"
    );
    assert_eq!(
        find(None, &[("GREEN_URL", "http://h:1")]).unwrap(),
        Source::environment(None, None)
    );
    fs::write(folder.path().join("turnout.yaml"), "").unwrap();
    assert_eq!(
        find(None, &[("BLUE_URL", "x")]).unwrap(),
        file("turnout.yaml")
    );
    assert_eq!(
        find(None, &[("TURNOUT_CONFIG", "a.yaml")]).unwrap(),
        file("a.yaml")
    );
    assert_eq!(
        find(Some("b.yaml"), &[("TURNOUT_CONFIG", "a.yaml")]).unwrap(),
        file("b.yaml")
    );
}

#[test]
fn a_file_that_cannot_be_read_is_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let env = Env::new(folder.path().to_owned(), |_| None);
    for (name, wanted) in [
        ("gone.yaml", "failed to read the configuration gone.yaml"),
        (".", "failed to read the configuration ."),
    ] {
        let error = Config::load(&Source::file(Path::new(name), &env), &env).unwrap_err();
        assert_eq!(error.to_string(), wanted);
        assert!(std::error::Error::source(&error).is_some());
    }
}

#[test]
fn two_thousand_services_load_in_seconds_even_unoptimized() {
    let mut text = String::from("services:\n");
    for number in 0..2_000 {
        text += &format!(
            "  service-{number}:\n    hosts: [s{number}.example.com]\n    listen: 0.0.0.0:8080\n    blue: {{ servers: [\"http://10.0.0.1:{p}\"] }}\n    green: {{ servers: [\"http://10.0.0.2:{p}\"] }}\n    health: {{ path: /health, interval: 5s }}\n    timeouts: {{ connect: 5s, response: 30s }}\n",
            p = 10_000 + number
        );
    }
    let start = Instant::now();
    assert_eq!(load(text).unwrap().services.len(), 2_000);
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "{:?}",
        start.elapsed()
    );
}
