//! What was refused or cut, by reason. On the way of no request that is served, so plain shared counters will do.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why a connection or a request was refused or cut before its service was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    Ambiguous,
    Malformed,
    Method,
    HeadTooLarge,
    HeadTimeout,
    BodyTooLarge,
    BodyTimeout,
    Connections,
    Idle,
    ProxyProtocol,
    Tls,
    PlainOnTls,
}

impl Reason {
    const ALL: [(Self, &'static str); 12] = [
        (Self::Ambiguous, "ambiguous"),
        (Self::Malformed, "malformed"),
        (Self::Method, "method"),
        (Self::HeadTooLarge, "head_too_large"),
        (Self::HeadTimeout, "head_timeout"),
        (Self::BodyTooLarge, "body_too_large"),
        (Self::BodyTimeout, "body_timeout"),
        (Self::Connections, "connections"),
        (Self::Idle, "idle"),
        (Self::ProxyProtocol, "proxy_protocol"),
        (Self::Tls, "tls"),
        (Self::PlainOnTls, "plain_on_tls"),
    ];
}

/// The counters.
#[derive(Debug, Default)]
pub(super) struct Refused([AtomicU64; Reason::ALL.len()]);

impl Refused {
    pub(super) fn count(&self, reason: Reason) {
        self.0[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// By reason, as metrics name them.
    pub(super) fn totals(&self) -> Vec<(&'static str, u64)> {
        Reason::ALL
            .iter()
            .map(|(reason, name)| (*name, self.0[*reason as usize].load(Ordering::Relaxed)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_counter_of_its_own() {
        let refused = Refused::default();
        for (place, (reason, _)) in Reason::ALL.iter().enumerate() {
            for _ in 0..=place {
                refused.count(*reason);
            }
        }
        let counts: Vec<u64> = refused.totals().iter().map(|(_, count)| *count).collect();
        assert_eq!(counts, (1..=12).collect::<Vec<u64>>());
    }
}
