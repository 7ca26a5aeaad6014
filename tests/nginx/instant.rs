//! `switching: instant` with a real nginx: what a change reloads and what it does not, that each key gets the color of a reload,
//! both layouts, and the ways back.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use turnout::balancer::{ApplyError, Balancer as _, Foreign, Served};
use turnout::config::{NginxReload, Switching};
use turnout::domain::{Bucket, Color, Generation, PublicUrl, Split, Weight};

use super::lab::Lab;
use super::tables::{canary, whole};
use super::{apply, must_apply, refused};

async fn lab() -> Lab {
    let mut lab = Lab::start().await;
    lab.settings.switching = Switching::Instant;
    lab
}

fn marker(lab: &Lab) -> String {
    let target = fs::read_link(lab.path("snippets/position/shop")).unwrap();
    target.display().to_string()
}

#[tokio::test]
async fn every_key_gets_the_color_of_its_bucket_at_any_weight_without_a_reload() {
    const KEYS: u32 = 20_000;
    let lab = lab().await;
    let nginx = lab.nginx();
    let service = "shop".parse().unwrap();
    let mut before = lab.table(1, canary(99.99));
    must_apply(&nginx, &before, None, Foreign::Refuse).await;
    let workers = lab.workers();
    let mut colors = vec![Color::Blue; KEYS as usize];
    let mut connection = lab.connection().await;
    let steps = [90.0, 75.0, 50.0];
    for (generation, blue) in (2..).zip(steps) {
        let table = lab.table(generation, canary(blue));
        must_apply(&nginx, &table, Some(&before), Foreign::Refuse).await;
        before = table;
        let split = Split::from_percents(blue, 100.0 - blue).unwrap();
        let mut green = 0_u32;
        for number in 0..KEYS {
            let key = format!("user-{number}");
            if number % 500 == 0 {
                // nginx ends one after 1,000 requests
                connection = lab.connection().await;
            }
            let color = connection.routed(&[("X-Session-Key", &key)]).await;
            assert_eq!(
                color,
                Bucket::of(&service, key.as_bytes()).color(split),
                "{key} at {split}"
            );
            let known = &mut colors[number as usize];
            assert!(
                (*known, color) != (Color::Green, Color::Blue),
                "{key} was moved back"
            );
            *known = color;
            green += u32::from(color == Color::Green);
        }
        let share = f64::from(green) / f64::from(KEYS) * 100.0;
        println!("{split}: {share:.2} % of {KEYS} keys are green");
        assert!((share - (100.0 - blue)).abs() < 1.0, "{share} at {split}");
    }
    // each of these is a boundary in another chain of the ladder
    for (generation, points) in (10..).zip([1, 2, 84, 85, 86, 3_333, 6_257, 9_999]) {
        let weight = Weight::from_basis_points(points).unwrap();
        let split = Split::giving(Color::Blue, weight);
        let position = turnout::domain::Position::canary(Color::Blue, split);
        let table = lab.table(generation, position);
        must_apply(&nginx, &table, Some(&before), Foreign::Refuse).await;
        before = table;
        connection = lab.connection().await;
        for number in 0..500 {
            let key = format!("visitor-{number}");
            assert_eq!(
                connection.routed(&[("X-Session-Key", &key)]).await,
                Bucket::of(&service, key.as_bytes()).color(split),
                "{key} at {split}"
            );
        }
    }
    assert_eq!(lab.workers(), workers, "no reload");
}

