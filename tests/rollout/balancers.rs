//! The same on nginx and HAProxy, by pushed samples: each weight is in force, and the end is on one color.

use serde_json::json;

use super::*;
use crate::haproxy::{Lab, Layout};
use crate::support::shared;

fn walks(site: &Site) {
    let daemon = healthy(site);
    let api = daemon.api();
    let id = begin(api, &quick());
    let share = share_of_green(site);
    assert!((5.0..16.0).contains(&share), "{share} % at a weight of 10");
    push_until(api, &id, &good(), |now| now["step"] == 1);
    let share = share_of_green(site);
    assert!((40.0..60.0).contains(&share), "{share} % at a weight of 50");
    push_until(api, &id, &good(), |now| now["status"] == "promoted");
    all_on(site, Color::Green);
    let back = begin(api, &quick());
    assert_eq!(look(api, &back)["candidate"], "blue");
    push_until(api, &back, &bad(), |now| now["status"] == "rolled_back");
    all_on(site, Color::Green);
    site.turnout().ok(&["verify"]);
}

#[test]
fn nginx_by_reloads() {
    let _turn = shared();
    let site = Site::nginx_on_blue();
    let before = reloads(&site);
    walks(&site);
    // three weights and a promotion, one weight and the way back
    assert_eq!(reloads(&site) - before, 6);
}

#[test]
fn nginx_without_reloads() {
    let _turn = shared();
    for strategy in ["canary", "blue_green"] {
        let site = Site::nginx_instant_on_blue(strategy);
        let before = reloads(&site);
        walks(&site);
        assert_eq!(reloads(&site), before, "{strategy}");
    }
}

/// Reloads that nginx has made so far.
fn reloads(site: &Site) -> usize {
    site.balancer().errors().matches(", reconfiguring").count()
}

#[test]
fn haproxy() {
    let _turn = shared();
    let lab = Lab::on_blue(Layout::Beside);
    let daemon = lab.serve();
    let api = daemon.api();
    wait_for("both colors healthy", SOON, || {
        let health = api.get("/health").json();
        (health["upstreams"]["green"]["healthy"] == true).then_some(())
    });
    let id = begin(api, &quick());
    assert_eq!(lab.blue_share(), 9_000);
    push_until(api, &id, &good(), |now| now["step"] == 1);
    assert_eq!(lab.blue_share(), 5_000);
    push_until(api, &id, &good(), |now| now["status"] == "promoted");
    assert_eq!((lab.served(), lab.recorded()), (Color::Green, Color::Green));
    let back = begin(api, &quick());
    push_until(api, &back, &bad(), |now| now["status"] == "rolled_back");
    assert_eq!((lab.served(), lab.recorded()), (Color::Green, Color::Green));
    assert_eq!(lab.blue_share(), 0);
    assert_eq!(
        api.get("/deployments").json().as_array().map(Vec::len),
        Some(2)
    );
    assert_eq!(json!(id), api.get("/deployments").json()[1]["id"]);
}
