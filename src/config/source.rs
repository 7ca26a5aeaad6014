//! Where a configuration comes from, and everything outside of its files that it may depend on.

use std::path::{Path, PathBuf};

use super::document::normal;
use super::problem::ConfigError;

type Vars<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// The environment of the process, as a value: the variables, and the folder that relative paths on the command line (and
/// in environment mode) start from.
pub struct Env<'a> {
    vars: Box<Vars<'a>>,
    folder: PathBuf,
}

impl<'a> Env<'a> {
    /// These variables, in this folder (absolute).
    pub fn new(folder: PathBuf, vars: impl Fn(&str) -> Option<String> + 'a) -> Self {
        Self {
            vars: Box::new(vars),
            folder,
        }
    }

    /// What this process has. A variable that is not UTF-8 counts as unset.
    pub fn of_process() -> Env<'static> {
        Env {
            vars: Box::new(|name| std::env::var(name).ok()),
            // Without a current folder (it was removed) only absolute paths can work.
            folder: std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
        }
    }

    /// The value of a variable.
    pub fn var(&self, name: &str) -> Option<String> {
        (self.vars)(name)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl std::fmt::Debug for Env<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Env")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

/// Where a configuration is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// In a file and the fragments it includes.
    File {
        /// The file, absolute.
        path: PathBuf,
        /// As the user named it, for messages.
        shown: PathBuf,
    },
    /// In the environment alone: one service `app` on the embedded proxy.
    Environment {
        /// In place of `BLUE_URL` (`serve --blue URL`).
        blue: Option<String>,
        /// In place of `GREEN_URL` (`serve --green URL`).
        green: Option<String>,
    },
}

impl Source {
    /// The first that is there: `explicit` (`--config`), `$TURNOUT_CONFIG`, `./turnout.yaml`, `/etc/turnout/turnout.yaml`,
    /// or the environment if `BLUE_URL` or `GREEN_URL` is set. A file that was named is not looked for elsewhere.
    pub fn find(explicit: Option<&Path>, env: &Env<'_>) -> Result<Self, ConfigError> {
        let named = explicit.map(Path::to_owned).or_else(|| {
            env.var("TURNOUT_CONFIG")
                .filter(|path| !path.is_empty())
                .map(PathBuf::from)
        });
        if let Some(path) = named {
            return Ok(Self::file(&path, env));
        }
        let looked = ["turnout.yaml", "/etc/turnout/turnout.yaml"].map(PathBuf::from);
        for path in &looked {
            // What is there but cannot be read is the configuration all the same; reading it says why.
            if env.folder.join(path).symlink_metadata().is_ok() {
                return Ok(Self::file(path, env));
            }
        }
        if ["BLUE_URL", "GREEN_URL"]
            .iter()
            .any(|name| env.var(name).is_some())
        {
            return Ok(Self::environment(None, None));
        }
        Err(ConfigError::NotFound {
            looked: looked.into(),
        })
    }

    /// A file.
    pub fn file(path: &Path, env: &Env<'_>) -> Self {
        Self::File {
            path: normal(&env.folder.join(path)),
            shown: path.to_owned(),
        }
    }

    /// The environment alone, with the URLs of the command line in front.
    pub fn environment(blue: Option<String>, green: Option<String>) -> Self {
        Self::Environment { blue, green }
    }
}
