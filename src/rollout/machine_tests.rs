//! The machine over every pair of phase and event. Sequences of events are in `machine_sequences_tests`.

use std::fmt::Write;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::domain::WalkAsk;
use crate::rollout::{Course, Mood};

fn at(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH
        .checked_add(SignedDuration::from_secs(seconds))
        .unwrap()
}

fn percent(percent: f64) -> Weight {
    Weight::from_percent(percent).unwrap()
}

fn course() -> Course {
    Course::of(WalkAsk {
        initial_weight: Some(10.0),
        step_weight: Some(30.0),
        interval_sec: Some(60),
        max_steps: Some(10),
    })
    .unwrap()
}

/// At a phase, with what goes with it.
fn walk(phase: Phase) -> Walk {
    let (mut walk, _) = Walk::begin(course(), at(0));
    walk.phase = phase;
    walk.weight = match phase {
        Phase::Starting { .. }
        | Phase::Over {
            end: End::RolledBack | End::Cancelled,
        } => Weight::ZERO,
        Phase::Observing { .. }
        | Phase::Shifting { .. }
        | Phase::Promoting { .. }
        | Phase::Returning { .. } => percent(40.0),
        Phase::Over { end: End::Promoted } => Weight::WHOLE,
    };
    walk.step = 1;
    walk.until = match phase {
        Phase::Over { .. } => None,
        Phase::Starting { .. }
        | Phase::Observing { .. }
        | Phase::Shifting { .. }
        | Phase::Promoting { .. }
        | Phase::Returning { .. } => Some(at(60)),
    };
    walk
}

const MOODS: [Mood; 3] = [Mood::Progressing, Mood::Holding, Mood::Paused];

fn phases() -> Vec<Phase> {
    let mut phases = Vec::new();
    for mood in MOODS {
        phases.push(Phase::Observing { mood });
    }
    for then in [Mood::Progressing, Mood::Paused] {
        let to = percent(70.0);
        phases.push(Phase::Promoting { then });
        phases.push(Phase::Starting { then });
        phases.push(Phase::Shifting { to, then });
    }
    for end in [End::RolledBack, End::Cancelled] {
        phases.push(Phase::Returning { end });
    }
    for end in [End::Promoted, End::RolledBack, End::Cancelled] {
        phases.push(Phase::Over { end });
    }
    phases
}

fn events() -> Vec<Event> {
    let why = || "why".to_owned();
    vec![
        Event::Due,
        Event::Judged(Decision::Advance, why()),
        Event::Judged(Decision::Hold, why()),
        Event::Judged(Decision::RollBack, why()),
        Event::Applied,
        Event::Failed(why()),
        Event::Pause(why()),
        Event::Resume(why()),
        Event::Promote(why()),
        Event::Cancel(why()),
        Event::SourceDown(why()),
        Event::SourceLost(why()),
        Event::SourceBack,
        Event::Outdated(why()),
        Event::Superseded(why(), Weight::ZERO),
        Event::Superseded(why(), Weight::WHOLE),
    ]
}

fn word(event: &Event) -> String {
    match event {
        Event::Due => "due".to_owned(),
        Event::Judged(decision, _) => format!("judged {decision:?}").to_lowercase(),
        Event::Applied => "applied".to_owned(),
        Event::Failed(_) => "failed".to_owned(),
        Event::Pause(_) => "pause".to_owned(),
        Event::Resume(_) => "resume".to_owned(),
        Event::Promote(_) => "promote".to_owned(),
        Event::Cancel(_) => "cancel".to_owned(),
        Event::SourceDown(_) => "source down".to_owned(),
        Event::SourceLost(_) => "source lost".to_owned(),
        Event::SourceBack => "source back".to_owned(),
        Event::Outdated(_) => "outdated".to_owned(),
        Event::Superseded(_, weight) => format!("superseded {weight}"),
    }
}

fn brief(phase: Phase) -> String {
    match phase {
        Phase::Starting { then } => format!("starting, then {then:?}").to_lowercase(),
        Phase::Observing { mood } => format!("observing, {mood:?}").to_lowercase(),
        Phase::Shifting { to, then } => format!("shifting to {to}, then {then:?}").to_lowercase(),
        Phase::Promoting { then } => format!("promoting, else {then:?}").to_lowercase(),
        Phase::Returning { end } => format!("returning, {end:?}").to_lowercase(),
        Phase::Over { end } => format!("over, {end:?}").to_lowercase(),
    }
}

