//! Damage: what is torn, flipped, missing or from another time is recognised, and never taken for another state.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

/// Three changes, the last of which divides the traffic. Lived through once and copied.
fn lived_in() -> (Place, State) {
    static TEMPLATE: LazyLock<(Place, State)> = LazyLock::new(|| {
        let place = Place::new();
        place.switch(Color::Blue);
        place.switch(Color::Green);
        let (intent, mut target) = place.next(Color::Green);
        target.services.insert("blog".parse().unwrap(), divided());
        let mut lock = place.lock();
        let begun = lock.begin(intent, &target).unwrap();
        lock.commit(&begun, &proved(target.generation)).unwrap();
        (place, target)
    });
    let (template, state) = &*TEMPLATE;
    let place = Place::new();
    fs::create_dir(place.store.dir()).unwrap();
    for file in ["state.json", "state.json.bak", "journal.jsonl"] {
        place.put(file, &template.read(file));
    }
    (place, state.clone())
}

#[test]
fn a_state_file_cut_at_any_byte_is_replaced_by_backup_and_journal() {
    let (place, state) = lived_in();
    let whole = place.read("state.json");
    // without its last byte, the newline, it is still whole
    for length in 0..whole.len() - 1 {
        place.put("state.json", &whole[..length]);
        let loaded = place.load();
        assert!(matches!(loaded.origin, Origin::Backup(_)), "{length}");
        assert_eq!(loaded.state, state, "{length}");
        assert_eq!(place.read("state.json"), &whole[..length]);
    }
    fs::remove_file(place.path("state.json.bak")).unwrap();
    for length in 0..whole.len() - 1 {
        place.put("state.json", &whole[..length]);
        let loaded = place.load();
        assert!(matches!(loaded.origin, Origin::Journal(_)), "{length}");
        assert_eq!(loaded.state, state, "{length}");
    }
}

#[test]
fn no_flipped_bit_makes_another_state() {
    let (place, state) = lived_in();
    let whole = place.read("state.json");
    for bit in 0..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        place.put("state.json", &flipped);
        let loaded = place.load();
        assert_eq!(loaded.state, state, "bit {bit}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whatever_is_done_to_one_file_the_state_is_right_or_refused(
        file in prop::sample::select(vec!["state.json", "state.json.bak", "journal.jsonl"]),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1_u8..=255), 0..4),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let (place, state) = lived_in();
        let mut bytes = place.read(file);
        for (index, mask) in flips {
            let place = index.index(bytes.len());
            bytes[place] ^= mask;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        place.put(file, &bytes);
        match place.store.load() {
            // where the journal's last `done` is damaged, its intent is open: the balancer is asked
            Ok(Loaded { open: Some(open), .. }) => prop_assert_eq!(open.generation, state.generation),
            Ok(loaded) => prop_assert_eq!(loaded.state, state),
            Err(error) => prop_assert!(matches!(error, StoreError::Newer { .. }), "{}", error),
        }
    }

    #[test]
    fn whatever_is_done_to_state_and_journal_no_state_is_made_up(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1_u8..=255), 1..4),
    ) {
        let (place, state) = lived_in();
        place.put("state.json", b"{}");
        let mut bytes = place.read("journal.jsonl");
        for (index, mask) in flips {
            let place = index.index(bytes.len());
            bytes[place] ^= mask;
        }
        place.put("journal.jsonl", &bytes);
        match place.store.load() {
            Ok(loaded) => prop_assert!(loaded.state == state || loaded.open.is_some(), "{:?}", loaded),
            Err(error) => prop_assert!(
                matches!(error, StoreError::Newer { .. } | StoreError::Corrupt { .. }),
                "{}",
                error
            ),
        }
    }
}

