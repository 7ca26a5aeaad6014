//! Kayenta's judgement of one metric, from its sources (`MannWhitney`, `MannWhitneyClassifier`): the error ratio of windows of 30 s, once at
//! the end.

use super::traffic::Bucket;

/// In windows of this many stretches.
const WINDOW: usize = 3;
/// Of the 98 % interval.
const QUANTILE: f64 = 2.326_347_9;
/// In units of the metric, which is coarse for ratios of errors.
const TOLERANCE: f64 = 1e-4;

/// True if the candidate is classified as high.
pub(crate) fn is_high(run: &[Bucket]) -> bool {
    let ratio = |bad: u64, of: u64| {
        if of == 0 { 0.0 } else { bad as f64 / of as f64 }
    };
    let series = |figures: fn(&Bucket) -> (u64, u64)| -> Vec<f64> {
        run.chunks(WINDOW)
            .map(|window| {
                let sum = window
                    .iter()
                    .map(figures)
                    .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
                ratio(sum.0, sum.1)
            })
            .collect()
    };
    let candidate = series(|one| (one.candidate_bad, one.candidate));
    let stable = series(|one| (one.stable_bad, one.stable));
    let first = candidate[0];
    let all_alike = candidate.iter().chain(&stable).all(|one| *one == first);
    if candidate == stable || all_alike {
        return false;
    }
    let Some((low, middle)) = interval(&candidate, &stable) else {
        return false;
    };
    let mean = |series: &[f64]| series.iter().sum::<f64>() / series.len() as f64;
    let ratio = mean(&candidate) / mean(&stable);
    low > 0.25 * middle.abs() && (!ratio.is_finite() || ratio >= 1.0)
}

/// The lower end of the interval, and the Hodges-Lehmann estimate. `None` where the test has no spread.
fn interval(x: &[f64], y: &[f64]) -> Option<(f64, f64)> {
    let (x_low, x_high) = ends(x);
    let (y_low, y_high) = ends(y);
    let (from, to) = (x_low - y_high, x_high - y_low);
    let at = |shift, quantile| statistic(x, y, shift).map(|value| value - quantile);
    let low = if at(from, QUANTILE)? <= 0.0 {
        from
    } else if at(to, QUANTILE)? >= 0.0 {
        to
    } else {
        root(|shift| at(shift, QUANTILE), from, to)?
    };
    Some((low, root(|shift| at(shift, 0.0), from, to)?))
}

fn ends(series: &[f64]) -> (f64, f64) {
    let low = series.iter().copied().fold(f64::INFINITY, f64::min);
    let high = series.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    (low, high)
}

/// The standardised rank sum of `x` moved by `shift`, corrected for ties and for continuity.
fn statistic(x: &[f64], y: &[f64], shift: f64) -> Option<f64> {
    let (m, k) = (x.len() as f64, y.len() as f64);
    let mut all: Vec<(f64, bool)> = x
        .iter()
        .map(|one| (one - shift, true))
        .chain(y.iter().map(|one| (*one, false)))
        .collect();
    all.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (mut ranks, mut ties, mut at) = (0.0, 0.0, 0);
    while at < all.len() {
        let alike = all[at..]
            .iter()
            .take_while(|one| one.0 == all[at].0)
            .count();
        let tied = alike as f64;
        let rank = at as f64 + f64::midpoint(tied, 1.0);
        let of_x = all[at..at + alike].iter().filter(|one| one.1).count();
        ranks += rank * of_x as f64;
        ties += tied.powi(3) - tied;
        at += alike;
    }
    let off = ranks - m * (m + 1.0) / 2.0 - m * k / 2.0;
    let both = m + k;
    let variance = m * k / 12.0 * (both + 1.0 - ties / (both * (both - 1.0)));
    let correction = if off == 0.0 { 0.0 } else { 0.5 * off.signum() };
    (variance > 0.0).then(|| (off - correction) / variance.sqrt())
}

/// Brent's method, with an absolute tolerance. The nearer end where both have the same sign.
fn root(f: impl Fn(f64) -> Option<f64>, low: f64, high: f64) -> Option<f64> {
    let (mut a, mut b) = (low, high);
    let (mut fa, mut fb) = (f(a)?, f(b)?);
    if fa * fb > 0.0 {
        return Some(if fa.abs() < fb.abs() { a } else { b });
    }
    let (mut c, mut fc) = (a, fa);
    let (mut d, mut e) = (b - a, b - a);
    for _ in 0..1000 {
        if fc.abs() < fb.abs() {
            (a, b, c) = (b, c, b);
            (fa, fb, fc) = (fb, fc, fb);
        }
        let tolerance = 2.0 * f64::EPSILON * b.abs() + TOLERANCE / 2.0;
        let middle = (c - b) / 2.0;
        if middle.abs() <= tolerance || fb == 0.0 {
            return Some(b);
        }
        if e.abs() < tolerance || fa.abs() <= fb.abs() {
            (d, e) = (middle, middle);
        } else {
            let s = fb / fa;
            let (mut p, mut q) = if a == c {
                (2.0 * middle * s, 1.0 - s)
            } else {
                let (q, r) = (fa / fc, fb / fc);
                (
                    s * (2.0 * middle * q * (q - r) - (b - a) * (r - 1.0)),
                    (q - 1.0) * (r - 1.0) * (s - 1.0),
                )
            };
            if p > 0.0 {
                q = -q;
            } else {
                p = -p;
            }
            let before = e;
            e = d;
            if 2.0 * p >= 3.0 * middle * q - (tolerance * q).abs() || p >= (0.5 * before * q).abs()
            {
                (d, e) = (middle, middle);
            } else {
                d = p / q;
            }
        }
        (a, fa) = (b, fb);
        b += if d.abs() > tolerance {
            d
        } else {
            tolerance.copysign(middle)
        };
        fb = f(b)?;
        if (fb > 0.0) == (fc > 0.0) {
            (c, fc) = (a, fa);
            (d, e) = (b - a, b - a);
        }
    }
    Some(b)
}
