//! Where tokens come from, and what becomes of those who guess.

use std::os::unix::fs::PermissionsExt;

use super::doors::rewrite_control;
use super::{ask, assert_problem, said};
use crate::support::{Site, shared};

const STATUS: &str = "/v1/status";

#[test]
fn a_token_may_come_from_a_variable_or_a_credential() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let credentials = site.folder().join("credentials");
    std::fs::create_dir(&credentials).unwrap();
    let path = credentials.join("ci");
    std::fs::write(&path, "from-a-credential\n").unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o400)).unwrap();
    rewrite_control(
        &site,
        &format!(
            "control:\n  listen: \"{}\"\n  tokens:\n  - {{ name: ci, credential: ci, may: [read] }}\n  - {{ name: eye, env: TURNOUT_TEST_EYE, may: [read] }}",
            site.control
        ),
    );
    // neither the variable nor the folder: the daemon says what is missing, and commands go on
    site.turnout()
        .run(&["serve"])
        .exits(78)
        .says("LoadCredential=ci:");
    site.turnout().run(&["history"]).exits(0);
    let log = site.folder().join("daemon.log");
    let mut daemon = site
        .turnout()
        .command(&["serve"])
        .env("CREDENTIALS_DIRECTORY", &credentials)
        .env("TURNOUT_TEST_EYE", "from-a-variable")
        .background(&log);
    crate::support::wait_for("the API", crate::support::SOON, || {
        crate::support::get(site.control, "/livez", &[]).ok()
    });
    for (secret, status) in [
        ("from-a-credential", 200),
        ("from-a-variable", 200),
        ("from-nowhere", 401),
    ] {
        let header = format!("Authorization: Bearer {secret}");
        let answer = ask(site.control, "GET", STATUS, &[&header], None);
        assert_eq!(answer.status, status, "{secret}");
    }
    daemon.kill();
}

#[test]
fn who_guesses_is_told_to_wait_and_who_knows_never_is() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let path = site.folder().join("ci.token");
    std::fs::write(&path, "the-right-one").unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    rewrite_control(
        &site,
        &format!(
            "control: {{ listen: \"{}\", tokens: [{{ name: ci, file: {}, may: [read, write] }}] }}",
            site.control,
            path.display()
        ),
    );
    let daemon = site.serve();
    let guess = || {
        ask(
            site.control,
            "GET",
            STATUS,
            &["Authorization: Bearer guessed"],
            None,
        )
    };
    let right = ["Authorization: Bearer the-right-one"];
    let mut told = None;
    for _ in 0..200 {
        let answer = guess();
        if answer.status == 429 {
            told = Some(answer);
            break;
        }
        assert_problem(&answer, 401, "not one of this API's");
    }
    let told = told.expect("200 wrong tokens within seconds are too many");
    assert_problem(&told, 429, "too many wrong ones");
    let wait: u64 = told.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=3).contains(&wait), "{wait}");
    for _ in 0..20 {
        assert_eq!(ask(site.control, "GET", STATUS, &right, None).status, 200);
    }
    // none at all is no guess
    assert_problem(&ask(site.control, "GET", STATUS, &[], None), 401, "Bearer");
    assert_eq!(ask(site.control, "GET", "/livez", &[], None).status, 200);
    said(&daemon, "many wrong tokens");
    assert!(!daemon.log().contains("guessed"), "{}", daemon.log());
}

#[test]
fn an_api_that_strangers_reach_without_a_token_says_so_loudly() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let port = site.control.port();
    rewrite_control(&site, &format!("control: {{ listen: \"0.0.0.0:{port}\" }}"));
    let daemon = site.serve();
    said(
        &daemon,
        "the control API has no token: everybody who reaches it may read",
    );
}
