//! Where files wait for their check: a folder of the state directory, and a dot-file beside the main file.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::super::install::{self, InstallError};

/// The folder of staged files under the state directory, emptied at the beginning and removed at the end.
pub(super) struct Stage(pub(super) PathBuf);

impl Stage {
    pub(super) fn new(state_dir: &Path) -> Result<Self, InstallError> {
        let dir = state_dir.join("check");
        match fs::remove_dir_all(&dir) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(InstallError::of("clear", &dir, source)),
        }
        install::make_private_dir(&dir)?;
        Ok(Self(dir))
    }

    pub(super) fn put(&self, path: &Path, text: &str) -> Result<(), InstallError> {
        let folder = install::parent(path);
        if folder.starts_with(&self.0) {
            make(folder)?;
        }
        fs::File::create(path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|source| InstallError::of("write", path, source))
    }
}

/// Says in the overlay's folder that there is no file at `path`: a device of number 0 is how an overlay says it. Not
/// everywhere may such a device be made.
pub(super) fn hide(path: &Path) -> Result<Hidden, InstallError> {
    make(install::parent(path))?;
    let made = rustix::fs::mknodat(
        rustix::fs::CWD,
        path,
        rustix::fs::FileType::CharacterDevice,
        rustix::fs::Mode::empty(),
        rustix::fs::makedev(0, 0),
    );
    Ok(match made {
        Ok(()) => Hidden::Yes,
        Err(_not_here) => Hidden::No,
    })
}

/// Whether a file could be hidden from a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hidden {
    Yes,
    No,
}

fn make(folder: &Path) -> Result<(), InstallError> {
    fs::create_dir_all(folder)
        .map_err(|source| InstallError::of("make the folder", folder, source))?;
    install::hand_over(folder)
}

impl Drop for Stage {
    fn drop(&mut self) {
        // the next check clears it
        fs::remove_dir_all(&self.0).ok();
    }
}

/// The copy beside the main file.
pub(super) struct Sibling(pub(super) PathBuf);

impl Drop for Sibling {
    fn drop(&mut self) {
        // the next apply sweeps it
        fs::remove_file(&self.0).ok();
    }
}
