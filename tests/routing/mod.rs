//! One table of routing cases, run against every balancer with the same expectations: whoever changes the balancer must not
//! have to think of it. Where one cannot do a thing, the case names it with the reason, and is run there all the same, so that
//! a reason which has gone is noticed.

pub(crate) mod alias;
mod echo;
mod fleet;
mod table;
mod weights;

use turnout::domain::Color;

use crate::support::{SOON, shared, wait_for};
pub(crate) use fleet::Kind;
use fleet::{Front, Servers};
use table::{Case, Expect, Table, ask};

/// Every balancer at once, so that all of them see the same servers.
fn fleet(servers: &Servers, extra: &str) -> Vec<Front> {
    Kind::ALL
        .into_iter()
        .map(|kind| Front::start(kind, servers, extra))
        .collect()
}

#[test]
fn hosts_previews_and_headers_are_the_same_on_every_balancer() {
    let _turn = shared();
    let servers = Servers::start();
    let fronts = fleet(&servers, "");
    let mut table = Table::default();
    for (host, color) in [
        ("exact.wild.test", Color::Blue),
        ("EXACT.Wild.Test:8080", Color::Blue),
        ("exact.wild.test.", Color::Blue),
        ("other.wild.test", Color::Green),
        ("a.b.wild.test", Color::Green),
        ("x.deep.wild.test", Color::Blue),
        ("deep.wild.test", Color::Green),
        ("wild.test", Color::Green),
        ("nobody.else", Color::Green),
        ("127.0.0.1", Color::Green),
    ] {
        table.add(Case::new(format!("host {host}"), ask(host, "/", &[])).color(color));
    }
    table.add(
        Case::new("a host that nobody has: 404", ask("nobody.else", "/", &[]))
            .narrow()
            .expect(Expect::Status(404))
            .expect(Expect::Has("x-turnout-error"))
            .expect(Expect::HasNot("x-routed-to")),
    );
    table.add(
        Case::new("a host alone on its listener", ask("only.test", "/", &[]))
            .narrow()
            .color(Color::Blue),
    );

    for (value, color) in [
        ("green", Color::Green),
        ("blue", Color::Blue),
        ("red", Color::Blue),
        ("", Color::Blue),
    ] {
        table.add(
            Case::new(
                format!("preview {value:?}"),
                ask("shop.test", "/", &[("X-Turnout-Color", value)]),
            )
            .color(color),
        );
    }
    table.add(
        Case::new(
            "a preview where none is configured",
            ask("exact.wild.test", "/", &[("X-Turnout-Color", "green")]),
        )
        .color(Color::Blue),
    );

    let blue = servers.blue.url();
    table.add(
        Case::new(
            "the response's headers, and the server's lies",
            ask("exact.wild.test", "/", &[]),
        )
        .color(Color::Blue)
        .expect(Expect::Header("x-upstream-url", blue)),
    );
    for target in [
        "/a%2Fb//c/../d?x=%20y&z=1+2",
        "/?a=b&&c=%zz&d",
        "/x;y=1?/../..",
        "/?",
        "//",
    ] {
        table.add(
            Case::new(
                format!("the target {target}"),
                ask("exact.wild.test", target, &[]),
            )
            .color(Color::Blue)
            .expect(Expect::Target(target.to_owned())),
        );
    }
    let raw = "/%C3%A4?q=ä";
    table.add(
        Case::new(
            format!("the target {raw}"),
            ask("exact.wild.test", raw, &[]),
        )
        .cannot(
            Kind::Haproxy,
            "400: HAProxy takes nothing but ASCII in a target",
        )
        .color(Color::Blue)
        .expect(Expect::Target(raw.to_owned())),
    );
    let forged = ask(
        "exact.wild.test:99",
        "/",
        &[
            ("X-Forwarded-For", "9.9.9.9"),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Host", "evil"),
            ("X-Real-IP", "9.9.9.9"),
            ("Forwarded", "for=9.9.9.9"),
            ("X-Request-ID", "given"),
        ],
    );
    let mut case = Case::new("what a client forged is replaced", forged.clone())
        .color(Color::Blue)
        .expect(Expect::NotSeen("9.9.9.9"))
        .expect(Expect::NotSeen("evil"));
    for line in [
        "Host: exact.wild.test:99",
        "X-Forwarded-For: 127.0.0.1",
        "X-Forwarded-Proto: http",
        "X-Forwarded-Host: exact.wild.test:99",
        "X-Real-IP: 127.0.0.1",
        "X-Request-ID: given",
    ] {
        case = case.expect(Expect::Seen(line));
    }
    table.add(case);
    table.add(
        Case::new(
            "a request without an id gets one",
            ask("exact.wild.test", "/", &[]),
        )
        .expect(Expect::Seen("x-request-id: ")),
    );
    let hop = ask(
        "exact.wild.test",
        "/",
        &[
            ("Keep-Alive", "timeout=9"),
            ("TE", "trailers, gzip"),
            ("Proxy-Connection", "keep-alive"),
        ],
    );
    table.add(
        Case::new("hop-by-hop headers end here", hop)
            .expect(Expect::NotSeen("timeout=9"))
            .expect(Expect::NotSeen("gzip"))
            .expect(Expect::NotSeen("proxy-connection")),
    );
    let named = ask(
        "exact.wild.test",
        "/",
        &[("X-Secret", "mine"), ("Connection", "close, X-Secret")],
    );
    table.add(
        Case::new("a header that Connection names", named)
            .cannot(
                Kind::Nginx,
                "nginx passes on what a client's Connection names",
            )
            .cannot(
                Kind::Instant,
                "nginx passes on what a client's Connection names",
            )
            .cannot(
                Kind::Haproxy,
                "HAProxy passes on what a client's Connection names",
            )
            .expect(Expect::NotSeen("mine")),
    );
    for (about, request) in [
        ("no host", "GET / HTTP/1.1\r\nConnection: close\r\n\r\n"),
        (
            "two hosts",
            "GET / HTTP/1.1\r\nHost: exact.wild.test\r\nHost: shop.test\r\nConnection: close\r\n\r\n",
        ),
        (
            "a space before a colon",
            "GET / HTTP/1.1\r\nHost: exact.wild.test\r\nX-A : b\r\nConnection: close\r\n\r\n",
        ),
    ] {
        table.add(
            Case::new(format!("{about}: 400"), request.to_owned()).expect(Expect::Status(400)),
        );
    }
    let both = "POST / HTTP/1.1\r\nHost: exact.wild.test\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n";
    table.add(
        Case::new("a length and a coding: 400", both.to_owned())
            .cannot(
                Kind::Haproxy,
                "HAProxy leaves the length out and passes the coding on (RFC 9112, 6.3)",
            )
            .expect(Expect::Status(400)),
    );
    table.run(&fronts);

    let trusting = fleet(&servers, "trusted_proxies: [127.0.0.0/8]\n");
    let mut table = Table::default();
    let mut case = Case::new("a trusted proxy is believed", forged).color(Color::Blue);
    for line in [
        "X-Forwarded-For: 9.9.9.9, 127.0.0.1",
        "X-Forwarded-Proto: https",
        "X-Real-IP: 9.9.9.9",
        "X-Request-ID: given",
    ] {
        case = case.expect(Expect::Seen(line));
    }
    table.add(case);
    table.run(&trusting);
}

