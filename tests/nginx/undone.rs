//! Changes that nginx does not take although it said so, or cannot take: they are found out and undone.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;

use turnout::balancer::{ApplyError, Balancer as _, Change, Foreign, FrontDoor, Progress, Served};
use turnout::domain::{Color, Generation};

use super::lab::Lab;
use super::tables::whole;
use super::{apply, must_apply, refused};

#[tokio::test]
async fn a_reload_that_lies_is_found_out_and_undone() {
    // root's `nginx -t` may bind a low port, the master that runs as nobody may not
    let lab = Lab::start_as_nobody().await;
    let nginx = lab.nginx();
    let blue = lab.table(1, whole(Color::Blue));
    must_apply(&nginx, &blue, None, Foreign::Refuse).await;
    let before = fs::read(lab.config()).unwrap();
    let low = crate::support::Ports::low();
    let table = lab.table_with(2, whole(Color::Green), |shape| {
        shape.listen = Some(low);
    });
    let error = refused(apply(&nginx, &table, Some(&blue), Foreign::Refuse).await);
    let ApplyError::Restored { message, serves } = &error else {
        panic!("{error}")
    };
    assert_eq!(*serves, Generation(1));
    assert!(
        message.contains(&format!("bind() to {low} failed (13: Permission denied)")),
        "{message}"
    );
    assert_eq!(fs::read(lab.config()).unwrap(), before);
    assert_eq!(lab.get("/", &[]).await.header("x-backend"), "blue");
    let Served::Generation { generation, .. } = nginx.observe().await.served else {
        panic!()
    };
    assert_eq!(generation, Generation(1));
    // and it is no obstacle to the next change
    let green = lab.table(3, whole(Color::Green));
    must_apply(&nginx, &green, Some(&blue), Foreign::Refuse).await;
}

#[tokio::test]
async fn a_first_apply_that_nginx_does_not_take_leaves_no_file_behind() {
    let lab = Lab::start_as_nobody().await;
    let table = lab.table_with(1, whole(Color::Blue), |shape| {
        shape.listen = Some(crate::support::Ports::low());
    });
    let error = refused(apply(&lab.nginx(), &table, None, Foreign::Refuse).await);
    assert!(
        matches!(
            error,
            ApplyError::Restored {
                serves: Generation(0),
                ..
            }
        ),
        "{error}"
    );
    assert!(!lab.config().exists());
}

#[tokio::test]
async fn a_front_door_that_shows_the_wrong_color_is_undone_with_a_second_reload() {
    let lab = Lab::start().await;
    let nginx = lab.nginx();
    let blue = lab.table(1, whole(Color::Blue));
    must_apply(&nginx, &blue, None, Foreign::Refuse).await;
    let before = fs::read(lab.config()).unwrap();
    let green = lab.table(2, whole(Color::Green));
    let mut rendered = nginx.render(&green).unwrap();
    rendered.files[0].text = rendered.files[0]
        .text
        .replace("add_header X-Routed-To", "add_header X-Elsewhere");
    let change = Change {
        desired: &green,
        rendered: &rendered,
        previous: Some(&blue),
        front_door: FrontDoor::Ask,
        unseen: &BTreeSet::new(),
        foreign: Foreign::Refuse,
        progress: Progress::silent(),
    };
    let error = refused(nginx.apply(change).await);
    assert!(error.to_string().contains("without X-Routed-To"), "{error}");
    assert!(
        matches!(
            error,
            ApplyError::Restored {
                serves: Generation(1),
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(fs::read(lab.config()).unwrap(), before);
    assert_eq!(lab.get("/", &[]).await.header("x-backend"), "blue");
}

#[tokio::test]
async fn a_busy_address_is_found_before_nginx_is_told() {
    let lab = Lab::start().await;
    let nginx = lab.nginx();
    let blue = lab.table(1, whole(Color::Blue));
    must_apply(&nginx, &blue, None, Foreign::Refuse).await;
    let before = fs::read(lab.config()).unwrap();
    let workers = lab.workers();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = other.local_addr().unwrap();
    let table = lab.table_with(2, whole(Color::Green), |shape| shape.listen = Some(busy));
    let error = refused(apply(&nginx, &table, Some(&blue), Foreign::Refuse).await);
    let said = error.to_string();
    assert!(matches!(error, ApplyError::Unchanged { .. }), "{said}");
    assert!(
        said.contains(&format!(
            "bind() to {busy} failed (98: Address already in use): it is held by "
        )),
        "{said}"
    );
    assert!(
        said.contains(&format!("(pid {})", std::process::id())),
        "{said}"
    );
    assert_eq!(
        (fs::read(lab.config()).unwrap(), lab.workers()),
        (before, workers)
    );
}
