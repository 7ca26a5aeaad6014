//! Who gets in: the login, the session's cookie, what each token may, and the way out.

use super::{EYES, OPS, ask, form, log_in, with_tokens};
use crate::support::{Site, shared};

#[test]
fn without_a_session_the_page_is_a_form_and_the_open_paths_stay_open() {
    let _turn = shared();
    let site = with_tokens();
    let _daemon = site.serve();
    for path in ["/", "/page/services/shop"] {
        let answer = ask(&site, "GET", path, &[], "");
        assert_eq!(
            (answer.status, answer.header("location")),
            (303, Some("/page/login")),
            "{path}"
        );
    }
    let page = ask(&site, "GET", "/page/login", &[], "");
    assert_eq!(page.status, 200);
    assert!(page.text().contains("type=\"password\""), "{}", page.text());
    assert!(!page.text().contains("shop"), "{}", page.text());
    for path in [
        "/health",
        "/livez",
        "/readyz",
        "/openapi.json",
        "/page/style.css",
    ] {
        assert_eq!(ask(&site, "GET", path, &[], "").status, 200, "{path}");
    }
    for path in ["/events", "/v1/services"] {
        assert_eq!(ask(&site, "GET", path, &[], "").status, 401, "{path}");
    }
}

#[test]
fn a_wrong_token_is_401_and_too_many_are_429() {
    let _turn = shared();
    let site = with_tokens();
    let _daemon = site.serve();
    let wrong = || form(&site, "/page/login", &[], "token=guess");
    let first = wrong();
    assert_eq!(first.status, 401, "{}", first.text());
    assert_eq!(first.count("set-cookie"), 0);
    assert!(first.text().contains("Not logged in"), "{}", first.text());
    let last = (0..40).map(|_| wrong()).next_back().unwrap();
    assert_eq!(last.status, 429, "{}", last.text());
    assert!(last.header("retry-after").is_some());
    // whoever knows the token is not locked out by those who do not
    log_in(&site, OPS);
}

#[test]
fn the_cookie_is_an_id_that_scripts_and_other_sites_do_not_get() {
    let _turn = shared();
    let site = with_tokens();
    let _daemon = site.serve();
    let answer = form(&site, "/page/login", &[], &format!("token={OPS}"));
    assert_eq!((answer.status, answer.header("location")), (303, Some("/")));
    let cookie = answer.header("set-cookie").unwrap().to_owned();
    let (pair, attributes) = cookie.split_once("; ").unwrap();
    let id = pair.strip_prefix("turnout_session=").unwrap();
    assert_eq!(id.len(), 64, "{cookie}");
    assert!(!cookie.contains(OPS));
    assert_eq!(
        attributes,
        "Path=/; HttpOnly; SameSite=Strict; Max-Age=43200"
    );
    let other = log_in(&site, OPS);
    assert!(!other.contains(id), "every login has an id of its own");
    // over https (something in front ends TLS, and keeps the Host) it is for https alone
    let origin = format!("Origin: https://{}", site.control);
    let body = format!("token={OPS}");
    let secure = ask(&site, "POST", "/page/login", &[&origin], &body);
    assert!(
        secure.header("set-cookie").unwrap().ends_with("; Secure"),
        "{secure:?}"
    );
}

#[test]
fn a_session_reads_and_presses_buttons_until_it_is_closed() {
    let _turn = shared();
    let site = with_tokens();
    let _daemon = site.serve();
    let cookie = log_in(&site, OPS);
    let page = ask(&site, "GET", "/", &[&cookie], "");
    assert_eq!(page.status, 200, "{}", page.text());
    assert!(page.text().contains("Switch to green"));
    assert!(page.text().contains(">ops<"), "{}", page.text());
    assert_eq!(
        ask(&site, "GET", "/v1/services", &[&cookie], "").status,
        200
    );
    // a session is for the page: the API's own writes want the token
    let body = r#"{"active":"green"}"#;
    let write = ask(
        &site,
        "POST",
        "/orchestration/bluegreen/activate",
        &[&cookie],
        body,
    );
    assert_eq!(write.status, 401, "{}", write.text());
    let pressed = form(
        &site,
        "/page/services/shop/switch",
        &[&cookie],
        "to=green&force=on",
    );
    assert_eq!(pressed.status, 303, "{}", pressed.text());
    let history = ask(&site, "GET", "/v1/history", &[&cookie], "").json();
    assert_eq!(history[0]["actor"], "ops (page)");
    let out = form(&site, "/page/logout", &[&cookie], "");
    assert!(out.header("set-cookie").unwrap().contains("Max-Age=0"));
    assert_eq!(ask(&site, "GET", "/", &[&cookie], "").status, 303);
    assert_eq!(
        ask(&site, "GET", "/v1/services", &[&cookie], "").status,
        401
    );
}

#[test]
fn who_may_only_look_sees_no_button_and_presses_none() {
    let _turn = shared();
    let site = with_tokens();
    let _daemon = site.serve();
    let cookie = log_in(&site, EYES);
    let page = ask(&site, "GET", "/", &[&cookie], "").text();
    assert!(page.contains("may look") && page.contains("shop"), "{page}");
    assert!(!page.contains("/page/services/shop/"), "{page}");
    let pressed = form(&site, "/page/services/shop/switch", &[&cookie], "to=green");
    assert_eq!(pressed.status, 403, "{}", pressed.text());
    assert!(
        pressed.text().contains("may look and not change"),
        "{}",
        pressed.text()
    );
    assert_eq!(site.served(), turnout::domain::Color::Blue);
}

#[test]
fn without_tokens_loopback_may_press_and_nobody_logs_in() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let _daemon = site.serve();
    let page = ask(&site, "GET", "/", &[], "").text();
    assert!(
        page.contains("Switch to green") && !page.contains("Log out"),
        "{page}"
    );
    let login = ask(&site, "GET", "/page/login", &[], "");
    assert_eq!((login.status, login.header("location")), (303, Some("/")));
    // behind a proxy everybody comes from loopback
    let through = ["X-Forwarded-For: 10.0.0.9"];
    let page = ask(&site, "GET", "/", &through, "").text();
    assert!(
        page.contains("looking only") && !page.contains("Switch to green"),
        "{page}"
    );
    let pressed = form(
        &site,
        "/page/services/shop/switch",
        &through,
        "to=green&force=on",
    );
    assert_eq!(pressed.status, 403, "{}", pressed.text());
}
