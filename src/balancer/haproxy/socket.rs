//! The runtime socket of the running worker: one line of commands, all that it answers, and what that means.
//!
//! HAProxy answers an error as text like any other, and success as an empty line. So nothing here takes an answer for a
//! success by itself: who writes reads back. All that one look needs goes in one line, so that one worker answers it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::super::install::user;
use crate::render::{HaproxyPosition, SHAPE};

/// For one line of commands; a worker answers in well under a millisecond.
const ANSWER: Duration = Duration::from_secs(2);

/// HAProxy reads 16 KiB at most before it takes a line; a `set map` with the longest names has about 200 bytes.
const COMMANDS_IN_A_LINE: usize = 50;

/// Why the socket does not tell, or does not do.
#[derive(Debug, thiserror::Error)]
pub(super) enum SocketError {
    #[error("{} does not exist", path.display())]
    Missing { path: PathBuf },
    #[error("nobody listens on {}: it is left from an HAProxy that ended", path.display())]
    Abandoned { path: PathBuf },
    #[error("{user} may not use HAProxy's socket {}: run turnout as root or as a user of the socket's group", path.display())]
    Denied { path: PathBuf, user: String },
    #[error(
        "HAProxy's socket {} has the level {level}, and a change needs admin: write `stats socket {} mode 660 level admin` \
         in its global section and restart HAProxy", path.display(), path.display()
    )]
    Level { path: PathBuf, level: String },
    #[error("{} did not answer within 2 s", path.display())]
    Late { path: PathBuf },
    #[error("failed to talk to {}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("HAProxy answered `{command}` with: {answer}")]
    Answer { command: String, answer: String },
}

/// What the running worker says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    /// Its process number, in its own namespace.
    pub(super) pid: i32,
    /// It takes nothing new any more.
    pub(super) stopping: bool,
    /// The shape it was started with; `None`: without turnout's file.
    pub(super) shape: Option<String>,
    /// The position it routes by; empty where it has no such map.
    pub(super) position: HaproxyPosition,
    /// `user`, `operator` or `admin`.
    level: String,
}

impl Said {
    /// True if it has exactly these keys and values, whatever else it has.
    pub(super) fn has(&self, keys: &[(String, u64)]) -> bool {
        keys.iter()
            .all(|(key, value)| self.position.keys.get(key) == Some(&value.to_string()))
    }
}

/// The socket and the map behind it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Socket<'a> {
    pub(super) path: &'a Path,
    pub(super) map: &'a Path,
}

impl Socket<'_> {
    /// What the worker says now.
    pub(super) async fn look(&self) -> Result<Said, SocketError> {
        let map = self.map.display();
        let line = format!("show cli level;show info;show env {SHAPE};show map {map}");
        let text = self.ask(&line).await?;
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        let level = text.lines().next().unwrap_or_default().trim().to_owned();
        let Some(pid) = field("Pid: ").and_then(|pid| pid.trim().parse().ok()) else {
            return Err(SocketError::Answer {
                command: "show info".to_owned(),
                answer: first_line(&text),
            });
        };
        let entries = text.lines().filter_map(|line| {
            let (address, entry) = line.strip_prefix("0x")?.split_once(' ')?;
            address
                .bytes()
                .all(|byte| byte.is_ascii_hexdigit())
                .then_some(entry)
        });
        Ok(Said {
            pid,
            stopping: field("Stopping: ").is_some_and(|stopping| stopping.trim() != "0"),
            shape: field(&format!("{SHAPE}=")).map(|shape| shape.trim().to_owned()),
            position: HaproxyPosition::of(entries),
            level,
        })
    }

    /// Refuses a socket that may not change anything.
    pub(super) fn admin(&self, said: &Said) -> Result<(), SocketError> {
        if said.level == "admin" {
            return Ok(());
        }
        Err(SocketError::Level {
            path: self.path.to_owned(),
            level: said.level.clone(),
        })
    }

    /// Gives every key its value where it has another one. What came of it has to be read back.
    pub(super) async fn put(&self, keys: &[(String, u64)], said: &Said) -> Result<(), SocketError> {
        let map = self.map.display();
        let commands: Vec<String> = keys
            .iter()
            .filter_map(|(key, value)| match said.position.keys.get(key) {
                Some(now) if *now == value.to_string() => None,
                Some(_) => Some(format!("set map {map} {key} {value}")),
                None => Some(format!("add map {map} {key} {value}")),
            })
            .collect();
        for some in commands.chunks(COMMANDS_IN_A_LINE) {
            let line = some.join(";");
            let answer = self.ask(&line).await?;
            match first_line(&answer) {
                silent if silent.is_empty() => {}
                denied if denied == "Permission denied" => {
                    return Err(SocketError::Level {
                        path: self.path.to_owned(),
                        level: said.level.clone(),
                    });
                }
                answer => {
                    return Err(SocketError::Answer {
                        command: first_command(&line),
                        answer,
                    });
                }
            }
        }
        Ok(())
    }

    /// The sessions that a backend has now.
    pub(super) async fn sessions(&self, backend: &str) -> Result<u64, SocketError> {
        // type 2: backends
        let command = format!("show stat {backend} 2 -1");
        let text = self.ask(&command).await?;
        let unexpected = || SocketError::Answer {
            command: command.clone(),
            answer: first_line(&text),
        };
        let mut lines = text.lines();
        let head = lines.next().ok_or_else(unexpected)?;
        let place = head
            .split(',')
            .position(|column| column == "scur")
            .ok_or_else(unexpected)?;
        lines
            .find(|line| line.starts_with(backend))
            .and_then(|line| line.split(',').nth(place)?.parse().ok())
            .ok_or_else(unexpected)
    }

    async fn ask(&self, line: &str) -> Result<String, SocketError> {
        ask(self.path, line, ANSWER).await
    }
}

