//! Who may do what: turnout without root's rights.

use std::path::PathBuf;

use turnout::domain::Color;

use crate::support::{BINARY, NginxSetup, Ran, Run, Site, as_user, is_root, shared};

const USER: &str = "nobody";

/// The binary where that user can reach it: a clone may lie under /root.
fn reachable(site: &Site) -> PathBuf {
    let copy = site.folder().join("turnout");
    if !copy.exists() {
        std::fs::copy(BINARY, &copy).unwrap();
    }
    copy
}

fn run_as_user(site: &Site, args: &[&str]) -> Ran {
    Run::new(reachable(site))
        .arg("--config")
        .arg(site.config())
        .args(args)
        .under(as_user(USER))
        .run()
        .sane()
}

fn give(path: &std::path::Path) {
    std::fs::create_dir_all(path).unwrap();
    Run::new("chown")
        .args(["-R", USER])
        .arg(path)
        .run()
        .exits(0);
}

#[test]
fn root_is_not_needed_where_nginx_runs_as_the_same_user() {
    let _turn = shared();
    if !is_root("becoming another user") {
        return;
    }
    let setup = NginxSetup {
        user: Some(USER),
        ..NginxSetup::default()
    };
    let site = Site::nginx_with("blue_green", setup);
    give(&site.state_dir());
    run_as_user(&site, &["apply"]).exits(0);
    assert_eq!(site.served(), Color::Blue);
    run_as_user(&site, &["switch", "green"]).exits(0);
    assert_eq!(site.served(), Color::Green);
    run_as_user(&site, &["verify"]).exits(0);
}

#[test]
fn a_master_of_another_user_is_not_permitted_and_nothing_changes() {
    let _turn = shared();
    if !is_root("becoming another user") {
        return;
    }
    let site = Site::nginx_on_blue();
    give(&site.state_dir());
    give(&site.balancer().conf_d());
    let before = site.picture();
    let looked = run_as_user(&site, &["doctor"]);
    assert!(
        !format!("{}{}", looked.stdout, looked.stderr).contains("restore state.json"),
        "rights are missing, not the state: {looked:?}"
    );
    let ran = run_as_user(&site, &["switch", "green"]).exits(77);
    assert!(
        site.picture() == before,
        "it left something behind\n{ran}\n{before:?}\n{:?}",
        site.picture()
    );
    assert_eq!(site.served(), Color::Blue);
}

#[test]
fn a_state_directory_of_another_user_is_named() {
    let _turn = shared();
    if !is_root("becoming another user") {
        return;
    }
    let site = Site::nginx_on_blue();
    run_as_user(&site, &["switch", "green"])
        .exits_with_one_of(&[3, 77])
        .says("ermission denied")
        .says(&site.state_dir().display().to_string());
    assert_eq!(site.recorded(), Color::Blue);
}
