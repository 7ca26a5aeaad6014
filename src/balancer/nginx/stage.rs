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
            fs::create_dir_all(folder)
                .map_err(|source| InstallError::of("make the folder", folder, source))?;
        }
        fs::File::create(path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|source| InstallError::of("write", path, source))
    }
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
