//! Runs of the scenarios, and what came of them for each judge.

use super::rules::Rule;
use super::traffic::{Bucket, Clumps, Draw, SECONDS, Scenario};

/// Of one judge in one scenario.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figures {
    pub(crate) rule: Rule,
    /// The share of runs that were rolled back.
    pub(crate) rolled_back: f64,
    /// Median minute of those.
    pub(crate) minutes: Option<f64>,
    /// Median minute over all runs, where a run that was not rolled back counts as never.
    pub(crate) median_of_all: Option<f64>,
    /// The candidate's requests, and the failed ones of them, up to the way back or the end: medians of all runs.
    pub(crate) exposed: f64,
    pub(crate) failed: f64,
    /// The share of runs in which it said that all is well, and the median minute of the first time.
    pub(crate) accepted: f64,
    pub(crate) accepted_minutes: Option<f64>,
}

/// All judges in one scenario.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) scenario: Scenario,
    pub(crate) all: Vec<Figures>,
}

impl Row {
    pub(crate) fn of(&self, rule: Rule) -> Option<&Figures> {
        self.all.iter().find(|figures| figures.rule == rule)
    }

    pub(crate) fn full_name(&self) -> String {
        format!("{}, {}/s", self.scenario.name, self.scenario.per_second)
    }
}

/// The scenarios: those of the research page, the clumps, and what else a judge must not fall for.
pub(crate) fn scenarios() -> Vec<Scenario> {
    let new = Scenario::new;
    let mut all = vec![
        new(1.0, 0.002, 0.002),
        new(10.0, 0.002, 0.002),
        new(100.0, 0.002, 0.002),
        new(1000.0, 0.002, 0.002),
        new(10.0, 0.008, 0.008),
        new(10.0, 0.002, 0.002).with_incident(0.05),
        new(100.0, 0.002, 0.002).with_incident(0.05),
    ];
    for clumps in [Clumps::Of(3), Clumps::Of(10), Clumps::About(10)] {
        for per_second in [10.0, 100.0, 1000.0] {
            all.push(new(per_second, 0.005, 0.005).in_clumps(clumps));
        }
    }
    all.extend([
        new(100.0, 0.002, 0.002)
            .in_clumps(Clumps::Of(10))
            .with_incident(0.05),
        new(100.0, 0.005, 0.005)
            .in_clumps(Clumps::Of(10))
            .at_weight(0.5),
        new(10.0, 0.002, 0.008),
        new(1.0, 0.002, 0.02),
        new(10.0, 0.002, 0.02),
        new(100.0, 0.002, 0.02),
        new(1000.0, 0.002, 0.02),
        new(1.0, 0.002, 0.1),
        new(100.0, 0.002, 0.1),
        new(100.0, 0.002, 1.0),
        new(100.0, 0.002, 0.02).at_weight(0.5),
        new(100.0, 0.002, 0.02).at_weight(0.9),
    ]);
    for clumps in [Clumps::Of(3), Clumps::Of(10), Clumps::About(10)] {
        for per_second in [10.0, 100.0, 1000.0] {
            all.push(new(per_second, 0.005, 0.025).in_clumps(clumps));
        }
    }
    all
}

/// `runs` runs of a scenario, judged by all of `rules`.
pub(crate) fn row(scenario: Scenario, rules: &[Rule], runs: usize, draw: &mut Draw) -> Row {
    let runs: Vec<_> = (0..runs).map(|_| scenario.run(draw)).collect();
    let all = rules.iter().map(|rule| of_rule(*rule, &runs)).collect();
    Row { scenario, all }
}

fn of_rule(rule: Rule, runs: &[Vec<Bucket>]) -> Figures {
    let (mut back, mut well, mut exposed, mut failed) = (vec![], vec![], vec![], vec![]);
    for run in runs {
        let outcome = rule.judge(run);
        back.extend(outcome.rolled_back.map(minute));
        well.extend(outcome.accepted.map(minute));
        let end = outcome.rolled_back.map_or(run.len(), |place| place + 1);
        let seen = &run[..end];
        exposed.push(seen.iter().map(|one| one.candidate).sum::<u64>() as f64);
        failed.push(seen.iter().map(|one| one.candidate_bad).sum::<u64>() as f64);
    }
    let share = |some: &[f64]| some.len() as f64 / runs.len() as f64;
    Figures {
        rule,
        rolled_back: share(&back),
        accepted: share(&well),
        median_of_all: median_of_all(&back, runs.len()),
        minutes: median(back),
        accepted_minutes: median(well),
        exposed: median(exposed).unwrap_or_default(),
        failed: median(failed).unwrap_or_default(),
    }
}

fn minute(place: usize) -> f64 {
    (place as f64 + 1.0) * SECONDS / 60.0
}

fn median_of_all(found: &[f64], runs: usize) -> Option<f64> {
    let mut all = found.to_vec();
    all.resize(runs, f64::INFINITY);
    median(all).filter(|median| median.is_finite())
}

/// The middle one, or the mean of the two.
pub(crate) fn median(mut some: Vec<f64>) -> Option<f64> {
    some.sort_by(f64::total_cmp);
    let middle = some.get(some.len() / 2)?;
    if some.len() % 2 == 1 {
        Some(*middle)
    } else {
        Some((middle + some[some.len() / 2 - 1]) / 2.0)
    }
}
