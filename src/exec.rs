//! The one door to external programs: an argument list (never a shell line), a clean environment, a deadline, bounded
//! output, and the whole process group killed when the deadline is missed or the caller goes away.
//!
//! A program that ends with a non-zero status has still run: that is a value ([`Output`]), and only [`Output::success`]
//! makes an error of it. Every error keeps the argument list and what the program wrote to stderr, because that is the
//! first thing a person asks for. Nothing here retries, and nothing here interprets what a program says.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes kept of each output stream unless [`Program::cap`] says otherwise: 1 MiB.
pub const DEFAULT_CAP: usize = 1024 * 1024;

/// How long a program may take unless [`Program::deadline`] says otherwise.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(30);

/// What a program finds in `PATH` when turnout itself has none (a unit file with an empty environment).
const FALLBACK_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How long output may still trickle in after the program itself has ended: a background child of its may hold the pipe
/// open for ever, and what it writes is not the program's answer.
const TRAILING_OUTPUT: Duration = Duration::from_millis(250);

/// An argument list, printed as a person would type it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argv(Vec<OsString>);

impl fmt::Display for Argv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, argument) in self.0.iter().enumerate() {
            if place > 0 {
                f.write_str(" ")?;
            }
            let text = argument.to_string_lossy();
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
            if !text.is_empty() && text.chars().all(plain) {
                f.write_str(&text)?;
            } else {
                write!(f, "'{}'", text.replace('\'', r"'\''"))?;
            }
        }
        Ok(())
    }
}

