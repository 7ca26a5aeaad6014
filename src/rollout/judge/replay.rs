//! Both judges over recorded counts: what a policy would have done, before it is trusted with traffic.
//!
//! The weights of the record are what they were: a judge that would have advanced earlier does not get more traffic for it, so what comes
//! after its first word to roll back or to promote is left out, and the steps in between are its own.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Judge, Policy};
use crate::domain::{Arm, Decision, Evidence, Paired, Verdict};

/// A line that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// From 1 on.
    pub line: usize,
    /// What is wrong with it.
    pub problem: String,
}

/// Recorded counts that cannot be replayed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Some lines cannot be read.
    #[error("{}", told(.0))]
    Lines(Vec<BadLine>),
    /// There is nothing in it.
    #[error("there are no counts in it: each line is a stretch, as JSON or as CSV with a header")]
    Empty,
}

/// How many bad lines are told before it is enough.
const TOLD: usize = 10;

fn told(lines: &[BadLine]) -> String {
    let some = lines.iter().take(TOLD);
    let mut told: Vec<String> = some
        .map(|bad| format!("line {}: {}", bad.line, bad.problem))
        .collect();
    if lines.len() > TOLD {
        told.push(format!("and {} more lines", lines.len() - TOLD));
    }
    told.join("; ")
}

/// What both judges made of the counts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Replay {
    /// When the counts begin.
    pub from: Timestamp,
    /// When they end.
    pub to: Timestamp,
    /// How many stretches there are.
    pub stretches: usize,
    /// All that the stable color did.
    pub stable: Arm,
    /// All that the candidate did.
    pub candidate: Arm,
    /// By which policy.
    pub policy: Policy,
    /// `thresholds` and `sequential`, in this order.
    pub judges: [Replayed; 2],
}

/// What one judge made of them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Replayed {
    /// `thresholds` or `sequential`.
    pub judge: String,
    /// When it would have rolled back.
    pub rolled_back: Option<Timestamp>,
    /// What the candidate had done until then, or until the end.
    pub exposed: Arm,
    /// When it would have advanced, each time.
    pub advanced: Vec<Timestamp>,
    /// All that it said, each interval and at an alarm.
    pub verdicts: Vec<Verdict>,
}

/// The evidence at one time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Look {
    /// After the counts up to then.
    pub at: Timestamp,
    /// Of each metric that there were figures for.
    pub evidence: Vec<Evidence>,
}

/// The evidence of the sequential judge after each stretch of `counts`, which are in the order of time, as `steps` (when they began) are:
/// worked out anew, since a rollout keeps what was counted, and what was said at each interval alone.
pub fn looks(counts: &[Paired], policy: Policy, steps: &[Timestamp]) -> Vec<Look> {
    let mut judge = Judge::sequential(policy);
    let Some(began) = counts.first().map(|first| first.from) else {
        return Vec::new();
    };
    let mut steps = steps.iter().peekable();
    let after = |one: &Paired| {
        // what ends after a step was told of after it
        while let Some(step) = steps.next_if(|step| one.to > **step) {
            judge.new_step(*step);
        }
        judge.observe(*one);
        let evidence = judge.verdict(one.to, began).evidence;
        (!evidence.is_empty()).then_some(Look {
            at: one.to,
            evidence,
        })
    };
    counts.iter().filter_map(after).collect()
}

/// Runs both judges over `counts`, asked each `interval`; counts are in the order of time.
pub fn replay(
    counts: &[Paired],
    policy: Policy,
    interval: SignedDuration,
) -> Result<Replay, ReadError> {
    let (Some(first), Some(last)) = (counts.first(), counts.last()) else {
        return Err(ReadError::Empty);
    };
    let judges = [
        ("thresholds", Judge::thresholds(policy)),
        ("sequential", Judge::sequential(policy)),
    ];
    Ok(Replay {
        from: first.from,
        to: last.to,
        stretches: counts.len(),
        stable: sum(counts.iter().map(|one| one.stable)),
        candidate: sum(counts.iter().map(|one| one.candidate)),
        policy,
        judges: judges.map(|(name, judge)| over(name, judge, counts, first.from, interval)),
    })
}