fn short(action: Action) -> String {
    match action {
        Action::SetWeight(weight) => format!("weight {weight}"),
        Action::Promote => "promote".to_owned(),
        Action::Return => "return".to_owned(),
        Action::Judge => "judge".to_owned(),
        Action::NewStep => "new step".to_owned(),
        Action::Refuse(Refusal::Over(status)) => format!("refuse: {status}"),
        Action::Refuse(Refusal::Returning) => "refuse: returning".to_owned(),
        Action::Refuse(Refusal::NotBegun) => "refuse: not begun".to_owned(),
    }
}

/// Every pair, as a table: what it leads to and what is done; `-` where nothing changes and nothing is done.
#[test]
fn every_phase_answers_every_event() {
    let mut table = String::new();
    for phase in phases() {
        table.push_str(&brief(phase));
        table.push('\n');
        for event in events() {
            let name = word(&event);
            let (after, actions) = walk(phase).step(event, at(60));
            let done: Vec<_> = actions.iter().copied().map(short).collect();
            let moved = after.phase() != phase || after.weight() != walk(phase).weight();
            let mut line = format!("  {name}:");
            if moved {
                write!(line, " {} at {}", brief(after.phase()), after.weight()).unwrap();
            }
            if !done.is_empty() {
                write!(line, " [{}]", done.join(", ")).unwrap();
            }
            if !moved && done.is_empty() {
                line.push_str(" -");
            }
            table.push_str(&line);
            table.push('\n');
        }
    }
    insta::assert_snapshot!(table);
}

#[test]
fn a_candidate_that_pleases_walks_to_the_end_in_the_intervals_that_were_asked_for() {
    let (mut walk, mut actions) = Walk::begin(course(), at(0));
    let mut weights = Vec::new();
    let mut now = 0;
    for _ in 0..20 {
        match actions.as_slice() {
            [Action::SetWeight(weight)] => {
                weights.push(weight.to_string());
                (walk, actions) = walk.step(Event::Applied, at(now));
                assert_eq!(actions, [Action::NewStep]);
                assert_eq!(walk.until(), Some(at(now + 60)));
                now += 60;
                (walk, actions) = walk.step(Event::Due, at(now));
            }
            [Action::Judge] => {
                let advance = Event::Judged(Decision::Advance, "good".to_owned());
                (walk, actions) = walk.step(advance, at(now));
            }
            [Action::Promote] => {
                (walk, actions) = walk.step(Event::Applied, at(now));
                break;
            }
            other => panic!("{other:?} in {walk:?}"),
        }
    }
    assert_eq!(weights, ["10", "40", "70"]);
    assert_eq!(actions, []);
    assert_eq!(
        (
            walk.status(),
            walk.weight(),
            walk.step_number(),
            walk.until()
        ),
        (Status::Promoted, Weight::WHOLE, 2, None)
    );
}

#[test]
fn after_the_last_step_the_candidate_is_promoted_from_where_it_is() {
    let course = Course {
        max_steps: 1,
        ..course()
    };
    let (walk, _) = Walk::begin(course, at(0));
    let advance = || Event::Judged(Decision::Advance, "good".to_owned());
    let (walk, _) = walk.step(Event::Applied, at(1));
    let (walk, actions) = walk.step(advance(), at(2));
    assert_eq!(actions, [Action::SetWeight(percent(40.0))]);
    let (walk, _) = walk.step(Event::Applied, at(3));
    let (_, actions) = walk.step(advance(), at(4));
    assert_eq!(actions, [Action::Promote]);
}

#[test]
fn deadlines_are_absolute_and_a_clock_that_was_set_back_makes_none_of_years() {
    let progressing = Mood::Progressing;
    let hold = || Event::Judged(Decision::Hold, "little".to_owned());
    // late by 5 s: the next one is not
    let (held, _) = walk(Phase::Observing { mood: progressing }).step(hold(), at(65));
    assert_eq!(held.until(), Some(at(120)));
    // turnout was away for an hour
    let (late, _) = held.clone().step(hold(), at(3_720));
    assert_eq!(late.until(), Some(at(3_780)));
    assert_eq!(held.clone().resumed(at(100)).until(), Some(at(120)));
    let back = held.resumed(at(-1_000_000));
    assert_eq!(back.until(), Some(at(-1_000_000 + 60)));
}

