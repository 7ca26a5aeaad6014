//! Who gets which color at each weight: by header, by cookie, by both, and by neither.

use turnout::domain::{Bucket, Color, ServiceName, Split};

use super::fleet::{Front, Kind, Servers};
use super::table::ask;
use crate::support::shared;

/// Keys that are asked at each weight.
const KEYS: usize = 400;

/// Blue's percent at each step, as the command has it.
const BLUE: [f64; 8] = [100.0, 99.99, 90.0, 50.0, 10.0, 0.01, 0.0, 100.0];

#[track_caller]
fn color(front: &Front, headers: &[(&str, &str)]) -> Color {
    let answer = front.send(front.main, &ask("shop.test", "/", headers));
    assert_eq!(answer.backend(), answer.color("x-routed-to"));
    answer.backend().unwrap()
}

/// Keys, with those among them that one basis point of blue or of green is enough for.
fn keys(kind: Kind, service: &ServiceName) -> Vec<String> {
    let edge = |green: f64, color: Color| {
        let split = Split::from_percents(100.0 - green, green).unwrap();
        (0..1_000_000)
            .map(|number| format!("edge-{number}"))
            .find(|key| {
                Bucket::hashed(kind.hashing(), service, key.as_bytes()).color(split) == color
            })
            .unwrap()
    };
    let rare = [edge(0.01, Color::Green), edge(99.99, Color::Blue)];
    (0..KEYS)
        .map(|number| format!("user-{number}"))
        .chain(rare)
        .collect()
}

#[test]
fn a_key_has_the_color_of_its_bucket_at_every_weight_on_every_balancer() {
    let _turn = shared();
    let servers = Servers::start();
    let service: ServiceName = "shop".parse().unwrap();
    for kind in Kind::ALL {
        let front = Front::start(kind, &servers, "");
        let keys = keys(kind, &service);
        for blue in BLUE {
            let split = Split::from_percents(blue, 100.0 - blue).unwrap();
            front.turnout.ok(&[
                "weights",
                "shop",
                &format!("blue={blue}"),
                &format!(
                    "green={}",
                    f64::from(split.weight(Color::Green).basis_points()) / 100.0
                ),
            ]);
            let mut moved = 0;
            for (number, key) in keys.iter().enumerate() {
                let expected =
                    Bucket::hashed(kind.hashing(), &service, key.as_bytes()).color(split);
                moved += usize::from(expected == Color::Green);
                let cookie = format!("a=b; session_id={key}; c=d");
                let other = format!("session_id=other-{key}");
                let headers = match number % 3 {
                    0 => vec![("X-Session-Key", key.as_str())],
                    1 => vec![("Cookie", cookie.as_str())],
                    _ => vec![("Cookie", other.as_str()), ("X-Session-Key", key.as_str())],
                };
                assert_eq!(
                    color(&front, &headers),
                    expected,
                    "{}: {headers:?} at {blue} % blue",
                    kind.name()
                );
            }
            // an empty key is none, and none is by chance
            let without: Vec<_> = (0..100)
                .map(|number| match number % 2 {
                    0 => color(&front, &[]),
                    _ => color(&front, &[("X-Session-Key", "")]),
                })
                .filter(|color| *color == Color::Green)
                .collect();
            println!(
                "{}: blue {blue} %: {moved} of {} keys and {} of 100 without one are green",
                kind.name(),
                keys.len(),
                without.len()
            );
            let expected = match blue {
                100.0 => 0..=0,
                0.0 => 100..=100,
                // a coin with 1 in 10,000 shows its rare side 4 times in 100 throws once in 250,000 runs
                99.99 => 0..=3,
                0.01 => 97..=100,
                // five standard deviations
                90.0 => 0..=25,
                10.0 => 75..=100,
                _ => 25..=75,
            };
            assert!(
                expected.contains(&without.len()),
                "{}: {}",
                kind.name(),
                without.len()
            );
        }
    }
}
