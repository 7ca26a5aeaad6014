//! How much the stable color's failures clump: the guard against bursts.
//!
//! Retries and dead connections make failures come together, and a test that counts each of them for itself then sees ten
//! witnesses where there is one. The measure is the index of dispersion: the variance of a stretch's failures over what independent ones
//! would have, 1 for independent ones and b for clumps of b.

use serde::{Deserialize, Serialize};

/// What is remembered of the stable color's stretches: sums, and nothing that grows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Dispersion {
    stretches: u32,
    requests: f64,
    bad: f64,
    /// Of each stretch, the square of its failures over its requests.
    squares: f64,
}

impl Dispersion {
    /// Below this many stretches, or this many clumps, nothing is known.
    const LEAST: f64 = 10.0;
    /// How far above the estimate the bound lies, in standard errors.
    const ERRORS: f64 = 2.0;

    /// Takes one stretch of the stable color.
    pub(super) fn learn(&mut self, requests: f64, bad: f64) {
        if requests > 0.0 {
            self.stretches = self.stretches.saturating_add(1);
            self.requests += requests;
            self.bad += bad;
            self.squares += bad * bad / requests;
        }
    }

    /// The index of dispersion (Fisher), at least 1. 1 as well where nothing is known.
    pub(super) fn estimate(&self) -> f64 {
        if self.stretches < 2 || self.bad <= 0.0 {
            return 1.0;
        }
        let spread = self.squares * self.requests / self.bad - self.bad;
        (spread / (f64::from(self.stretches) - 1.0)).max(1.0)
    }

    /// What the clumps do not exceed as far as can be told; `None` while too little was seen. The standard error is that of Fisher's
    /// index for counts with few events in a stretch: 2/k for k stretches, and 1 over the number of clumps seen.
    pub(super) fn bound(&self) -> Option<f64> {
        let estimate = self.estimate();
        let clumps = self.bad / estimate;
        let stretches = f64::from(self.stretches);
        (stretches >= Self::LEAST && clumps >= Self::LEAST)
            .then(|| estimate * (1.0 + Self::ERRORS * (2.0 / stretches + 1.0 / clumps).sqrt()))
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these figures are exact")]
mod tests {
    use super::*;

    /// `stretches` stretches of 1,000 requests, every `each`th with `bad` failures.
    fn seen(stretches: u32, each: u32, bad: f64) -> Dispersion {
        let mut seen = Dispersion::default();
        for place in 0..stretches {
            seen.learn(1000.0, if place % each == 0 { bad } else { 0.0 });
        }
        seen
    }

    #[test]
    fn clumps_of_ten_have_a_dispersion_near_ten() {
        let seen = seen(1000, 20, 10.0);
        assert!((seen.estimate() - 9.5).abs() < 0.1, "{}", seen.estimate());
        let bound = seen.bound().unwrap();
        assert!((12.0..13.0).contains(&bound), "{bound}");
    }

    #[test]
    fn nothing_is_known_of_a_color_that_hardly_fails() {
        assert_eq!(Dispersion::default().estimate(), 1.0);
        assert_eq!(Dispersion::default().bound(), None);
        assert_eq!(seen(9, 1, 2.0).bound(), None);
        assert_eq!(seen(100, 50, 10.0).bound(), None);
    }

    #[test]
    fn even_failures_have_the_least_dispersion() {
        assert_eq!(seen(100, 1, 3.0).estimate(), 1.0);
    }
}