fn over(
    name: &str,
    mut judge: Judge,
    counts: &[Paired],
    began: Timestamp,
    interval: SignedDuration,
) -> Replayed {
    let mut said = Replayed {
        judge: name.into(),
        rolled_back: None,
        exposed: Arm::default(),
        advanced: Vec::new(),
        verdicts: Vec::new(),
    };
    let (mut step_began, mut asked) = (began, began);
    for one in counts {
        judge.observe(*one);
        said.exposed = sum([said.exposed, one.candidate].into_iter());
        let now = one.to;
        let verdict = if now.duration_since(asked) >= interval {
            asked = now;
            Some(judge.verdict(now, step_began))
        } else {
            judge.alarm(now)
        };
        let Some(verdict) = verdict else { continue };
        let decision = verdict.decision;
        said.verdicts.push(verdict);
        match decision {
            Decision::RollBack => {
                said.rolled_back = Some(now);
                break;
            }
            Decision::Advance => {
                said.advanced.push(now);
                step_began = now;
                judge.new_step(now);
            }
            Decision::Hold => {}
        }
    }
    said
}

fn sum(arms: impl Iterator<Item = Arm>) -> Arm {
    arms.fold(Arm::default(), |sum, arm| Arm {
        requests: sum.requests.saturating_add(arm.requests),
        errors: sum.errors.saturating_add(arm.errors),
        slow: sum.slow.saturating_add(arm.slow),
    })
}

/// Reads recorded counts: lines of JSON, each a [`Paired`]; or CSV with a header that names `time` (RFC 3339 or seconds since 1970, the
/// beginning of a stretch), `stable_requests`, `stable_errors`, `candidate_requests`, `candidate_errors`, and if there are any
/// `stable_slow` and `candidate_slow`. A stretch of CSV ends where the next one begins; the last is as long as the one before.
pub fn read(text: &str) -> Result<Vec<Paired>, ReadError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = text
        .lines()
        .enumerate()
        .map(|(place, line)| (place + 1, line.trim()));
    let lines: Vec<(usize, &str)> = lines.filter(|(_, line)| !line.is_empty()).collect();
    let counts = match lines.split_first() {
        None => return Err(ReadError::Empty),
        Some((first, _)) if first.1.starts_with('{') => json(&lines)?,
        Some((first, rest)) => csv(*first, rest)?,
    };
    if counts.is_empty() {
        return Err(ReadError::Empty);
    }
    let bad: Vec<BadLine> = counts
        .iter()
        .filter_map(|(line, one)| bad(*line, super::sequential::impossible(one)?))
        .chain(counts.windows(2).filter_map(|two| {
            let [(_, before), (line, after)] = two else {
                return None;
            };
            let overlap = after.from < before.to;
            overlap.then(|| BadLine {
                line: *line,
                problem: format!("it begins at {}, before the one above it ends", after.from),
            })
        }))
        .collect();
    if bad.is_empty() {
        Ok(counts.into_iter().map(|(_, one)| one).collect())
    } else {
        Err(ReadError::Lines(bad))
    }
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "it stands where an Option is asked for"
)]
const fn bad(line: usize, problem: String) -> Option<BadLine> {
    Some(BadLine { line, problem })
}

type Lined = Vec<(usize, Paired)>;

fn json(lines: &[(usize, &str)]) -> Result<Lined, ReadError> {
    all(lines, |text| {
        serde_json::from_str(text).map_err(|error| error.to_string())
    })
}