/// Why a program could not be run to its end.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// There is no such program.
    #[error("`{argv}` cannot be run: there is no such program (looked in PATH if it has no slash)")]
    NotFound {
        /// The argument list.
        argv: Argv,
    },
    /// There is, but it is not a program for this user.
    #[error("`{argv}` cannot be run: the file is not executable for this user")]
    NotExecutable {
        /// The argument list.
        argv: Argv,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The system could not start it, or lost it.
    #[error("failed to start `{argv}`")]
    Start {
        /// The argument list.
        argv: Argv,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It did not end in time; its whole process group was killed.
    #[error("`{argv}` did not end within {} s and was killed{}", after.as_secs_f64(), said(stderr))]
    TimedOut {
        /// The argument list.
        argv: Argv,
        /// The deadline.
        after: Duration,
        /// What it had written to stderr by then.
        stderr: String,
    },
    /// It ended with a status other than 0. Only [`Output::success`] makes this one.
    #[error("`{argv}` failed with {status}{}", said(stderr))]
    Failed {
        /// The argument list.
        argv: Argv,
        /// How it ended.
        status: ExitStatus,
        /// What it wrote to stderr.
        stderr: String,
    },
}

/// Characters of a program's stderr that an error's text repeats; the whole is in its field.
const SAID: usize = 4096;

fn said(stderr: &str) -> String {
    let text = stderr.trim();
    match text.char_indices().nth(SAID) {
        _ if text.is_empty() => String::new(),
        Some((end, _)) => format!(": {} …", &text[..end]),
        None => format!(": {text}"),
    }
}

/// How a program ended, and what it wrote.
#[derive(Debug, Clone)]
pub struct Output {
    /// The argument list it was run with.
    pub argv: Argv,
    /// How it ended.
    pub status: ExitStatus,
    /// The beginning of stdout, up to the cap; bytes that are not UTF-8 are replaced.
    pub stdout: String,
    /// The beginning of stderr, likewise.
    pub stderr: String,
}

impl Output {
    /// The output of a program that must have ended with 0.
    pub fn success(self) -> Result<Self, CommandError> {
        if self.status.success() {
            return Ok(self);
        }
        Err(CommandError::Failed {
            argv: self.argv,
            status: self.status,
            stderr: self.stderr,
        })
    }
}

/// An external program about to be run.
#[derive(Debug, Clone)]
pub struct Program {
    argv: Argv,
    env: BTreeMap<String, String>,
    dir: Option<PathBuf>,
    deadline: Duration,
    cap: usize,
}

impl Program {
    /// A program and its arguments. The program is looked up in `PATH` if it has no slash.
    pub fn new<A: Into<OsString>>(argv: impl IntoIterator<Item = A>) -> Self {
        Self {
            argv: Argv(argv.into_iter().map(Into::into).collect()),
            env: BTreeMap::new(),
            dir: None,
            deadline: DEFAULT_DEADLINE,
            cap: DEFAULT_CAP,
        }
    }

    /// One more environment variable, besides `PATH` and `LC_ALL=C`.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The working directory.
    #[must_use]
    pub fn dir(mut self, dir: &Path) -> Self {
        self.dir = Some(dir.to_owned());
        self
    }

    /// How long it may take, measured on the monotonic clock.
    #[must_use]
    pub const fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Bytes kept of each stream. What comes after is read and dropped, so that the program never blocks on a full pipe.
    #[must_use]
    pub const fn cap(mut self, bytes: usize) -> Self {
        self.cap = bytes;
        self
    }

    /// Runs it to its end. A missed deadline, and a caller that drops this future, kill the whole process group.
    pub async fn run(self) -> Result<Output, CommandError> {
        let Self {
            argv,
            env,
            dir,
            deadline,
            cap,
        } = self;
        let mut child = match command(&argv.0, &env, dir.as_deref())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
        {
            Ok(child) => child,
            Err(source) => return Err(start_error(argv, source)),
        };
        let group = Group::of(child.id());
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let ended = {
            let mut collect = pin!(async {
                tokio::join!(drain(out, &mut stdout, cap), drain(err, &mut stderr, cap));
            });
            let mut collected = false;
            let ended = tokio::time::timeout(deadline, async {
                loop {
                    tokio::select! {
                        status = child.wait() => break status,
                        () = &mut collect, if !collected => collected = true,
                    }
                }
            })
            .await;
            if ended.is_err() {
                group.kill();
            }
            if !collected {
                // a missed trailing deadline only means that somebody else holds the pipe; what came so far is kept
                tokio::time::timeout(TRAILING_OUTPUT, collect).await.ok();
            }
            ended
        };
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        match ended {
            Ok(Ok(status)) => {
                group.ended();
                Ok(Output {
                    argv,
                    status,
                    stdout: String::from_utf8_lossy(&stdout).into_owned(),
                    stderr,
                })
            }
            Ok(Err(source)) => Err(CommandError::Start { argv, source }),
            Err(_elapsed) => {
                // reaped here, so that no zombie is left; it was killed, so this does not wait
                child.wait().await.map_err(|source| CommandError::Start {
                    argv: argv.clone(),
                    source,
                })?;
                Err(CommandError::TimedOut {
                    argv,
                    after: deadline,
                    stderr,
                })
            }
        }
    }
}

/// A command with a clean environment (`PATH`, `LC_ALL=C` and `env`) in a process group of its own, for a child that is to
/// live long. Its owner decides about the streams, and signals and reaps the group. Dropping the child kills it.
pub fn command<A: AsRef<OsStr>>(
    argv: &[A],
    env: &BTreeMap<String, String>,
    dir: Option<&Path>,
) -> tokio::process::Command {
    let mut words = argv.iter();
    // an empty list becomes the program "", which the system does not find
    let program = words.next().map_or(OsStr::new(""), AsRef::as_ref);
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one door that the rule is about"
    )]
    let mut command = tokio::process::Command::new(program);
    command
        .args(words)
        .env_clear()
        .env(
            "PATH",
            std::env::var_os("PATH").unwrap_or_else(|| FALLBACK_PATH.into()),
        )
        .env("LC_ALL", "C")
        .envs(env)
        .process_group(0)
        .kill_on_drop(true);
    if let Some(dir) = dir {
        command.current_dir(dir);
    }
    command
}

fn start_error(argv: Argv, source: io::Error) -> CommandError {
    if source.kind() == io::ErrorKind::NotFound {
        CommandError::NotFound { argv }
    } else if source.kind() == io::ErrorKind::PermissionDenied
        || source.raw_os_error() == Some(nix::libc::ENOEXEC)
    {
        CommandError::NotExecutable { argv, source }
    } else {
        CommandError::Start { argv, source }
    }
}

