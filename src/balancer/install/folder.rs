//! A folder that is turnout's own, made by the first change that needs it and gone again if that fails.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::InstallError;

/// The folder, gone again with this value unless it is [kept](Folder::keep).
#[derive(Debug)]
pub(in crate::balancer) struct Folder(Option<PathBuf>);

impl Folder {
    /// Makes it if it is not there. The one above it has to be.
    pub(in crate::balancer) fn make(path: &Path) -> Result<Self, InstallError> {
        match fs::create_dir(path) {
            Ok(()) => Ok(Self(Some(path.to_owned()))),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Self(None)),
            Err(error) => Err(InstallError::of("make the folder", path, error)),
        }
    }

    /// What was made stays.
    pub(in crate::balancer) fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // one that is not empty is in use after all
            fs::remove_dir(path).ok();
        }
    }
}
