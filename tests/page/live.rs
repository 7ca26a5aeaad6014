//! The page in a browser: logging in, switching, seeing it move without a reload, rolling back; with keys alone; without a script.

use serde_json::json;
use turnout::domain::Color;

use super::browser::Browser;
use super::{OPS, PATIENCE, with_tokens};
use crate::support::{Daemon, Mode, Site, shared, wait_for};

const ENTER: &str = "\u{e007}";
const TAB: &str = "\u{e004}";
const ESCAPE: &str = "\u{e00c}";

fn origin(site: &Site) -> String {
    format!("http://{}", site.control)
}

/// Waits for both colors on the page itself.
fn healthy(browser: &Browser) {
    browser.says(".side.blue", "1 of 1 healthy");
    browser.says(".side.green", "1 of 1 healthy");
}

#[test]
fn log_in_switch_see_it_move_and_roll_back() {
    let _turn = shared();
    let site = with_tokens();
    let _daemon = site.serve();
    let browser = Browser::start();
    browser.open(&origin(&site));
    assert_eq!(browser.address(), format!("{}/page/login", origin(&site)));
    browser.shots("login");
    browser.fill("#token", OPS);
    browser.click("button[type=submit]");
    browser.says("#live", "live");
    healthy(&browser);
    browser.shots("blue");
    // shows that no page was loaded in between
    browser.script("window.stays = true");
    browser.click("#act-shop-switch-green summary");
    browser.says(
        "#act-shop-switch-green form",
        "All traffic of shop goes to green",
    );
    browser.fill("#message-shop-switch-green", "by hand");
    browser.click("#act-shop-switch-green button");
    browser.says("#answer", "Done and proved. shop serves green 100 % now.");
    browser.says(".side.green", "100 %");
    browser.says(".side.green", "active");
    browser.says(".history", "by hand");
    assert_eq!(site.served(), Color::Green);
    browser.shots("green");
    browser.click("#act-shop-rollback summary");
    browser.click("#act-shop-rollback button");
    browser.says(".side.blue", "100 %");
    browser.says(".side.blue", "active");
    assert_eq!(site.served(), Color::Blue);
    assert_eq!(browser.script("return window.stays"), json!(true));
    browser.assert_clean(&origin(&site));
    browser.click(".bar-top button");
    wait_for("the login", PATIENCE, || {
        browser.address().ends_with("/page/login").then_some(())
    });
}

#[test]
fn what_others_do_is_seen_without_a_reload_and_leaves_what_one_writes_alone() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let daemon = site.serve();
    let browser = Browser::start();
    browser.open(&origin(&site));
    browser.says("#live", "live");
    healthy(&browser);
    browser.click("#act-shop-strategy summary");
    browser.fill("#message-shop-strategy", "half a sent");
    daemon.api().activate(Color::Green);
    browser.says(".side.green", "100 %");
    browser.says(".history", "switch");
    // the form that was open is still open, with what was written and the focus
    assert_eq!(browser.focused(), "message");
    browser.press("ence");
    let written = "return document.getElementById('message-shop-strategy').value";
    assert_eq!(browser.script(written), json!("half a sentence"));
    site.blue.set(Mode::Status(500));
    browser.says(".side.blue", "status 500");
    browser.assert_clean(&origin(&site));
}

#[test]
fn what_is_refused_is_told_and_can_be_insisted_on() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    site.green.set(Mode::Status(503));
    let _daemon = site.serve();
    let browser = Browser::start();
    browser.open(&origin(&site));
    browser.says(".side.green", "0 of 1 healthy");
    browser.says(".side.green", "status 503");
    browser.shots("unhealthy");
    browser.click("#act-shop-switch-green summary");
    browser.says("#act-shop-switch-green form", "which is unhealthy");
    browser.click("#act-shop-switch-green button");
    let told = browser.says("#answer", "Conflict");
    assert!(told.contains("green of shop is unhealthy"), "{told}");
    assert!(told.contains("tick “even if unhealthy”"), "{told}");
    browser.shots("refused");
    browser.click("#force-shop-switch-green");
    browser.click("#act-shop-switch-green button");
    browser.says(".side.green", "100 %");
}

#[test]
fn keys_alone_are_enough() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let _daemon = site.serve();
    let browser = Browser::start();
    browser.open(&origin(&site));
    browser.says("#live", "live");
    healthy(&browser);
    let go_to = |what: &str| {
        for _ in 0..40 {
            browser.press(TAB);
            if browser.focused().starts_with(what) {
                let outline =
                    browser.script("return getComputedStyle(document.activeElement).outlineStyle");
                assert_eq!(
                    outline,
                    json!("solid"),
                    "the focus on {what} is not to be seen"
                );
                return;
            }
        }
        panic!(
            "{what} was not reached by Tab; the focus is on {}",
            browser.focused()
        );
    };
    go_to("Switch to green…");
    browser.press(ENTER);
    browser.says("#act-shop-switch-green form", "All traffic");
    browser.press(TAB);
    browser.press(ESCAPE);
    wait_for("the form to close", PATIENCE, || {
        (browser.script("return document.querySelector('details[open]') === null") == json!(true))
            .then_some(())
    });
    browser.press(ENTER);
    go_to("Switch to green");
    browser.press(ENTER);
    browser.says(".side.green", "100 %");
    assert_eq!(site.served(), Color::Green);
}

#[test]
fn without_a_script_it_reads_and_a_form_switches() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let daemon: Daemon = site.serve();
    wait_for("both colors healthy", PATIENCE, || {
        let health = daemon.api().get("/health").json();
        (health["upstreams"]["green"]["healthy"] == true).then_some(())
    });
    let browser = Browser::start();
    browser.devtools(
        "Emulation.setScriptExecutionDisabled",
        &json!({ "value": true }),
    );
    browser.open(&origin(&site));
    browser.says(".side.blue", "100 %");
    assert_eq!(browser.text("#live").unwrap_or_default(), "");
    browser.says("noscript", "Refresh");
    browser.click("#act-shop-switch-green summary");
    browser.click("#act-shop-switch-green button");
    browser.says("#answer", "Done and proved: switch of shop.");
    browser.says(".side.green", "100 %");
    assert_eq!(
        browser.address(),
        format!("{}/?done=switch&service=shop#service-shop", origin(&site))
    );
    assert_eq!(site.served(), Color::Green);
    site.blue.set(Mode::Status(500));
    wait_for("blue to be unhealthy", PATIENCE, || {
        let health = daemon.api().get("/health").json();
        (health["upstreams"]["blue"]["healthy"] == false).then_some(())
    });
    browser.open(&origin(&site));
    browser.click("#act-shop-rollback summary");
    browser.click("#act-shop-rollback button");
    browser.says("main", "blue of shop is unhealthy");
    assert_eq!(site.served(), Color::Green);
}
