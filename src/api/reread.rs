//! A way for a request to have the configuration read again before it is answered.
//!
//! The daemon watches its files, and a person's `turnout render && turnout reload` is faster than any watching: without
//! this, what was edited and staged would be compared with what the daemon read before. It only asks; who reads, and what
//! becomes of a bad file, is the daemon's business.

use tokio::sync::{mpsc, oneshot};

/// Reads that may wait; each ends at once when the one before it has been told.
const WAITING: usize = 16;

/// What the reader is sent: to be answered when the controller has been told.
pub type Reading = oneshot::Sender<()>;

/// Asks the daemon to read its configuration. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Reread(mpsc::Sender<Reading>);

impl Reread {
    /// The asking end, and the end of whoever reads.
    pub fn new() -> (Self, mpsc::Receiver<Reading>) {
        let (ask, asked) = mpsc::channel(WAITING);
        (Self(ask), asked)
    }

    /// For a configuration that cannot change: nobody is asked.
    pub fn never() -> Self {
        Self::new().0
    }

    /// Returns when the controller's queue holds what the configuration says now, ahead of anything that is asked of it
    /// later; at once where nobody reads.
    pub(super) async fn now(&self) {
        let (told, answered) = oneshot::channel();
        if self.0.send(told).await.is_ok() {
            // a reader that ended tells nothing more, and the last good configuration stays
            drop(answered.await);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_waits_for_the_reader_and_never_for_nobody() {
        Reread::never().now().await;
        let (reread, mut asked) = Reread::new();
        let reader = tokio::spawn(async move {
            let told = asked.recv().await.unwrap();
            told.send(()).unwrap();
            asked.recv().await.is_none()
        });
        reread.now().await;
        drop(reread);
        assert!(reader.await.unwrap());
    }
}
