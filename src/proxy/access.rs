//! The access log: one JSON line for each request, written by a thread of its own.
//!
//! The proxy's threads hand a record over a bounded channel and never wait: where the disk cannot keep up, lines are dropped,
//! counted, and the log of turnout says how many. A file is opened to append, and opened again when another file (or none)
//! has its name, looked at once a second; so logrotate works with `create` and without a signal. One thread writes for all
//! services.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::record::Line;

/// Lines that may wait for the disk; some 4 MiB.
const WAITING: usize = 8192;
/// Between two looks at whether a file is still the one with its name, between two words about lost lines, and between two
/// tries to open a file that could not be opened.
const LOOK: Duration = Duration::from_secs(1);

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Destination {
    Stdout,
    File(PathBuf),
}

/// The way to the writer.
#[derive(Debug, Default)]
pub(super) struct AccessLog {
    writer: OnceLock<Option<SyncSender<Message>>>,
    dropped: Arc<AtomicU64>,
}

enum Message {
    Line(Arc<Destination>, Box<Line>),
    /// Answered when everything before it is written.
    Flush(oneshot::Sender<()>),
}

impl AccessLog {
    /// Hands a line over, or drops and counts it. The writer is started with the first.
    pub(super) fn write(&self, to: &Arc<Destination>, line: Box<Line>) {
        let writer = self.writer.get_or_init(|| {
            let (sender, messages) = sync_channel(WAITING);
            let dropped = Arc::clone(&self.dropped);
            std::thread::Builder::new()
                .name("access-log".to_owned())
                .spawn(move || Writer::new(dropped).run(&messages))
                .map(|_| sender)
                .inspect_err(
                    |error| tracing::error!(%error, "failed to start the access log's thread"),
                )
                .ok()
        });
        let sent = writer
            .as_ref()
            .is_some_and(|writer| writer.try_send(Message::Line(Arc::clone(to), line)).is_ok());
        if !sent {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lines that were dropped since the start.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits until what was handed over is written; `within` at most.
    pub(super) async fn flush(&self, within: Duration) {
        let Some(Some(writer)) = self.writer.get() else {
            return;
        };
        let (done, flushed) = oneshot::channel();
        // a full channel means that the disk does not keep up; nothing is gained by waiting for it
        if writer.try_send(Message::Flush(done)).is_ok()
            && tokio::time::timeout(within, flushed).await.is_err()
        {
            tracing::warn!("the access log was not written to its end");
        }
    }
}

/// The writer's own thread.
struct Writer {
    sinks: HashMap<PathBuf, Sink>,
    stdout: BufWriter<io::Stdout>,
    dropped: Arc<AtomicU64>,
    told: u64,
    told_at: Instant,
}

/// One file.
struct Sink {
    file: Option<BufWriter<File>>,
    looked: Instant,
}

impl Writer {
    fn new(dropped: Arc<AtomicU64>) -> Self {
        Self {
            sinks: HashMap::new(),
            stdout: BufWriter::new(io::stdout()),
            dropped,
            told: 0,
            told_at: Instant::now(),
        }
    }

    fn run(mut self, messages: &Receiver<Message>) {
        loop {
            match messages.try_recv() {
                Ok(message) => self.take(message),
                Err(TryRecvError::Disconnected) => break,
                Err(TryRecvError::Empty) => {
                    self.flush();
                    match messages.recv_timeout(LOOK) {
                        Ok(message) => self.take(message),
                        Err(RecvTimeoutError::Timeout) => {}
                        Err(RecvTimeoutError::Disconnected) => break,
                    }
                }
            }
            self.tell();
        }
        self.flush();
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Line(to, line) => {
                let written = match &*to {
                    Destination::Stdout => line.write(&mut self.stdout),
                    Destination::File(path) => {
                        let sink = self.sinks.entry(path.clone()).or_insert_with(|| Sink {
                            file: open(path),
                            looked: Instant::now(),
                        });
                        sink.write(path, &line)
                    }
                };
                if written.is_err() {
                    self.dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
            Message::Flush(done) => {
                self.flush();
                // who asked has given up, or is told
                let (Ok(()) | Err(())) = done.send(());
            }
        }
    }

    fn flush(&mut self) {
        let mut failed = self.stdout.flush().is_err();
        for sink in self.sinks.values_mut() {
            if let Some(file) = &mut sink.file
                && file.flush().is_err()
            {
                // what stands in the buffer is lost; a new one begins with a new look
                sink.file = None;
                failed = true;
            }
        }
        if failed {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Says how many lines were lost, at most once a second.
    fn tell(&mut self) {
        let dropped = self.dropped.load(Ordering::Relaxed);
        if dropped > self.told && self.told_at.elapsed() >= LOOK {
            tracing::warn!(
                lines = dropped - self.told,
                "access log lines were lost: the disk did not take them in time"
            );
            self.told = dropped;
            self.told_at = Instant::now();
        }
    }
}

impl Sink {
    fn write(&mut self, path: &Path, line: &Line) -> io::Result<()> {
        if self.looked.elapsed() >= LOOK {
            self.looked = Instant::now();
            if self.file.as_ref().is_none_or(|file| !is_named(file, path)) {
                if let Some(mut old) = self.file.take() {
                    old.flush()?;
                }
                self.file = open(path);
            }
        }
        match &mut self.file {
            Some(file) => line.write(file),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

fn open(path: &Path) -> Option<BufWriter<File>> {
    File::options()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)
        .inspect_err(|error| tracing::warn!(path = %path.display(), %error, "failed to open the access log; trying again"))
        .ok()
        .map(BufWriter::new)
}

/// True if the open file is the one with this name.
fn is_named(file: &BufWriter<File>, path: &Path) -> bool {
    match (file.get_ref().metadata(), std::fs::metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(path: &str) -> Box<Line> {
        Box::new(Line::example(path))
    }

    fn paths(file: &Path) -> Vec<String> {
        std::fs::read_to_string(file)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .map(|line| line["path"].as_str().unwrap().to_owned())
            .collect()
    }

    #[tokio::test]
    async fn lines_come_in_order_and_a_rotated_file_is_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("access.json");
        let to = Arc::new(Destination::File(file.clone()));
        let log = AccessLog::default();
        log.write(&to, line("/1"));
        log.write(&to, line("/2"));
        log.flush(Duration::from_secs(5)).await;
        assert_eq!(paths(&file), ["/1", "/2"]);
        let rotated = folder.path().join("access.json.1");
        std::fs::rename(&file, &rotated).unwrap();
        tokio::time::sleep(LOOK).await;
        log.write(&to, line("/3"));
        log.flush(Duration::from_secs(5)).await;
        assert_eq!(paths(&rotated), ["/1", "/2"]);
        assert_eq!(paths(&file), ["/3"]);
        assert_eq!(log.dropped(), 0);
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_opened_loses_lines_and_counts_them() {
        let folder = tempfile::tempdir().unwrap();
        let to = Arc::new(Destination::File(folder.path().join("absent/access.json")));
        let log = AccessLog::default();
        log.write(&to, line("/1"));
        log.flush(Duration::from_secs(5)).await;
        assert_eq!(log.dropped(), 1);
    }
}
