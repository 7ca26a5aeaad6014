//! What a name resolves to now, looked up again and again, for whoever has to follow a network alias.
//!
//! # How
//!
//! By the C library (`getaddrinfo`, through tokio's `lookup_host`), and not by a resolver of turnout's own: names of
//! `/etc/hosts`, of `nsswitch.conf` and of Docker's embedded server are then what every other program of the host sees, and
//! `resolv.conf` is read again when it changes. `getaddrinfo` tells no time to live and keeps nothing, so an answer counts
//! until the next look, half a second later ([`EVERY`]), whatever its TTL says. A cache of the host's own (systemd-resolved,
//! nscd) keeps to TTLs, and cannot be seen past from here.
//!
//! A lookup runs on a thread of the runtime's blocking pool, since the C library waits in it, 5 s for each try of each name
//! server by default. One that hangs holds up nobody: the next one begins after a second ([`PATIENCE`]), at most [`AT_ONCE`]
//! at a time, and the answer of the one that began last counts.
//!
//! A lookup that fails, or finds no address, takes nothing away: the last addresses stay, with what is wrong beside them.
//! Nothing is logged here, and nothing is decided.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use crate::domain::Server;

/// From one lookup to the next: with the time of a lookup, a change is seen well within the second that is promised.
pub const EVERY: Duration = Duration::from_millis(500);
/// How long a lookup is waited for before another begins beside it.
const PATIENCE: Duration = Duration::from_secs(1);
/// Lookups of one name at a time: more than the seconds that `getaddrinfo` tries two name servers for by default.
const AT_ONCE: usize = 24;
/// From one hurried lookup to the next: a service whose connections are all refused asks a thousand times a second.
const HURRY: Duration = Duration::from_millis(20);
/// After so long without any answer that is said.
const SILENT: Duration = Duration::from_secs(2);

/// What is known of a name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Known {
    /// What it resolved to when it last did, in order and each once; empty: it never did.
    pub addresses: Vec<SocketAddr>,
    /// What is wrong with the last lookup; `None`: nothing.
    pub problem: Option<String>,
    /// The number of the lookup that said so, in the order in which they began; 0: none has ended yet.
    pub lookup: u64,
}

/// A name that is being followed. Cheap to clone; the lookups end with the last one.
#[derive(Debug, Clone)]
pub struct Followed {
    known: watch::Receiver<Known>,
    begun: Arc<AtomicU64>,
    hurry: Arc<Notify>,
}

impl Followed {
    /// Follows `server`'s name from now on. Must be called within a runtime. An address that is no name is its own answer.
    pub fn begin(server: &Server) -> Self {
        let fixed = server.socket_addr();
        let (sender, known) = watch::channel(Known {
            addresses: fixed.into_iter().collect(),
            problem: None,
            lookup: u64::from(fixed.is_some()),
        });
        let begun = Arc::new(AtomicU64::new(0));
        let hurry = Arc::new(Notify::new());
        if fixed.is_none() {
            let following = Following {
                server: server.clone(),
                known: sender,
                begun: Arc::clone(&begun),
                running: JoinSet::new(),
                last: Instant::now(),
                answered: Instant::now(),
            };
            tokio::spawn(following.run(Arc::clone(&hurry)));
        }
        Self {
            known,
            begun,
            hurry,
        }
    }

    /// What is known now.
    pub fn now(&self) -> Known {
        self.known.borrow().clone()
    }

    /// Waits for the next thing that is known. Never, for an address that is no name.
    pub async fn changed(&mut self) -> Known {
        if self.known.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.known.borrow_and_update().clone()
    }

    /// Waits until a first lookup has ended, at most `within`.
    pub async fn first(&mut self, within: Duration) {
        let ended = self.known.wait_for(|known| known.lookup > 0);
        // one that takes longer is heard of later
        drop(tokio::time::timeout(within, ended).await);
    }

    /// Looks at once.
    pub fn hurry(&self) {
        self.hurry.notify_one();
    }

    /// What a lookup says that begins from now on; `None` if that is not known `within`.
    pub async fn anew(&mut self, within: Duration) -> Option<Known> {
        let before = self.begun.load(Ordering::Relaxed);
        self.hurry.notify_one();
        let ended = self.known.wait_for(|known| known.lookup > before);
        let known = tokio::time::timeout(within, ended).await.ok()?.ok()?;
        Some(known.clone())
    }
}

/// One lookup, for who only wants to know once.
pub async fn once(server: &Server, within: Duration) -> Known {
    let looked = tokio::time::timeout(within, look(server.clone())).await;
    let mut known = Known::default();
    match looked {
        Ok(answer) => known.take(1, answer),
        Err(_elapsed) => known.problem = Some(silence(within)),
    }
    known
}

