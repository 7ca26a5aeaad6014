//! Beginning, committing, giving up and settling, with a load after each, as a reader or the next process would see it.

use super::*;

#[test]
fn a_missing_directory_is_a_fresh_start_and_stays_missing() {
    let place = Place::new();
    let loaded = place.load();
    assert_eq!(
        (loaded.origin, loaded.state),
        (Origin::Fresh, State::default())
    );
    assert_eq!(loaded.open, None);
    assert_eq!(
        place.store.lock_status().unwrap(),
        LockStatus {
            change: None,
            serve: None
        }
    );
    assert_eq!(place.store.history(None, 10).unwrap(), Vec::new());
    assert_eq!(place.store.load_staged().unwrap(), None);
    assert!(!place.store.dir().exists());
}

#[test]
fn a_change_is_open_until_it_is_committed_and_then_in_every_file() {
    let place = Place::new();
    let first = place.switch(Color::Blue);
    let mut lock = place.lock();
    let (intent, target) = place.next(Color::Green);

    let begun = lock.begin(intent.clone(), &target).unwrap();
    let loaded = place.load();
    assert_eq!((loaded.state, loaded.origin), (first.clone(), Origin::File));
    assert_eq!(loaded.open, Some(intent));
    assert_eq!(place.read("active/shop"), b"blue");

    lock.commit(&begun, &proved(target.generation)).unwrap();
    let loaded = place.load();
    assert_eq!((loaded.state, loaded.open), (target, None));
    assert_eq!(place.read("active/shop"), b"green");
    assert_eq!(
        super::super::wire::decode(&place.read("state.json.bak")).unwrap(),
        first
    );
    assert_eq!(
        place.names(),
        [
            "active",
            "change.lock",
            "journal.jsonl",
            "state.json",
            "state.json.bak"
        ]
    );
}

#[test]
fn the_state_file_reads_as_the_contract_says() {
    let place = Place::new();
    place.switch(Color::Green);
    let text = String::from_utf8(place.read("state.json")).unwrap();
    let (body, sum) = text.split_once("  \"sha256\"").unwrap();
    assert_eq!(
        body,
        "{\n  \"version\": 1,\n  \"generation\": 1,\n  \"balancer\": \"nginx\",\n  \"services\": {\n    \"shop\": {\n      \
         \"strategy\": \"blue_green\",\n      \"active\": \"green\",\n      \"weights\": {\n        \"blue\": 0,\n        \
         \"green\": 100\n      },\n      \"previous\": \"blue\",\n      \"overlay\": null,\n      \"versions\": {\n        \
         \"blue\": \"1.0.0\",\n        \"green\": null\n      },\n      \"rollout\": null,\n      \"since\": \
         \"2026-11-21T03:42:19Z\"\n    }\n  },\n"
    );
    assert!(sum.ends_with("\"\n}\n"), "{sum}");
}

#[test]
fn what_is_given_up_leaves_the_state_and_its_number_is_remembered() {
    for outcome in [Outcome::Unchanged, Outcome::Restored, Outcome::NotRestored] {
        let place = Place::new();
        let first = place.switch(Color::Blue);
        let state_file = place.read("state.json");
        let mut lock = place.lock();
        let (intent, target) = place.next(Color::Green);
        let begun = lock.begin(intent, &target).unwrap();
        lock.give_up(begun, outcome, "the balancer said no")
            .unwrap();
        assert_eq!(lock.used(), Generation(2));
        drop(lock);

        let loaded = place.load();
        assert_eq!((loaded.state, loaded.open), (first, None));
        assert_eq!(loaded.used, Generation(2));
        assert_eq!(place.read("state.json"), state_file);
        assert!(!place.path(".state.json.tmp").exists());
        assert_eq!(place.switch(Color::Green).generation, Generation(3));
        assert_eq!(place.load().state.generation, Generation(3));
    }
}

