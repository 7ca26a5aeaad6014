//! A server block of the user's own: proved through its public URL, and what is said while an include is still missing.

use std::collections::BTreeSet;
use std::fs;

use turnout::balancer::{
    ApplyError, Balancer as _, Change, Disk, Foreign, FrontDoor, Progress, Served,
};
use turnout::domain::{Color, Generation};

use super::lab::Lab;
use super::tables::whole;
use super::{apply, must_apply, refused};

#[tokio::test]
async fn a_user_s_own_tls_server_block_is_proved_through_its_public_url() {
    let lab = Lab::start_with_own_server().await;
    let nginx = lab.nginx();
    let shape = |shape: &mut turnout::domain::Service| {
        shape.listen = None;
        shape.public = Some(turnout::domain::PublicUrl(lab.public_url()));
    };
    let blue = lab.table_with(1, whole(Color::Blue), shape);
    let applied = apply(&nginx, &blue, None, Foreign::Refuse).await.unwrap();
    assert!(
        applied.evidence().contains(&format!(
            "front door {} (Host shop.example.com): blue",
            lab.public_url()
        )),
        "{:?}",
        applied.evidence()
    );
    let snippet = fs::read_to_string(lab.snippet()).unwrap();
    let green = lab.table_with(2, whole(Color::Green), shape);
    let applied = apply(&nginx, &green, Some(&blue), Foreign::Refuse)
        .await
        .unwrap();
    assert!(
        applied.evidence().contains(&format!(
            "front door {} (Host shop.example.com): green",
            lab.public_url()
        )),
        "{:?}",
        applied.evidence()
    );
    assert_eq!(fs::read_to_string(lab.snippet()).unwrap(), snippet);

    fs::OpenOptions::new()
        .append(true)
        .open(lab.snippet())
        .map(|mut file| std::io::Write::write_all(&mut file, b"# mine\n"))
        .unwrap()
        .unwrap();
    assert_eq!(
        nginx.observe().await.disk,
        Some(Disk::Edited {
            generation: Generation(2),
            path: lab.snippet()
        })
    );
}

#[tokio::test]
async fn a_server_block_that_does_not_include_its_snippet_yet_is_a_warning_until_it_was_seen() {
    let lab = Lab::start_with_own_server().await;
    let include = fs::read_to_string(lab.path("conf.d/z-own.conf")).unwrap();
    let without = include.replace(
        &format!("include {};", lab.snippet().display()),
        "return 200;",
    );
    lab.put("conf.d/z-own.conf", &without);
    lab.reload().await;
    let nginx = lab.nginx();
    let shape = |shape: &mut turnout::domain::Service| {
        shape.listen = None;
        shape.public = Some(turnout::domain::PublicUrl(lab.public_url()));
    };
    let blue = lab.table_with(1, whole(Color::Blue), shape);
    let rendered = nginx.render(&blue).unwrap();
    let unseen = BTreeSet::from(["shop".parse().unwrap()]);
    let change = || Change {
        desired: &blue,
        rendered: &rendered,
        previous: None,
        front_door: FrontDoor::Ask,
        unseen: &unseen,
        foreign: Foreign::Refuse,
        progress: Progress::silent(),
    };
    let applied = nginx.apply(change()).await.unwrap();
    assert_eq!(applied.routed(), &BTreeSet::new());
    assert_eq!(
        applied.warnings(),
        [format!(
            "applied, but {} (Host shop.example.com) does not go through turnout yet: add `include {};` to its location, reload nginx, then run \
             `turnout verify`",
            lab.public_url(),
            lab.snippet().display()
        )]
    );
    // who was seen once has to be seen again
    let green = lab.table_with(2, whole(Color::Green), shape);
    let error = refused(apply(&nginx, &green, Some(&blue), Foreign::Refuse).await);
    assert!(matches!(error, ApplyError::Restored { .. }), "{error:?}");
    assert!(error.to_string().contains("without X-Routed-To"), "{error}");

    lab.put("conf.d/z-own.conf", &include);
    lab.reload().await;
    let applied = nginx.apply(change()).await.unwrap();
    assert_eq!((applied.routed(), applied.warnings()), (&unseen, &[][..]));
    must_apply(&nginx, &green, Some(&blue), Foreign::Refuse).await;
}

#[tokio::test]
async fn a_missing_include_is_told_with_the_line_to_add() {
    let lab = Lab::start_without_include().await;
    let nginx = lab.nginx();
    let error = refused(
        apply(
            &nginx,
            &lab.table(1, whole(Color::Blue)),
            None,
            Foreign::Refuse,
        )
        .await,
    );
    let expected = format!(
        "{} does not load {1}: add the line `include {1};` to its http block",
        lab.main().display(),
        lab.config().display()
    );
    assert!(
        matches!(&error, ApplyError::Unchanged { message, .. } if *message == expected),
        "{error}"
    );
    assert!(!lab.config().exists());
    assert!(matches!(
        nginx.observe().await.served,
        Served::Foreign { .. }
    ));
}
