//! What somebody else did: seen, named, and never overwritten in silence.

use turnout::domain::Color;

use std::time::Duration;

use crate::support::{Ran, Site, shared, wait_for};

/// Adds a line to turnout's file, as an editor would.
fn edit(site: &Site) -> String {
    let path = site.balancer().config();
    let edited = format!(
        "{}\n# edited by hand\n",
        std::fs::read_to_string(&path).unwrap()
    );
    std::fs::write(&path, &edited).unwrap();
    edited
}

/// Sends everything to the other server, as somebody in a hurry would.
fn repoint(site: &Site, from: Color) {
    let path = site.balancer().config();
    let (from, to) = match from {
        Color::Blue => (site.blue.address(), site.green.address()),
        Color::Green => (site.green.address(), site.blue.address()),
    };
    let text = std::fs::read_to_string(&path).unwrap();
    let edited = text.replace(&from.to_string(), &to.to_string());
    assert_ne!(text, edited, "the file does not name {from}");
    std::fs::write(&path, edited).unwrap();
}

/// Both ways to see drift say so.
#[track_caller]
fn assert_drift(site: &Site, kind: &str) -> Ran {
    let verified = site.turnout().run(&["verify", "-o", "json"]).exits(1);
    let drift = verified.json()["drift"].clone();
    let kinds: Vec<_> = drift
        .as_array()
        .unwrap_or_else(|| panic!("no drift in {verified}"))
        .iter()
        .filter_map(|entry| entry["kind"].as_str())
        .collect();
    assert!(
        kinds.contains(&kind),
        "{kind} is not in {kinds:?}\n{verified}"
    );
    let status = site.turnout().ok(&["status", "-o", "json"]);
    assert!(
        status.json()["drift"]
            .as_array()
            .is_some_and(|drift| !drift.is_empty()),
        "status says nothing of the drift\n{status}"
    );
    site.turnout().run(&["status", "--exit-code"]).exits(1);
    site.turnout().run(&["verify"]).exits(1)
}

/// The copies of replaced files.
fn kept(site: &Site) -> Vec<String> {
    let folder = site.state_dir().join("replaced");
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect()
}

#[test]
fn without_drift_verify_shows_three_columns_that_agree() {
    let _turn = shared();
    let site = Site::nginx_on_blue();
    let verified = site.turnout().ok(&["verify", "-o", "json"]).json();
    let generation = &verified["generation"];
    assert!(generation["state"].is_number(), "{verified}");
    assert_eq!(generation["state"], generation["disk"], "{verified}");
    assert_eq!(generation["state"], generation["served"], "{verified}");
    let split = &verified["services"][0]["split"];
    assert_eq!(split["state"]["blue"], 100, "{verified}");
    assert_eq!(split["state"], split["disk"], "{verified}");
    assert_eq!(split["state"], split["served"], "{verified}");
    site.turnout()
        .ok(&["verify"])
        .says("state")
        .says("disk")
        .says("served");
}

#[test]
fn a_hand_edited_file_is_shown_and_never_overwritten_in_silence() {
    let _turn = shared();
    let site = Site::nginx_on_blue();
    let edited = edit(&site);
    assert_drift(&site, "disk");

    for verb in [&["switch", "green"][..], &["apply"]] {
        site.turnout()
            .run(verb)
            .exits(1)
            .says("edited by hand")
            .says("--force");
        assert_eq!(
            std::fs::read_to_string(site.balancer().config()).unwrap(),
            edited
        );
        assert_eq!(site.served(), Color::Blue);
        assert_eq!(site.recorded(), Color::Blue);
    }

    site.turnout()
        .ok(&["switch", "green", "--force"])
        .says("replaced");
    assert_eq!(site.served(), Color::Green);
    assert!(
        kept(&site).contains(&edited),
        "no copy of the edited file under {}/replaced",
        site.state_dir().display()
    );
    site.turnout().ok(&["verify"]);
}

#[test]
fn diff_shows_the_hand_edit() {
    let _turn = shared();
    let site = Site::nginx_on_blue();
    site.turnout().ok(&["diff"]);
    edit(&site);
    site.turnout()
        .run(&["diff"])
        .exits(1)
        .says("# edited by hand");
}

#[test]
fn a_reload_by_hand_after_a_hand_edit_shows_what_is_really_served() {
    let _turn = shared();
    let site = Site::nginx_on_blue();
    repoint(&site, Color::Blue);
    site.balancer().reload();
    assert_eq!(site.served(), Color::Green, "the test's own edit");
    assert_drift(&site, "disk");
    site.turnout().run(&["switch", "green"]).exits(1);
    // and a rehearsal says so before
    site.turnout()
        .run(&["switch", "green", "--dry-run"])
        .exits(1)
        .says("was edited by hand");
    site.turnout()
        .ok(&["switch", "green", "--dry-run", "--force"]);
    site.turnout().ok(&["apply", "--force"]).says("replaced");
    assert_eq!(site.served(), Color::Blue);
    site.turnout().ok(&["verify"]);
}

