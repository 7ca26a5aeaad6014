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

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::install::{self, InstallError};
use super::super::{ApplyError, RenderedFile};
use super::main_file;
use super::process::Master;
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
    pub(super) async fn staged(&self, changed: &[&RenderedFile]) -> Result<Passed, Failed> {
        if changed.is_empty() {
            return self.live().await;
        }
        let stage = Stage::new(self.state_dir)?;
        if let Some(output) = self.mounted(&stage, changed).await? {
            return self.judge(output, None, "in a mount namespace").await;
        }
        if let [only] = changed
            && main_file::same(&only.path, &self.settings.config)
            && let Some((output, staged)) = self.sibling(&stage, only).await?
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
        changed: &[&RenderedFile],
    ) -> Result<Option<Output>, Failed> {
        if !nix::unistd::geteuid().is_root() {
            return Ok(None);
        }
        let mut argv: Vec<OsString> = ["unshare", "-m", "--propagation", "private", "sh", "-c"]
            .map(Into::into)
            .to_vec();
        argv.extend([MOUNTS.into(), "sh".into()]);
        let mut new: BTreeMap<&Path, Vec<&RenderedFile>> = BTreeMap::new();
        for file in changed {
            if !file.path.exists() {
                new.entry(install::parent(&file.path))
                    .or_default()
                    .push(file);
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
                stage.put(
                    &upper.join(file.path.file_name().unwrap_or_default()),
                    &file.text,
                )?;
            }
            argv.extend(["overlay".into(), upper.into(), folder.into()]);
        }
        for (number, file) in changed.iter().enumerate() {
            if file.path.exists() {
                let staged = stage.0.join(format!("file-{number}"));
                stage.put(&staged, &file.text)?;
                argv.extend(["file".into(), staged.into(), file.path.clone().into()]);
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
        file: &RenderedFile,
    ) -> Result<Option<(Output, PathBuf)>, Failed> {
        let main = &self.settings.main;
        let staged = stage.0.join("candidate.conf");
        stage.put(&staged, &file.text)?;
        let pid = stage.0.join("nginx.pid");
        let copy = fs::read_to_string(main)
            .ok()
            .and_then(|text| main_file::rewritten(&text, main, &file.path, &staged, &pid));
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
        let warnings = warnings(&stderr);
        let ignored: Vec<_> = warnings.iter().filter(|line| means_ignored(line)).collect();
        if !ignored.is_empty() && way != "as it stands" {
            // nobody else's old sins are held against this change
            let before = self
                .nginx(&self.settings.main)
                .await
                .map(|output| self::warnings(&output.stderr))
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

/// What nginx said, without its own name before each line.
fn refusal(stderr: &str, settings: &NginxSettings) -> Failed {
    let lines: Vec<String> = stderr
        .lines()
        .map(plain)
        .filter(|line| {
            !line.starts_with("configuration file ") && !line.starts_with("the configuration file ")
        })
        .collect();
    let errors: Vec<&str> = lines
        .iter()
        .map(String::as_str)
        .filter(|line| line.starts_with("[emerg]") || line.starts_with("[crit]"))
        .collect();
    let denied = |line: &&str| line.contains("Permission denied");
    if !errors.is_empty() && errors.iter().all(denied) {
        return Failed::NotPermitted(format!(
            "nginx cannot check its configuration as {}: {}. Run turnout as root, or let that user write what the message \
             names (for the pid file: `pid` in {})",
            install::user(),
            errors.join("; "),
            settings.main.display()
        ));
    }
    Failed::Refused(if lines.is_empty() {
        "its check failed and said nothing".to_owned()
    } else {
        lines.join("\n")
    })
}

fn warnings(stderr: &str) -> BTreeSet<String> {
    stderr
        .lines()
        .filter_map(|line| line.split_once("[warn] "))
        .map(|(_, message)| {
            // the process that said it, and where it stands, change every time
            let message = without_process(message);
            let message = message
                .rsplit_once(" in /")
                .map_or(message, |(text, _)| text);
            message.to_owned()
        })
        .collect()
}

/// Without `nginx: `, or the time and process that a log line has.
fn plain(line: &str) -> String {
    for level in ["[emerg] ", "[alert] ", "[crit] ", "[error] ", "[warn] "] {
        if let Some((_, message)) = line.split_once(level) {
            return format!("{level}{}", without_process(message));
        }
    }
    line.strip_prefix("nginx: ").unwrap_or(line).to_owned()
}

/// Without the `1234#1234: ` that a log line has and a line on the terminal has not.
fn without_process(message: &str) -> &str {
    message
        .split_once(": ")
        .filter(|(process, _)| {
            process.contains('#')
                && process
                    .bytes()
                    .all(|byte| byte.is_ascii_digit() || byte == b'#')
        })
        .map_or(message, |(_, rest)| rest)
}

/// Warnings that a check passes with and that mean "a part of this has no effect".
fn means_ignored(warning: &str) -> bool {
    warning.starts_with("conflicting server name")
        || warning.starts_with("duplicate")
        || (warning.starts_with("could not build") && !warning.contains("optimal"))
}

/// The files that a dump says it read.
fn files_read(dump: &str) -> Vec<PathBuf> {
    dump.lines()
        .filter_map(|line| {
            let path = line
                .strip_prefix("# configuration file ")?
                .strip_suffix(':')?;
            Some(PathBuf::from(path))
        })
        .collect()
}

fn error_log(dump: &str) -> Option<PathBuf> {
    dump.lines().find_map(|line| {
        let value = line.trim().strip_prefix("error_log ")?;
        let path = value.split([' ', ';']).next()?;
        path.starts_with('/').then(|| PathBuf::from(path))
    })
}

/// The folder of staged files under the state directory, emptied at the beginning and removed at the end.
struct Stage(PathBuf);

impl Stage {
    fn new(state_dir: &Path) -> Result<Self, InstallError> {
        let dir = state_dir.join("check");
        match fs::remove_dir_all(&dir) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(InstallError::of("clear", &dir, source)),
        }
        install::make_private_dir(&dir)?;
        Ok(Self(dir))
    }

    fn put(&self, path: &Path, text: &str) -> Result<(), InstallError> {
        use std::io::Write as _;
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
struct Sibling(PathBuf);

impl Drop for Sibling {
    fn drop(&mut self) {
        // the next apply sweeps it
        fs::remove_file(&self.0).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_compared_without_their_place() {
        let stderr = "2026/11/21 03:00:00 [warn] 7#7: conflicting server name \"a\" on 0.0.0.0:80, ignored\n\
                      nginx: [warn] duplicate MIME type \"x\" in /etc/nginx/nginx.conf:3\nnginx: ok\n";
        let found = warnings(stderr);
        assert_eq!(
            found.iter().map(String::as_str).collect::<Vec<_>>(),
            [
                "conflicting server name \"a\" on 0.0.0.0:80, ignored",
                "duplicate MIME type \"x\""
            ]
        );
        assert!(found.iter().all(|line| means_ignored(line)));
        assert!(!means_ignored(
            "could not build optimal variables_hash, you should increase …"
        ));
    }

    #[test]
    fn a_dump_names_its_files_and_its_error_log() {
        let dump = "# configuration file /etc/nginx/nginx.conf:\n  error_log /var/log/nginx/error.log warn;\n# configuration file /a b:\n";
        assert_eq!(
            files_read(dump),
            [Path::new("/etc/nginx/nginx.conf"), Path::new("/a b")]
        );
        assert_eq!(
            error_log(dump).as_deref(),
            Some(Path::new("/var/log/nginx/error.log"))
        );
    }
}