impl Known {
    fn take(&mut self, number: u64, answer: io::Result<Vec<SocketAddr>>) {
        self.lookup = number;
        self.problem = match answer {
            Ok(addresses) if !addresses.is_empty() => {
                self.addresses = addresses;
                None
            }
            Ok(_) => Some("the name has no address".to_owned()),
            Err(error) => Some(error.to_string()),
        };
    }
}

struct Following {
    server: Server,
    known: watch::Sender<Known>,
    begun: Arc<AtomicU64>,
    running: JoinSet<(u64, io::Result<Vec<SocketAddr>>)>,
    /// When the last lookup began.
    last: Instant,
    /// When one last ended.
    answered: Instant,
}

impl Following {
    async fn run(mut self, hurry: Arc<Notify>) {
        self.begin();
        let mut due = tokio::time::interval_at(self.last + EVERY, EVERY);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // a hurried lookup that came too soon behind another
        let mut owed: Option<Instant> = None;
        loop {
            tokio::select! {
                () = self.known.closed() => return,
                _ = due.tick() => {
                    if self.running.is_empty() || self.last.elapsed() >= PATIENCE {
                        self.begin();
                    }
                    self.tell_silence();
                }
                () = hurry.notified(), if owed.is_none() => owed = Some(self.last + HURRY),
                () = until(owed), if owed.is_some() => {
                    owed = None;
                    self.begin();
                }
                Some(ended) = self.running.join_next() => {
                    if let Ok((number, answer)) = ended {
                        self.take(number, answer);
                    }
                }
            }
        }
    }

    fn begin(&mut self) {
        if self.running.len() >= AT_ONCE {
            return;
        }
        self.last = Instant::now();
        let number = self.begun.fetch_add(1, Ordering::Relaxed) + 1;
        let server = self.server.clone();
        self.running
            .spawn(async move { (number, look(server).await) });
    }

    fn take(&mut self, number: u64, answer: io::Result<Vec<SocketAddr>>) {
        self.answered = Instant::now();
        self.known.send_if_modified(|known| {
            // an older one that was overtaken says what was, not what is
            let is_news = number > known.lookup;
            if is_news {
                known.take(number, answer);
            }
            is_news
        });
    }

    fn tell_silence(&self) {
        if !self.running.is_empty() && self.answered.elapsed() >= SILENT {
            self.known.send_if_modified(|known| {
                let text = silence(SILENT);
                let is_news = known.problem.as_ref() != Some(&text);
                known.problem = Some(text);
                is_news
            });
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

fn silence(waited: Duration) -> String {
    format!("no answer to a lookup for {} s", waited.as_secs())
}

/// The addresses of a name, in order and each once.
async fn look(server: Server) -> io::Result<Vec<SocketAddr>> {
    let found = tokio::net::lookup_host((server.host(), server.port())).await?;
    let mut addresses: Vec<SocketAddr> = found.collect();
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(text: &str) -> Server {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn names_of_the_hosts_file_and_addresses_resolve() {
        let mut local = Followed::begin(&server("http://localhost:3000"));
        local.first(Duration::from_secs(5)).await;
        let known = local.now();
        assert_eq!(known.problem, None);
        assert!(
            known.addresses.contains(&"127.0.0.1:3000".parse().unwrap()),
            "{known:?}"
        );
        let fixed = Followed::begin(&server("http://[::1]:5001")).now();
        assert_eq!(fixed.addresses, ["[::1]:5001".parse().unwrap()]);
    }

    #[tokio::test]
    async fn a_hurried_lookup_begins_after_it_was_asked_for() {
        let mut local = Followed::begin(&server("http://localhost:3000"));
        local.first(Duration::from_secs(5)).await;
        let before = local.now().lookup;
        let anew = local.anew(Duration::from_secs(5)).await.unwrap();
        assert!(anew.lookup > before, "{anew:?} after {before}");
    }

    #[test]
    fn an_empty_or_failed_answer_keeps_the_last_one() {
        let mut known = Known::default();
        let address: SocketAddr = "10.0.0.1:80".parse().unwrap();
        known.take(1, Ok(vec![address]));
        known.take(2, Ok(Vec::new()));
        assert_eq!(known.addresses, [address]);
        assert_eq!(known.problem.as_deref(), Some("the name has no address"));
        known.take(3, Err(io::Error::other("SERVFAIL")));
        assert_eq!(
            (known.addresses.as_slice(), known.problem.as_deref()),
            ([address].as_slice(), Some("SERVFAIL"))
        );
        known.take(4, Ok(vec![address]));
        assert_eq!(known.problem, None);
    }
}