#[tokio::test]
async fn failover_and_refused_colors_go_without_a_reload() {
    let lab = lab().await;
    let nginx = lab.nginx();
    let mut before = lab.table(1, whole(Color::Blue));
    must_apply(&nginx, &before, None, Foreign::Refuse).await;
    let workers = lab.workers();
    let shop = "shop".parse().unwrap();

    let mut table = lab.table(2, whole(Color::Blue));
    table.routes.get_mut(&shop).unwrap().overlay = Some(Color::Green);
    must_apply(&nginx, &table, Some(&before), Foreign::Refuse).await;
    assert_eq!(lab.get("/", &[]).await.header("x-backend"), "green");
    before = table;

    let mut table = lab.table(3, whole(Color::Blue));
    table.routes.get_mut(&shop).unwrap().refused = BTreeSet::from([Color::Blue]);
    must_apply(&nginx, &table, Some(&before), Foreign::Refuse).await;
    assert_eq!(marker(&lab), ".blue-noblue");
    let answer = lab.get("/", &[]).await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (503, "No active backend available")
    );
    assert_eq!(answer.header("x-routed-to"), "blue");
    assert_eq!(
        answer.header("x-turnout-error"),
        "No active backend available"
    );
    before = table;

    let table = lab.table(4, whole(Color::Blue));
    must_apply(&nginx, &table, Some(&before), Foreign::Refuse).await;
    assert_eq!(lab.get("/", &[]).await.header("x-backend"), "blue");
    assert_eq!(lab.workers(), workers, "no reload");

    // by hand, with the split as it was
    fs::write(lab.path("snippets/position/.blue-nogreen"), "").unwrap();
    fs::remove_file(lab.path("snippets/position/shop")).unwrap();
    std::os::unix::fs::symlink(".blue-nogreen", lab.path("snippets/position/shop")).unwrap();
    let Served::Foreign { reason } = nginx.observe().await.served else {
        panic!("it was not noticed");
    };
    assert!(reason.contains("it was changed by hand"), "{reason}");
}

#[tokio::test]
async fn a_preview_header_wins_over_the_marker() {
    let lab = lab().await;
    let nginx = lab.nginx();
    let table = lab.table_with(1, canary(0.01), |shape| {
        shape.preview = Some("X-Turnout-Color".into());
    });
    must_apply(&nginx, &table, None, Foreign::Refuse).await;
    for color in ["blue", "green"] {
        let answer = lab.get("/", &[("X-Turnout-Color", color)]).await;
        assert_eq!(
            (answer.header("x-routed-to"), answer.header("x-backend")),
            (color, color)
        );
    }
}

#[tokio::test]
async fn a_new_shape_is_reloaded_and_a_failed_one_leaves_shape_and_position() {
    let lab = lab().await;
    let nginx = lab.nginx();
    let first = lab.table(1, whole(Color::Blue));
    must_apply(&nginx, &first, None, Foreign::Refuse).await;
    let workers = lab.workers();
    let reshaped = |generation, color| {
        lab.table_with(generation, whole(color), |shape| {
            shape.timeouts.response = Duration::from_secs(77);
        })
    };
    let second = reshaped(2, Color::Green);
    must_apply(&nginx, &second, Some(&first), Foreign::Refuse).await;
    assert_ne!(lab.workers(), workers);
    assert_eq!(lab.get("/", &[]).await.header("x-backend"), "green");

    // a shape that nginx refuses to serve: its listener cannot be had after the check
    let before = fs::read(lab.config()).unwrap();
    let broken = lab.table_with(3, whole(Color::Blue), |shape| {
        shape.hosts = vec!["other.example.com".parse().unwrap()];
        shape.listen = None;
        shape.public = Some(PublicUrl("http://127.0.0.1:1/".to_owned()));
    });
    let error = refused(apply(&nginx, &broken, Some(&second), Foreign::Refuse).await);
    assert!(matches!(error, ApplyError::Restored { .. }), "{error}");
    assert_eq!(fs::read(lab.config()).unwrap(), before);
    assert_eq!(marker(&lab), ".green");
    assert_eq!(lab.get("/", &[]).await.header("x-backend"), "green");

    // taken back byte for byte: shape and position
    let reverted = nginx.revert(Generation(1), Foreign::Refuse).await.unwrap();
    assert!(reverted.is_none(), "the failed change took its place");
}

