//! `turnout service set|remove|list`, as the seed's page has it.

use super::PURPOSE;
use super::dns::Says;
use super::lab::{Kind, Lab};
use crate::support::{BINARY, Run, is_root, shared};

/// A daemon with one service, to which another is added.
fn lab(kind: Kind) -> (Lab, super::lab::Server) {
    let mut lab = Lab::new(kind, Says::Empty, "");
    let server = lab.server(1);
    lab.dns.say(Says::of(&[server.address]));
    lab.serve();
    (lab, server)
}

#[test]
fn a_service_is_set_served_at_once_and_removed_on_every_balancer() {
    let _turn = shared();
    if !is_root(PURPOSE) {
        return;
    }
    for kind in [Kind::Embedded, Kind::Nginx, Kind::Instant, Kind::Haproxy] {
        let (lab, server) = lab(kind);
        let target = format!("news.test:{}", lab.port);
        let set = [
            "service",
            "set",
            "news",
            "--host",
            "news.com",
            "--host",
            "*.news.com",
            "--target",
            &target,
            "--project",
            "myproject",
        ];
        let file = lab.path("services.d/news.yaml");
        lab.turnout
            .ok(&[&set[..], &["--dry-run"]].concat())
            .says("would write");
        assert!(!file.exists(), "a dry run writes nothing");
        assert_ne!(lab.ask("news.com").text(), server.address.to_string());
        let ran = lab.turnout.ok(&[&set[..], &["-o", "json"]].concat()).json();
        assert_eq!(ran["changed"], true, "{kind:?}: {ran}");
        for host in ["news.com", "a.news.com"] {
            let text = lab.ask(host).text();
            assert_eq!(text, server.address.to_string(), "{kind:?}: {host}");
        }
        lab.turnout.ok(&set).says("nothing to do");
        lab.turnout.ok(&["service", "list"]).says("myproject");
        lab.turnout
            .ok(&["service", "remove", "news", "-m", "done with it"]);
        assert!(!file.exists());
        assert_eq!(lab.ask("news.com").status, 404, "{kind:?}");
        lab.turnout
            .ok(&["service", "remove", "news"])
            .says("nothing to do");
        lab.turnout.ok(&["history"]).says("done with it");
    }
}

#[test]
fn what_would_make_the_configuration_invalid_is_refused_and_nothing_is_changed() {
    let _turn = shared();
    if !is_root(PURPOSE) {
        return;
    }
    let (lab, server) = lab(Kind::Embedded);
    let file = lab.path("services.d/news.yaml");
    for (host, target, says) in [
        ("blog.com", "news:3000", "is claimed by"),
        ("news.com", "news", "has no port"),
        ("news.com", "http://news:3000", "is a URL"),
        ("not a host", "news:3000", "news.yaml"),
    ] {
        let set = ["service", "set", "news", "--host", host, "--target", target];
        lab.turnout.run(&set).exits(78).says(says);
        assert!(!file.exists());
    }
    // one of the main file, and one that a person wrote
    lab.turnout
        .run(&["service", "remove", "blog"])
        .exits(2)
        .says("another file");
    let own = format!(
        "services:\n  news: {{ hosts: [news.com], listen: \"{}\", target: \"news:{}\" }}\n",
        lab.front, lab.port
    );
    std::fs::write(&file, &own).unwrap();
    let set = [
        "service", "set", "news", "--host", "n.com", "--target", "n:80",
    ];
    lab.turnout.run(&set).exits(1).says("--force");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), own);
    assert_eq!(lab.ask("blog.com").text(), server.address.to_string());
}

#[test]
fn without_a_folder_for_services_the_lines_to_add_are_told() {
    let _turn = shared();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("turnout.yaml");
    let text = "version: 1\nstate: { dir: state }\nbalancer: { kind: embedded }\nservices:\n  shop: { listen: 127.0.0.1:18080, target: shop:80 }\n";
    std::fs::write(&config, text).unwrap();
    let run = |text: &str| {
        std::fs::write(&config, text).unwrap();
        Run::new(BINARY)
            .args(["--config", config.to_str().unwrap()])
            .args(["service", "set", "blog", "--host", "blog.com"])
            .args(["--target", "blog:3000", "--project", "myproject"])
            .run()
    };
    run(text).exits(2).says("include: [services.d/*.yaml]");
    let with = format!("{text}include: [services.d/*.yaml]\n");
    // nobody serves yet: the daemon takes it up when it starts
    run(&with).exits(0).says("when it starts");
    let written = std::fs::read_to_string(folder.path().join("services.d/blog.yaml")).unwrap();
    assert!(
        written.contains("target: \"blog:3000\"")
            && written.contains("listen: \"127.0.0.1:18080\""),
        "{written}"
    );
}
