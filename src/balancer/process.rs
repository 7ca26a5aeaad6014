//! Other processes, as `/proc` shows them. Reads, and never signals.

use std::fs;

/// The command line of a process, with spaces between arguments; nginx writes its title there. Empty for a zombie.
pub(super) fn title(pid: i32) -> Option<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let text = String::from_utf8_lossy(&bytes).replace('\0', " ");
    Some(text.trim_end().to_owned())
}

/// The short name of a process.
pub(super) fn name(pid: i32) -> Option<String> {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim_end().to_owned())
}

/// Parent (field 4) and start time in ticks since boot (field 22) of `/proc/PID/stat`; the name before them may hold anything.
fn stat(pid: i32) -> Option<(i32, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    let start = fields.nth(17)?.parse().ok()?;
    Some((parent, start))
}

/// True for a process that has ended and whose parent has not taken note of it: nothing of it listens any more.
pub(super) fn is_zombie(pid: i32) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = text.rsplit_once(')').map(|(_, rest)| rest.trim_start());
    state.is_some_and(|state| state.starts_with('Z'))
}

/// When a process started, in ticks since boot: tells it from a later one of the same number.
pub(super) fn start(pid: i32) -> Option<u64> {
    stat(pid).map(|(_, start)| start)
}

/// The process numbers of its children.
pub(super) fn children(pid: i32) -> Vec<i32> {
    if let Ok(text) = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")) {
        return text
            .split_whitespace()
            .filter_map(|child| child.parse().ok())
            .collect();
    }
    // kernels without CONFIG_PROC_CHILDREN
    processes()
        .filter(|child| stat(*child).is_some_and(|(parent, _)| parent == pid))
        .collect()
}

/// Every process that `/proc` shows.
pub(super) fn processes() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}
