//! Files that are not to be trusted, modes, the audit log, and what is staged.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::*;

fn refusal(place: &Place) -> String {
    let error = place.store.load().unwrap_err();
    assert!(matches!(error, StoreError::Unsafe { .. }), "{error:?}");
    assert!(matches!(
        place.try_lock(),
        Err(LockError::Store(StoreError::Unsafe { .. }))
    ));
    error.to_string()
}

#[test]
fn links_fifos_directories_and_files_that_anybody_may_write_are_refused() {
    for name in ["state.json", "journal.jsonl"] {
        let place = Place::new();
        place.switch(Color::Blue);
        let path = place.path(name);
        let at = path.display();

        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        assert_eq!(
            refusal(&place),
            format!(
                "{at} is refused: its mode is 666, so anybody may write it: `chmod o-w` it after looking at it"
            )
        );

        fs::rename(&path, place.path("elsewhere")).unwrap();
        symlink(place.path("elsewhere"), &path).unwrap();
        assert_eq!(
            refusal(&place),
            format!("{at} is refused: it is a symbolic link")
        );

        fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        assert_eq!(
            refusal(&place),
            format!("{at} is refused: it is not a regular file")
        );

        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(
            refusal(&place),
            format!("{at} is refused: it is not a regular file")
        );
    }
}

#[test]
fn another_users_file_is_refused_unless_the_directory_is_theirs() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let place = Place::new();
    place.switch(Color::Blue);
    let stranger = Some(nix::unistd::Uid::from_raw(65_534));
    nix::unistd::chown(&place.path("state.json"), stranger, None).unwrap();
    assert_eq!(
        refusal(&place),
        format!(
            "{} is refused: it belongs to user 65534, who is neither this user, root nor the directory's owner",
            place.path("state.json").display()
        )
    );
    nix::unistd::chown(place.store.dir(), stranger, None).unwrap();
    assert_eq!(place.load().state.generation, Generation(1));
    // what root writes there stays writable for that user's daemon
    place.switch(Color::Green);
    for name in ["state.json", "journal.jsonl", "change.lock"] {
        assert_eq!(
            fs::metadata(place.path(name)).unwrap().uid(),
            65_534,
            "{name}"
        );
    }
}

#[test]
fn a_link_in_place_of_a_lock_file_or_the_audit_log_is_not_followed() {
    let place = Place::new();
    place.switch(Color::Blue);
    let victim = place.parent.path().join("victim");
    fs::File::create(&victim).unwrap();
    symlink(&victim, place.path("deployments.jsonl")).unwrap();
    assert!(matches!(
        place.lock().audit(&entry(0)),
        Err(StoreError::Unsafe { .. })
    ));
    fs::remove_file(place.path("change.lock")).unwrap();
    symlink(&victim, place.path("change.lock")).unwrap();
    assert!(matches!(
        place.try_lock(),
        Err(LockError::Store(StoreError::Unsafe { .. }))
    ));
    assert!(matches!(
        place.store.lock_status(),
        Err(StoreError::Unsafe { .. })
    ));
    assert_eq!(fs::read(&victim).unwrap(), b"");
}

#[test]
fn only_owner_and_group_may_look_but_for_the_active_color() {
    let place = Place::new();
    place.switch(Color::Blue);
    for (name, most) in [
        ("", 0o751),
        ("state.json", 0o640),
        ("journal.jsonl", 0o640),
        ("change.lock", 0o640),
    ] {
        let mode = fs::metadata(place.path(name)).unwrap().mode() & 0o777;
        assert_eq!(mode & !most, 0, "{name}: {mode:o}");
    }
    // whatever the umask is
    for (name, exactly) in [("active", 0o755), ("active/shop", 0o644)] {
        let mode = fs::metadata(place.path(name)).unwrap().mode() & 0o777;
        assert_eq!(mode, exactly, "{name}: {mode:o}");
    }
}

#[test]
fn a_state_directory_that_is_a_file_is_told() {
    let place = Place::new();
    fs::File::create(place.store.dir()).unwrap();
    let error = place.store.load().unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("failed to open {}", place.path("state.json").display())
    );
    let source = std::error::Error::source(&error).unwrap();
    assert_eq!(source.to_string(), "Not a directory (os error 20)");
    assert!(matches!(
        place.try_lock(),
        Err(LockError::Store(StoreError::Io { .. }))
    ));
}

fn entry(number: u64) -> AuditEntry {
    AuditEntry {
        timestamp: moment(),
        service: number.is_multiple_of(2).then(shop),
        environment: Some(Color::Green),
        version: None,
        action: "switch".to_owned(),
        success: true,
        message: format!("number {number}"),
        actor: "root@host (cli)".to_owned(),
        duration_ms: number,
    }
}

