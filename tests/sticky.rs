//! A user stays where the split has put them: on nginx, on the embedded proxy, and from one to the other.

use std::time::Instant;

use turnout::domain::{Bucket, Color, ServiceName, Split};

use crate::support::{NginxSetup, Site, shared};

const KEYS: usize = 20_000;

fn keys() -> Vec<String> {
    (0..KEYS).map(|number| format!("user-{number}")).collect()
}

/// The color of every key with everything on blue, with 10 % on green, and with 25 %.
fn walk(site: &Site, keys: &[String]) -> Vec<(f64, Vec<Color>)> {
    let begin = Instant::now();
    let walked = [0.0, 10.0, 25.0]
        .into_iter()
        .map(|green| {
            let weights = [format!("blue={}", 100.0 - green), format!("green={green}")];
            site.turnout()
                .ok(&["weights", "shop", &weights[0], &weights[1]]);
            (green, site.colors_of(keys))
        })
        .collect();
    println!(
        "{} keys at three weights in {:?}",
        keys.len(),
        begin.elapsed()
    );
    walked
}

fn green_share(colors: &[Color]) -> f64 {
    let green = colors
        .iter()
        .filter(|color| **color == Color::Green)
        .count();
    100.0 * f64::from(u32::try_from(green).unwrap())
        / f64::from(u32::try_from(colors.len()).unwrap())
}

#[track_caller]
fn assert_sticky(name: &str, keys: &[String], walked: &[(f64, Vec<Color>)]) {
    let service: ServiceName = "shop".parse().unwrap();
    for (green, colors) in walked {
        let share = green_share(colors);
        println!("{name}: {green} % asked, {share:.2} % got green");
        assert!(
            (share - green).abs() < 1.0,
            "{name}: {share:.2} % instead of {green} %"
        );
        let split = Split::from_percents(100.0 - green, *green).unwrap();
        for (key, color) in keys.iter().zip(colors) {
            assert_eq!(
                *color,
                Bucket::of(&service, key.as_bytes()).color(split),
                "{name}: {key} at {green} %"
            );
        }
    }
    for step in walked.windows(2) {
        let back = step[0]
            .1
            .iter()
            .zip(&step[1].1)
            .filter(|(before, after)| **before == Color::Green && **after == Color::Blue)
            .count();
        assert_eq!(
            back, 0,
            "{name}: users went back to blue between {} % and {} %",
            step[0].0, step[1].0
        );
    }
}

#[test]
fn twenty_thousand_users_move_one_way_and_to_the_same_color_everywhere() {
    let _turn = shared();
    let keys = keys();

    let nginx = Site::nginx_with("canary", NginxSetup::default());
    nginx.turnout().ok(&["apply"]);
    let by_nginx = walk(&nginx, &keys);
    assert_sticky("nginx", &keys, &by_nginx);

    let embedded = Site::embedded("canary");
    let _daemon = embedded.serve();
    let by_embedded = walk(&embedded, &keys);
    assert_sticky("embedded", &keys, &by_embedded);

    assert!(
        by_nginx == by_embedded,
        "nginx and the embedded proxy disagree"
    );
}

#[test]
fn the_cookie_is_a_key_too_and_the_header_goes_before_it() {
    let _turn = shared();
    let nginx = Site::nginx_with("canary", NginxSetup::default());
    nginx.turnout().ok(&["apply"]);
    nginx
        .turnout()
        .ok(&["weights", "shop", "blue=50", "green=50"]);
    let embedded = Site::embedded("canary");
    let _daemon = embedded.serve();
    embedded
        .turnout()
        .ok(&["weights", "shop", "blue=50", "green=50"]);

    let service: ServiceName = "shop".parse().unwrap();
    let half = Split::from_percents(50.0, 50.0).unwrap();
    for number in 0..40 {
        let key = format!("visitor-{number}");
        let other = format!("other-{number}");
        let expected = Bucket::of(&service, key.as_bytes()).color(half);
        for site in [&nginx, &embedded] {
            for headers in [
                vec![format!("X-Session-Key: {key}")],
                vec![format!("Cookie: a=b; session_id={key}; c=d")],
                vec![
                    format!("Cookie: session_id={other}"),
                    format!("X-Session-Key: {key}"),
                ],
            ] {
                let headers: Vec<_> = headers.iter().map(String::as_str).collect();
                let answer = crate::support::get(site.front, "/", &headers).unwrap();
                assert_eq!(answer.backend(), Some(expected), "{headers:?}");
            }
        }
    }
}

#[test]
fn without_a_key_the_split_is_by_chance() {
    let _turn = shared();
    let site = Site::embedded("canary");
    let _daemon = site.serve();
    site.turnout()
        .ok(&["weights", "shop", "blue=50", "green=50"]);
    let colors: Vec<_> = (0..400).map(|_| site.served()).collect();
    let share = green_share(&colors);
    // 400 throws of a fair coin: outside of 40 to 60 % once in 15,000 runs
    assert!((40.0..=60.0).contains(&share), "{share} % got green");
}
