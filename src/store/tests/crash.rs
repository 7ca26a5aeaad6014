//! A change that is killed, or meets an error, at each of its system calls: afterwards it is the old state or the new one,
//! the new one if it was answered, and the old one (or an open question) if it was refused.

use super::*;

#[test]
fn child_switches_once() {
    let Some(store) = store_of_child() else {
        return;
    };
    let mut lock = wait(store.lock(Holder::current("crash", None), Duration::ZERO)).unwrap();
    let loaded = store.load().unwrap();
    let (intent, target) = step(&loaded.state, loaded.used.next(), Color::Green);
    let begun = lock.begin(intent, &target).unwrap();
    if let Err(error) = lock.commit(&begun, &proved(target.generation)) {
        lock.give_up(begun, Outcome::Restored, &error.to_string())
            .unwrap();
        panic!("{error}");
    }
}

/// What is done to the call that is hit.
const FAULTS: [&str; 4] = [
    "signal=KILL:when=",
    "error=EIO:when=",
    "error=ENOSPC:when=+",
    "error=EIO:when=+",
];

fn inject(call: &str, fault: &str, number: u32) -> String {
    let (fault, when) = fault.split_once("when=").unwrap();
    let from_then_on = when;
    format!("inject={call}:{fault}when={number}{from_then_on}")
}

/// Strace counts each call by itself, so they are swept one by one.
fn sweep(call: &str) {
    let mut hit = 0;
    let template = Place::new();
    template.switch(Color::Green);
    let old = template.switch(Color::Blue);
    let files = ["state.json", "state.json.bak", "journal.jsonl"];
    for fault in FAULTS {
        for number in 1_u32.. {
            let place = Place::new();
            fs::create_dir(place.store.dir()).unwrap();
            for file in files {
                place.put(file, &template.read(file));
            }
            let log = place.parent.path().join("strace");
            let injected = inject(call, fault, number);
            let traced = format!("trace={call}");
            let wrapper = ["strace", "-f", "-y", "-qq", "-o"].map(OsStr::new);
            let mut wrapper = wrapper.to_vec();
            wrapper.push(log.as_os_str());
            wrapper.extend(["-e", &traced, "-e", &injected].map(OsStr::new));
            // only the calls on this directory are counted, not those of the loader and the test runner
            let paths: Vec<PathBuf> = touched(&place);
            for path in &paths {
                wrapper.extend([OsStr::new("-P"), path.as_os_str()]);
            }
            let mut command = child(&place, "crash::child_switches_once", &wrapper);
            let status = command.stderr(Stdio::null()).status().unwrap();
            let log = fs::read_to_string(&log).unwrap();
            let case = format!("{injected}: {status}\n{log}");
            if !log.contains("(INJECTED)") && !log.contains("killed by SIGKILL") {
                assert!(status.success(), "{case}");
                break;
            }
            hit += 1;
            let loaded = place
                .store
                .load()
                .unwrap_or_else(|error| panic!("{error}: {case}"));
            let new = loaded.state.generation == old.generation.next();
            assert!(new || loaded.state == old, "{case}");
            if status.success() {
                assert!(new, "an answered change is lost: {case}");
                assert_eq!(place.read("active/shop"), b"green", "{case}");
            } else if !log.contains("killed by SIGKILL") {
                assert!(!new, "a refused change was made: {case}");
            }
            // and whoever comes next can go on
            if let Some(open) = loaded.open {
                let mut lock = place.lock();
                lock.settle_failed(&open, Outcome::Unchanged, "killed")
                    .unwrap();
            }
            assert_eq!(place.switch(Color::Green), place.load().state, "{case}");
            assert!(!place.path(".state.json.tmp").exists(), "{case}");
        }
    }
    // on another architecture a call may have another name; a sweep that hits nothing shows nothing
    assert!(hit >= FAULTS.len(), "{call} is never called");
}

/// Every path that a change may touch.
fn touched(place: &Place) -> Vec<PathBuf> {
    let names = [
        "change.lock",
        "journal.jsonl",
        "state.json",
        ".state.json.tmp",
        "state.json.bak",
        ".state.json.bak.tmp",
        "active",
        "active/shop",
        "active/.shop.tmp",
    ];
    let mut paths = names.map(|name| place.path(name)).to_vec();
    paths.push(place.store.dir().to_owned());
    paths
}

#[test]
fn at_every_open() {
    sweep("openat");
}

#[test]
fn at_every_write() {
    sweep("write");
    sweep("pwrite64");
}

#[test]
fn at_every_truncation() {
    sweep("ftruncate");
}

#[test]
fn at_every_sync() {
    sweep("fsync");
    sweep("fdatasync");
}

#[test]
fn at_every_change_of_a_name() {
    sweep("rename");
    sweep("linkat");
}

#[test]
fn at_every_removal() {
    sweep("unlink");
}
