//! nginx's own check of what is staged, without touching the live files.
//!
//! Three ways, the first that works:
//! - **mount namespace** (root): the staged files are mounted over the live ones where nobody else sees it, so nginx reads the
//!   unchanged main file. A file that does not exist yet comes in through an overlay of its folder.
//! - **sibling copy**: a dot-file beside the main file in which the include names the staged file (`main_file`).
//! - **in place**: not here; the caller installs, checks the live tree and puts back.
//!
//! nginx executes what it checks, so only what was rendered from typed values comes here. `nginx -T` rather than `-t`,
//! because it lists what was read: an include that is never reached passes the check and changes nothing. It is never run
//! without a running master, since it would leave an empty pid file behind.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::ApplyError;
use super::super::install::{self, InstallError, Target};
use super::process::Master;
use super::stage::{Hidden, Sibling, Stage, hide};
use super::verdict::{error_log, files_read, means_ignored, refusal};
use super::{main_file, verdict};
use crate::config::NginxSettings;
use crate::exec::{CommandError, Output, Program};

/// For one run of nginx: 3,000 servers take 0.3 s; a DNS name in somebody's upstream can take much longer.
const DEADLINE: Duration = Duration::from_secs(30);

/// `nginx -T` prints every file that it reads; 2,000 services are 4 MB.
const DUMP: usize = 64 * 1024 * 1024;

/// Said on stderr once the mounts are in place: what follows is nginx's.
const MOUNTED: &str = "turnout: mounted";

/// `$1` pairs of source and target, or `overlay` with two folders; `--`; the command.
const MOUNTS: &str = r#"
while [ "$1" != -- ]; do
    if [ "$1" = file ]; then mount --bind "$2" "$3" || exit 1
    else mount -t overlay -o "lowerdir=$2:$3" overlay "$3" || exit 1
    fi
    shift 3
done
shift
echo "turnout: mounted" >&2
exec "$@"
"#;

/// How nginx is called: the program, its main file, and what the master was started with.
#[derive(Debug)]
pub(super) struct Check<'a> {
    pub(super) settings: &'a NginxSettings,
    pub(super) state_dir: &'a Path,
    /// `-p` and `-e` of the master.
    pub(super) options: Vec<String>,
}

/// What a passed check says.
#[derive(Debug, Default)]
pub(super) struct Passed {
    /// How it was checked, for progress and evidence.
    pub(super) way: &'static str,
    pub(super) warnings: Vec<String>,
    /// The `error_log` that the configuration names first.
    pub(super) error_log: Option<PathBuf>,
}

/// Why a check did not pass.
#[derive(Debug)]
pub(super) enum Failed {
    /// nginx, or the reading of its warnings, refuses: what it said, a line each.
    Refused(String),
    /// The main file does not load turnout's: what to add where.
    NotIncluded(String),
    /// Only rights are missing.
    NotPermitted(String),
    /// nginx could not be run.
    Command(CommandError),
    /// The staged files could not be written.
    Stage(InstallError),
    /// Neither way works here.
    NoWay,
}

impl From<InstallError> for Failed {
    fn from(error: InstallError) -> Self {
        Self::Stage(error)
    }
}

impl From<CommandError> for Failed {
    fn from(error: CommandError) -> Self {
        Self::Command(error)
    }
}

impl Failed {
    /// As the outcome of an apply that has changed nothing. `translate` tells rendered lines as template lines.
    pub(super) fn into_apply_error(self, translate: impl FnOnce(&str) -> String) -> ApplyError {
        match self {
            Self::Refused(said) => ApplyError::Refused {
                balancer: "nginx",
                message: translate(&said),
            },
            Self::NotIncluded(message) => ApplyError::Unchanged {
                message,
                source: None,
            },
            Self::NotPermitted(message) => ApplyError::NotPermitted { message },
            Self::Command(error) => ApplyError::Unchanged {
                message: format!("nginx's check could not be run: {}", with_cause(&error)),
                source: None,
            },
            Self::Stage(error) => error.into(),
            Self::NoWay => ApplyError::Unchanged {
                message: "the rendered configuration cannot be checked without installing it"
                    .to_owned(),
                source: None,
            },
        }
    }
}

