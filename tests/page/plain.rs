//! The page without a browser: its headers, its forms, whose forms it takes, and that nothing it shows can be more than text.

use turnout::domain::Color;

use super::{PATIENCE, ask, edit, form};
use crate::support::{Mode, Site, shared, wait_for};

#[test]
fn nothing_but_its_own_files_can_run_or_load() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let _daemon = site.serve();
    for path in ["/", "/page/services/shop", "/page/services/nowhere"] {
        let page = ask(&site, "GET", path, &[], "");
        assert_eq!(
            page.header("content-security-policy"),
            Some(
                "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
            )
        );
        assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(page.header("cache-control"), Some("no-store"));
        let text = page.text();
        for inline in [" style=", " onclick=", "<style", "javascript:", "<script>"] {
            assert!(!text.contains(inline), "{path} has {inline}");
        }
        let addresses = text.split("src=\"").chain(text.split("href=\"")).skip(1);
        let elsewhere = addresses.map(|rest| rest.split('"').next());
        let elsewhere: Vec<_> = elsewhere
            .filter(|address| address.is_some_and(|address| address.starts_with("http")))
            .collect();
        assert!(elsewhere.is_empty(), "{path} leads to {elsewhere:?}");
    }
    assert_eq!(
        ask(&site, "GET", "/page/services/nowhere", &[], "").status,
        404
    );
    assert_eq!(ask(&site, "GET", "/page/nothing", &[], "").status, 404);
}

#[test]
fn a_form_does_what_its_command_does_and_leads_back() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let daemon = site.serve();
    let press = |verb: &str, body: &str| {
        let answer = form(&site, &format!("/page/services/shop/{verb}"), &[], body);
        assert_eq!(answer.status, 303, "{verb} {body}: {}", answer.text());
        answer.header("location").unwrap().to_owned()
    };
    let back = press("switch", "to=green&force=on&message=from+the+page");
    assert_eq!(back, "/?done=switch&service=shop#service-shop");
    assert_eq!(site.served(), Color::Green);
    let page = ask(&site, "GET", "/?done=switch&service=shop", &[], "").text();
    assert!(page.contains("Done and proved: switch of shop."), "{page}");
    assert!(page.contains("from the page"), "{page}");
    press("rollback", "");
    assert_eq!(site.served(), Color::Blue);
    press("strategy", "strategy=canary");
    press("weights", "green=20&force=on");
    press("shift", "by=5&towards=green&force=on");
    let status = daemon.api().get("/orchestration/status").json();
    assert_eq!(
        status["weights"],
        serde_json::json!({ "blue": 75, "green": 25 })
    );
    press("traffic", "mode=maintenance");
    assert_eq!(site.ask("/").status, 503);
    let page = ask(&site, "GET", "/", &[], "").text();
    assert!(page.contains("Open traffic"), "{page}");
    press("traffic", "mode=open");
    assert_eq!(site.ask("/").status, 200);
}

#[test]
fn what_is_refused_is_told_in_the_words_of_the_api() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    site.green.set(Mode::Status(503));
    let _daemon = site.serve();
    let refused = form(&site, "/page/services/shop/switch", &[], "to=green");
    assert_eq!(refused.status, 409, "{}", refused.text());
    let text = refused.text();
    for words in [
        "Conflict",
        "green of shop is unhealthy",
        "status 503",
        "even if unhealthy",
    ] {
        assert!(text.contains(words), "{words} is not in {text}");
    }
    // the script gets the same as a problem document
    let refused = form(
        &site,
        "/page/services/shop/switch",
        &["X-Turnout-Page: 1"],
        "to=green",
    );
    assert_eq!(refused.json()["status"], 409, "{}", refused.text());
    for (path, body, status) in [
        ("/page/services/shop/switch", "to=red", 422),
        ("/page/services/shop/switch", "to=green&actor=root", 422),
        ("/page/services/shop/promote", "", 404),
        ("/page/services/nowhere/switch", "to=green", 404),
        ("/page/services/shop/weights", "green=20", 409),
    ] {
        let answer = form(&site, path, &[], body);
        assert_eq!(answer.status, status, "{path} {body}: {}", answer.text());
    }
    assert_eq!(site.served(), Color::Blue);
}

#[test]
fn a_form_of_another_page_is_refused() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let _daemon = site.serve();
    let front = format!("Origin: http://{}", site.front);
    for headers in [
        &[][..],
        &[front.as_str()],
        &["Origin: null"],
        &["Origin: http://evil.example.com"],
        &["Sec-Fetch-Site: same-site"],
        &["Sec-Fetch-Site: cross-site"],
    ] {
        let path = "/page/services/shop/switch";
        let answer = ask(&site, "POST", path, headers, "to=green&force=on");
        assert_eq!(answer.status, 403, "{headers:?}: {}", answer.text());
    }
    assert_eq!(site.served(), Color::Blue);
}

#[test]
fn hostile_texts_stay_texts() {
    const EVIL: &str = "\"><script>alert(1)</script><img src=x onerror='alert(2)'>";
    let _turn = shared();
    let site = Site::embedded("blue_green");
    edit(
        &site,
        "healthy_after: 1 }",
        "healthy_after: 1, expect: { status: 200, json: { environment: blue } } }",
    );
    site.blue.claim_version(EVIL);
    site.green.claim_environment(EVIL);
    let daemon = site.serve();
    let encoded = "%22%3E%3Cscript%3Ealert(1)%3C%2Fscript%3E";
    form(
        &site,
        "/page/services/shop/strategy",
        &[],
        &format!("strategy=canary&message={encoded}"),
    );
    let page = wait_for("the hostile texts on the page", PATIENCE, || {
        let page = ask(&site, "GET", "/", &[], "").text();
        (page.contains("&lt;img src=x") && page.contains("`environment` is")).then_some(page)
    });
    assert!(page.contains("&lt;script&gt;alert(1)"), "{page}");
    assert!(!page.contains("<script>"), "{page}");
    assert!(!page.contains("<img src=x"), "{page}");
    let asked = ask(
        &site,
        "GET",
        "/?q=%22%3E%3Cscript%3E&done=%3Cscript%3E&service=shop",
        &[],
        "",
    );
    assert!(!asked.text().contains("<script>"), "{}", asked.text());
    let refused = form(&site, "/page/services/%3Cscript%3E/switch", &[], "to=green");
    assert_eq!(refused.status, 404);
    assert!(!refused.text().contains("<script>"), "{}", refused.text());
    drop(daemon);
}
