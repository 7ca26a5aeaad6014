//! Every state of the page that a person may meet, in a browser: that its words are there, and that it fits a phone.

use turnout::domain::Color;

use super::browser::Browser;
use super::{PATIENCE, edit};
use crate::support::{Mode, Ports, Site, shared, wait_for};

fn origin(site: &Site) -> String {
    format!("http://{}", site.control)
}

#[test]
fn divided_traffic_with_figures_and_a_followed_weight() {
    let _turn = shared();
    let site = Site::embedded("canary");
    let daemon = site.serve();
    let browser = Browser::start();
    browser.open(&origin(&site));
    browser.says(".side.green", "1 of 1 healthy");
    browser.shots("empty");
    let weights = serde_json::json!({ "blue": 80, "green": 20 });
    let moved = daemon.api().post("/orchestration/canary/weights", &weights);
    assert_eq!(moved.status, 200, "{}", moved.text());
    for _ in 0..200 {
        site.ask("/");
    }
    browser.says(".split-bar", "green 20 %");
    browser.says(".side.green", "candidate");
    // a rate wants some seconds
    let requests = browser.says(".charts figure:nth-of-type(1)", "/s");
    assert!(requests.contains("Requests"), "{requests}");
    browser.says(".charts figure:nth-of-type(3)", "ms");
    browser.shots("canary");
    // the command beside the form says what the form would send
    browser.click("#act-shop-weights summary");
    browser.fill("#number-shop-weights", "35.5");
    browser.says("#act-shop-weights summary", "blue=64.5 green=35.5");
    browser.click("#act-shop-weights button");
    browser.says(".split-bar", "green 35.5 %");
    browser.shots("weights");
}

#[test]
fn stopped_traffic_and_a_broken_configuration() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let daemon = site.serve().allow("configuration was not taken");
    let browser = Browser::start();
    browser.open(&origin(&site));
    browser.says("#live", "live");
    edit(&site, "servers:", "severs:");
    browser.says("[data-part=problems]", "severs");
    daemon.api().post(
        "/v1/services/shop/traffic",
        &serde_json::json!({ "mode": "maintenance" }),
    );
    browser.says("#service-shop", "The traffic is");
    browser.says("#service-shop", "Open traffic");
    browser.shots("broken");
}

#[test]
fn a_service_behind_an_alias_shows_where_it_leads_and_why_it_is_blocked() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let target = site.blue.address().to_string();
    let blog = format!(
        "services:\n  blog:\n    hosts: [blog.com]\n    listen: {}\n    project: myproject\n    target: {target}\n    health: {{ path: /health, interval: 100ms, unhealthy_after: 2 }}\n",
        site.front
    );
    edit(&site, "services:\n", &blog);
    let daemon = site.serve();
    let browser = Browser::start();
    browser.open(&origin(&site));
    browser.says("#service-blog", "Stable");
    browser.says("#service-blog", &target);
    browser.says("#service-shop", "Stable");
    browser.shots("alias");
    site.blue.set(Mode::Status(503));
    browser.says("#service-blog", "Blocked.");
    browser.says("#service-blog .reason", "503");
    browser.shots("alias-blocked");
    browser.open(&format!("{}/page/services/blog", origin(&site)));
    browser.says("h2", "blog");
    drop(daemon);
}

#[test]
fn drift_is_red_and_says_what_to_do() {
    let _turn = shared();
    let site = Site::nginx_on_blue();
    let daemon = site.serve();
    let browser = Browser::start();
    browser.open(&origin(&site));
    browser.says(".charts", "No requests in the last hour.");
    // somebody edits the file by hand
    let config = site.balancer().config();
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text}\n# by hand\n")).unwrap();
    let told = browser.says("[data-part=problems]", "Drift.");
    assert!(told.contains("edited by hand"), "{told}");
    browser.shots("drift");
    drop(daemon);
}

#[test]
fn many_services_are_a_list_with_who_needs_a_person_first() {
    let _turn = shared();
    let mut site = Site::embedded("blue_green");
    let mut servers = Vec::new();
    for number in 1..30 {
        servers.push(site.add_service(&format!("service-{number:02}"), Ports::address()));
    }
    let daemon = site.serve();
    let down = &servers[17];
    for color in [Color::Blue, Color::Green] {
        down[color].set(crate::support::Mode::Status(503));
    }
    let browser = Browser::start();
    browser.open(&origin(&site));
    browser.says("[data-part=summary]", "30 services, 1 needs you");
    wait_for("the broken one first", PATIENCE, || {
        let first = browser.text(".rows .row:nth-child(2)")?;
        (first.contains("service-18") && first.contains("status 503")).then_some(())
    });
    browser.shots("many");
    browser.fill("#q", "service-0");
    browser.click(".find button");
    browser.says("[data-part=summary]", "9 found");
    browser.click("#service-service-03 a");
    browser.says("h2", "service-03");
    browser.says("main", "Switch to green");
    browser.assert_clean(&origin(&site));
    drop(daemon);
}