#[test]
fn nginx_restarted_with_an_old_file_is_seen_and_put_right() {
    let _turn = shared();
    let mut site = Site::nginx_on_blue();
    let old = std::fs::read(site.balancer().config()).unwrap();
    site.turnout().ok(&["switch", "green"]);
    std::fs::write(site.balancer().config(), old).unwrap();
    site.balancer_mut().restart();
    assert_eq!(site.served(), Color::Blue, "the test's own restart");
    assert_drift(&site, "served");
    site.turnout().run(&["apply"]).exits_with_one_of(&[0, 1]);
    site.turnout().ok(&["apply", "--force"]);
    assert_eq!(site.served(), Color::Green);
    assert_eq!(site.recorded(), Color::Green);
    site.turnout().ok(&["verify"]);
}

#[test]
fn a_file_that_was_not_written_by_turnout_is_not_taken_over_in_silence() {
    let _turn = shared();
    let site = Site::nginx();
    let foreign = "# somebody else's\n";
    std::fs::write(site.balancer().config(), foreign).unwrap();
    site.turnout()
        .run(&["apply"])
        .exits(1)
        .says("was not written by turnout");
    assert_eq!(
        std::fs::read_to_string(site.balancer().config()).unwrap(),
        foreign
    );
    site.turnout().ok(&["apply", "--force"]);
    assert!(kept(&site).contains(&foreign.to_owned()));
    assert_eq!(site.served(), Color::Blue);
}

#[test]
fn a_file_that_was_deleted_is_drift_and_comes_back_with_apply() {
    let _turn = shared();
    let site = Site::nginx_on_blue();
    std::fs::remove_file(site.balancer().config()).unwrap();
    assert_drift(&site, "disk");
    site.turnout().ok(&["apply"]);
    site.turnout().ok(&["verify"]);
    assert_eq!(site.served(), Color::Blue);
}

#[test]
fn the_daemon_notices_drift_and_does_not_flip_it_back() {
    let _turn = shared();
    let site = Site::nginx_on_blue();
    let daemon = site.serve().allow("put into force");
    edit(&site);
    assert_drift(&site, "disk");
    let answer = daemon.api().get("/v1/drift");
    assert_eq!(answer.status, 200);
    assert!(
        answer.text().contains("disk"),
        "the API says nothing of it: {}",
        answer.text()
    );
    let refused = daemon.api().post(
        "/orchestration/bluegreen/activate",
        &serde_json::json!({ "active": "green" }),
    );
    assert_eq!(refused.status, 409, "{}", refused.text());
    assert_eq!(site.served(), Color::Blue);
}

#[test]
fn the_daemon_notices_what_a_one_shot_command_changed() {
    let _turn = shared();
    let site = Site::nginx_on_blue();
    let daemon = site.serve();
    site.turnout().ok(&["switch", "green", "--local"]);
    assert_eq!(site.served(), Color::Green);
    crate::support::wait_for(
        "the daemon to notice",
        std::time::Duration::from_mins(1),
        || {
            let status = daemon.api().get("/orchestration/status").json();
            (status["active"] == "green").then_some(())
        },
    );
    site.turnout().ok(&["verify"]);
    // and it goes on from there
    daemon.api().activate(Color::Blue);
    assert_eq!(site.served(), Color::Blue);
}

/// Blue goes away, and green stands in for it although the file was edited: a copy is kept, and that is said.
#[track_caller]
fn fails_over(site: &mut Site, edited: &String) {
    site.blue.refuse();
    wait_for("failover", Duration::from_mins(1), || {
        (site.ask("/").backend() == Some(Color::Green)).then_some(())
    });
    wait_for("it to be told", Duration::from_mins(1), || {
        let status = site.turnout().ok(&["status", "-o", "json"]).json();
        status["problems"]
            .to_string()
            .contains("in a failover: ")
            .then_some(())
    });
    assert_eq!(site.recorded(), Color::Blue, "the position was moved");
    assert!(kept(site).contains(edited), "no copy of the edited file");
    site.turnout()
        .ok(&["history"])
        .says("failover")
        .says("was edited by hand since generation");
    site.blue.listen();
    wait_for("the end of the failover", Duration::from_mins(1), || {
        (site.ask("/").backend() == Some(Color::Blue)).then_some(())
    });
}

