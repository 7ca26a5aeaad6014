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

/// What is short of enough data, and nothing else: `2 samples in this step so far, 3 are needed`. `None`: nothing is.
pub(in crate::rollout) fn too_little(
    place: &str,
    requests: (u64, u64),
    samples: (u64, u64),
) -> Option<String> {
    let short = [(requests, "request"), (samples, "sample")]
        .into_iter()
        .filter(|((there, needed), _)| there < needed)
        .map(|((there, needed), name)| {
            let many = if there == 1 { "" } else { "s" };
            let there = count(super::real(there));
            (format!("{there} {name}{many}"), count(super::real(needed)))
        });
    let (there, needed): (Vec<_>, Vec<_>) = short.unzip();
    (!there.is_empty()).then(|| {
        format!(
            "too little data: {} {place} so far, {} are needed",
            there.join(" and "),
            needed.join(" and ")
        )
    })
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
    fn what_is_short_is_named_and_nothing_else() {
        let short = |requests, samples| too_little("in this step", requests, samples);
        assert_eq!(short((200, 200), (3, 3)), None);
        assert_eq!(
            short((927, 200), (2, 3)).unwrap(),
            "too little data: 2 samples in this step so far, 3 are needed"
        );
        assert_eq!(
            short((1, 1_000), (7, 3)).unwrap(),
            "too little data: 1 request in this step so far, 1,000 are needed"
        );
        assert_eq!(
            short((0, 200), (1, 3)).unwrap(),
            "too little data: 0 requests and 1 sample in this step so far, 200 and 3 are needed"
        );
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
