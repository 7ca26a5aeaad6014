//! What reads words of others, fed with words that nobody would write: configuration, state file, journal, bodies of the API,
//! heads of requests. Mutations of real ones, by chance, for a second each; `TURNOUT_FUZZ_SECONDS=600` for a real run. An input that
//! fails is printed; it belongs then, as a case of its own, to the tests of what it broke.

mod bodies;
mod configuration;
mod heads;
mod store;

use std::time::{Duration, Instant};

/// An input that takes longer hangs; on a busy machine, at the lowest priority, any takes seconds.
const AT_ONCE: Duration = Duration::from_mins(1);

/// Runs `case` on mutations of `seeds` until the time is over.
fn fuzz(name: &str, seeds: &[Vec<u8>], words: &[&str], mut case: impl FnMut(&[u8])) {
    let seconds = std::env::var("TURNOUT_FUZZ_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut runs = 0_u64;
    while Instant::now() < end {
        let mut input = seeds[rand::random_range(0..seeds.len())].clone();
        for _ in 0..rand::random_range(1..6) {
            mutate(&mut input, seeds, words);
        }
        let shown = Shown(&input);
        let begin = Instant::now();
        case(&input);
        assert!(
            begin.elapsed() < AT_ONCE,
            "{name} took {:?}",
            begin.elapsed()
        );
        std::mem::forget(shown);
        runs += 1;
    }
    println!("{name}: {runs} inputs");
}

/// Prints the input if the case panics.
struct Shown<'a>(&'a [u8]);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        println!("--- failed on\n{}\n---", self.0.escape_ascii());
    }
}

fn mutate(input: &mut Vec<u8>, seeds: &[Vec<u8>], words: &[&str]) {
    let place = |length: usize| rand::random_range(0..=length);
    let at = place(input.len());
    match rand::random_range(0..8) {
        0 => input.insert(at, rand::random()),
        1 => {
            if let Some(byte) = input.get_mut(at) {
                *byte = rand::random();
            }
        }
        2 => {
            let end = (at + place(16)).min(input.len());
            input.drain(at..end);
        }
        3 => {
            let end = (at + place(32)).min(input.len());
            let part = input[at..end].to_vec();
            let to = place(input.len());
            input.splice(to..to, part);
        }
        4 => input.truncate(at),
        5 => {
            let other = &seeds[rand::random_range(0..seeds.len())];
            let from = place(other.len());
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        6 => {
            let lines: Vec<&[u8]> = input.split_inclusive(|byte| *byte == b'\n').collect();
            let (one, two) = (
                rand::random_range(0..lines.len().max(1)),
                place(lines.len()),
            );
            let line = lines.get(one).map_or(Vec::new(), |line| line.to_vec());
            let to: usize = lines[..two].iter().map(|line| line.len()).sum();
            input.splice(to..to, line);
        }
        _ => {
            let word = words[rand::random_range(0..words.len())];
            let end = (at + place(8)).min(input.len());
            input.splice(at..end, word.bytes());
        }
    }
}