#[test]
fn a_verdict_holds_for_an_interval_and_what_waits_longer_stays_where_it_is() {
    let progressing = Mood::Progressing;
    let advance = || Event::Judged(Decision::Advance, "good".to_owned());
    let (shifting, _) = walk(Phase::Observing { mood: progressing }).step(advance(), at(60));
    assert_eq!(
        [120, 121].map(|second| shifting.is_outdated(at(second))),
        [false, true]
    );
    let late = || Event::Outdated("late".to_owned());
    let (stays, actions) = shifting.step(late(), at(121));
    assert_eq!(actions, [Action::SetWeight(percent(40.0))]);
    // which is itself no step that could be outdated
    assert!(!stays.is_outdated(at(9_999)));
    let (stays, actions) = stays.step(Event::Applied, at(130));
    assert_eq!(actions, [Action::NewStep]);
    assert_eq!(
        (
            stays.phase(),
            stays.weight(),
            stays.step_number(),
            stays.until()
        ),
        (
            Phase::Observing { mood: progressing },
            percent(40.0),
            1,
            Some(at(190))
        )
    );
    // one that a person has paused and wanted promoted is paused again
    let promoting = Phase::Promoting { then: Mood::Paused };
    let (stays, _) = walk(promoting).step(late(), at(121));
    assert_eq!(stays.status(), Status::Paused);
    let (stays, _) = walk(promoting).step(Event::Failed("no".to_owned()), at(121));
    assert_eq!(stays.status(), Status::Paused);
    // neither what a person has paused nor the way back is
    for phase in [
        Phase::Observing { mood: progressing },
        Phase::Returning {
            end: End::Cancelled,
        },
    ] {
        assert!(!walk(phase).is_outdated(at(9_999)), "{phase:?}");
    }
}

#[test]
fn a_way_back_that_fails_keeps_its_reason_and_says_what_is_in_the_way_until_it_is_done() {
    let bad = Event::Judged(Decision::RollBack, "20 % failed".to_owned());
    let mood = Mood::Progressing;
    let (walk, _) = walk(Phase::Observing { mood }).step(bad, at(60));
    assert_eq!(walk.trouble(), None);
    let (walk, _) = walk.step(Event::Failed("the disk is full".to_owned()), at(61));
    assert_eq!(
        (walk.reason(), walk.trouble(), walk.until()),
        ("20 % failed", Some("the disk is full"), Some(at(62)))
    );
    let (walk, _) = walk.step(Event::Applied, at(62));
    assert_eq!((walk.reason(), walk.trouble()), ("20 % failed", None));
}

#[test]
fn a_source_that_is_lost_amid_an_interval_is_a_hold_at_once_and_moves_no_deadline() {
    let mood = Mood::Progressing;
    let lost = Event::SourceLost("connection refused".to_owned());
    let (walk, actions) = walk(Phase::Observing { mood }).step(lost, at(20));
    assert_eq!(actions, []);
    assert_eq!(
        (walk.status(), walk.reason(), walk.until()),
        (Status::Holding, "connection refused", Some(at(60)))
    );
}

#[test]
fn what_no_walk_can_be_is_named() {
    let of = |ask: WalkAsk| Course::of(ask).unwrap_err().to_string();
    let ask = WalkAsk::default();
    for (ask, text) in [
        (
            WalkAsk {
                initial_weight: Some(100.0),
                ..ask
            },
            "strategy.initial_weight is below 100, not 100",
        ),
        (
            WalkAsk {
                initial_weight: Some(-1.0),
                ..ask
            },
            "strategy.initial_weight: a weight is a number from 0 to 100, not -1",
        ),
        (
            WalkAsk {
                step_weight: Some(0.0),
                ..ask
            },
            "strategy.step_weight is above 0, not 0",
        ),
        (
            WalkAsk {
                interval_sec: Some(0),
                ..ask
            },
            "strategy.interval_sec is from 1 to 604800, not 0",
        ),
        (
            WalkAsk {
                max_steps: Some(0),
                ..ask
            },
            "strategy.max_steps is from 1 to 10000, not 0",
        ),
    ] {
        assert_eq!(of(ask), text);
    }
    let built_in = Course::of(ask).unwrap();
    assert_eq!(
        (
            built_in.initial,
            built_in.step,
            built_in.interval,
            built_in.max_steps
        ),
        (percent(5.0), percent(10.0), Duration::from_mins(1), 10)
    );
}
