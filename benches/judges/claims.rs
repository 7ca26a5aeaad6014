//! What the sequential judge is held to, asked of the figures.

use super::figures::{Figures, Row};
use super::rules::Rule;

/// A healthy candidate is rolled back in at most this share of the runs.
const FALSE_ALARMS: f64 = 0.01;

/// Healthy scenarios in which the sequential judge rolls back more than it may.
pub(crate) fn false_alarms(rows: &[Row]) -> Vec<String> {
    let healthy = rows.iter().filter(|row| row.scenario.is_healthy());
    let alarms = healthy.filter_map(|row| {
        let ours = row.of(Rule::Sequential)?;
        (ours.rolled_back > FALSE_ALARMS).then(|| {
            let share = ours.rolled_back * 100.0;
            format!("{}: {share:.1} % rolled back", row.full_name())
        })
    });
    alarms.collect()
}

/// Regressions that a threshold rule, which keeps its hands off the same traffic without the regression, finds before the
/// sequential judge: in the median over all runs, where a run in which it finds nothing counts as never.
pub(crate) fn later(rows: &[Row]) -> Vec<String> {
    compared(rows, |ours, theirs| {
        median(theirs).is_some_and(|theirs| median(ours).is_none_or(|ours| ours > theirs))
    })
}

/// Regressions that such a rule finds in clearly more of the runs, by more than four in a hundred.
pub(crate) fn fewer(rows: &[Row]) -> Vec<String> {
    compared(rows, |ours, theirs| {
        theirs.rolled_back > ours.rolled_back + 0.04
    })
}

fn compared(rows: &[Row], is_worse: fn(&Figures, &Figures) -> bool) -> Vec<String> {
    let mut worse = Vec::new();
    for row in rows.iter().filter(|row| !row.scenario.is_healthy()) {
        let Some(ours) = row.of(Rule::Sequential) else {
            continue;
        };
        let without = row.scenario.without_regression();
        let quiet = rows.iter().find(|other| {
            let other = &other.scenario;
            other.incident.is_none()
                && other.is_healthy()
                && (other.per_second, other.stable, other.clumps, other.weight)
                    == (
                        without.per_second,
                        without.stable,
                        without.clumps,
                        without.weight,
                    )
        });
        for theirs in row.all.iter().filter(|one| one.rule.is_threshold()) {
            let is_quiet = quiet
                .and_then(|quiet| quiet.of(theirs.rule))
                .is_some_and(|figures| figures.rolled_back <= FALSE_ALARMS);
            if is_quiet && is_worse(ours, theirs) {
                worse.push(format!(
                    "{}: {} {}, ours {}",
                    row.full_name(),
                    theirs.rule.name(),
                    theirs.found(),
                    ours.found()
                ));
            }
        }
    }
    worse
}

/// Over all runs; `None` is never.
fn median(figures: &Figures) -> Option<f64> {
    figures.median_of_all
}
