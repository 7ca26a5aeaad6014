//! The interval of a rate (Wilson 1927): unlike the textbook's, it says something where nothing failed, and never leaves 0 to 1.

/// Normal quantile of a 95 % interval.
const Z: f64 = 1.959_964;

/// From where to where the rate behind `bad` of `of` may lie, at 95 %; all of it where there is nothing.
pub(super) fn interval(bad: f64, of: f64) -> (f64, f64) {
    if of <= 0.0 {
        return (0.0, 1.0);
    }
    let (rate, square) = (bad / of, Z * Z);
    let middle = (rate + square / (2.0 * of)) / (1.0 + square / of);
    let half =
        Z / (1.0 + square / of) * (rate * (1.0 - rate) / of + square / (4.0 * of * of)).sqrt();
    ((middle - half).max(0.0), (middle + half).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_those_of_the_formula() {
        let rounded = |bad, of| {
            let (low, high) = interval(bad, of);
            ((low * 1e4).round(), (high * 1e4).round())
        };
        assert_eq!(rounded(0.0, 100.0), (0.0, 370.0));
        assert_eq!(rounded(5.0, 100.0), (215.0, 1118.0));
        assert_eq!(rounded(100.0, 100.0), (9630.0, 10000.0));
        assert_eq!(rounded(0.0, 0.0), (0.0, 10000.0));
    }
}
