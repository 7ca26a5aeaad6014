//! When the killer strikes: dice that can be thrown again, how long a switch is open, and whether one is open now.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::support::{Background, SOON};

/// Sets the dice; what a run printed repeats its throws, if not the kernel's timing.
const SEED: &str = "TURNOUT_TEST_SEED";

/// Between two looks at the journal: a switch without a reload is open for about 10 ms.
const LOOK: Duration = Duration::from_micros(200);

/// Thrown anew in each run.
pub(super) struct Dice(StdRng);

impl Dice {
    pub(super) fn new(name: &str) -> Self {
        let seed = match std::env::var(SEED) {
            Ok(text) => text.parse().expect("a seed is a number"),
            Err(_unset) => rand::random::<u32>().into(),
        };
        println!("{name}: {SEED}={seed}");
        Self(StdRng::seed_from_u64(seed))
    }

    /// True once in so many throws.
    pub(super) fn one_in(&mut self, many: u32) -> bool {
        self.0.random_ratio(1, many)
    }

    pub(super) fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.0.random_range(0..all.len())]
    }

    pub(super) fn within(&mut self, longest: Duration) -> Duration {
        longest.mul_f64(self.0.random())
    }
}

/// The journal of a state directory.
pub(super) struct Journal(PathBuf);

impl Journal {
    pub(super) fn of(state_dir: &Path) -> Self {
        Self(state_dir.join("journal.jsonl"))
    }

    /// Whether an intent stands there without an outcome.
    pub(super) fn is_open(&self) -> bool {
        let text = std::fs::read_to_string(&self.0).unwrap();
        // a torn last line is not there
        let whole = text.rsplit_once('\n').map_or("", |(whole, _torn)| whole);
        let last: serde_json::Value = serde_json::from_str(whole.lines().last().unwrap()).unwrap();
        last["record"] == "intent"
    }

    fn length(&self) -> u64 {
        std::fs::metadata(&self.0).map_or(0, |file| file.len())
    }

    /// Until a record is written that was not there at `length`, or the program has ended.
    fn wait(&self, length: u64, program: &mut Background) -> u64 {
        let begin = Instant::now();
        loop {
            let now = self.length();
            if now != length || program.ended().is_some() {
                return now;
            }
            assert!(begin.elapsed() < SOON, "nothing was recorded");
            std::thread::sleep(LOOK);
        }
    }
}

/// How long the parts of a switch last, by what was seen so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Parts {
    /// From the start of the command to the intent.
    before: Duration,
    /// From the intent to its outcome, and a little more.
    open: Duration,
}

/// Where a kill was aimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aim {
    /// At any moment before the intent.
    Before,
    /// At any moment from the intent on.
    Open,
}

impl Parts {
    /// Runs a switch to its end, looking on.
    pub(super) fn measure(&mut self, journal: &Journal, start: impl FnOnce() -> Background) {
        let length = journal.length();
        let begin = Instant::now();
        let mut switching = start();
        let intent = journal.wait(length, &mut switching);
        let open = Instant::now();
        journal.wait(intent, &mut switching);
        self.open = self.open.max(open.elapsed());
        self.before = self.before.max(open - begin);
        assert_eq!(switching.wait(SOON).code(), Some(0));
    }

    /// Waits for the moment: mostly one in which the switch is open, now and then one before.
    pub(super) fn pass(
        &self,
        dice: &mut Dice,
        journal: &Journal,
        start: impl FnOnce() -> Background,
    ) -> (Background, Aim) {
        let length = journal.length();
        let mut switching = start();
        let aim = if dice.one_in(8) {
            Aim::Before
        } else {
            Aim::Open
        };
        match aim {
            Aim::Before => std::thread::sleep(dice.within(self.before)),
            Aim::Open => {
                journal.wait(length, &mut switching);
                std::thread::sleep(dice.within(self.open));
            }
        }
        (switching, aim)
    }

    /// The machine's pace changes: with these steps about one kill of five comes too late, so that they reach to the end.
    pub(super) fn learn(&mut self, aim: Aim, is_hit: bool) {
        if aim == Aim::Open {
            self.open = self.open.mul_f64(if is_hit { 1.03 } else { 0.9 });
        }
    }
}
