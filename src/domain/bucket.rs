//! Which color a sticky key gets: nginx's `split_clients` and HAProxy's `xxh32,mod(10000)`, exactly.
//!
//! `split_clients "SALT${key}" $color { P% blue; * green; }` hashes with `MurmurHash2` (32 bit, seed 0; Austin Appleby's,
//! as in nginx's `src/core/ngx_murmurhash.c`) and compares with a cumulative threshold of `P * 0xffffffff / 10000` for `P` in
//! basis points, integer division (`src/http/modules/ngx_http_split_clients_module.c`). Blue's line always stands first
//! and green is `*`: any fixed order moves users one way only as a weight grows, another order would reshuffle them.
//!
//! HAProxy has its own hash: `xxh32` (Yann Collet's xxHash, seed 0) of the same salted key, `mod(10000)`, blue below its
//! basis points. Its 10,000 buckets are places on nginx's circle, so that one comparison serves both.

use super::{Color, ServiceName, Split};

/// The buckets of HAProxy: one for each basis point.
const BUCKETS: u32 = 10_000;

/// How a balancer hashes a sticky key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hashing {
    /// nginx's `split_clients`: `MurmurHash2` on the 32-bit circle.
    SplitClients,
    /// HAProxy's `xxh32,mod(10000)`.
    Xxh32,
}

/// Where a key falls on the 32-bit circle that both nginx and the embedded proxy cut at blue's threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bucket(u32);

impl Bucket {
    /// The bucket of `key` for `service`. The service's name and a colon are the salt, so that one user is not in the
    /// first percent of every service.
    pub fn of(service: &ServiceName, key: &[u8]) -> Self {
        Self::hashed(Hashing::SplitClients, service, key)
    }

    /// The bucket of `key` for `service` on a balancer that hashes as `hashing`. The salt is the same on each.
    pub fn hashed(hashing: Hashing, service: &ServiceName, key: &[u8]) -> Self {
        let mut salted = Vec::with_capacity(service.as_str().len() + 1 + key.len());
        salted.extend_from_slice(service.as_str().as_bytes());
        salted.push(b':');
        salted.extend_from_slice(key);
        match hashing {
            Hashing::SplitClients => Self(murmur_hash2(&salted)),
            // the first place on the circle that belongs to this basis point
            Hashing::Xxh32 => Self(threshold(xxhash_rust::xxh32::xxh32(&salted, 0) % BUCKETS)),
        }
    }

    /// A bucket from a uniformly random number, for a request without a key.
    pub const fn from_random(random: u32) -> Self {
        Self(random)
    }

    /// The color of this bucket under `split`.
    pub fn color(self, split: Split) -> Color {
        if let Some(whole) = split.whole() {
            return whole;
        }
        let blue = u32::from(split.weight(Color::Blue).basis_points());
        if self.0 < threshold(blue) {
            Color::Blue
        } else {
            Color::Green
        }
    }
}

/// `points * 0xffffffff / 10000`, where a share of that many basis points ends on nginx's circle.
pub fn threshold(points: u32) -> u32 {
    let place = u64::from(points) * u64::from(u32::MAX) / u64::from(BUCKETS);
    u32::try_from(place).unwrap_or(u32::MAX)
}

/// A key that `service` routes to `color` under `split`, for proofs through the front door; `None` where `color` has nothing.
/// Found by counting, so at 0.01 % it takes about 10,000 hashes.
pub fn sample_key(
    hashing: Hashing,
    service: &ServiceName,
    split: Split,
    color: Color,
) -> Option<String> {
    if split.weight(color) == super::Weight::ZERO {
        return None;
    }
    (0..=u32::MAX)
        .map(|number| format!("turnout-proof-{number}"))
        .find(|key| Bucket::hashed(hashing, service, key.as_bytes()).color(split) == color)
}

fn murmur_hash2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "as nginx: the length enters as 32 bits, and no key is 4 GiB long"
    )]
    let mut hash = data.len() as u32;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        k = k.wrapping_mul(M);
        k ^= k >> 24;
        k = k.wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    let tail = words.remainder();
    if !tail.is_empty() {
        for (place, byte) in tail.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * place);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Weight;

    fn blue(points: u16) -> Split {
        Split::giving(Color::Blue, Weight::from_basis_points(points).unwrap())
    }

    #[test]
    fn the_edges_are_exact() {
        for number in [0, 1, u32::MAX / 2, u32::MAX] {
            assert_eq!(Bucket::from_random(number).color(blue(10_000)), Color::Blue);
            assert_eq!(Bucket::from_random(number).color(blue(0)), Color::Green);
        }
        // 1 basis point: 0xffffffff / 10000 = 429496
        assert_eq!(Bucket::from_random(429_495).color(blue(1)), Color::Blue);
        assert_eq!(Bucket::from_random(429_496).color(blue(1)), Color::Green);
    }

    #[test]
    fn a_bucket_of_haproxy_is_blue_below_its_basis_points() {
        let service: ServiceName = "shop".parse().unwrap();
        // xxh32("shop:u1") mod 10000, as HAProxy 2.6.12 computed it
        let bucket = Bucket::hashed(Hashing::Xxh32, &service, b"u1");
        assert_eq!(bucket.color(blue(1_690)), Color::Green);
        assert_eq!(bucket.color(blue(1_691)), Color::Blue);
    }

    #[test]
    fn growing_green_moves_users_only_from_blue_to_green() {
        let service: ServiceName = "shop".parse().unwrap();
        for number in 0..20_000 {
            for hashing in [Hashing::SplitClients, Hashing::Xxh32] {
                let key = format!("user-{number}");
                let bucket = Bucket::hashed(hashing, &service, key.as_bytes());
                let colors: Vec<_> = [10_000, 9_000, 7_500, 5_000, 1, 0]
                    .iter()
                    .map(|points| bucket.color(blue(*points)))
                    .collect();
                assert!(colors.is_sorted(), "{colors:?}");
            }
        }
    }

    #[test]
    fn a_sample_key_is_found_down_to_one_basis_point() {
        let service: ServiceName = "shop".parse().unwrap();
        for hashing in [Hashing::SplitClients, Hashing::Xxh32] {
            for color in Color::BOTH {
                for points in [1, 5_000, 9_999] {
                    let key = sample_key(hashing, &service, blue(points), color).unwrap();
                    let bucket = Bucket::hashed(hashing, &service, key.as_bytes());
                    assert_eq!(bucket.color(blue(points)), color);
                }
            }
            assert_eq!(sample_key(hashing, &service, blue(0), Color::Blue), None);
        }
    }
}