/// One line to a socket of HAProxy's, and all of its answer.
pub(super) async fn ask(path: &Path, line: &str, within: Duration) -> Result<String, SocketError> {
    exchange(path, line, within, End::Theirs).await
}

/// The same on the master's socket for what is answered at once: the master goes on listening until nothing more can come.
pub(super) async fn ask_master(
    path: &Path,
    line: &str,
    within: Duration,
) -> Result<String, SocketError> {
    exchange(path, line, within, End::Ours).await
}

/// Who says first that there is nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Theirs,
    Ours,
}

async fn exchange(
    path: &Path,
    line: &str,
    within: Duration,
    end: End,
) -> Result<String, SocketError> {
    let path_of = || path.to_owned();
    let failed = |source: io::Error| SocketError::Io {
        path: path_of(),
        source,
    };
    let asked = timeout(within, async {
        let mut stream = match UnixStream::connect(path).await {
            Ok(stream) => stream,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(SocketError::Missing { path: path_of() });
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                return Err(SocketError::Abandoned { path: path_of() });
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(SocketError::Denied {
                    path: path_of(),
                    user: user(),
                });
            }
            Err(error) => return Err(failed(error)),
        };
        stream
            .write_all(format!("{line}\n").as_bytes())
            .await
            .map_err(failed)?;
        if end == End::Ours {
            stream.shutdown().await.map_err(failed)?;
        }
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.map_err(failed)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    });
    asked
        .await
        .unwrap_or_else(|_elapsed| Err(SocketError::Late { path: path_of() }))
}

fn first_line(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty());
    line.unwrap_or_default().chars().take(200).collect()
}

fn first_command(line: &str) -> String {
    line.split(';').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A socket that answers each connection with the next of these texts.
    fn answering(dir: &Path, answers: &'static [&'static str]) -> PathBuf {
        let path = dir.join("admin.sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut line = [0_u8; 4096];
                let _read = stream.read(&mut line).await.unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        path
    }

    const LOOK: &str = "admin\n\nName: HAProxy\nPid: 42\nStopping: 0\n\nTURNOUT_SHAPE=abc\n\n0x55 shop 10000\n0x56 _generation 3\n\n";

    #[tokio::test]
    async fn a_look_is_read_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = answering(dir.path(), &[LOOK]);
        let map = Path::new("/m/position.map");
        let said = Socket { path: &path, map }.look().await.unwrap();
        assert_eq!((said.pid, said.stopping), (42, false));
        assert_eq!(said.shape.as_deref(), Some("abc"));
        assert_eq!(said.position.generation.unwrap().0, 3);
        assert!(said.has(&[("shop".into(), 10_000), ("_generation".into(), 3)]));
        assert!(!said.has(&[("shop".into(), 0)]));
    }

    #[tokio::test]
    async fn an_error_that_comes_as_text_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = answering(
            dir.path(),
            &[
                LOOK,
                "\nentry not found.\n\n",
                "Permission denied\n\n",
                "\n\n",
            ],
        );
        let map = Path::new("/m/position.map");
        let socket = Socket { path: &path, map };
        let said = socket.look().await.unwrap();
        let keys = [("shop".to_owned(), 0)];
        let error = socket.put(&keys, &said).await.unwrap_err().to_string();
        assert_eq!(
            error,
            "HAProxy answered `set map /m/position.map shop 0` with: entry not found."
        );
        let error = socket.put(&keys, &said).await.unwrap_err().to_string();
        assert!(error.contains("level admin"), "{error}");
        socket.put(&keys, &said).await.unwrap();
    }

    #[tokio::test]
    async fn an_absent_and_an_abandoned_socket_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        let map = Path::new("/m/position.map");
        let socket = Socket { path: &path, map };
        assert!(matches!(
            socket.look().await,
            Err(SocketError::Missing { .. })
        ));
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(matches!(
            socket.look().await,
            Err(SocketError::Abandoned { .. })
        ));
    }
}
