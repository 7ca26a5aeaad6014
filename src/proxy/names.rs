//! What the aliases of the snapshot in force resolve to: follows their names on a thread of its own, and puts a snapshot with
//! the new addresses into force when an answer changes.
//!
//! A new snapshot is all that is needed: new requests go by it at once, each thread closes what it keeps open to addresses that are
//! in it no more, and what is in flight ends where it is. Addresses are not shape: the generation stays.
//!
//! The C library waits in a lookup, so none runs on a thread that carries requests. The thread begins with the first alias
//! and ends with the proxy.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::mpsc;

use super::thread::Core;
use crate::domain::Server;
use crate::resolve::{Followed, Known};

/// Threads on which lookups may wait at a time, over all names.
const WAITING: usize = 256;
/// How long an install waits for the first answers of new names. A name that takes longer has 503 until then.
const FIRST: Duration = Duration::from_secs(2);

/// The addresses of each alias, as they were found last.
pub(super) type Addresses = BTreeMap<Server, Vec<SocketAddr>>;

/// The names that are followed, and what is known of them.
#[derive(Debug, Default)]
pub(super) struct Names(Mutex<Inside>);

#[derive(Debug, Default)]
struct Inside {
    addresses: Arc<Addresses>,
    /// Each with the number of the lookup that was learned from last.
    followed: BTreeMap<Server, (Followed, u64)>,
    /// The way to the thread; closed with the proxy.
    thread: Option<mpsc::UnboundedSender<(Server, std::sync::mpsc::SyncSender<Followed>)>>,
}

impl Names {
    fn inside(&self) -> std::sync::MutexGuard<'_, Inside> {
        // what is behind it is whole at any time
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known now.
    pub(super) fn addresses(&self) -> Arc<Addresses> {
        Arc::clone(&self.inside().addresses)
    }

    /// The name that is followed, for a request that found nobody there.
    pub(super) fn followed(&self, target: &Server) -> Option<Followed> {
        let inside = self.inside();
        let (followed, _) = inside.followed.get(target)?;
        Some(followed.clone())
    }

    fn is_followed(&self, target: &Server) -> bool {
        self.inside().followed.contains_key(target)
    }

    /// Follows these besides the others, and waits for the first answers of new ones.
    pub(super) async fn follow(core: &Arc<Core>, wanted: &BTreeSet<Server>) -> io::Result<()> {
        let mut new = Vec::new();
        for target in wanted {
            if let Some(followed) = core.names.begin(core, target)? {
                new.push((target, followed));
            }
        }
        for (target, mut followed) in new {
            followed.first(FIRST).await;
            core.names.learn(target, &followed.now());
        }
        Ok(())
    }

    /// Follows these and no others.
    pub(super) fn keep(&self, wanted: &BTreeSet<Server>) {
        let mut inside = self.inside();
        inside.followed.retain(|target, _| wanted.contains(target));
        let kept = inside.addresses.iter();
        let kept = kept.filter(|(target, _)| wanted.contains(*target));
        inside.addresses = Arc::new(kept.map(|(t, a)| (t.clone(), a.clone())).collect());
    }

    /// `None`: it is followed already.
    fn begin(&self, core: &Arc<Core>, target: &Server) -> io::Result<Option<Followed>> {
        let mut inside = self.inside();
        if inside.followed.contains_key(target) {
            return Ok(None);
        }
        if inside.thread.is_none() {
            inside.thread = Some(start(Arc::downgrade(core))?);
        }
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        let thread = inside.thread.as_ref();
        let asked = thread.is_some_and(|thread| thread.send((target.clone(), tell)).is_ok());
        let followed = if asked { told.recv().ok() } else { None };
        let Some(followed) = followed else {
            inside.thread = None;
            return Err(io::Error::other("the thread that follows names has ended"));
        };
        inside
            .followed
            .insert(target.clone(), (followed.clone(), 0));
        Ok(Some(followed))
    }

    /// True if that is another answer than before. One that was overtaken is none.
    pub(super) fn learn(&self, target: &Server, known: &Known) -> bool {
        let mut inside = self.inside();
        let is_later = inside.followed.get_mut(target).is_some_and(|(_, learned)| {
            std::mem::replace(learned, known.lookup.max(*learned)) <= known.lookup
        });
        let is_news = is_later && inside.addresses.get(target) != Some(&known.addresses);
        if is_news {
            let mut addresses = Addresses::clone(&inside.addresses);
            addresses.insert(target.clone(), known.addresses.clone());
            inside.addresses = Arc::new(addresses);
        }
        is_news
    }
}

/// Starts the thread. It makes what follows a name, since that has to be made where it runs.
fn start(
    core: Weak<Core>,
) -> io::Result<mpsc::UnboundedSender<(Server, std::sync::mpsc::SyncSender<Followed>)>> {
    let (sender, mut asked) = mpsc::unbounded_channel::<(Server, std::sync::mpsc::SyncSender<_>)>();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .max_blocking_threads(WAITING)
        .build()?;
    std::thread::Builder::new()
        .name("proxy-names".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                while let Some((target, tell)) = asked.recv().await {
                    let followed = Followed::begin(&target);
                    tokio::spawn(take_over(core.clone(), target, followed.clone()));
                    // who asked waits for it
                    drop(tell.send(followed));
                }
            });
            // a lookup may wait for half a minute yet, and nobody for it
            runtime.shutdown_background();
        })?;
    Ok(sender)
}

/// Brings each new answer into force, until nobody else follows the name.
async fn take_over(core: Weak<Core>, target: Server, mut followed: Followed) {
    loop {
        let known = followed.changed().await;
        let Some(core) = core.upgrade() else {
            return;
        };
        if !core.names.is_followed(&target) {
            return;
        }
        if core.names.learn(&target, &known) {
            core.readdress();
        }
    }
}