#[test]
fn a_generation_that_failed_may_be_used_again() {
    let place = Place::new();
    let first = place.switch(Color::Blue);
    let (intent, target) = place.next(Color::Green);
    let mut lock = place.lock();
    let begun = lock.begin(intent.clone(), &target).unwrap();
    lock.give_up(begun, Outcome::Restored, "no").unwrap();
    let begun = lock.begin(intent, &target).unwrap();
    assert_eq!(place.load().state, first);
    lock.commit(&begun, &proved(Generation(2))).unwrap();
    drop(lock);
    assert_eq!(place.load().state, target);
    fs::remove_file(place.path("state.json")).unwrap();
    assert_eq!(place.load().state, target);
    fs::remove_file(place.path("state.json.bak")).unwrap();
    assert_eq!(place.load().state, target);
}

#[test]
fn a_change_that_does_not_follow_from_the_state_is_refused() {
    let place = Place::new();
    let first = place.switch(Color::Blue);
    let (stale, _) = step(&State::default(), Generation(2), Color::Green);
    let (intent, target) = step(&first, Generation(2), Color::Green);
    let (repeated, same) = step(&first, Generation(1), Color::Green);
    let journal = place.read("journal.jsonl");
    let mut lock = place.lock();
    let reason = |error: StoreError| {
        let StoreError::OutOfOrder { reason, .. } = error else {
            panic!("{error:?}");
        };
        reason
    };
    assert_eq!(
        reason(lock.begin(stale, &target).unwrap_err()),
        "it goes from generation 0 to 2, and generation 1 is in force"
    );
    assert_eq!(
        reason(lock.begin(repeated, &same).unwrap_err()),
        "it goes from generation 1 to 1, and generation 1 is in force"
    );
    assert_eq!(
        reason(lock.begin(intent.clone(), &first).unwrap_err()),
        "it says generation 2 and makes generation 1"
    );
    assert_eq!(place.read("journal.jsonl"), journal);

    let begun = lock.begin(intent.clone(), &target).unwrap();
    assert_eq!(
        reason(lock.commit(&begun, &proved(Generation(1))).unwrap_err()),
        "generation 1 is proved, not generation 2"
    );
    assert_eq!(
        reason(lock.begin(intent, &target).unwrap_err()),
        "generation 2 was begun and neither done nor given up"
    );
    lock.give_up(begun, Outcome::Unchanged, "never mind")
        .unwrap();
    assert_eq!(place.load().state, first);
}

#[test]
fn services_that_the_caller_did_not_name_are_journaled_too() {
    let place = Place::new();
    place.switch(Color::Blue);
    let (intent, mut target) = place.next(Color::Green);
    let blog: ServiceName = "blog".parse().unwrap();
    target.services.insert(blog.clone(), divided());
    let mut lock = place.lock();
    let begun = lock.begin(intent, &target).unwrap();
    lock.commit(&begun, &proved(target.generation)).unwrap();
    drop(lock);
    let (intent, mut without) = place.next(Color::Green);
    without.services.remove(&shop());
    let mut lock = place.lock();
    let begun = lock.begin(intent, &without).unwrap();
    lock.commit(&begun, &proved(without.generation)).unwrap();
    drop(lock);

    assert_eq!(place.load().state, without);
    assert_eq!(place.read("active/blog"), b"green");
    assert!(!place.path("active/shop").exists());
    fs::remove_file(place.path("state.json")).unwrap();
    fs::remove_file(place.path("state.json.bak")).unwrap();
    let loaded = place.load();
    assert_eq!(loaded.origin, Origin::Journal("it is missing".to_owned()));
    assert_eq!(loaded.state, without);
}