#[test]
fn an_unhealthy_color_is_left_or_refused_and_comes_back_on_every_balancer() {
    let _turn = shared();
    let servers = Servers::start();
    let fronts = fleet(&servers, "");
    let stage = |what: &str, tender: Color, strict: Option<Color>, gone: Option<Color>| {
        let mut table = Table::default();
        for (host, color) in [
            ("tender.test", Some(tender)),
            ("strict.test", strict),
            ("gone.test", gone),
        ] {
            let case = Case::new(format!("{host}, {what}"), ask(host, "/", &[]));
            table.add(match color {
                Some(color) => case.color(color),
                None => case
                    .expect(Expect::Status(503))
                    .expect(Expect::Body("No active backend available")),
            });
        }
        table
    };
    let all_see = |service: &str, color, down| {
        for front in &fronts {
            wait_for(
                &format!("{} to see {color} of {service}", front.kind.name()),
                SOON,
                || (front.is_down(service, color) == down).then_some(()),
            );
        }
    };
    stage(
        "all healthy",
        Color::Blue,
        Some(Color::Blue),
        Some(Color::Blue),
    )
    .run(&fronts);
    servers.weak_blue.set_healthy(false);
    servers.weak_green.set_healthy(false);
    for service in ["tender", "strict", "gone"] {
        all_see(service, Color::Blue, true);
    }
    all_see("gone", Color::Green, true);
    stage("blue unhealthy", Color::Green, None, None).eventually(&fronts);
    servers.weak_green.set_healthy(true);
    all_see("gone", Color::Green, false);
    stage("green of one back", Color::Green, None, Some(Color::Green)).eventually(&fronts);
    servers.weak_blue.set_healthy(true);
    stage(
        "blue back",
        Color::Blue,
        Some(Color::Blue),
        Some(Color::Blue),
    )
    .eventually(&fronts);
    for front in &fronts {
        front.turnout.ok(&["verify"]);
    }
}
