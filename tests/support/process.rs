//! Other programs, with a deadline: run to their end ([`Run`]), or in the background until dropped ([`Background`]).
//!
//! Every program gets a process group of its own and, through `setpriv --pdeathsig`, dies with the test even when that is
//! killed.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use super::wait_for;

/// A program and its arguments, not yet started. The environment is clean but for what is set here.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    argv: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    deadline: Duration,
}

impl Run {
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            argv: vec![program.as_ref().to_owned()],
            env: Vec::new(),
            deadline: Duration::from_mins(2),
        }
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.argv.push(arg.as_ref().to_owned());
        self
    }

    pub(crate) fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.argv
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Puts another program in front, such as `strace` or `setpriv`.
    pub(crate) fn under<A: AsRef<OsStr>>(mut self, front: impl IntoIterator<Item = A>) -> Self {
        let mut argv: Vec<OsString> = front
            .into_iter()
            .map(|arg| arg.as_ref().to_owned())
            .collect();
        argv.append(&mut self.argv);
        self.argv = argv;
        self
    }

    pub(crate) fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env
            .push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    pub(crate) fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.argv[0]);
        command
            .args(&self.argv[1..])
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("HOME", "/nonexistent")
            .env("LANG", "C.UTF-8")
            .env("RUST_BACKTRACE", "1")
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .process_group(0);
        command
    }

    fn line(&self) -> String {
        self.argv
            .iter()
            .map(|arg| arg.to_string_lossy())
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// Runs it to its end. One that is not done by its deadline is killed with its group, and fails the test.
    pub(crate) fn run(&self) -> Ran {
        let begin = Instant::now();
        let mut child = self
            .command()
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("failed to start `{}`: {error}", self.line()));
        let stdout = drain(child.stdout.take().unwrap());
        let stderr = drain(child.stderr.take().unwrap());
        let group = pid_of(&child);
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break Some(status);
            }
            if begin.elapsed() > self.deadline {
                killpg(group, Signal::SIGKILL).ok();
                child.wait().unwrap();
                break None;
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        let ended = Instant::now();
        let ran = Ran {
            line: self.line(),
            status: status.unwrap_or_else(|| ExitStatus::from_raw(9)),
            stdout: stdout.join().unwrap(),
            stderr: stderr.join().unwrap(),
            began: begin,
            ended,
        };
        assert!(
            status.is_some(),
            "not done after {:?}, and killed\n{ran}",
            self.deadline
        );
        ran
    }

    /// Starts it; both outputs go to `log`, which is appended to.
    pub(crate) fn background(&self, log: &Path) -> Background {
        let file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .unwrap_or_else(|error| panic!("failed to open {}: {error}", log.display()));
        let child = self
            .clone()
            .under(["setpriv", "--pdeathsig", "TERM"])
            .command()
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("failed to start `{}`: {error}", self.line()));
        Background {
            child,
            line: self.line(),
            log: log.to_owned(),
        }
    }
}

/// Reads on even when it is more than a test would want to keep, so that the program never blocks on a full pipe.
fn drain(mut pipe: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        let mut piece = [0_u8; 16 * 1024];
        while let Ok(count @ 1..) = pipe.read(&mut piece) {
            if kept.len() < 4 << 20 {
                kept.extend_from_slice(&piece[..count]);
            }
        }
        String::from_utf8_lossy(&kept).into_owned()
    })
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap())
}

/// What a program left behind.
#[derive(Debug)]
pub(crate) struct Ran {
    line: String,
    status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "$ {}\n[{} after {:?}]\n--- stdout\n{}--- stderr\n{}---",
            self.line,
            self.status,
            self.took(),
            self.stdout,
            self.stderr
        )
    }
}

impl Ran {
    /// From start to end.
    pub(crate) fn took(&self) -> Duration {
        self.ended - self.began
    }

    /// The exit code; `None`: it was killed.
    pub(crate) fn code(&self) -> Option<i32> {
        // strace dies of the signal that its tracee died of; a shell would say 128 + signal
        self.status.code()
    }

    /// Fails unless the exit code is this one.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert!(self.code() == Some(code), "expected exit {code}\n{self}");
        self
    }

    /// Fails unless the exit code is one of these.
    #[track_caller]
    pub(crate) fn exits_with_one_of(self, codes: &[i32]) -> Self {
        assert!(
            self.code().is_some_and(|code| codes.contains(&code)),
            "expected one of the exits {codes:?}\n{self}"
        );
        self
    }

    /// Fails unless one of the two outputs has this text.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        assert!(
            self.stdout.contains(text) || self.stderr.contains(text),
            "expected the text {text:?}\n{self}"
        );
        self
    }

    /// Fails if it panicked, whatever else it said.
    #[track_caller]
    pub(crate) fn sane(self) -> Self {
        assert!(!self.stderr.contains("panicked at"), "it panicked\n{self}");
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("stdout is not JSON: {error}\n{self}"))
    }
}

/// A program that runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Background {
    child: Child,
    line: String,
    log: PathBuf,
}

impl Background {
    pub(crate) fn pid(&self) -> i32 {
        pid_of(&self.child).as_raw()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(pid_of(&self.child), signal).unwrap();
    }

    /// What it printed so far.
    pub(crate) fn printed(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Its exit status, if it has ended.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn wait(&mut self, deadline: Duration) -> ExitStatus {
        let what = format!("the end of `{}`", self.line);
        wait_for(&what, deadline, || self.ended())
    }

    /// SIGKILL to it and to all that it has started and that stayed in its group, as systemd does it to a unit's processes.
    /// Not reaped.
    pub(crate) fn kill_all(&self) {
        // a group of which nobody is left
        killpg(pid_of(&self.child), Signal::SIGKILL).ok();
    }

    /// SIGKILL to it alone, and reaped.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        kill(pid_of(&self.child), Signal::SIGTERM).ok();
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(5) {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        killpg(pid_of(&self.child), Signal::SIGKILL).ok();
        self.child.wait().ok();
    }
}
