//! One writer at a time, between tasks and between processes.

use std::process::Child;
use std::time::Instant;

use super::*;

#[test]
fn child_holds_the_lock() {
    let Some(store) = store_of_child() else {
        return;
    };
    let _lock = wait(store.lock(
        Holder::current("turnout switch green", Some("release 7".to_owned())),
        Duration::ZERO,
    ))
    .unwrap();
    let _serve = store
        .serve_lock(Holder::current("turnout serve", None))
        .unwrap();
    std::thread::sleep(Duration::from_mins(1));
}

#[test]
fn child_counts_up() {
    let Some(store) = store_of_child() else {
        return;
    };
    for _ in 0..20 {
        let mut lock =
            wait(store.lock(Holder::current("count", None), Duration::from_mins(1))).unwrap();
        let loaded = store.load().unwrap();
        assert_eq!(loaded.open, None);
        let active = loaded
            .state
            .services
            .get(&shop())
            .map_or(Color::Blue, |shop| shop.position.active());
        let (intent, target) = step(&loaded.state, loaded.state.generation.next(), !active);
        let begun = lock.begin(intent, &target).unwrap();
        lock.commit(&begun, &proved(target.generation)).unwrap();
    }
}

/// Writes until the disk is full, and then checks that nothing was changed by what failed.
#[test]
fn child_fills_the_disk() {
    let Some(store) = store_of_child() else {
        return;
    };
    let mut answered = State::default();
    for number in 1..1_000 {
        let mut lock = wait(store.lock(Holder::current("fill", None), Duration::ZERO)).unwrap();
        let loaded = store.load().unwrap();
        let (intent, target) = step(&answered, Generation(number), Color::Green);
        let journal = fs::read(store.dir().join("journal.jsonl")).unwrap_or_default();
        let failed = match lock.begin(intent, &target) {
            Ok(begun) => match lock.commit(&begun, &proved(target.generation)) {
                Ok(()) => {
                    answered = target;
                    continue;
                }
                Err(error) => {
                    lock.give_up(begun, Outcome::Restored, &error.to_string())
                        .unwrap();
                    error
                }
            },
            Err(error) => {
                assert_eq!(
                    fs::read(store.dir().join("journal.jsonl")).unwrap(),
                    journal
                );
                error
            }
        };
        let StoreError::Io { source, path, .. } = failed else {
            panic!("{failed:?}");
        };
        assert_eq!(source.kind(), std::io::ErrorKind::FileTooLarge);
        assert!(path.ends_with("journal.jsonl"), "{path:?}");
        assert!(!store.dir().join(".state.json.tmp").exists());
        drop((lock, loaded));
        let loaded = store.load().unwrap();
        assert_eq!((loaded.state, loaded.open), (answered, None));
        assert!(number > 2);
        return;
    }
    panic!("the disk was never full");
}

/// A child that is killed when the test ends.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_holder_is_named_to_who_waits_and_its_lock_is_free_once_it_is_killed() {
    let place = Place::new();
    let mut process = Killed(
        child(&place, "lock::child_holds_the_lock", &[])
            .spawn()
            .unwrap(),
    );
    until("the child has both locks", || {
        let status = place.store.lock_status().unwrap();
        status.serve.is_some_and(|holder| holder.pid != 0)
    });
    let status = place.store.lock_status().unwrap();
    let named = status.change.unwrap();
    assert_eq!(named.pid, process.0.id());
    assert_eq!(named.command, "turnout switch green");
    assert_eq!(named.message.as_deref(), Some("release 7"));
    assert_eq!(status.serve.unwrap().command, "turnout serve");

    let started = Instant::now();
    let waited = Duration::from_millis(200);
    let error = wait(place.store.lock(Holder::current("late", None), waited)).unwrap_err();
    assert!(started.elapsed() >= waited);
    let LockError::Held { holder, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(holder.as_ref(), Some(&named));
    assert_eq!(
        error.to_string(),
        format!(
            "{} is held by {} (pid {}, `turnout switch green`) since {:.0}",
            place.path("change.lock").display(),
            named.user,
            named.pid,
            named.since
        )
    );
    assert!(matches!(
        place.store.serve_lock(Holder::current("second", None)),
        Err(LockError::Held { holder: Some(holder), .. }) if holder.command == "turnout serve"
    ));

    process.0.kill().unwrap();
    process.0.wait().unwrap();
    // what it wrote is still there and says nothing
    assert!(!place.read("change.lock").is_empty());
    assert_eq!(
        place.store.lock_status().unwrap(),
        LockStatus {
            change: None,
            serve: None
        }
    );
    drop(place.lock());
    drop(
        place
            .store
            .serve_lock(Holder::current("second", None))
            .unwrap(),
    );
    assert_eq!(place.read("change.lock"), b"");
}

#[test]
fn who_waits_gets_the_lock_when_it_is_let_go() {
    let place = Place::new();
    wait(async {
        let first = place
            .store
            .lock(Holder::current("a", None), Duration::ZERO)
            .await
            .unwrap();
        let let_go = async {
            tokio::time::sleep(Duration::from_millis(80)).await;
            drop(first);
        };
        let second = place
            .store
            .lock(Holder::current("b", None), Duration::from_secs(20));
        let (second, ()) = tokio::join!(second, let_go);
        drop(second.unwrap());
    });
}

#[test]
fn two_processes_never_lose_a_change_of_each_other() {
    let place = Place::new();
    let mut children: Vec<_> = (0..2)
        .map(|_| Killed(child(&place, "lock::child_counts_up", &[]).spawn().unwrap()))
        .collect();
    // readers need no lock, and never see a state without its `done` or anything unreadable
    let mut last = Generation(0);
    let mut done = false;
    while !done {
        done = children
            .iter_mut()
            .all(|child| child.0.try_wait().unwrap().is_some());
        let loaded = place.load();
        assert!(loaded.state.generation >= last);
        assert!(
            matches!(loaded.origin, Origin::File | Origin::Fresh),
            "{:?}",
            loaded.origin
        );
        last = loaded.state.generation;
    }
    for child in &mut children {
        assert!(child.0.wait().unwrap().success());
    }
    assert_eq!(place.load().state.generation, Generation(40));
}

#[test]
fn a_full_disk_changes_nothing() {
    let place = Place::new();
    // files may have 4 KiB: eight blocks of 512 bytes
    let limited = ["sh", "-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\""].map(OsStr::new);
    let status = child(&place, "lock::child_fills_the_disk", &limited)
        .status()
        .unwrap();
    assert!(status.success());
    assert_eq!(place.load().open, None);
}

#[test]
fn a_lock_file_removed_by_hand_stops_the_change_under_it() {
    let place = Place::new();
    place.switch(Color::Blue);
    let mut lock = place.lock();
    let (intent, target) = place.next(Color::Green);
    let begun = lock.begin(intent, &target).unwrap();
    fs::remove_file(place.path("change.lock")).unwrap();
    let error = lock.commit(&begun, &proved(target.generation)).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("it was removed or replaced while it was held"),
        "{error}"
    );
    assert_eq!(place.load().state.generation, Generation(1));
}
