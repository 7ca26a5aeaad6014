//! Where a balancer tells of each request, for `traffic` to count: the paths of the datagram socket, from both sides.
//!
//! A pure rule of the configuration and of what the user's own files say, so that a command and the daemon render the same text.
//! Whether anybody reads is not known here.

use std::path::{Path, PathBuf};

/// The folder in the state directory that holds the socket.
const FOLDER: &str = "traffic";

/// A datagram socket with a line for each request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountsSocket {
    /// Where turnout, or systemd for it, binds it.
    pub path: PathBuf,
    /// Is there while somebody reads; beside it.
    pub reader: PathBuf,
    /// How the balancer calls it, which may see another root.
    pub told: PathBuf,
}

impl CountsSocket {
    /// In the state directory, which others pass (0751).
    pub(super) fn in_state(state_dir: &Path) -> Self {
        let folder = state_dir.join(FOLDER);
        Self {
            path: folder.join("socket"),
            reader: folder.join("reader"),
            told: folder.join("socket"),
        }
    }

    /// In the folder that a balancer's workers take for their root.
    pub(super) fn in_root(root: &Path, state_dir: &Path) -> Self {
        let name = Path::new("turnout.sock");
        Self {
            path: root.join(name),
            told: Path::new("/").join(name),
            ..Self::in_state(state_dir)
        }
    }
}