/// The journal's last `done` is lost, and the one that confirms the backup cannot be read.
#[test]
fn what_a_later_change_was_begun_on_was_done() {
    let (place, state) = lived_in();
    let journal = place.read("journal.jsonl");
    let mut lines: Vec<Vec<u8>> = journal
        .split_inclusive(|byte| *byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect();
    assert_eq!(lines.len(), 6, "an intent and a `done` for each change");
    lines.pop();
    lines[3][10] ^= 1;
    place.put("journal.jsonl", &lines.concat());
    let loaded = place.load();
    assert!(matches!(loaded.origin, Origin::Backup(_)), "{loaded:?}");
    assert_eq!(loaded.state.generation, Generation(2));
    assert_eq!(
        loaded.open.map(|open| open.generation),
        Some(state.generation)
    );
}

#[test]
fn a_journal_torn_at_any_byte_is_read_up_to_its_last_whole_line() {
    let place = Place::new();
    let first = place.switch(Color::Blue);
    let kept = place.read("journal.jsonl").len();
    let (intent, target) = place.next(Color::Green);
    let mut lock = place.lock();
    let begun = lock.begin(intent.clone(), &target).unwrap();
    let with_intent = place.read("journal.jsonl").len();
    let state = place.read("state.json");
    lock.commit(&begun, &proved(target.generation)).unwrap();
    drop(lock);
    let journal = place.read("journal.jsonl");
    for length in kept..=journal.len() {
        // as if the process had died in the middle of this write
        place.put("state.json", &state);
        place.put("active/shop", b"blue");
        place.put("journal.jsonl", &journal[..length]);
        let loaded = place.load();
        assert_eq!(loaded.origin, Origin::File);
        assert_eq!(loaded.warnings, Vec::<String>::new());
        let done = length == journal.len();
        let open = (with_intent..journal.len()).contains(&length);
        assert_eq!(loaded.state, if done { &target } else { &first }.clone());
        assert_eq!(loaded.open, open.then(|| intent.clone()), "{length}");

        let mut lock = place.lock();
        if done {
            // finished by whoever comes next
            assert_eq!(
                super::super::wire::decode(&place.read("state.json")).unwrap(),
                target
            );
            assert_eq!(place.read("active/shop"), b"green");
        }
        if open {
            lock.settle_failed(&intent, Outcome::Unchanged, "").unwrap();
        }
        drop(lock);
        let next = place.switch(Color::Green);
        let loaded = place.load();
        assert_eq!(
            (loaded.state, loaded.warnings),
            (next, Vec::new()),
            "{length}"
        );
    }
}

#[test]
fn a_newer_version_is_refused_and_untouched() {
    for (name, content) in [
        ("state.json", "{\"version\": 2, \"shape\": \"unknown\"}\n"),
        ("journal.jsonl", "{\"v\":2,\"record\":\"vote\"}\n"),
    ] {
        let (place, _) = lived_in();
        drop(place.lock());
        place.put(name, content.as_bytes());
        let before = place.names();
        for error in [
            place.store.load().unwrap_err(),
            match place.try_lock().unwrap_err() {
                LockError::Store(error) => error,
                held @ LockError::Held { .. } => panic!("{held}"),
            },
        ] {
            assert_eq!(
                error.to_string(),
                format!(
                    "{} has version 2, and this turnout knows versions up to 1: upgrade turnout",
                    place.path(name).display()
                )
            );
        }
        assert_eq!(place.read(name), content.as_bytes());
        assert_eq!(place.names(), before);
    }
}

#[test]
fn an_unknown_key_is_not_ignored() {
    let (place, state) = lived_in();
    let text = String::from_utf8(place.read("state.json")).unwrap();
    place.put(
        "state.json",
        text.replacen('{', "{\"more\": 1,", 1).as_bytes(),
    );
    let loaded = place.load();
    assert!(matches!(loaded.origin, Origin::Backup(_)));
    assert_eq!(loaded.state, state);
}

#[test]
fn a_corrupt_state_file_is_put_aside_by_the_next_change_and_the_backup_stays() {
    let (place, state) = lived_in();
    let backup = place.read("state.json.bak");
    place.put("state.json", b"{\"version\": 1, gar");
    drop(place.lock());
    assert_eq!(place.read("state.json"), b"{\"version\": 1, gar");
    let next = place.switch(Color::Blue);
    assert_eq!(next.generation, state.generation.next());
    let loaded = place.load();
    assert_eq!((loaded.state, loaded.origin), (next, Origin::File));
    assert_eq!(place.read("state.json.bak"), backup);
    let names = place.names();
    let aside = names
        .iter()
        .find(|name| name.starts_with("state.json.corrupt-"));
    assert_eq!(place.read(aside.unwrap()), b"{\"version\": 1, gar");
}

#[test]
fn with_nothing_to_go_on_a_whole_new_state_can_still_be_written() {
    let (place, state) = lived_in();
    place.put("state.json", b"");
    place.put("state.json.bak", b"\0\0\0");
    place.put("journal.jsonl", b"garbage\n");
    let error = place.store.load().unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "{} cannot be read: it is empty; neither can its backup or the journal",
            place.path("state.json").display()
        )
    );
    let mut lock = place.lock();
    let (intent, target) = step(&state, state.generation.next(), Color::Green);
    let begun = lock.begin(intent, &target).unwrap();
    assert!(matches!(
        place.store.load(),
        Err(StoreError::Corrupt { .. })
    ));
    lock.commit(&begun, &proved(target.generation)).unwrap();
    drop(lock);
    let loaded = place.load();
    assert_eq!((&loaded.state, loaded.origin), (&target, Origin::File));
    fs::remove_file(place.path("state.json")).unwrap();
    assert_eq!(place.load().state, target, "from the journal alone");
    assert_eq!(place.read("state.json.bak"), b"\0\0\0");
}

