//! How late after a change the last request may come to an address that an alias has no more: a second, as promised, but for a
//! balancer that takes longer by its own rules. `tests/alias` measures it under load and holds each to its line.

use std::time::Duration;

use super::fleet::Kind;

/// The promise.
const SECOND: Duration = Duration::from_secs(1);

/// What this balancer is held to, and by what rule where that is not the promise.
pub(crate) fn lag(kind: Kind) -> (Duration, Option<&'static str>) {
    match kind {
        Kind::Embedded | Kind::Haproxy => (SECOND, None),
        Kind::Nginx | Kind::Instant => (
            Duration::from_millis(2_500),
            Some(
                "nginx keeps an answer for `valid=1s` and compares whole seconds, so it asks again after up to two, and then \
                 by the next request",
            ),
        ),
    }
}