#[test]
fn an_open_intent_is_settled_as_done_or_as_failed() {
    for done in [true, false] {
        let place = Place::new();
        let first = place.switch(Color::Blue);
        let (intent, target) = place.next(Color::Green);
        let begun = place.lock().begin(intent.clone(), &target).unwrap();
        drop(begun);
        // the process is gone, its lock is free
        let mut lock = place.lock();
        assert!(!place.path(".state.json.tmp").exists());
        let open = place.load().open.unwrap();
        assert_eq!(open, intent);
        assert!(matches!(
            lock.begin(intent, &target),
            Err(StoreError::OutOfOrder { .. })
        ));
        if done {
            let wrong = lock.settle_done(&open, &proved(Generation(7)));
            assert!(matches!(wrong, Err(StoreError::OutOfOrder { .. })));
            let settled = lock.settle_done(&open, &proved(target.generation)).unwrap();
            assert_eq!(settled, target);
        } else {
            lock.settle_failed(&open, Outcome::Unchanged, "it was never begun")
                .unwrap();
        }
        drop(lock);
        let loaded = place.load();
        assert_eq!(loaded.state, if done { target } else { first });
        assert_eq!(loaded.open, None);
        place.switch(Color::Blue);
    }
}

#[test]
fn a_first_change_that_was_cut_short_is_a_fresh_start_with_an_open_intent() {
    let place = Place::new();
    let (intent, target) = place.next(Color::Green);
    drop(place.lock().begin(intent.clone(), &target).unwrap());
    let loaded = place.load();
    assert_eq!(
        (loaded.origin, loaded.open, loaded.state),
        (Origin::Fresh, Some(intent.clone()), State::default())
    );
    let mut lock = place.lock();
    let settled = lock.settle_done(&intent, &proved(Generation(1))).unwrap();
    assert_eq!(settled, target);
    assert_eq!(place.load().origin, Origin::File);
}

#[test]
fn a_first_change_whose_process_died_before_the_state_file_is_finished_by_the_next() {
    let place = Place::new();
    let target = place.switch(Color::Green);
    let file = place.read("state.json");
    fs::remove_file(place.path("state.json")).unwrap();
    fs::remove_file(place.path("active/shop")).unwrap();
    let loaded = place.load();
    assert_eq!((loaded.state, loaded.origin), (target, Origin::File));
    drop(place.lock());
    assert_eq!(place.read("state.json"), file);
    assert_eq!(place.read("active/shop"), b"green");
}

/// Puts a directory where a file has to go, which fails for root too.
fn block(place: &Place, name: &str) {
    fs::remove_file(place.path(name)).ok();
    fs::create_dir_all(place.path(name).join("in the way")).unwrap();
}

#[test]
fn a_begin_that_fails_leaves_everything_as_it_was() {
    for name in [".state.json.tmp", "journal.jsonl"] {
        let place = Place::new();
        let first = place.switch(Color::Blue);
        let mut lock = place.lock();
        let (intent, target) = place.next(Color::Green);
        let journal = place.read("journal.jsonl");
        block(&place, name);
        let error = lock.begin(intent.clone(), &target).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
        fs::remove_dir_all(place.path(name)).unwrap();
        place.put("journal.jsonl", &journal);
        let loaded = place.load();
        assert_eq!((loaded.state, loaded.open), (first, None));
        assert!(!place.path(".state.json.tmp").exists());
        let begun = lock.begin(intent, &target).unwrap();
        lock.commit(&begun, &proved(Generation(2))).unwrap();
        assert_eq!(place.load().state, target);
    }
}

#[test]
fn a_commit_that_fails_leaves_state_file_and_journal_as_before_done() {
    let place = Place::new();
    place.switch(Color::Green);
    let second = place.switch(Color::Blue);
    let mut lock = place.lock();
    let (intent, target) = place.next(Color::Green);
    let begun = lock.begin(intent, &target).unwrap();
    let (journal, state) = (place.read("journal.jsonl"), place.read("state.json"));
    block(&place, "state.json.bak");
    let error = lock.commit(&begun, &proved(Generation(3))).unwrap_err();
    assert!(error.to_string().ends_with("state.json.bak"), "{error}");
    assert_eq!(place.read("journal.jsonl"), journal);
    assert_eq!(place.read("state.json"), state);
    lock.give_up(begun, Outcome::Restored, &error.to_string())
        .unwrap();
    fs::remove_dir_all(place.path("state.json.bak")).unwrap();
    let loaded = place.load();
    assert_eq!((loaded.state, loaded.open), (second, None));
    assert_eq!(
        place.names(),
        ["active", "change.lock", "journal.jsonl", "state.json"]
    );
    drop(lock);
    place.switch(Color::Green);
}

