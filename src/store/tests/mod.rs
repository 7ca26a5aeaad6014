//! The store on a real directory: changes, damage, locks. `Change` below does what the controller does.

mod change;
mod crash;
mod files;
mod lock;
mod recover;
mod rollouts;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use jiff::Timestamp;
use tempfile::TempDir;

use super::*;
use crate::balancer::fake::proved;
use crate::domain::{Color, Colors, Generation, Position, ServiceName, Split};

const CHILD: &str = "TURNOUT_TEST_CHILD";

/// Runs a `child_` test, such as `lock::child_counts_up`, in a process of its own.
fn child(place: &Place, test: &str, wrapper: &[&OsStr]) -> Command {
    let program = std::env::current_exe().unwrap();
    let mut words = wrapper.to_vec();
    words.push(program.as_os_str());
    #[expect(
        clippy::disallowed_methods,
        reason = "a second turnout process is what is tested; `exec` would kill it with its deadline"
    )]
    let mut command = Command::new(words[0]);
    command
        .args(&words[1..])
        .args(["--exact", &format!("store::tests::{test}"), "--nocapture"])
        .env(CHILD, place.store.dir())
        .stdout(Stdio::null());
    command
}

fn store_of_child() -> Option<Store> {
    std::env::var_os(CHILD).map(|directory| Store::new(directory.into()))
}

/// A state directory of its own for each test.
struct Place {
    parent: TempDir,
    store: Store,
}

impl Place {
    fn new() -> Self {
        let parent = tempfile::tempdir().unwrap();
        let store = Store::new(parent.path().join("state"));
        Self { parent, store }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.store.dir().join(name)
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        use std::io::Write;
        fs::remove_file(self.path(name)).ok();
        let mut file = fs::File::create(self.path(name)).unwrap();
        file.write_all(bytes).unwrap();
    }

    fn load(&self) -> Loaded {
        self.store.load().unwrap()
    }

    fn lock(&self) -> ChangeLock {
        self.try_lock().unwrap()
    }

    fn try_lock(&self) -> Result<ChangeLock, LockError> {
        wait(
            self.store
                .lock(Holder::current("test", None), Duration::ZERO),
        )
    }

    /// A whole change: all of `shop` to `color`.
    fn switch(&self, color: Color) -> State {
        let mut lock = self.lock();
        let (intent, target) = self.next(color);
        let applied = proved(target.generation);
        let begun = lock.begin(intent, &target).unwrap();
        lock.commit(&begun, &applied).unwrap();
        target
    }

    /// What a switch from the present state would be.
    fn next(&self, color: Color) -> (Intent, State) {
        let loaded = self.load();
        step(&loaded.state, loaded.used.next(), color)
    }

    /// The names in the state directory, sorted.
    fn names(&self) -> Vec<String> {
        let mut names = super::disk::names_in(self.store.dir()).unwrap();
        names.sort();
        names
    }
}

fn step(base: &State, generation: Generation, color: Color) -> (Intent, State) {
    let mut target = base.clone();
    target.generation = generation;
    target.balancer = Some("nginx".to_owned());
    target.services.insert(shop(), at(color));
    let intent = Intent {
        aliases: None,
        generation,
        base: base.generation,
        time: moment(),
        action: "switch".to_owned(),
        actor: "test".to_owned(),
        message: Some("why".to_owned()),
        balancer: "nginx".to_owned(),
        changes: BTreeMap::from([(shop(), at(color))]),
    };
    (intent, target)
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(future)
}

fn shop() -> ServiceName {
    "shop".parse().unwrap()
}

fn moment() -> Timestamp {
    "2026-11-21T03:42:19Z".parse().unwrap()
}

fn at(color: Color) -> ServiceState {
    ServiceState {
        position: Position::BlueGreen { active: color },
        previous: Some(!color),
        overlay: None,
        refused: BTreeSet::new(),
        forced: None,
        shape: None,
        door: DoorSeen::Own,
        traffic: crate::domain::Traffic::Open,
        versions: Colors {
            blue: Some("1.0.0".to_owned()),
            green: None,
        },
        rollout: None,
        since: moment(),
    }
}

fn divided() -> ServiceState {
    ServiceState {
        position: Position::canary(Color::Green, Split::from_percents(12.34, 87.66).unwrap()),
        overlay: Some(Color::Blue),
        forced: Some(Color::Green),
        ..at(Color::Green)
    }
}