#[test]
fn a_file_edited_while_the_daemon_was_down_keeps_it_from_nothing_but_writing_it() {
    let _turn = shared();
    let mut site = Site::nginx_on_blue();
    let edited = edit(&site);
    // it gets ready: what is recorded is served
    let daemon = site.serve().allow("put into force");
    assert_drift(&site, "disk");
    let status = site.turnout().ok(&["status", "-o", "json"]).json();
    assert!(
        status["problems"]
            .to_string()
            .contains("was edited by hand"),
        "{status}"
    );
    let live = || std::fs::read_to_string(site.balancer().config()).unwrap();
    assert_eq!(live(), edited, "it was overwritten");
    fails_over(&mut site, &edited);
    // a person's next change takes the remark away
    daemon.api().activate(Color::Green);
    let status = site.turnout().ok(&["status", "-o", "json"]).json();
    assert_eq!(status["problems"].to_string(), "[]");
}

#[test]
fn a_failover_does_not_wait_for_somebody_to_look_at_an_edited_file() {
    let _turn = shared();
    let mut site = Site::nginx_on_blue();
    let _daemon = site.serve();
    let edited = edit(&site);
    fails_over(&mut site, &edited);
}

#[test]
fn a_file_edited_and_reloaded_by_hand_is_no_proof() {
    let _turn = shared();
    let site = Site::nginx_on_blue();
    let path = site.balancer().config();
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("generation 1\\n", "generation 7\\n")).unwrap();
    site.balancer().reload();
    let daemon = site.turnout().serve_unready().allow("put into force");
    wait_for("the daemon to look", Duration::from_mins(1), || {
        daemon.log().contains("was edited by hand").then_some(())
    });
    assert_eq!(daemon.api().get("/readyz").status, 503);
    site.turnout().ok(&["apply", "--force"]);
    daemon.wait_ready();
}

#[test]
fn a_plan_names_what_is_new_reshaped_and_gone_and_what_a_switch_takes_along() {
    let _turn = shared();
    let mut site = Site::nginx_on_blue();
    let without = std::fs::read_to_string(site.config()).unwrap();
    let dry = ["apply", "--dry-run"];
    site.turnout().ok(&dry).says("nothing would change");

    let _blog = site.add_service("blog", crate::support::Ports::address());
    site.turnout()
        .ok(&dry)
        .says("blog: added at blue_green blue");
    site.turnout().run(&["diff"]).exits(1).says("blog: added");
    site.turnout().ok(&["apply"]);
    site.turnout().ok(&dry).says("nothing would change");

    let with = std::fs::read_to_string(site.config()).unwrap();
    let edited = format!("{with}    timeouts: {{ connect: 3s }}\n");
    std::fs::write(site.config(), edited).unwrap();
    let reshaped = "blog: servers, hosts or settings change";
    let ran = site.turnout().ok(&dry).says(reshaped);
    assert!(!ran.stdout.contains("shop"), "shop was not edited\n{ran}");
    site.turnout().run(&["diff"]).exits(1).says(reshaped);
    let along = "the edited configuration of blog goes into force as well";
    site.turnout()
        .ok(&["switch", "shop", "green", "--dry-run"])
        .says(along);
    site.turnout().ok(&["switch", "shop", "green"]).says(along);
    site.turnout().ok(&dry).says("nothing would change");

    std::fs::write(site.config(), without).unwrap();
    site.turnout().ok(&dry).says("blog: removed");
    site.turnout().run(&["diff"]).exits(1).says("blog: removed");
    site.turnout().ok(&["apply"]);
    site.turnout().ok(&dry).says("nothing would change");
    // a setting of turnout's own is not the balancer's, and no reload is due for it
    let text = std::fs::read_to_string(site.config()).unwrap();
    std::fs::write(site.config(), text.replace("200ms", "300ms")).unwrap();
    site.turnout().ok(&dry).says("nothing would change");
}

#[test]
fn without_a_file_to_compare_diff_knows_a_reshaped_service_all_the_same() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    assert_eq!(site.serve().stop().code(), Some(0));
    site.turnout().ok(&["diff"]).says("no differences");
    let text = std::fs::read_to_string(site.config()).unwrap();
    let edited = text.replace("strategy:", "hosts: [shop.example.com]\n    strategy:");
    std::fs::write(site.config(), edited).unwrap();
    let reshaped = "shop: servers, hosts or settings change";
    site.turnout().run(&["diff"]).exits(1).says(reshaped);
    site.turnout().ok(&["apply", "--dry-run"]).says(reshaped);
    assert_eq!(site.serve().stop().code(), Some(0));
    site.turnout().ok(&["diff"]).says("no differences");
}