#[tokio::test]
async fn a_proved_change_is_taken_back_without_a_reload_and_the_first_one_to_nothing() {
    let lab = lab().await;
    let nginx = lab.nginx();
    let first = lab.table(1, whole(Color::Blue));
    must_apply(&nginx, &first, None, Foreign::Refuse).await;
    let before = fs::read(lab.config()).unwrap();
    let workers = lab.workers();
    let second = lab.table(2, whole(Color::Green));
    must_apply(&nginx, &second, Some(&first), Foreign::Refuse).await;
    let reverted = nginx.revert(Generation(1), Foreign::Refuse).await.unwrap();
    assert_eq!(reverted.unwrap().generation(), Generation(1));
    assert_eq!(fs::read(lab.config()).unwrap(), before);
    assert_eq!(marker(&lab), ".blue");
    assert_eq!(lab.get("/", &[]).await.header("x-backend"), "blue");
    let again = nginx.revert(Generation(1), Foreign::Refuse).await.unwrap();
    assert_eq!(again.unwrap().generation(), Generation(1));
    assert_eq!(lab.workers(), workers, "no reload");
    assert!(matches!(
        nginx.observe().await.served,
        Served::Generation {
            generation: Generation(1),
            ..
        }
    ));

    let lab = self::lab().await;
    let nginx = lab.nginx();
    let first = lab.table(1, whole(Color::Blue));
    must_apply(&nginx, &first, None, Foreign::Refuse).await;
    let reverted = nginx.revert(Generation(0), Foreign::Refuse).await.unwrap();
    assert_eq!(reverted.unwrap().generation(), Generation(0));
    assert!(!lab.config().exists());
    assert!(!lab.path("snippets/position").exists());
}

#[tokio::test]
async fn a_server_block_of_the_users_own_switches_without_a_reload() {
    let mut lab = Lab::start_with_own_server().await;
    lab.settings.switching = Switching::Instant;
    let nginx = lab.nginx();
    let own = |generation, color| {
        lab.table_with(generation, whole(color), |shape| {
            shape.listen = None;
            shape.public = Some(PublicUrl(lab.public_url()));
        })
    };
    let blue = own(1, Color::Blue);
    must_apply(&nginx, &blue, None, Foreign::Refuse).await;
    let snippet = fs::read_to_string(lab.snippet()).unwrap();
    let root = format!("root {}/shop;", lab.path("snippets/position").display());
    assert!(snippet.contains(&root), "{snippet}");
    let workers = lab.workers();
    let green = own(2, Color::Green);
    let applied = apply(&nginx, &green, Some(&blue), Foreign::Refuse)
        .await
        .unwrap();
    assert!(
        applied
            .evidence()
            .iter()
            .any(|line| line.starts_with("front door ") && line.ends_with(": green")),
        "{:?}",
        applied.evidence()
    );
    assert_eq!(lab.workers(), workers, "no reload");
    assert_eq!(fs::read_to_string(lab.snippet()).unwrap(), snippet);
}

#[tokio::test]
async fn a_snippet_that_a_dead_turnout_left_running_is_reloaded_away() {
    let mut lab = Lab::start_with_own_server().await;
    lab.settings.switching = Switching::Instant;
    let own = |lab: &Lab, generation, seconds| {
        lab.table_with(generation, whole(Color::Blue), |shape| {
            shape.listen = None;
            shape.public = Some(PublicUrl(lab.public_url()));
            shape.timeouts.response = Duration::from_secs(seconds);
        })
    };
    let first = own(&lab, 1, 5);
    must_apply(&lab.nginx(), &first, None, Foreign::Refuse).await;
    let snippet = fs::read_to_string(lab.snippet()).unwrap();
    let workers = lab.workers();

    // killed when nginx was told, before the markers moved
    let pid = lab.pid_file();
    let told = lab.program(
        "hup",
        &format!("kill -HUP $(cat {}); sleep 60", pid.display()),
    );
    lab.settings.reload = NginxReload::Command(vec![told]);
    let (nginx, second) = (lab.nginx(), own(&lab, 2, 6));
    let applying = tokio::spawn(async move {
        let first = first;
        drop(apply(&nginx, &second, Some(&first), Foreign::Refuse).await);
    });
    lab.gone(&workers).await;
    applying.abort();
    assert_ne!(fs::read_to_string(lab.snippet()).unwrap(), snippet);

    lab.settings.reload = NginxReload::Signal;
    let left = lab.workers();
    let reverted = lab.nginx().revert(Generation(1), Foreign::Refuse).await;
    assert_eq!(reverted.unwrap().unwrap().generation(), Generation(1));
    assert_eq!(fs::read_to_string(lab.snippet()).unwrap(), snippet);
    lab.gone(&left).await;
}

#[tokio::test]
async fn a_template_that_does_not_say_its_shape_is_refused() {
    let mut lab = lab().await;
    lab.set_template("# nothing\n");
    let error = lab
        .nginx()
        .render(&lab.table(1, whole(Color::Blue)))
        .unwrap_err();
    assert!(error.to_string().contains("instant.shape"), "{error}");
}
