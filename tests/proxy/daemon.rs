//! The daemon with TLS and the PROXY protocol on its front door: proofs go through both, a bad certificate stops a start and
//! never a running service.

use std::time::Duration;

use crate::support::{Ports, Run, Site, shared, wait_for};

#[test]
fn certificates_are_checked_at_the_start_watched_later_and_never_touch_another_service() {
    let _turn = shared();
    let mut site = Site::embedded("blue_green");
    let plain = Ports::address();
    let _blog = site.add_service("blog", plain);
    let (files, _) = super::tls::pair(site.folder(), "shop", "localhost");
    let text = std::fs::read_to_string(site.config()).unwrap();
    let lines = format!(
        "  shop:\n    tls: {{ cert: {}, key: {} }}\n    proxy_protocol: true\n",
        files.cert.display(),
        files.key.display()
    );
    let text = text.replacen("  shop:\n", &lines, 1);
    std::fs::write(site.config(), &text).unwrap();
    let line = 1 + text
        .lines()
        .position(|line| line.starts_with("    tls:"))
        .unwrap();

    let good = std::fs::read(&files.key).unwrap();
    std::fs::write(&files.key, "no key").unwrap();
    site.turnout().run(&["serve"]).exits(78).says(&format!(
        "turnout.yaml:{line}:5: services.shop.tls: failed to read the key"
    ));
    std::fs::write(&files.key, &good).unwrap();

    let daemon = site.serve().allow("a certificate was not taken");
    let over_tls = || {
        Run::new("curl")
            .args(["-sk", "--haproxy-protocol", "-o", "/dev/null"])
            .args(["-w", "%{http_code} %header{x-routed-to}"])
            .arg(format!("https://{}/", site.front))
            .run()
            .exits(0)
    };
    over_tls().says("200");
    site.turnout().ok(&["switch", "shop", "green"]);

    let problem = || {
        let status = site.turnout().ok(&["status", "-o", "json"]).to_string();
        status.contains("certificate: shop: ")
    };
    assert!(!problem());
    std::fs::write(&files.cert, "no certificate").unwrap();
    let soon = Duration::from_mins(1);
    wait_for("the problem", soon, || problem().then_some(()));
    over_tls().says("200");
    let blog = crate::support::get(plain, "/", &[]).unwrap();
    assert_eq!(blog.status, 200);
    super::tls::pair(site.folder(), "shop", "localhost");
    wait_for("the problem's end", soon, || (!problem()).then_some(()));
    over_tls().says("200");
    drop(daemon);
}
