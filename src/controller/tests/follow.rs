//! `state.follow`: whose color is served first, and what a person may still do.

use super::*;
use crate::domain::Weight;

impl Lab {
    fn following(more: &'static str) -> Self {
        let mut lab = Self::new();
        lab.follow = true;
        lab.more = more;
        lab
    }

    fn follower(&self, color: Color) -> Controller<Fake> {
        self.controller().following(Some(color))
    }
}

async fn ready(controller: Controller<Fake>) -> (Handle, tokio::task::JoinHandle<()>) {
    let (handle, task) = spawn(controller).await.unwrap();
    let mut proof = handle.proof();
    let seen = proof.wait_for(|proof| *proof == Proof::Seen);
    tokio::time::timeout(Duration::from_secs(30), seen)
        .await
        .unwrap()
        .unwrap();
    (handle, task)
}

#[tokio::test]
async fn the_first_color_ever_served_is_the_one_that_the_file_names() {
    let lab = Lab::following("");
    let (handle, task) = ready(lab.follower(Color::Green)).await;
    let status = handle.status();
    assert_eq!(
        (status.generation, status.services[0].active),
        (Generation(1), Color::Green)
    );
    let applies = lab.fake.applies();
    let shop = &applies[0].splits[&"shop".parse().unwrap()];
    assert_eq!((applies.len(), shop.whole()), (1, Some(Color::Green)));
    drop(handle);
    task.await.unwrap();
}

#[tokio::test]
async fn a_start_is_over_once_the_color_that_the_file_names_is_in_force() {
    let lab = Lab::following("");
    applied(&lab).await;
    let (handle, task) = ready(lab.follower(Color::Green)).await;
    assert_eq!(
        (lab.active(), lab.served()),
        (Color::Green, Some(Color::Green))
    );
    assert_eq!(handle.status().services[0].active, Color::Green);
    drop(handle);
    task.await.unwrap();
}

#[tokio::test]
async fn a_color_that_cannot_be_followed_does_not_hold_up_a_start_and_is_told() {
    let mut lab = Lab::with(healthy_server(), dead_server());
    lab.follow = true;
    applied(&lab).await;
    let (handle, task) = ready(lab.follower(Color::Green)).await;
    let status = handle.status();
    assert_eq!(lab.served(), Some(Color::Blue));
    assert!(
        status.problems[0].starts_with("followed file: green of shop is unhealthy"),
        "{:?}",
        status.problems
    );
    drop(handle);
    task.await.unwrap();
}

#[tokio::test]
async fn only_what_changes_the_active_color_is_left_to_the_file() {
    let lab = Lab::following("    strategy: canary\n");
    let mut controller = applied(&lab).await;
    let weights = |blue: f64| {
        let weights = crate::domain::Split::from_percents(blue, 100.0 - blue).unwrap();
        Verb::Weights {
            service: None,
            weights,
        }
    };
    let shift = |by| Verb::Shift {
        service: None,
        by,
        towards: Color::Green,
    };
    let strategy = |strategy| Verb::Strategy {
        service: None,
        strategy,
    };
    for (verb, is_allowed) in [
        (weights(80.0), true),
        (shift(10.0), true),
        (shift(70.0), false),
        (weights(0.0), false),
        (
            Verb::Switch {
                service: None,
                to: None,
            },
            false,
        ),
        (Verb::Rollback { service: None }, false),
        (strategy(crate::domain::Strategy::BlueGreen), true),
        (strategy(crate::domain::Strategy::Canary), true),
        (weights(70.0), true),
    ] {
        let said = format!("{verb:?}");
        match ask(&mut controller, &Request::new(verb, "tester")).await {
            Ok(outcome) => assert!(is_allowed && outcome.changed, "{said}"),
            Err(error) => assert!(
                !is_allowed
                    && matches!(
                        error,
                        ChangeError::Followed { .. } | ChangeError::NothingToRollBack { .. }
                    ),
                "{said}: {error}"
            ),
        }
    }
    // a file that goes on naming the active color takes nobody's weights away
    let mut again = switch(Color::Blue);
    again.origin = Origin::Followed;
    let outcome = ask(&mut controller, &again).await.unwrap();
    assert!(!outcome.changed);
    assert_eq!(
        outcome.service.unwrap().weights.blue,
        Weight::from_percent(70.0).unwrap()
    );
    again = switch(Color::Green);
    again.origin = Origin::Followed;
    ask(&mut controller, &again).await.unwrap();
    assert_eq!(lab.served(), Some(Color::Green));
}