/// All lines read, or all that cannot be.
fn all<T>(
    lines: &[(usize, &str)],
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<(usize, T)>, ReadError> {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for (line, text) in lines {
        match read(text) {
            Ok(one) => good.push((*line, one)),
            Err(problem) => bad.push(BadLine {
                line: *line,
                problem,
            }),
        }
    }
    if bad.is_empty() {
        Ok(good)
    } else {
        Err(ReadError::Lines(bad))
    }
}

fn csv(header: (usize, &str), rows: &[(usize, &str)]) -> Result<Lined, ReadError> {
    const NEEDED: [&str; 5] = [
        "time",
        "stable_requests",
        "stable_errors",
        "candidate_requests",
        "candidate_errors",
    ];
    let columns: Vec<&str> = header.1.split(',').map(str::trim).collect();
    let missing: Vec<&str> = NEEDED
        .into_iter()
        .filter(|name| !columns.contains(name))
        .collect();
    if !missing.is_empty() {
        return Err(ReadError::Lines(vec![BadLine {
            line: header.0,
            problem: format!("the header has no {}", missing.join(", ")),
        }]));
    }
    let rows = all(rows, |text| {
        let fields: Vec<&str> = text.split(',').map(str::trim).collect();
        if fields.len() != columns.len() {
            return Err(format!(
                "{} fields where the header has {}",
                fields.len(),
                columns.len()
            ));
        }
        let row: BTreeMap<&str, &str> = columns.iter().copied().zip(fields).collect();
        let number = |name: &str| match row.get(name) {
            None => Ok(0),
            Some(text) => text
                .parse::<u64>()
                .map_err(|_source| format!("{name} is `{text}`, which is not a count")),
        };
        let arm = |color: &str| -> Result<Arm, String> {
            Ok(Arm {
                requests: number(&format!("{color}_requests"))?,
                errors: number(&format!("{color}_errors"))?,
                slow: number(&format!("{color}_slow"))?,
            })
        };
        let at = row.get("time").copied().unwrap_or_default();
        Ok((time(at)?, arm("stable")?, arm("candidate")?))
    })?;
    let begins: Vec<Timestamp> = rows.iter().map(|(_, row)| row.0).collect();
    let length = |place: usize| -> Option<SignedDuration> {
        Some(begins.get(place + 1)?.duration_since(*begins.get(place)?))
    };
    let stretches = rows.into_iter().enumerate().map(|(place, (line, row))| {
        let before = place.checked_sub(1).and_then(length);
        // one alone says nothing about its length
        let long = length(place)
            .or(before)
            .unwrap_or(SignedDuration::from_secs(10));
        let paired = Paired {
            from: row.0,
            to: row.0.checked_add(long).unwrap_or(row.0),
            stable: row.1,
            candidate: row.2,
        };
        (line, paired)
    });
    Ok(stretches.collect())
}

fn time(text: &str) -> Result<Timestamp, String> {
    let wrong = || {
        format!(
            "time is `{text}`, which is neither like 2026-11-21T16:40:00Z nor seconds since 1970"
        )
    };
    if let Ok(seconds) = text.parse::<f64>() {
        let since = SignedDuration::try_from_secs_f64(seconds).map_err(|_source| wrong())?;
        return Timestamp::UNIX_EPOCH
            .checked_add(since)
            .map_err(|_source| wrong());
    }
    text.parse().map_err(|_source| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "time,stable_requests,stable_errors,stable_slow,candidate_requests,candidate_errors,candidate_slow\n";

    fn problems(text: &str) -> Vec<(usize, String)> {
        match read(text) {
            Err(ReadError::Lines(bad)) => {
                bad.into_iter().map(|bad| (bad.line, bad.problem)).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn csv_and_json_lines_of_the_same_counts_are_the_same() {
        let csv = "candidate_errors, time, stable_requests, stable_errors, candidate_requests\n\
            1, 2026-11-21T16:40:00Z, 900, 2, 100\n\n\
            0, 2026-11-21T16:40:05Z, 800, 1, 90\n";
        let counts = read(csv).unwrap();
        assert_eq!(counts.len(), 2);
        assert_eq!(counts[0].to, counts[1].from);
        assert_eq!(counts[1].to.to_string(), "2026-11-21T16:40:10Z");
        assert_eq!(
            (counts[1].candidate.requests, counts[1].stable.errors),
            (90, 1)
        );
        let lines: Vec<String> = counts
            .iter()
            .map(|one| serde_json::to_string(one).unwrap())
            .collect();
        assert_eq!(read(&lines.join("\n")).unwrap(), counts);
    }

    #[test]
    fn bad_lines_are_named_all_at_once() {
        let text =
            format!("{HEADER}0,900,2,0,100,x,0\nsoon,1,0,0,1,0,0\n20,1,0\n30,900,2,0,100,1,0\n");
        assert_eq!(
            problems(&text),
            [
                (2, "candidate_errors is `x`, which is not a count".to_owned()),
                (3, "time is `soon`, which is neither like 2026-11-21T16:40:00Z nor seconds since 1970".to_owned()),
                (4, "3 fields where the header has 7".to_owned()),
            ]
        );
        let text = format!("{HEADER}0,900,2,0,100,101,0\n20,1,0,0,1,0,0\n10,1,0,0,1,0,0\n");
        assert_eq!(
            problems(&text)[0],
            (
                2,
                "counts that cannot be true: the candidate has 101 failed of 100 requests"
                    .to_owned()
            )
        );
        assert_eq!(
            problems("time,stable_requests\n1,2\n"),
            [(
                1,
                "the header has no stable_errors, candidate_requests, candidate_errors".to_owned()
            )]
        );
        assert_eq!(problems("{}\n{\n")[1].0, 2);
        assert_eq!(read(" \n"), Err(ReadError::Empty));
        assert_eq!(read(HEADER), Err(ReadError::Empty));
        let all = "{}\n".repeat(30);
        assert!(
            read(&all)
                .unwrap_err()
                .to_string()
                .ends_with("and 20 more lines")
        );
    }

    #[test]
    fn both_judges_say_what_they_would_have_done() {
        let rows: Vec<String> = (0..60)
            .map(|place| format!("{},900,2,0,100,2,0\n", place * 10))
            .collect();
        let counts = read(&format!("{HEADER}{}", rows.concat())).unwrap();
        let replayed = replay(&counts, Policy::default(), SignedDuration::from_mins(1)).unwrap();
        let [thresholds, sequential] = &replayed.judges;
        let since = |judged: &Replayed| judged.rolled_back.unwrap().as_second();
        assert_eq!((since(thresholds), since(sequential)), (120, 50));
        assert_eq!(
            (sequential.exposed.requests, sequential.exposed.errors),
            (500, 10)
        );
        assert_eq!(sequential.verdicts.len(), 1);
        // what was settled by then is what it said
        let looks = looks(&counts, Policy::default(), &sequential.advanced);
        let told = looks
            .iter()
            .find(|look| look.at == sequential.verdicts[0].at);
        assert_eq!(told.unwrap().evidence, sequential.verdicts[0].evidence);
        let evidence: Vec<f64> = looks.iter().map(|look| look.evidence[0].value).collect();
        assert!(evidence.is_sorted(), "{evidence:?}");
        assert!(evidence[0] < 10.0 && evidence[58] > 1e6, "{evidence:?}");
        assert_eq!(
            replay(&[], Policy::default(), SignedDuration::from_mins(1)),
            Err(ReadError::Empty)
        );
    }
    #[test]
    fn the_evidence_that_is_drawn_is_that_of_the_verdicts_whatever_step_they_are_of() {
        // two steps of ten minutes, then a regression
        let rows: Vec<String> = (0..200)
            .map(|place| {
                let failed = if place < 120 { 0 } else { 3 };
                format!("{},900,4,0,100,{failed},0\n", place * 10)
            })
            .collect();
        let counts = read(&format!("{HEADER}{}", rows.concat())).unwrap();
        let policy = Policy::default();
        let replayed = replay(&counts, policy, SignedDuration::from_mins(10)).unwrap();
        let [_, sequential] = &replayed.judges;
        assert!(sequential.advanced.len() >= 2 && sequential.rolled_back.is_some());
        let drawn = looks(&counts, policy, &sequential.advanced);
        for verdict in &sequential.verdicts {
            let told = drawn.iter().find(|look| look.at == verdict.at);
            assert_eq!(told.unwrap().evidence, verdict.evidence, "{}", verdict.at);
        }
        let last = sequential.verdicts.last().unwrap();
        let without = looks(&counts, policy, &[]);
        let without = without.iter().find(|look| look.at == last.at).unwrap();
        assert!(without.evidence[0].value < last.evidence[0].value / 2.0);
    }
}
