//! Capital that grows by bets which do not pay in the long run as long as a hypothesis is true.
//!
//! A bet on a stretch is a factor whose expectation is at most 1 under the hypothesis. Capital that began at 1 and was only ever
//! multiplied by such factors reaches 1/alpha with a probability of at most alpha, however often one looks (Ville's inequality): it is an
//! e-process. Capital is spread over several bets, since how large a regression will be is not known; and a part of it enters
//! later, at new steps and with each look, so that a regression which begins late does not have to make up for all the healthy
//! time before it (Shiryaev and Roberts' recursion with weights that add up to 1, after Shin, Ramdas and Rinaldo's e-detectors).

use serde::{Deserialize, Serialize};

/// Enough for every bound, and far from infinity, which JSON has no word for.
const MOST: f64 = 1e30;

/// Capital, spread over bets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Capital {
    parts: Vec<f64>,
    looks: u32,
    steps: u32,
}

impl Capital {
    /// Most of it at once; a part in equal shares with the steps that follow; a part with the looks, the n-th of which gets
    /// 1/(n(n+1)) of it.
    const AT_ONCE: f64 = 0.7;
    const STEPS: f64 = 0.2;
    const LOOKS: f64 = 0.1;
    /// Steps that bring fresh capital. In a rollout with more of them, those after it live on the looks.
    const SHARES: u32 = 20;

    pub(super) fn new(bets: usize) -> Self {
        Self {
            parts: vec![Self::AT_ONCE; bets],
            looks: 0,
            steps: 0,
        }
    }

    /// What the capital has become, having begun at 1.
    pub(super) fn value(&self) -> f64 {
        let bets = self.parts.len().max(1);
        self.parts.iter().sum::<f64>() / super::real(bets as u64)
    }

    /// Fresh capital for what begins with a step.
    pub(super) fn new_step(&mut self) {
        if self.steps < Self::SHARES {
            self.steps += 1;
            self.enter(Self::STEPS / f64::from(Self::SHARES));
        }
    }

    /// One look at a stretch: `factor` has the place of the bet, and is at least 0.
    pub(super) fn bet(&mut self, factor: impl Fn(usize) -> f64) {
        self.looks = self.looks.saturating_add(1);
        let look = f64::from(self.looks);
        self.enter(Self::LOOKS / (look * (look + 1.0)));
        for (place, part) in self.parts.iter_mut().enumerate() {
            let grown = *part * factor(place);
            *part = if grown.is_finite() {
                grown.min(MOST)
            } else {
                MOST
            };
        }
    }

    /// Takes away what is above `most`: less is never a worse guarantee, and what is not hoarded cannot outweigh what comes later.
    pub(super) fn cut(&mut self, most: f64) {
        for part in &mut self.parts {
            *part = part.min(most);
        }
    }

    fn enter(&mut self, capital: f64) {
        for part in &mut self.parts {
            *part += capital;
        }
    }
}

/// A bet on which color the failures of a stretch fell: `share` of them on the candidate, where the hypothesis says `expected` at most
/// and the bet `hoped`. `clumps`: how many events they are at least, having fallen one independently of the other.
///
/// One event: the bet is linear in the share, whose expectation is `expected` however the failures stick together, so it is fair
/// for every burst, and for an incident that both colors share. Several: the likelihood ratio of that many events. It is fair if they
/// are no fewer, whatever their sizes: it is convex in the share, so that few large clumps are its worst case.
pub(super) fn on_share(share: f64, clumps: f64, expected: f64, hoped: f64) -> f64 {
    let (up, down) = (hoped / expected, (1.0 - hoped) / (1.0 - expected));
    // below two events, the linear bet is the better one, and is fair for both
    if clumps < 2.0 {
        share * up + (1.0 - share) * down
    } else {
        (clumps * (share * up.ln() + (1.0 - share) * down.ln())).exp()
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these figures are exact")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn capital_enters_in_parts_that_add_up_to_one() {
        let mut capital = Capital::new(3);
        assert!((capital.value() - 0.7).abs() < 1e-12);
        for _ in 0..5000 {
            capital.new_step();
            capital.bet(|_| 1.0);
        }
        let value = capital.value();
        assert!(value <= 1.0 + 1e-9 && value > 0.9998, "{value}");
    }

    #[test]
    fn capital_that_was_lost_comes_back_with_a_new_step() {
        let mut capital = Capital::new(1);
        for _ in 0..200 {
            capital.bet(|_| 0.5);
        }
        let lost = capital.value();
        assert!(lost < 1e-4, "{lost}");
        capital.new_step();
        assert!(capital.value() > 0.01);
    }

    #[test]
    fn capital_stays_finite() {
        let mut capital = Capital::new(2);
        for _ in 0..10 {
            capital.bet(|place| if place == 0 { 1e300 } else { f64::INFINITY });
        }
        assert_eq!(capital.value(), 1e30);
    }

    /// The expectation of a bet when clumps of these sizes fall on the candidate with a chance of `chance` each.
    fn expectation(sizes: &[f64], chance: f64, bet: impl Fn(f64) -> f64) -> f64 {
        let all: f64 = sizes.iter().sum();
        let mut sum = 0.0;
        for fall in 0..1_u32 << sizes.len() {
            let (mut likely, mut on_candidate) = (1.0, 0.0);
            for (place, size) in sizes.iter().enumerate() {
                if fall >> place & 1 == 1 {
                    likely *= chance;
                    on_candidate += size;
                } else {
                    likely *= 1.0 - chance;
                }
            }
            sum += likely * bet(on_candidate / all);
        }
        sum
    }

    proptest! {
        #[test]
        fn a_bet_is_fair_for_clumps_of_any_size(
            sizes in prop::collection::vec(1_u32..30, 1..9),
            expected in 0.02..0.9_f64,
            times in 1.0..50.0_f64,
            less in 0.0..1.0_f64,
        ) {
            let sizes: Vec<f64> = sizes.into_iter().map(f64::from).collect();
            let all: f64 = sizes.iter().sum();
            let hoped = times * expected / (times * expected + 1.0 - expected);
            let chance = expected * less;
            let one = expectation(&sizes, chance, |share| on_share(share, 1.0, expected, hoped));
            prop_assert!(one <= 1.0 + 1e-9, "one event: {one}");
            // told the largest clump, and not their number
            let clumps = all / sizes.iter().copied().fold(0.0, f64::max);
            let several = expectation(&sizes, chance, |share| on_share(share, clumps, expected, hoped));
            prop_assert!(several <= 1.0 + 1e-9, "{clumps} events: {several}");
        }
    }
}
