//! The watching: one thread that holds the kernel's watches and says what changed.
//!
//! Folders are watched, not files: editors, `mv` and configuration management put a new file in the old one's place. A watch
//! dies with its folder, which the kernel tells only sometimes; so every two seconds the folders' inodes are compared, and a
//! replaced one is watched anew. The files themselves are looked at only when something happened.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use notify_debouncer_full::notify::{self, RecommendedWatcher, RecursiveMode};
use notify_debouncer_full::{DebounceEventResult, Debouncer, NoCache, new_debouncer_opt};
use tokio::sync::mpsc as outbox;

use super::files::{Changed, Prints, Watched, folders};

/// A burst of writes is one change.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// How exactly the end of a burst is met.
const TICK: Duration = Duration::from_millis(50);
/// How long a watch may be lost before it is noticed.
const RENEW: Duration = Duration::from_secs(2);
/// Unread changes; the five kinds are told again and again, so the reader loses nothing by being slow.
const OUTBOX: usize = 16;

/// Why files are not watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The kernel gives no more watches.
    #[error(
        "failed to watch files; if there are too many watches on this host, raise fs.inotify.max_user_instances"
    )]
    Kernel(#[from] notify::Error),
    /// No thread.
    #[error("failed to start the thread that watches files")]
    Thread(#[source] std::io::Error),
}

enum Message {
    /// Something happened in one of the folders.
    Happened,
    /// From now on these.
    Reset(Box<Watched>),
    /// The end.
    Stop,
}

/// The watching; ends when it is dropped.
#[derive(Debug)]
pub struct Watch {
    inbox: mpsc::Sender<Message>,
}

impl Watch {
    /// Watches these files from now on. How those stand now that were not watched before is taken for known.
    pub fn reset(&self, watched: Watched) {
        self.send(Message::Reset(Box::new(watched)));
    }

    fn send(&self, message: Message) {
        if self.inbox.send(message).is_err() {
            tracing::error!("files are not watched any more: the thread that did it has ended");
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // a thread that has ended has stopped
        drop(self.inbox.send(Message::Stop));
    }
}

/// Begins to watch. How the files stand now is taken for known.
pub fn start(watched: Watched) -> Result<(Watch, outbox::Receiver<Changed>), WatchError> {
    let (inbox, messages) = mpsc::channel();
    let (changes, changed) = outbox::channel(OUTBOX);
    let happened = inbox.clone();
    let debouncer = new_debouncer_opt::<_, RecommendedWatcher, _>(
        DEBOUNCE,
        Some(TICK),
        move |result: DebounceEventResult| {
            let worth_a_look = match result {
                // looking at files is an event too
                Ok(events) => events.iter().any(|event| !event.kind.is_access()),
                Err(errors) => {
                    tracing::warn!(?errors, "watching files hit an error; looking at them all");
                    true
                }
            };
            if worth_a_look {
                // after the end nobody needs to know
                drop(happened.send(Message::Happened));
            }
        },
        NoCache::new(),
        notify::Config::default(),
    )?;
    let mut eyes = Eyes {
        debouncer,
        prints: Prints::of(&watched),
        watched,
        folders: BTreeMap::new(),
        changes,
    };
    // the first watches are set before `start` returns, so that no later change is missed
    eyes.renew();
    std::thread::Builder::new()
        .name("watch".to_owned())
        .spawn(move || eyes.run(&messages))
        .map_err(WatchError::Thread)?;
    Ok((Watch { inbox }, changed))
}

struct Eyes {
    debouncer: Debouncer<RecommendedWatcher, NoCache>,
    watched: Watched,
    folders: BTreeMap<PathBuf, (u64, u64)>,
    prints: Prints,
    changes: outbox::Sender<Changed>,
}

/// Whether the watches had to be set anew.
#[derive(Debug, PartialEq, Eq)]
enum Renewal {
    Same,
    Anew,
}

impl Eyes {
    fn run(mut self, messages: &mpsc::Receiver<Message>) {
        loop {
            match messages.recv_timeout(RENEW) {
                Ok(Message::Happened) => {
                    self.renew();
                    self.look();
                }
                Ok(Message::Reset(watched)) => {
                    self.watched = *watched;
                    self.renew();
                    // who resets has read them a while ago, and they may have changed since
                    self.prints = Prints::of(&self.watched).known_from(&self.prints);
                    self.look();
                }
                Err(RecvTimeoutError::Timeout) => {
                    if self.renew() == Renewal::Anew {
                        self.look();
                    }
                }
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.changes.is_closed() {
                break;
            }
        }
        self.debouncer.stop_nonblocking();
    }

    /// Brings the kernel's watches in line with the folders as they are now.
    fn renew(&mut self) -> Renewal {
        let wanted = folders(&self.watched);
        if wanted == self.folders {
            return Renewal::Same;
        }
        for (folder, inode) in &self.folders {
            if wanted.get(folder) != Some(inode) {
                // the kernel has dropped the watch of a folder that is gone
                drop(self.debouncer.unwatch(folder));
            }
        }
        let mut watching = BTreeMap::new();
        for (folder, inode) in wanted {
            if self.folders.get(&folder) == Some(&inode) {
                watching.insert(folder, inode);
                continue;
            }
            match self.debouncer.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    watching.insert(folder, inode);
                }
                Err(error) => {
                    tracing::warn!(folder = %folder.display(), %error, "a folder cannot be watched; trying again");
                }
            }
        }
        self.folders = watching;
        Renewal::Anew
    }

    /// Says what stands otherwise than when it was last looked at.
    fn look(&mut self) {
        let now = Prints::of(&self.watched);
        for changed in now.since(&self.prints) {
            tracing::debug!(?changed, "a watched file changed");
            if self.changes.blocking_send(changed).is_err() {
                // nobody reads any more; the next turn of the loop sees it too
                return;
            }
        }
        self.prints = now;
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Far longer than the debouncing and the renewal together.
    const PATIENCE: Duration = Duration::from_secs(10);
    /// Longer than the debouncing, for what must not come.
    const QUIET: Duration = Duration::from_millis(400);

    async fn next(changes: &mut outbox::Receiver<Changed>) -> Changed {
        tokio::time::timeout(PATIENCE, changes.recv())
            .await
            .expect("a change within the deadline")
            .unwrap()
    }

    async fn assert_quiet(changes: &mut outbox::Receiver<Changed>) {
        let more = tokio::time::timeout(QUIET, changes.recv()).await;
        assert!(more.is_err(), "nothing changed, and {more:?} was told");
    }

    fn put(path: &Path, text: &str) {
        let beside = path.with_extension("new");
        std::fs::File::create(&beside)
            .and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))
            .unwrap();
        std::fs::rename(beside, path).unwrap();
    }

    #[tokio::test]
    async fn each_file_is_told_by_its_kind_and_a_burst_is_one_change() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        for name in ["turnout.yaml", "own.j2", "bg.json", "state.json", "tls.crt"] {
            put(&at(name), "1");
        }
        std::fs::create_dir(at("services.d")).unwrap();
        let (_watch, mut changes) = start(Watched {
            config: vec![at("turnout.yaml")],
            include: vec![at("services.d/*.yaml")],
            templates: vec![at("own.j2")],
            followed: Some(at("bg.json")),
            state: Some(at("state.json")),
            certificates: vec![at("tls.crt")],
        })
        .unwrap();
        for (name, kind) in [
            ("turnout.yaml", Changed::Config),
            ("own.j2", Changed::Template),
            ("bg.json", Changed::Followed),
            ("state.json", Changed::State),
            ("tls.crt", Changed::Certificate),
            ("services.d/blog.yaml", Changed::Config),
        ] {
            for text in ["22", "333"] {
                put(&at(name), text);
            }
            assert_eq!(next(&mut changes).await, kind, "{name}");
        }
        std::fs::remove_file(at("services.d/blog.yaml")).unwrap();
        assert_eq!(next(&mut changes).await, Changed::Config);
        put(&at("unrelated"), "x");
        put(&at("services.d/README.md"), "x");
        assert_quiet(&mut changes).await;
    }

    #[tokio::test]
    async fn a_folder_may_come_later_go_and_come_back() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join(".local_context/deep/bg_state.json");
        let (_watch, mut changes) = start(Watched {
            followed: Some(file.clone()),
            ..Watched::default()
        })
        .unwrap();
        for _ in 0..2 {
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            put(&file, "{}");
            assert_eq!(next(&mut changes).await, Changed::Followed);
            std::fs::remove_dir_all(root.path().join(".local_context")).unwrap();
            assert_eq!(next(&mut changes).await, Changed::Followed);
        }
    }

    #[tokio::test]
    async fn a_link_that_is_pointed_elsewhere_is_a_change() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        for version in ["v1", "v2"] {
            std::fs::create_dir(at(version)).unwrap();
            put(&at(version).join("turnout.yaml"), version);
        }
        std::os::unix::fs::symlink(at("v1/turnout.yaml"), at("turnout.yaml")).unwrap();
        let (_watch, mut changes) = start(Watched {
            config: vec![at("turnout.yaml")],
            ..Watched::default()
        })
        .unwrap();
        put(&at("v1/turnout.yaml"), "v1 edited");
        assert_eq!(next(&mut changes).await, Changed::Config);
        std::os::unix::fs::symlink(at("v2/turnout.yaml"), at("beside")).unwrap();
        std::fs::rename(at("beside"), at("turnout.yaml")).unwrap();
        assert_eq!(next(&mut changes).await, Changed::Config);
    }

    #[tokio::test]
    async fn after_a_reset_other_files_are_watched() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        std::fs::create_dir(at("new")).unwrap();
        let of = |path: PathBuf| Watched {
            config: vec![path],
            ..Watched::default()
        };
        let (watch, mut changes) = start(of(at("old.yaml"))).unwrap();
        put(&at("old.yaml"), "1");
        assert_eq!(next(&mut changes).await, Changed::Config);
        watch.reset(of(at("new/turnout.yaml")));
        put(&at("old.yaml"), "2");
        assert_quiet(&mut changes).await;
        put(&at("new/turnout.yaml"), "1");
        assert_eq!(next(&mut changes).await, Changed::Config);
    }
    #[tokio::test]
    async fn what_changes_just_before_a_reset_is_told_after_it() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("turnout.yaml");
        let watched = Watched {
            config: vec![file.clone()],
            ..Watched::default()
        };
        put(&file, "1");
        let (watch, mut changes) = start(watched.clone()).unwrap();
        put(&file, "22");
        watch.reset(watched);
        assert_eq!(next(&mut changes).await, Changed::Config);
        assert_quiet(&mut changes).await;
    }
}