/// Reads a stream to its end and keeps its first `cap` bytes. A broken pipe is an end like any other.
async fn drain(stream: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>, cap: usize) {
    let Some(mut stream) = stream else { return };
    let mut chunk = vec![0_u8; 16 * 1024];
    while let Ok(read @ 1..) = stream.read(&mut chunk).await {
        let room = cap.saturating_sub(kept.len()).min(read);
        kept.extend_from_slice(&chunk[..room]);
    }
}

/// The process group of a running child: killed when dropped, unless the child was seen to end.
struct Group(Option<Pid>);

impl Group {
    fn of(id: Option<u32>) -> Self {
        Self(id.and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw))
    }

    fn kill(&self) {
        if let Some(group) = self.0 {
            // it fails only when nobody of the group is left, which is what is wanted
            killpg(group, Signal::SIGKILL).ok();
        }
    }

    fn ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn shell(script: &str) -> Program {
        Program::new(["sh", "-c", script])
    }

    #[tokio::test]
    async fn a_non_zero_status_is_a_value_until_success_is_asked_for() {
        let output = shell("echo out; echo oops >&2; exit 3")
            .run()
            .await
            .unwrap();
        assert_eq!(
            (
                output.status.code(),
                output.stdout.as_str(),
                output.stderr.as_str()
            ),
            (Some(3), "out\n", "oops\n")
        );
        assert_eq!(
            output.success().unwrap_err().to_string(),
            "`sh -c 'echo out; echo oops >&2; exit 3'` failed with exit status: 3: oops"
        );
    }

    #[tokio::test]
    async fn the_environment_is_clean() {
        let output = shell("env | sort | grep -v ^PATH= | grep -v ^_= | grep -v ^PWD=")
            .env("A", "b c")
            .run()
            .await
            .unwrap();
        assert_eq!(output.stdout, "A=b c\nLC_ALL=C\n");
    }

    #[tokio::test]
    async fn a_missed_deadline_kills_the_whole_group_and_keeps_what_was_said() {
        let started = Instant::now();
        let error = shell("echo $$ >&2; sleep 60 & sleep 60")
            .deadline(Duration::from_millis(200))
            .run()
            .await
            .unwrap_err();
        assert!(started.elapsed() < Duration::from_secs(5));
        let CommandError::TimedOut { stderr, .. } = error else {
            panic!("{error}")
        };
        let group = Pid::from_raw(stderr.trim().parse().unwrap());
        let deadline = Instant::now() + Duration::from_secs(5);
        // init may take a moment to reap the orphan
        while killpg(group, None) != Err(nix::errno::Errno::ESRCH) {
            assert!(Instant::now() < deadline, "somebody of {group} lives on");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn output_is_capped_and_drained() {
        let output = shell("yes | head -c 3000000; echo done >&2")
            .cap(1000)
            .run()
            .await
            .unwrap();
        assert_eq!(
            (output.stdout.len(), output.stderr.as_str()),
            (1000, "done\n")
        );
    }

    #[tokio::test]
    async fn a_background_child_that_holds_the_pipe_does_not_hold_the_caller() {
        let started = Instant::now();
        let output = shell("sleep 20 & echo $!").run().await.unwrap();
        assert!(started.elapsed() < Duration::from_secs(5));
        let sleeper = Pid::from_raw(output.stdout.trim().parse().unwrap());
        nix::sys::signal::kill(sleeper, Signal::SIGKILL).unwrap();
    }

    #[tokio::test]
    async fn what_cannot_be_started_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let plain = dir.path().join("plain");
        std::fs::File::create(&plain).unwrap();
        for (program, ends) in [
            (
                OsString::from("turnout-no-such-program"),
                "there is no such program (looked in PATH if it has no slash)",
            ),
            (
                OsString::new(),
                "there is no such program (looked in PATH if it has no slash)",
            ),
            (
                plain.into_os_string(),
                "the file is not executable for this user",
            ),
        ] {
            let error = Program::new([program]).run().await.unwrap_err();
            assert!(error.to_string().ends_with(ends), "{error}");
        }
    }
}
