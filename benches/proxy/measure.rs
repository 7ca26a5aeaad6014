//! What the kernel says a process used. CPU is run time in the scheduler's nanoseconds over all tasks; `utime` and `stime` count
//! in ticks of 10 ms, too coarse for a round of two seconds.

use std::path::Path;
use std::time::Duration;

/// A process and its descendants.
pub(crate) fn family(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut next = 0;
    while let Some(parent) = all.get(next) {
        let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
        if let Ok(children) = children {
            all.extend(
                children
                    .split_whitespace()
                    .filter_map(|pid| pid.parse::<u32>().ok()),
            );
        }
        next += 1;
    }
    all
}

/// CPU time of all tasks of these processes.
pub(crate) fn cpu(pids: &[u32]) -> Duration {
    pids.iter()
        .filter_map(|pid| std::fs::read_dir(format!("/proc/{pid}/task")).ok())
        .flat_map(Iterator::flatten)
        .map(|task| run_time(&task.path().join("schedstat")))
        .sum()
}

/// A task that ends between two looks takes its time with it; none of the measured programs' working tasks does.
fn run_time(path: &Path) -> Duration {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|first| first.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

/// Proportional set size of these processes, in bytes.
pub(crate) fn pss(pids: &[u32]) -> u64 {
    pids.iter()
        .map(|pid| {
            let text =
                std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
            text.lines()
                .find_map(|line| {
                    line.strip_prefix("Pss:")?
                        .trim()
                        .strip_suffix(" kB")?
                        .trim()
                        .parse::<u64>()
                        .ok()
                })
                .unwrap_or(0)
                * 1024
        })
        .sum()
}