#[test]
fn the_audit_log_is_read_newest_first_and_without_torn_lines() {
    use std::io::Write;

    let place = Place::new();
    let mut lock = place.lock();
    for number in 0..3 {
        lock.audit(&entry(number)).unwrap();
    }
    let mut file = fs::OpenOptions::new()
        .append(true)
        .open(place.path("deployments.jsonl"))
        .unwrap();
    file.write_all(b"{\"timestamp\":\"2026-11-").unwrap();
    lock.audit(&entry(3)).unwrap();
    let numbers = |service: Option<&ServiceName>, limit| -> Vec<u64> {
        let entries = place.store.history(service, limit).unwrap();
        entries.iter().map(|entry| entry.duration_ms).collect()
    };
    assert_eq!(numbers(None, 10), [3, 2, 1, 0]);
    assert_eq!(numbers(None, 2), [3, 2]);
    assert_eq!(numbers(Some(&shop()), 10), [3, 2, 1, 0]);
    let blog: ServiceName = "blog".parse().unwrap();
    assert_eq!(numbers(Some(&blog), 10), [3, 1]);
    let first = place.read("deployments.jsonl");
    let first = first.split(|byte| *byte == b'\n').next().unwrap();
    assert_eq!(
        String::from_utf8_lossy(first),
        "{\"timestamp\":\"2026-11-21T03:42:19Z\",\"service\":\"shop\",\"environment\":\"green\",\"version\":null,\
         \"action\":\"switch\",\"success\":true,\"message\":\"number 0\",\"actor\":\"root@host (cli)\",\"duration_ms\":0}"
    );

    place.store.audit_without_lock(&entry(9)).unwrap();
    assert_eq!(numbers(None, 2), [9, 3]);
    let recent = place.store.recent(None, 10, 100).unwrap();
    assert_eq!(recent.len(), 1, "of the last hundred bytes");

    // a long one is put aside, and still read
    file.set_len(16 << 20).unwrap();
    lock.audit(&entry(4)).unwrap();
    assert!(place.read("deployments.jsonl").len() < 1000);
    assert_eq!(numbers(None, 3), [4, 9, 3]);
}

#[test]
fn a_log_of_many_blocks_is_read_backwards_whole() {
    use std::io::Write;

    let place = Place::new();
    let mut text = Vec::new();
    for number in 0..2000 {
        let mut line = entry(number);
        // of every length, so that lines end everywhere in a block
        line.message = "m".repeat(usize::try_from(number).unwrap());
        text.extend(serde_json::to_vec(&line).unwrap());
        text.push(b'\n');
    }
    assert!(text.len() > 2 << 20);
    place.lock().audit(&entry(0)).unwrap();
    let mut file = fs::OpenOptions::new()
        .write(true)
        .open(place.path("deployments.jsonl"))
        .unwrap();
    file.write_all(&text).unwrap();
    let entries = place.store.history(None, 5000).unwrap();
    let numbers: Vec<_> = entries.iter().map(|entry| entry.duration_ms).collect();
    assert_eq!(numbers, (0..2000).rev().collect::<Vec<_>>());
}

#[test]
fn what_is_staged_is_read_back_and_can_be_looked_at() {
    let place = Place::new();
    let staged = Staged {
        generation: Generation(7),
        files: vec![
            (
                "/etc/nginx/conf.d/turnout.conf".into(),
                "upstream {}\n".to_owned(),
            ),
            ("/elsewhere/turnout.conf".into(), "map {}\n".to_owned()),
            ("/etc/staged.json".into(), "not ours".to_owned()),
        ],
        positions: BTreeMap::from([(shop(), divided().position)]),
    };
    let mut lock = place.lock();
    lock.save_staged(&staged).unwrap();
    assert_eq!(place.store.load_staged().unwrap(), Some(staged.clone()));
    assert_eq!(place.read("staged/turnout.conf"), b"upstream {}\n");
    assert_eq!(place.read("staged/1-turnout.conf"), b"map {}\n");
    assert_eq!(place.read("staged/2-staged.json"), b"not ours");

    let fewer = Staged {
        files: Vec::new(),
        ..staged
    };
    lock.save_staged(&fewer).unwrap();
    assert_eq!(place.store.load_staged().unwrap(), Some(fewer));
    assert!(!place.path("staged/turnout.conf").exists());

    let bytes = place.read("staged/staged.json");
    place.put("staged/staged.json", &bytes[..bytes.len() / 2]);
    let error = place.store.load_staged().unwrap_err().to_string();
    assert!(error.ends_with("run `turnout render` again"), "{error}");
    lock.clear_staged().unwrap();
    assert_eq!(place.store.load_staged().unwrap(), None);
}

#[test]
fn the_journal_does_not_grow_with_the_number_of_changes() {
    let place = Place::new();
    let mut longest = 0;
    for number in 0..300 {
        place.switch(if number % 2 == 0 {
            Color::Green
        } else {
            Color::Blue
        });
        longest = longest.max(place.read("journal.jsonl").len());
    }
    assert!((64 << 10..130 << 10).contains(&longest), "{longest}");
    assert_eq!(place.load().state.generation, Generation(300));
    // by itself, for who has not read it before
    let anew = Store::new(place.store.dir().to_owned());
    assert_eq!(anew.load().unwrap().state, place.load().state);
}

#[test]
fn files_that_were_changed_behind_its_back_are_read_anew() {
    let place = Place::new();
    place.switch(Color::Green);
    place.switch(Color::Blue);
    assert_eq!(place.load().warnings, Vec::<String>::new());
    // one byte of the first line, and the length is the same
    let mut bytes = place.read("journal.jsonl");
    bytes[40] ^= 1;
    place.put("journal.jsonl", &bytes);
    let loaded = place.load();
    assert!(
        loaded.warnings[0].contains("line 1 of journal.jsonl cannot be read"),
        "{:?}",
        loaded.warnings
    );
    bytes[40] ^= 1;
    place.put("journal.jsonl", &bytes);
    assert_eq!(place.load().warnings, Vec::<String>::new());
    let state = place.read("state.json");
    place.put("state.json", &state[..state.len() / 2]);
    assert!(matches!(place.load().origin, Origin::Backup(_)));
}
