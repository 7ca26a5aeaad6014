//! Figures in plain words, for the reasons of verdicts.

/// A share as a percentage with as many places as say something: `2.1 %`, `0.02 %`, `35 %`.
pub(in crate::rollout) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    let places = match percent {
        p if p <= 0.0 => 0,
        p if p < 0.1 => 3,
        p if p < 1.0 => 2,
        p if p < 10.0 => 1,
        _ => 0,
    };
    // what the rounding leaves at the end says nothing
    let text = format!("{percent:.places$}");
    let text = if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        &text
    };
    format!("{text} %")
}

/// A count with commas: `12,040`.
pub(in crate::rollout) fn count(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// How many times one share is the other: `10 times`, `1.4 times`.
pub(in crate::rollout) fn times(share: f64, of: f64) -> String {
    let times = share / of;
    if times >= 10.0 {
        format!("{} times", count(times))
    } else {
        format!("{times:.1} times")
    }
}

/// Evidence as odds: `287 to 1`.
pub(in crate::rollout) fn odds(evidence: f64) -> String {
    if evidence < 1.0 {
        "below 1 to 1".into()
    } else if evidence > 1e6 {
        "over 1,000,000 to 1".into()
    } else {
        format!("{} to 1", count(evidence))
    }
}

/// Seconds: `90 s`, `10 min`, `5 min 40 s`.
pub(in crate::rollout) fn seconds(seconds: f64) -> String {
    let whole = seconds.round();
    let (minutes, rest) = ((whole / 60.0).floor(), whole % 60.0);
    if whole < 120.0 {
        format!("{whole:.0} s")
    } else if rest < 1.0 {
        format!("{minutes:.0} min")
    } else {
        format!("{minutes:.0} min {rest:.0} s")
    }
}

/// What there is too little of, of those `(name, seen, needed)`: `100 of the 200 requests needed, no sample`. `None`: there is enough.
pub(super) fn missing(of: &[(&str, u64, u64)]) -> Option<String> {
    let parts: Vec<_> = of
        .iter()
        .filter(|(_, seen, needed)| seen < needed)
        .map(|(name, seen, needed)| match needed {
            1 => format!("no {name}"),
            _ => format!(
                "{} of the {} {name}s needed",
                count(super::real(*seen)),
                count(super::real(*needed))
            ),
        })
        .collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// So many times the stable color's rate: `twice the stable color's rate`.
pub(in crate::rollout) fn times_the_stable(times: f64) -> String {
    let times = if (times - 2.0).abs() < 1e-9 {
        "twice".to_owned()
    } else {
        format!("{times} times")
    };
    format!("{times} the stable color's rate")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_there_is_too_little_of_is_named() {
        let requests = |seen| ("request", seen, 1_200);
        assert_eq!(
            missing(&[requests(100), ("sample", 0, 3)]).unwrap(),
            "100 of the 1,200 requests needed, 0 of the 3 samples needed"
        );
        assert_eq!(
            missing(&[requests(1_200), ("sample", 0, 1)]).unwrap(),
            "no sample"
        );
        assert_eq!(missing(&[requests(1_200), ("sample", 4, 3)]), None);
    }

    #[test]
    fn figures_read_as_people_write_them() {
        let shares = [0.0, 0.000_21, 0.0021, 0.0214, 0.02, 0.354, 1.0];
        assert_eq!(
            shares.map(percent),
            ["0 %", "0.021 %", "0.21 %", "2.1 %", "2 %", "35 %", "100 %"]
        );
        assert_eq!(
            [7.0, 999.0, 12_040.0, 1_000_000.0].map(count),
            ["7", "999", "12,040", "1,000,000"]
        );
        assert_eq!(times(0.02, 0.002), "10 times");
        assert_eq!(times(0.003, 0.002), "1.5 times");
        assert_eq!(
            [45.0, 119.0, 340.0, 600.0].map(seconds),
            ["45 s", "119 s", "5 min 40 s", "10 min"]
        );
        assert_eq!(
            [0.3, 287.2, 1e12].map(odds),
            ["below 1 to 1", "287 to 1", "over 1,000,000 to 1"]
        );
    }
}
