//! Rate limits: a token bucket for each client (or service) and rule, kept as one number by the generic cell rate algorithm
//! (ITU-T I.371): the time at which the bucket would be full again.
//!
//! Exact, over all threads, for as long as a rule has fewer than [`MOST`] buckets that are not full in a shard ([`SHARDS`] of
//! them: 65,536 clients at least on average, about 3 MiB); past that the fullest of a sample of its buckets is
//! forgotten, which gives its client at most `burst` requests too many. A full bucket is the same as none, so those go first.
//!
//! Not the crate governor: its keyed stores grow with the number of addresses that a flood makes up.

use std::collections::HashMap;
use std::collections::hash_map::{Entry as Place, RandomState};
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::path::{is_below, plain};
use crate::domain::{RateBy, RateRule};

/// Parts of a rule's buckets with a lock of their own, held for the length of one look-up.
const SHARDS: usize = 16;
/// Buckets in one of them.
const MOST: usize = 4096;
/// Buckets that are looked at to find one to forget.
const SAMPLE: usize = 16;

/// One rule with its buckets.
#[derive(Debug)]
pub(super) struct Limiter {
    pub(super) rule: RateRule,
    /// Nanoseconds in which one token flows in.
    token: u64,
    /// Nanoseconds in which an empty bucket fills.
    full: u64,
    began: Instant,
    hasher: RandomState,
    shards: Box<[Mutex<HashMap<u128, u64>>]>,
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Limiter {
    pub(super) fn new(rule: RateRule) -> Self {
        let token = (nanoseconds(rule.per) / u64::from(rule.requests.max(1))).max(1);
        Self {
            token,
            full: token.saturating_mul(u64::from(rule.burst.max(1))),
            rule,
            began: Instant::now(),
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }

    /// Takes a token for a request of `client` to `path`; the error is how long until there is one.
    pub(super) fn take(&self, client: IpAddr, path: &str) -> Result<(), Duration> {
        if !self.rule.paths.is_empty() {
            let path = plain(path);
            if !self.rule.paths.iter().any(|above| is_below(&path, above)) {
                return Ok(());
            }
        }
        let key = match self.rule.by {
            RateBy::Client => bucket_of(client),
            RateBy::Service => 0,
        };
        self.take_at(key, nanoseconds(self.began.elapsed()))
    }

    fn take_at(&self, key: u128, now: u64) -> Result<(), Duration> {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "any bits of the hash will do for the choice of a shard"
        )]
        let shard = self.hasher.hash_one(key) as usize % SHARDS;
        // who panicked while it was held has left numbers, and numbers are always good
        let mut buckets = self.shards[shard]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MOST && !buckets.contains_key(&key) {
            make_room(&mut buckets, now);
        }
        let (mut place, full_again) = match buckets.entry(key) {
            Place::Occupied(known) => {
                let full_again = (*known.get()).max(now);
                (known, full_again)
            }
            Place::Vacant(free) => (free.insert_entry(now), now),
        };
        let next = full_again.saturating_add(self.token);
        match next.checked_sub(now.saturating_add(self.full)) {
            None | Some(0) => {
                place.insert(next);
                Ok(())
            }
            Some(early) => Err(Duration::from_nanos(early)),
        }
    }
}

/// Forgets the fullest of a few buckets; if that one is full, all that are. A sample, because under a flood every new address
/// needs room, and to look at thousands each time would make the flood's work ours.
fn make_room(buckets: &mut HashMap<u128, u64>, now: u64) {
    let fullest = buckets
        .iter()
        .take(SAMPLE)
        .min_by_key(|(_, full_again)| **full_again)
        .map(|(key, full_again)| (*key, *full_again));
    match fullest {
        Some((_, full_again)) if full_again <= now => {
            buckets.retain(|_, full_again| *full_again > now);
        }
        Some((key, _)) => {
            buckets.remove(&key);
        }
        None => {}
    }
}

/// An address, or of an IPv6 address its /64, as a number other than 0.
fn bucket_of(client: IpAddr) -> u128 {
    match client.to_canonical() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
        IpAddr::V6(ip) => (ip.to_bits() >> 64 << 64) | 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn limiter(requests: u32, burst: u32, by: RateBy, paths: &[&str]) -> Limiter {
        Limiter::new(RateRule {
            requests,
            per: Duration::from_secs(1),
            burst,
            by,
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        })
    }

    #[test]
    fn a_burst_passes_at_once_and_then_the_rate() {
        let limiter = limiter(10, 3, RateBy::Client, &[]);
        for _ in 0..3 {
            assert_eq!(limiter.take_at(7, 0), Ok(()));
        }
        assert_eq!(limiter.take_at(7, 0), Err(Duration::from_millis(100)));
        assert_eq!(
            limiter.take_at(8, 0),
            Ok(()),
            "another client has a bucket of its own"
        );
        assert_eq!(limiter.take_at(7, SECOND / 10), Ok(()));
        assert_eq!(
            limiter.take_at(7, SECOND / 10),
            Err(Duration::from_millis(100))
        );
        let passed = (0..1_000)
            .filter(|step| limiter.take_at(7, SECOND + step * SECOND / 100).is_ok())
            .count();
        // 10 seconds at 10 a second, and the 3 of a full bucket less what the last step's tenth lacks
        assert_eq!(passed, 102);
    }

    #[test]
    fn an_ipv6_client_is_its_64_and_a_mapped_ipv4_address_is_ipv4() {
        let bucket = |text: &str| bucket_of(text.parse().unwrap());
        assert_eq!(bucket("2001:db8::1"), bucket("2001:db8::ffff:1"));
        assert_ne!(bucket("2001:db8::1"), bucket("2001:db8:0:1::1"));
        assert_eq!(bucket("::ffff:10.0.0.1"), bucket("10.0.0.1"));
        assert_ne!(bucket("10.0.0.1"), bucket("10.0.0.2"));
    }

    #[test]
    fn only_the_named_paths_count_however_they_are_written() {
        let limiter = limiter(1, 1, RateBy::Service, &["/login"]);
        let ip = "10.0.0.1".parse().unwrap();
        assert_eq!(limiter.take(ip, "/"), Ok(()));
        assert_eq!(limiter.take(ip, "/loginx"), Ok(()));
        assert_eq!(limiter.take(ip, "/login"), Ok(()));
        for path in [
            "/login",
            "/%6cogin/step",
            "//login",
            "/x/../login",
            "/./login/",
        ] {
            let other = "10.0.0.2".parse().unwrap();
            assert!(limiter.take(other, path).is_err(), "{path}");
        }
    }

    #[test]
    fn a_flood_of_addresses_is_bounded_in_memory_and_frees_nobody_who_is_over() {
        let limiter = limiter(1, 2, RateBy::Client, &[]);
        let spender = 1;
        limiter.take_at(spender, 0).unwrap();
        limiter.take_at(spender, 0).unwrap();
        for stranger in 2..100_000 {
            assert_eq!(limiter.take_at(stranger, 0), Ok(()));
        }
        let kept: usize = limiter
            .shards
            .iter()
            .map(|shard| shard.lock().unwrap().len())
            .sum();
        assert_eq!(kept, SHARDS * MOST);
        assert_eq!(limiter.take_at(spender, 0), Err(Duration::from_secs(1)));
    }
}
