//! Made-up traffic: what two colors count in stretches of ten seconds, and the scenarios that judges are shown.
//!
//! Requests are Poisson, failures binomial, singly or in clumps. Drawn from a seeded generator, so that a run can be had again.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

/// Stretches in a run: thirty minutes.
pub(crate) const BUCKETS: usize = 180;
/// Seconds of each.
pub(crate) const SECONDS: f64 = 10.0;

/// How failures come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Clumps {
    /// Each for itself.
    Singly,
    /// So many at once, within a stretch.
    Of(u32),
    /// So many at once on average, geometrically distributed.
    About(u32),
}

/// A world to judge in.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    /// Requests a second, both colors together.
    pub(crate) per_second: f64,
    /// The candidate's part of them.
    pub(crate) weight: f64,
    /// The shares that fail.
    pub(crate) stable: f64,
    pub(crate) candidate: f64,
    /// What both have instead in stretches 60 to 89.
    pub(crate) incident: Option<f64>,
    pub(crate) clumps: Clumps,
}

/// What was counted in a stretch.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bucket {
    pub(crate) stable: u64,
    pub(crate) stable_bad: u64,
    pub(crate) candidate: u64,
    pub(crate) candidate_bad: u64,
}

impl Scenario {
    /// A candidate at a tenth of the traffic, with failures that come singly.
    pub(crate) fn new(per_second: f64, stable: f64, candidate: f64) -> Self {
        Self {
            name: if stable.to_bits() == candidate.to_bits() {
                format!("both {}", percent(stable))
            } else {
                format!("{} against {}", percent(candidate), percent(stable))
            },
            per_second,
            weight: 0.1,
            stable,
            candidate,
            incident: None,
            clumps: Clumps::Singly,
        }
    }

    pub(crate) fn with_incident(mut self, rate: f64) -> Self {
        self.incident = Some(rate);
        self.name = format!("{}, both {} for 5 min", self.name, percent(rate));
        self
    }

    pub(crate) fn in_clumps(mut self, clumps: Clumps) -> Self {
        self.clumps = clumps;
        match clumps {
            Clumps::Singly => {}
            Clumps::Of(size) => self.name = format!("{}, clumps of {size}", self.name),
            Clumps::About(size) => self.name = format!("{}, clumps of about {size}", self.name),
        }
        self
    }

    pub(crate) fn at_weight(mut self, weight: f64) -> Self {
        self.weight = weight;
        self.name = format!("{}, at {}", self.name, percent(weight));
        self
    }

    /// The same without what is wrong with the candidate.
    pub(crate) fn without_regression(&self) -> Self {
        Self {
            candidate: self.stable,
            ..self.clone()
        }
    }

    pub(crate) fn is_healthy(&self) -> bool {
        self.candidate <= self.stable
    }

    /// One run of thirty minutes.
    pub(crate) fn run(&self, draw: &mut Draw) -> Vec<Bucket> {
        let during = |place| self.incident.filter(|_| (60..90).contains(&place));
        (0..BUCKETS)
            .map(|place| self.bucket(draw, during(place)))
            .collect()
    }

    /// One stretch of it.
    pub(crate) fn bucket(&self, draw: &mut Draw, incident: Option<f64>) -> Bucket {
        let all = self.per_second * SECONDS;
        let stable = draw.poisson(all * (1.0 - self.weight));
        let candidate = draw.poisson(all * self.weight);
        let rates = (
            incident.unwrap_or(self.stable),
            incident.unwrap_or(self.candidate),
        );
        Bucket {
            stable,
            stable_bad: draw.bad(stable, rates.0, self.clumps),
            candidate,
            candidate_bad: draw.bad(candidate, rates.1, self.clumps),
        }
    }
}

/// Chance, from a seed.
pub(crate) struct Draw(Xoshiro256PlusPlus);

impl Draw {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Xoshiro256PlusPlus::seed_from_u64(seed))
    }

    fn share(&mut self) -> f64 {
        // above 0, of which a logarithm is taken
        1.0 - self.0.random::<f64>()
    }

    fn normal(&mut self, mean: f64, variance: f64, most: f64) -> u64 {
        let size = (-2.0 * self.share().ln()).sqrt();
        let drawn = mean + variance.sqrt() * size * (std::f64::consts::TAU * self.share()).cos();
        whole(drawn.round().clamp(0.0, most))
    }

    fn poisson(&mut self, mean: f64) -> u64 {
        if mean > 60.0 {
            return self.normal(mean, mean, f64::MAX);
        }
        let (mut number, mut time) = (0, -self.share().ln());
        while time < mean {
            number += 1;
            time -= self.share().ln();
        }
        number
    }

    fn binomial(&mut self, of: u64, chance: f64) -> u64 {
        let most = of as f64;
        if chance <= 0.0 || of == 0 {
            return 0;
        }
        if chance >= 1.0 {
            return of;
        }
        if most * chance > 60.0 {
            return self.normal(most * chance, most * chance * (1.0 - chance), most);
        }
        // from one hit to the next
        let (mut number, mut at) = (0, 0.0);
        let stay = (1.0 - chance).ln();
        loop {
            at += (self.share().ln() / stay).floor() + 1.0;
            if at > most {
                return number;
            }
            number += 1;
        }
    }

    fn bad(&mut self, of: u64, rate: f64, clumps: Clumps) -> u64 {
        match clumps {
            Clumps::Singly => self.binomial(of, rate),
            Clumps::Of(size) => {
                let events = self.binomial(of, rate / f64::from(size));
                (events * u64::from(size)).min(of)
            }
            Clumps::About(size) => {
                let events = self.binomial(of, rate / f64::from(size));
                let stay = (1.0 - 1.0 / f64::from(size)).ln();
                let sizes = (0..events).map(|_| whole((self.share().ln() / stay).floor()) + 1);
                sizes.sum::<u64>().min(of)
            }
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rounded number that is not below 0"
)]
fn whole(number: f64) -> u64 {
    number as u64
}

pub(crate) fn percent(share: f64) -> String {
    format!("{} %", (share * 1e4).round() / 100.0)
}
