//! The live steps of a change that is made here: what `Progress` is told, for people and for logs.
//!
//! On a terminal each step is a line with a glyph and the time it took; elsewhere it is a plain line, so that a CI log reads
//! the same. All of it is talk, on stderr.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::output::{self, DIM, GOOD, MIND};
use super::table;
use crate::balancer::Step;

/// Prints steps as they are done.
#[derive(Debug)]
pub(super) struct Steps {
    terminal: bool,
    done: Mutex<Done>,
}

/// What was told so far.
#[derive(Debug)]
struct Done {
    count: usize,
    last: Instant,
}

impl Steps {
    pub(super) fn new() -> Self {
        Self {
            terminal: output::stderr_is_terminal(),
            done: Mutex::new(Done {
                count: 0,
                last: Instant::now(),
            }),
        }
    }

    /// How many steps were done.
    pub(super) fn count(&self) -> usize {
        self.done
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .count
    }

    /// A step was done.
    pub(super) fn tell(&self, step: Step, detail: &str) {
        let took = {
            let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
            let took = done.last.elapsed();
            done.count += 1;
            done.last = Instant::now();
            took
        };
        output::talk(line(self.terminal, step, detail, took));
    }
}

fn line(terminal: bool, step: Step, detail: &str, took: Duration) -> String {
    let (word, took) = (step.as_str(), table::took(took));
    if !terminal {
        return format!("{word}: {detail} ({took})");
    }
    let (color, glyph) = match step {
        Step::Restore => (MIND, '↺'),
        Step::Render | Step::Check | Step::Install | Step::Reload | Step::Prove => (GOOD, '✔'),
    };
    format!("  {color}{glyph}{color:#} {word:<10} {detail:<58} {DIM}{took}{DIM:#}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_gets_plain_lines() {
        assert_eq!(
            line(
                false,
                Step::Check,
                "nginx -t on the candidate",
                Duration::from_millis(120)
            ),
            "check: nginx -t on the candidate (120ms)"
        );
    }

    #[test]
    fn a_terminal_gets_a_glyph_and_the_time() {
        let line = line(true, Step::Prove, "generation 57", Duration::from_secs(2));
        assert!(line.contains('✔') && line.contains("prove      generation 57"));
        assert!(line.contains("2.0s"), "{line}");
    }
}