fn with_cause(error: &CommandError) -> String {
    std::error::Error::source(error)
        .map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

impl<'a> Check<'a> {
    pub(super) fn new(
        settings: &'a NginxSettings,
        state_dir: &'a Path,
        master: Option<&Master>,
    ) -> Self {
        let options = ["-p", "-e"]
            .into_iter()
            .filter_map(|name| Some([name.to_owned(), master?.option(name)?.to_owned()]))
            .flatten()
            .collect();
        Self {
            settings,
            state_dir,
            options,
        }
    }

    /// Checks `changed` in the place of the live files, and leaves those alone.
    pub(super) async fn staged(&self, changed: &[Target<'_>]) -> Result<Passed, Failed> {
        if changed.is_empty() {
            return self.live().await;
        }
        let stage = Stage::new(self.state_dir)?;
        if let Some(output) = self.mounted(&stage, changed).await? {
            return self.judge(output, None, "in a mount namespace").await;
        }
        if let [
            Target {
                path,
                text: Some(text),
                ..
            },
        ] = changed
            && main_file::same(path, &self.settings.config)
            && let Some((output, staged)) = self.sibling(&stage, path, text).await?
        {
            let way = "through a copy of the main file";
            return self.judge(output, Some(&staged), way).await;
        }
        Err(Failed::NoWay)
    }

    /// Checks the live tree as it stands.
    pub(super) async fn live(&self) -> Result<Passed, Failed> {
        let output = self.nginx(&self.settings.main).await?;
        self.judge(output, None, "as it stands").await
    }

    fn argv(&self, main: &Path) -> Vec<OsString> {
        let mut argv: Vec<OsString> = vec![self.settings.binary.clone().into(), "-T".into()];
        argv.extend(self.options.iter().map(Into::into));
        argv.extend(["-c".into(), main.into()]);
        argv
    }

    async fn nginx(&self, main: &Path) -> Result<Output, CommandError> {
        run(self.argv(main)).await
    }

    /// `None` where this user or this system has no mount namespaces.
    async fn mounted(
        &self,
        stage: &Stage,
        changed: &[Target<'_>],
    ) -> Result<Option<Output>, Failed> {
        if !nix::unistd::geteuid().is_root() {
            return Ok(None);
        }
        let mut argv: Vec<OsString> = ["unshare", "-m", "--propagation", "private", "sh", "-c"]
            .map(Into::into)
            .to_vec();
        argv.extend([MOUNTS.into(), "sh".into()]);
        // what is new or to go: a mount over it is not enough
        let mut new: BTreeMap<&Path, Vec<&Target<'_>>> = BTreeMap::new();
        for target in changed {
            if target.before.is_none() || target.text.is_none() {
                let folder = install::parent(target.path);
                new.entry(folder).or_default().push(target);
            }
        }
        for (number, (folder, files)) in new.into_iter().enumerate() {
            let upper = stage.0.join(format!("overlay-{number}"));
            // the option of mount(8) has no way to say these
            if [folder, &upper]
                .iter()
                .any(|path| path.to_string_lossy().contains([':', ',', '\\']))
            {
                return Ok(None);
            }
            for file in files {
                let place = upper.join(file.path.file_name().unwrap_or_default());
                match file.text {
                    Some(text) => stage.put(&place, text)?,
                    None if hide(&place)? == Hidden::No => return Ok(None),
                    None => {}
                }
            }
            argv.extend(["overlay".into(), upper.into(), folder.into()]);
        }
        for (number, target) in changed.iter().enumerate() {
            if let (Some(_), Some(text)) = (&target.before, target.text) {
                let staged = stage.0.join(format!("file-{number}"));
                stage.put(&staged, text)?;
                argv.extend(["file".into(), staged.into(), target.path.into()]);
            }
        }
        argv.push("--".into());
        argv.extend(self.argv(&self.settings.main));
        match run(argv).await {
            Ok(output) => {
                let Some((_, nginx)) = output.stderr.split_once(MOUNTED) else {
                    return Ok(None);
                };
                // the namespace's shell reports a missing program with 127, and 126 for one that cannot be run
                if matches!(output.status.code(), Some(126 | 127)) {
                    return Ok(Some(self.nginx(&self.settings.main).await?));
                }
                let stderr = nginx.trim_start().to_owned();
                Ok(Some(Output { stderr, ..output }))
            }
            Err(CommandError::NotFound { .. } | CommandError::NotExecutable { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// `None` where the main file does not load turnout's file itself, or no copy can stand beside it.
    async fn sibling(
        &self,
        stage: &Stage,
        path: &Path,
        text: &str,
    ) -> Result<Option<(Output, PathBuf)>, Failed> {
        let main = &self.settings.main;
        let staged = stage.0.join("candidate.conf");
        stage.put(&staged, text)?;
        let pid = stage.0.join("nginx.pid");
        let copy = fs::read_to_string(main)
            .ok()
            .and_then(|text| main_file::rewritten(&text, main, path, &staged, &pid));
        let Some(copy) = copy else { return Ok(None) };
        let sibling = Sibling(install::temporary(main));
        if stage.put(&sibling.0, &copy).is_err() {
            return Ok(None);
        }
        let output = self.nginx(&sibling.0).await?;
        Ok(Some((output, staged)))
    }

    async fn judge(
        &self,
        output: Output,
        staged: Option<&Path>,
        way: &'static str,
    ) -> Result<Passed, Failed> {
        let live = &self.settings.config;
        let mut stderr = output.stderr;
        if let Some(staged) = staged {
            stderr = stderr
                .replace(&*staged.to_string_lossy(), &live.to_string_lossy())
                .replace(
                    &*install::temporary(&self.settings.main).to_string_lossy(),
                    &self.settings.main.to_string_lossy(),
                );
        }
        if output.status.code().is_none() {
            // killed, so it has not said no
            return Err(Failed::Command(CommandError::Failed {
                argv: output.argv,
                status: output.status,
                stderr,
            }));
        }
        if !output.status.success() {
            return Err(refusal(&stderr, self.settings));
        }
        let read = files_read(&output.stdout);
        if !read
            .iter()
            .any(|path| main_file::same(path, staged.unwrap_or(live)))
        {
            return Err(Failed::NotIncluded(format!(
                "{} does not load {}: add the line `include {};` to its http block",
                self.settings.main.display(),
                live.display(),
                live.display()
            )));
        }
        let warnings = verdict::warnings(&stderr);
        let ignored: Vec<_> = warnings.iter().filter(|line| means_ignored(line)).collect();
        if !ignored.is_empty() && way != "as it stands" {
            // nobody else's old sins are held against this change
            let before = self
                .nginx(&self.settings.main)
                .await
                .map(|output| verdict::warnings(&output.stderr))
                .unwrap_or_default();
            let new: Vec<_> = ignored
                .iter()
                .filter(|line| !before.contains(**line))
                .map(|line| line.as_str())
                .collect();
            if !new.is_empty() {
                return Err(Failed::Refused(format!(
                    "it would ignore a part of it: {}",
                    new.join("\n")
                )));
            }
        }
        Ok(Passed {
            way,
            warnings: warnings.into_iter().collect(),
            error_log: error_log(&output.stdout),
        })
    }
}

async fn run(argv: Vec<OsString>) -> Result<Output, CommandError> {
    Program::new(argv).deadline(DEADLINE).cap(DUMP).run().await
}
