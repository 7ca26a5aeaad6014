//! The machine over sequences of events, with a balancer that may fail: what must hold whatever comes, and in whatever order.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::domain::{Color, Position, Split, Strategy as Divides};
use crate::rollout::Course;

fn at(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH
        .checked_add(SignedDuration::from_secs(seconds))
        .unwrap()
}

/// The traffic as the actions leave it, with a balancer that may fail. Stable is blue.
#[derive(Debug, Clone, Copy)]
struct Traffic {
    position: Position,
}

impl Traffic {
    fn new() -> Self {
        Self {
            position: Position::all(Divides::Canary, Color::Blue),
        }
    }

    fn does(&mut self, action: Action) {
        let green = Color::Green;
        self.position = match action {
            Action::SetWeight(weight) => {
                Position::canary(Color::Blue, Split::giving(green, weight))
            }
            Action::Promote => Position::all(Divides::Canary, green),
            Action::Return => Position::all(Divides::Canary, Color::Blue),
            Action::Judge | Action::NewStep | Action::Refuse(_) => self.position,
        };
    }
}

fn any_event() -> impl Strategy<Value = Event> {
    let why = String::new;
    prop_oneof![
        4 => Just(Event::Due),
        4 => Just(Event::Judged(Decision::Advance, why())),
        2 => Just(Event::Judged(Decision::Hold, why())),
        1 => Just(Event::Judged(Decision::RollBack, why())),
        8 => Just(Event::Applied),
        2 => Just(Event::Failed(why())),
        1 => Just(Event::Pause(why())),
        1 => Just(Event::Resume(why())),
        1 => Just(Event::Promote(why())),
        1 => Just(Event::Cancel(why())),
        1 => Just(Event::SourceDown(why())),
        1 => Just(Event::SourceLost(why())),
        1 => Just(Event::SourceBack),
        1 => Just(Event::Outdated(why())),
    ]
}

fn any_course() -> impl Strategy<Value = Course> {
    (0_u16..10_000, 1_u16..=10_000, 1_u64..100, 1_u32..20).prop_map(
        |(initial, step, seconds, max_steps)| Course {
            initial: Weight::from_basis_points(initial).unwrap(),
            step: Weight::from_basis_points(step).unwrap(),
            interval: Duration::from_secs(seconds),
            max_steps,
        },
    )
}

proptest! {
    /// Whatever comes in whatever order, with a balancer that takes some of what it is asked for and fails at the rest.
    #[test]
    fn the_split_adds_up_active_changes_by_promotion_alone_and_every_end_is_on_one_color(
        course in any_course(),
        events in proptest::collection::vec(any_event(), 1..80),
    ) {
        let mut traffic = Traffic::new();
        let (mut walk, first) = Walk::begin(course, at(0));
        let mut asked: Option<Action> = first.first().copied();
        for (number, event) in events.into_iter().enumerate() {
            let before = traffic;
            // an answer comes to what was asked, and nothing else has an effect
            match (&event, asked) {
                (Event::Applied, Some(action)) => {
                    traffic.does(action);
                    asked = None;
                }
                (Event::Failed(_), Some(_)) => asked = None,
                (Event::Applied | Event::Failed(_), None) => continue,
                (_, _) => {}
            }
            let was = walk.clone();
            let (after, actions) = walk.step(event.clone(), at(i64::try_from(number).unwrap()));
            for action in &actions {
                if matches!(action, Action::SetWeight(_) | Action::Promote | Action::Return) {
                    asked = Some(*action);
                }
            }
            let split = traffic.position.split();
            prop_assert_eq!(
                split.weight(Color::Blue).basis_points() + split.weight(Color::Green).basis_points(),
                10_000
            );
            if traffic.position.active() != before.position.active() {
                prop_assert!(matches!(was.phase(), Phase::Promoting { .. }), "{:?} by {:?}", was, event);
                prop_assert_eq!(after.status(), Status::Promoted);
            }
            // what it says is in force is in force
            prop_assert_eq!(after.weight(), split.weight(Color::Green), "{:?} after {:?}", after, event);
            if after.status().is_over() {
                prop_assert!(split.whole().is_some());
                prop_assert_eq!(after.status() == Status::Promoted, split.whole() == Some(Color::Green));
                prop_assert_eq!(after.until(), None);
                prop_assert!(actions.iter().all(|action| matches!(action, Action::Refuse(_))));
            } else {
                prop_assert!(after.until().is_some(), "{:?} would never be looked at again", after);
            }
            if let (Event::Judged(Decision::RollBack, _), Phase::Observing { .. }) = (&event, was.phase()) {
                prop_assert_eq!(actions.as_slice(), &[Action::Return]);
            }
            walk = after;
        }
        // and an abort takes it back from wherever it is
        if !walk.status().is_over() {
            let (cancelled, actions) = walk.step(Event::Cancel(String::new()), at(1_000));
            prop_assert_eq!(actions.as_slice(), &[Action::Return]);
            traffic.does(Action::Return);
            let (cancelled, _) = cancelled.step(Event::Applied, at(1_001));
            prop_assert!(matches!(cancelled.status(), Status::Cancelled | Status::RolledBack));
            prop_assert_eq!(traffic.position.split().whole(), Some(Color::Blue));
            prop_assert_eq!(cancelled.weight(), Weight::ZERO);
        }
    }

    /// Killed after any event and started again from what was written: it asks for the same.
    #[test]
    fn what_was_written_down_asks_for_the_same_after_a_crash(
        course in any_course(),
        events in proptest::collection::vec(any_event(), 0..40),
    ) {
        let (mut walk, _) = Walk::begin(course, at(0));
        for event in events {
            (walk, _) = walk.step(event, at(7));
        }
        let text = serde_json::to_string(&walk).unwrap();
        let read: Walk = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&read, &walk);
        let (_, here) = walk.clone().step(Event::Due, at(9));
        let (_, there) = read.resumed(at(9)).step(Event::Due, at(9));
        prop_assert_eq!(here, there);
    }
}