#[test]
fn a_commit_into_a_directory_that_is_gone_is_refused() {
    let place = Place::new();
    place.switch(Color::Blue);
    let mut lock = place.lock();
    let (intent, target) = place.next(Color::Green);
    let begun = lock.begin(intent, &target).unwrap();
    fs::remove_dir_all(place.store.dir()).unwrap();
    let error = lock.commit(&begun, &proved(Generation(2))).unwrap_err();
    assert!(matches!(error, StoreError::OutOfOrder { .. }), "{error:?}");
    lock.give_up(begun, Outcome::Restored, "gone").unwrap();
}

#[test]
fn an_active_file_that_cannot_be_replaced_takes_the_record_back() {
    let place = Place::new();
    let before = place.switch(Color::Blue);
    let mut lock = place.lock();
    let (intent, target) = place.next(Color::Green);
    let begun = lock.begin(intent, &target).unwrap();
    block(&place, "active/shop");
    let error = lock.commit(&begun, &proved(Generation(2))).unwrap_err();
    assert!(error.to_string().contains("active/shop"), "{error}");
    assert_eq!(place.load().state, before);
    lock.give_up(begun, Outcome::Restored, "blocked").unwrap();
    assert!(!place.path("active/.shop.tmp").exists());
    drop(lock);
    assert_eq!(place.load().open, None);

    fs::remove_dir_all(place.path("active/shop")).unwrap();
    drop(place.lock());
    assert_eq!(place.read("active/shop"), b"blue");
}

#[test]
fn a_state_file_that_cannot_be_replaced_takes_the_active_file_back() {
    let place = Place::new();
    let before = place.switch(Color::Blue);
    let mut lock = place.lock();
    let (intent, target) = place.next(Color::Green);
    let begun = lock.begin(intent, &target).unwrap();
    block(&place, "state.json.bak");
    lock.commit(&begun, &proved(Generation(2))).unwrap_err();
    assert_eq!(place.read("active/shop"), b"blue");
    lock.give_up(begun, Outcome::Restored, "blocked").unwrap();
    assert_eq!(place.load().state, before);
}

#[test]
fn thousands_of_services_fit_and_each_has_its_file() {
    let place = Place::new();
    let (intent, mut target) = place.next(Color::Green);
    for number in 0..2_000 {
        let name: ServiceName = format!("s{number}").parse().unwrap();
        target.services.insert(name, divided());
    }
    let mut lock = place.lock();
    let begun = lock.begin(intent, &target).unwrap();
    lock.commit(&begun, &proved(Generation(1))).unwrap();
    drop(lock);
    assert_eq!(place.load().state, target);
    assert_eq!(place.read("active/s1999"), b"green");
    assert_eq!(fs::read_dir(place.path("active")).unwrap().count(), 2_001);
}

#[test]
fn a_long_journal_begins_anew_with_a_snapshot() {
    const LONG: usize = 128 << 10;
    let place = Place::new();
    let first = place.switch(Color::Blue);
    let mut lock = place.lock();
    let message = "x".repeat(LONG / 5);
    while place.read("journal.jsonl").len() <= LONG {
        let (mut intent, target) = place.next(Color::Green);
        intent.message = Some(message.clone());
        let begun = lock.begin(intent, &target).unwrap();
        lock.give_up(begun, Outcome::Unchanged, "in vain").unwrap();
    }
    drop(lock);
    let used = place.load().used;
    let next = place.switch(Color::Green);
    assert_eq!(next.generation, used.next());
    assert!(place.read("journal.jsonl").len() < 4096);
    assert!(place.read("journal.jsonl.1").len() > LONG);
    assert_ne!(next, first);
    fs::remove_file(place.path("state.json")).unwrap();
    fs::remove_file(place.path("state.json.bak")).unwrap();
    let loaded = place.load();
    assert_eq!(loaded.origin, Origin::Journal("it is missing".to_owned()));
    assert_eq!((loaded.state, loaded.used), (next.clone(), next.generation));
}
