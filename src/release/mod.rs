//! The processes behind the colors: started, watched, restarted and stopped.
//!
//! | file | owns |
//! |---|---|
//! | `workload` | [`Workloads`]: which processes should run, and one supervisor for each |
//! | `launch` | what one of them is started with; starting and adopting it |
//! | `process` | one process group: its identity across restarts of turnout, its end |
//! | `output` | what it prints, line by line into the log |
//!
//! Nothing here moves traffic or asks whether a color is healthy.

mod launch;
mod output;
mod process;
mod workload;

pub use workload::{Started, WorkloadError, Workloads};

#[cfg(test)]
mod tests;
