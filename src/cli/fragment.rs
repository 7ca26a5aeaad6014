//! The file of one service in the first folder of `include`: found, read, replaced whole, taken away.
//!
//! Written beside, synced and renamed. Two commands at once take turns by a lock on the folder. A file that a person wrote is not
//! replaced or removed without `--force`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{ChangeFlags, CliError, Globals};
use crate::config::{Config, Env, Overlay, Source};
use crate::domain::ServiceName;

/// The first line of a fragment. A file without it is a person's.
pub(super) const MARK: &str = "# Written by `turnout service set`, which replaces it; delete this line to keep what you change.\n";

/// The configuration that services are added to, and where.
pub(super) struct Place {
    source: Source,
    pub(super) config: Config,
    pub(super) file: PathBuf,
    /// Held until the command ends.
    _turn: Option<File>,
}

impl Place {
    pub(super) fn find(
        globals: &Globals,
        name: &ServiceName,
        dry_run: bool,
    ) -> Result<Self, CliError> {
        let env = Env::of_process();
        let source = Source::find(globals.config(), &env)?;
        let Source::File { path: main, shown } = &source else {
            return Err(usage(
                "a service is a file beside a configuration file, and there is none: this configuration is made of the environment \
                 alone. `turnout init` writes a first one",
            ));
        };
        let config = Config::load(&source, &env)?;
        let Some(pattern) = config.include.first() else {
            return Err(usage(format!(
                "{} has no `include`, and so no folder for the service: add this line to it, and run the command again\n\n\
                 include: [services.d/*.yaml]\n",
                shown.display()
            )));
        };
        let folder = pattern.parent().unwrap_or(Path::new("/"));
        let file = folder.join(format!("{name}.yaml"));
        let is_included = glob::Pattern::new(&pattern.to_string_lossy())
            .is_ok_and(|pattern| pattern.matches_path(&file));
        if !is_included || folder.to_string_lossy().contains(['*', '?', '[']) {
            return Err(usage(format!(
                "{} would not be read: the first `include` of {} is {}, and a folder for services ends in /*.yaml",
                file.display(),
                shown.display(),
                pattern.display()
            )));
        }
        if file == *main {
            return Err(usage(format!(
                "{} is the configuration itself: give the service another name, or `include` another folder",
                file.display()
            )));
        }
        let turn = if dry_run { None } else { turn(folder)? };
        // it may have been changed while the turn was waited for
        let config = if turn.is_some() {
            Config::load(&source, &env)?
        } else {
            config
        };
        Ok(Self {
            source,
            config,
            file,
            _turn: turn,
        })
    }

    /// What stands there; `None`: nothing.
    pub(super) fn text(&self) -> Result<Option<String>, CliError> {
        match fs::read_to_string(&self.file) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(CliError::Read {
                path: self.file.clone(),
                source,
            }),
        }
    }

    /// Refuses to touch what a person wrote.
    pub(super) fn own(&self, text: Option<&str>, flags: &ChangeFlags) -> Result<(), CliError> {
        match text {
            Some(text) if !text.starts_with(MARK) && !flags.force => Err(CliError::NotOurs {
                path: self.file.clone(),
            }),
            Some(_) | None => Ok(()),
        }
    }

    /// The configuration with `text` in the file, as a whole.
    pub(super) fn with(&self, text: Option<&str>) -> Result<Config, CliError> {
        let overlay = Overlay {
            path: self.file.clone(),
            text: text.map(ToOwned::to_owned),
        };
        let env = Env::of_process();
        Ok(Config::load_with(&self.source, &env, &overlay)?)
    }

    /// Puts `text` there, or takes the file away.
    pub(super) fn put(&self, text: Option<&str>) -> Result<(), CliError> {
        let done = match text {
            Some(text) => replace(&self.file, text),
            None => fs::remove_file(&self.file).and_then(|()| sync_folder(&self.file)),
        };
        done.map_err(|source| CliError::Write {
            path: self.file.clone(),
            source,
        })
    }
}

/// Waits for the turn in a folder, which is made where it is not there. The kernel gives it back when the command ends.
fn turn(folder: &Path) -> Result<Option<File>, CliError> {
    let failed = |source| CliError::Write {
        path: folder.to_owned(),
        source,
    };
    fs::create_dir_all(folder).map_err(failed)?;
    let file = File::open(folder).map_err(failed)?;
    file.lock().map_err(failed)?;
    Ok(Some(file))
}

/// Whole or not at all: written beside, synced, renamed.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    // no pattern for fragments takes a name that ends like this
    let mut file = tempfile::Builder::new()
        .prefix(".turnout-")
        .suffix(".new")
        .tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    let mode = fs::metadata(path).map_or(0o644, |meta| meta.permissions().mode());
    file.as_file()
        .set_permissions(fs::Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    sync_folder(path)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

pub(super) fn usage(message: impl Into<String>) -> CliError {
    CliError::Usage {
        message: message.into(),
    }
}