#[test]
fn a_damaged_line_in_the_middle_is_told_and_done_without() {
    let (place, state) = lived_in();
    let mut journal = place.read("journal.jsonl");
    journal[10] ^= 1;
    place.put("journal.jsonl", &journal);
    let loaded = place.load();
    assert_eq!((loaded.state, loaded.origin), (state.clone(), Origin::File));
    assert_eq!(
        loaded.warnings,
        ["line 1 of journal.jsonl cannot be read; the records around it fit together without it"]
    );
    // the journal alone would have to begin at generation 1, and does not know what that was
    let file = place.read("state.json");
    fs::remove_file(place.path("state.json")).unwrap();
    assert_eq!(place.load().state, state);
    fs::remove_file(place.path("state.json.bak")).unwrap();
    assert!(matches!(
        place.store.load(),
        Err(StoreError::Corrupt { .. })
    ));
    place.put("state.json", &file);
    // the next change begins a new journal; the damaged one stays to be looked at
    let next = place.switch(Color::Blue);
    let loaded = place.load();
    assert_eq!((loaded.state, loaded.warnings), (next, Vec::new()));
    assert_eq!(place.read("journal.jsonl.1"), journal);
}

#[test]
fn an_old_state_file_put_back_by_hand_is_brought_up_to_date() {
    let place = Place::new();
    place.switch(Color::Blue);
    let old = place.read("state.json");
    place.switch(Color::Green);
    let state = place.switch(Color::Green);
    place.put("state.json", &old);
    let loaded = place.load();
    assert_eq!((loaded.state, loaded.origin), (state.clone(), Origin::File));
    drop(place.lock());
    assert_eq!(
        super::super::wire::decode(&place.read("state.json")).unwrap(),
        state
    );
}

#[test]
fn a_state_file_that_the_journal_does_not_confirm_is_not_believed() {
    let place = Place::new();
    let first = place.switch(Color::Blue);
    let (intent, target) = place.next(Color::Green);
    let mut lock = place.lock();
    let begun = lock.begin(intent.clone(), &target).unwrap();
    let journal = place.read("journal.jsonl");
    lock.commit(&begun, &proved(target.generation)).unwrap();
    drop(lock);
    // a power cut kept the rename of a commit whose directory sync failed, and which was taken back
    place.put("journal.jsonl", &journal);
    let loaded = place.load();
    assert_eq!(
        loaded.origin,
        Origin::Backup("the journal does not say that its generation 2 was done".to_owned())
    );
    assert_eq!((loaded.state, loaded.open), (first, Some(intent.clone())));
    let mut lock = place.lock();
    let settled = lock.settle_done(&intent, &proved(Generation(2))).unwrap();
    assert_eq!(settled, target);
    assert_eq!(place.load().origin, Origin::File);
}

#[test]
fn a_done_that_could_not_be_cut_off_is_taken_back_by_the_failed_behind_it() {
    use super::super::journal::{Record, Records, read};
    use super::super::writer::Writer;

    let place = Place::new();
    let first = place.switch(Color::Blue);
    let (intent, target) = place.next(Color::Green);
    drop(place.lock().begin(intent, &target).unwrap());
    let mut kept = <(Vec<u8>, Records)>::default();
    let end = read(place.store.dir(), &mut kept).unwrap().end;
    let mut writer = Writer::new(place.store.dir(), end);
    let generation = target.generation;
    writer.append(&Record::Done { generation }).unwrap();
    assert_eq!(place.load().state, target);
    writer
        .append(&Record::Failed {
            generation,
            outcome: Outcome::Restored,
            error: "the disk is gone".to_owned(),
        })
        .unwrap();
    let loaded = place.load();
    assert_eq!((loaded.state, loaded.open), (first, None));
    assert_eq!(loaded.used, generation);
}
