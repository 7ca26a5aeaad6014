//! Wrong tokens, counted: after a burst from one address the answer is 429 and says when to try again.
//!
//! Only wrong tokens come here, so a correct one is never locked out, whatever others at the same address do. That also means
//! that the count makes guessing loud and costly, and not impossible: what keeps a token from being guessed is its length.
//! The memory is one fixed table, however many addresses ask. Addresses that share a slot share its budget, which costs a
//! wrong token the difference between 401 and 429.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::guard::Peer;

/// 2 KiB. Few enough addresses guess at a control port for them not to meet often.
const SLOTS: usize = 256;
/// Wrong tokens that may come at once: a team's worth of mistyped ones, or one job with a stale one and its retries.
const BURST: u64 = 30;
/// One more is forgiven every so often, so 30 a minute go on being answered with 401.
const FORGIVEN_EVERY: Duration = Duration::from_secs(2);

/// What becomes of a wrong token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is wrong, and that is all.
    Wrong,
    /// The last one before the budget is used up, which is worth a line in the log.
    WrongAgain,
    /// Too many: this long until one is forgiven.
    TooMany(Duration),
}

/// The budgets of all addresses, as the time at which each would be whole again (the generic cell rate algorithm, ITU-T I.371).
#[derive(Debug)]
pub(super) struct Attempts {
    begin: Instant,
    hasher: RandomState,
    whole_at: Box<[AtomicU64]>,
}

impl Attempts {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            begin: now,
            hasher: RandomState::new(),
            whole_at: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// A wrong token came from `peer`.
    pub(super) fn wrong(&self, peer: &Peer, now: Instant) -> Verdict {
        let now = millis(now.saturating_duration_since(self.begin));
        let each = millis(FORGIVEN_EVERY);
        let most = each * BURST;
        let slot = &self.whole_at[self.slot(peer)];
        let taken = slot.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |whole_at| {
            let next = whole_at.max(now) + each;
            (next - now <= most).then_some(next)
        });
        match taken {
            Ok(before) if before.max(now) + 2 * each - now > most => Verdict::WrongAgain,
            Ok(_) => Verdict::Wrong,
            Err(whole_at) => Verdict::TooMany(Duration::from_millis(whole_at + each - now - most)),
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "the remainder is below 256"
    )]
    fn slot(&self, peer: &Peer) -> usize {
        let hash = match peer {
            // who has one address of IPv6 has the whole /64
            Peer::Tcp { remote, .. } => match remote.ip().to_canonical() {
                IpAddr::V4(ip) => self.hasher.hash_one(ip.octets()),
                IpAddr::V6(ip) => self.hasher.hash_one(&ip.octets()[..8]),
            },
            Peer::Unix { user } => self.hasher.hash_one(user),
        };
        (hash % SLOTS as u64) as usize
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(text: &str) -> Peer {
        Peer::Tcp {
            remote: std::net::SocketAddr::new(text.parse().unwrap(), 50_000),
            local: None,
        }
    }

    #[test]
    fn a_burst_is_answered_and_then_one_every_two_seconds() {
        let begin = Instant::now();
        let attempts = Attempts::new(begin);
        let guesser = peer("10.0.0.7");
        let verdicts: Vec<_> = (0..BURST)
            .map(|_| attempts.wrong(&guesser, begin))
            .collect();
        assert_eq!(verdicts[..29], [Verdict::Wrong; 29]);
        assert_eq!(verdicts[29], Verdict::WrongAgain);
        for _ in 0..1000 {
            let verdict = attempts.wrong(&guesser, begin);
            assert_eq!(verdict, Verdict::TooMany(Duration::from_secs(2)));
        }
        let later = begin + Duration::from_millis(1500);
        let wait = Verdict::TooMany(Duration::from_millis(500));
        assert_eq!(attempts.wrong(&guesser, later), wait);
        let forgiven = begin + FORGIVEN_EVERY;
        assert_eq!(attempts.wrong(&guesser, forgiven), Verdict::WrongAgain);
        assert!(matches!(
            attempts.wrong(&guesser, forgiven),
            Verdict::TooMany(_)
        ));
        let long_after = begin + Duration::from_mins(2);
        assert_eq!(attempts.wrong(&guesser, long_after), Verdict::Wrong);
    }

    #[test]
    fn an_address_is_its_network_and_the_others_are_others() {
        let begin = Instant::now();
        let attempts = Attempts::new(begin);
        assert_eq!(
            attempts.slot(&peer("2001:db8::1")),
            attempts.slot(&peer("2001:db8::ffff"))
        );
        assert_eq!(
            attempts.slot(&peer("::ffff:10.0.0.7")),
            attempts.slot(&peer("10.0.0.7"))
        );
        let slots: std::collections::BTreeSet<_> = (0..100)
            .map(|last| attempts.slot(&peer(&format!("10.0.0.{last}"))))
            .collect();
        // 100 balls in 256 urns leave 83 urns with one on average, and never as few as 50
        assert!(slots.len() > 50, "{}", slots.len());
    }
}
