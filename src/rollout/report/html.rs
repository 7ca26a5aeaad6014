//! The report as one HTML page: no script, no font, no picture, no address that it would load. Everything that comes from
//! outside (names, versions, reasons) is escaped.

use std::fmt::{self, Write as _};

use super::chart::charts;
use super::record::Record;
use super::text::{clock, said, second, steps, word};
use crate::domain::Decision;
use crate::rollout::judge::words::seconds;

const STYLE: &str = include_str!("../../../templates/report.css");

/// A page with each record after the other: one for a rollout, one for each judge of a replay.
pub fn page(records: &[Record]) -> String {
    let first = records.first();
    let title = first.map_or("rollout".into(), |record| {
        format!("{} {}", record.service, record.id)
    });
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n<meta name=\"color-scheme\" content=\"light dark\">\n<title>{} · turnout</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n",
        escaped(&title)
    );
    for record in records {
        section(&mut out, record);
    }
    out.push_str("</main>\n</body>\n</html>\n");
    out
}

fn section(out: &mut String, record: &Record) {
    let (from, to) = record.span();
    let [stable, candidate] = record.names();
    let lasted = seconds(to.duration_since(from).as_secs_f64());
    let tone = match record.status.as_str() {
        "promoted" => "good",
        "rolled_back" | "cancelled" => "bad",
        _ => "mind",
    };
    put(
        out,
        format_args!(
            "<section>\n<h1>{} <small>{}</small></h1>\n<p class=\"outcome {tone}\"><b>{}</b> {}</p>\n<p class=\"facts\">{} against {} · judge: {} · {} to {}, {lasted}</p>\n",
            escaped(&record.service),
            escaped(&record.id),
            escaped(&record.status.replace('_', " ")),
            escaped(&record.reason),
            escaped(&candidate),
            escaped(&stable),
            escaped(&record.judge),
            second(from),
            second(to)
        ),
    );
    *out += &charts(record);
    *out += "<h2>Steps</h2>\n<dl>\n";
    for step in steps(record) {
        put(out, format_args!("<dt>{}</dt>\n", escaped(&step.heading)));
        if step.rows.is_empty() {
            *out += "<dd>nothing was counted</dd>\n";
        }
        for row in step.rows {
            put(out, format_args!("<dd>{}</dd>\n", escaped(&row)));
        }
    }
    *out += "</dl>\n<h2>What was said</h2>\n<ol>\n";
    for one in said(&record.verdicts) {
        let class = match one.last.decision {
            Decision::Advance => "good",
            Decision::RollBack => "bad",
            Decision::Hold => "mind",
        };
        let times = if one.times > 1 {
            format!(
                " <small>{} times, until {}</small>",
                one.times,
                clock(one.last.at)
            )
        } else {
            String::new()
        };
        put(
            out,
            format_args!(
                "<li><time>{}</time> <b class=\"{class}\">{}</b> <span>{}{times}</span></li>\n",
                clock(one.first.at),
                word(one.last.decision),
                escaped(&one.last.reason)
            ),
        );
    }
    *out += "</ol>\n</section>\n";
}

/// Writes into a string, which cannot fail.
pub(super) fn put(out: &mut String, what: fmt::Arguments<'_>) {
    if out.write_fmt(what).is_err() {
        // a string takes everything
    }
}

/// The text, safe between tags and within quotes.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};

    use super::*;
    use crate::domain::{Arm, Color, Evidence, Metric, Paired, Verdict};
    use crate::rollout::judge::replay::Look;
    use crate::rollout::report::{Step, text};

    /// A rollout of two steps, the second of which was rolled back.
    fn record() -> Record {
        let began: Timestamp = "2026-11-21T16:40:00Z".parse().unwrap();
        let at = |seconds| began + SignedDuration::from_secs(seconds);
        let arm = |requests, errors| Arm {
            requests,
            errors,
            slow: 0,
        };
        let verdict = |seconds, decision, value, reason: &str| Verdict {
            at: at(seconds),
            decision,
            reason: reason.into(),
            evidence: vec![Evidence {
                metric: Metric::Errors,
                stable: Some(0.002),
                candidate: 0.02,
                value,
                bound: 100.0,
            }],
        };
        Record {
            id: "3f2b8c1e".into(),
            service: "shop".into(),
            candidate: Some(Color::Green),
            new_version: Some("<script>alert('2')</script>".into()),
            baseline_version: None,
            judge: "sequential".into(),
            status: "rolled_back".into(),
            reason: "10 times as many".into(),
            began,
            ended: Some(at(120)),
            steps: [(0, 10.0), (60, 20.0), (120, 0.0)]
                .map(|(seconds, weight)| Step {
                    at: at(seconds),
                    weight,
                })
                .into(),
            verdicts: vec![
                verdict(20, Decision::Hold, 1.0, "too little data: 20 of 200"),
                verdict(40, Decision::Hold, 1.2, "too little data: 140 of 200"),
                verdict(60, Decision::Advance, 0.5, "2 times as many is ruled out"),
                verdict(120, Decision::RollBack, 200.0, "\"10 times\" as many"),
            ],
            counts: (0..12)
                .map(|place| Paired {
                    from: at(place * 10),
                    to: at(place * 10 + 10),
                    stable: arm(900, 2),
                    candidate: arm(100, if place < 6 { 0 } else { 2 }),
                })
                .collect(),
            looks: Vec::new(),
        }
    }

    #[test]
    fn the_text_has_outcome_steps_and_what_was_said() {
        insta::assert_snapshot!(text(&record()), @r#"
        shop  3f2b8c1e
        candidate (green) <script>alert('2')</script> against stable (blue), judge: sequential
        rolled_back: 10 times as many
        2026-11-21 16:40:00Z to 2026-11-21 16:42:00Z, 2 min

        10 % from 16:40:00 for 60 s
          candidate (green) <script>alert('2')</script>  600 requests, 0 % failed (0 % to 0.64 %)
          stable (blue)                                  5,400 requests, 0.22 % failed (0.13 % to 0.39 %)

        20 % from 16:41:00 for 60 s
          candidate (green) <script>alert('2')</script>  600 requests, 2 % failed (1.1 % to 3.5 %)
          stable (blue)                                  5,400 requests, 0.22 % failed (0.13 % to 0.39 %)

        What was said
          16:40:20  hold       too little data: 140 of 200 (2 times, until 16:40:40)
          16:41:00  advance    2 times as many is ruled out
          16:42:00  roll back  "10 times" as many
        "#);
    }

    #[test]
    fn the_page_needs_nothing_from_elsewhere_and_escapes_what_it_shows() {
        let page = page(&[record()]);
        assert!(!page.contains("<script"), "{page}");
        assert!(page.contains("&lt;script&gt;alert(&#39;2&#39;)"), "{page}");
        assert!(
            page.contains("title=\"16:42:00 roll back: &quot;10 times&quot; as many\""),
            "{page}"
        );
        for outside in ["http:", "https:", "//", "url(", "@import", "src=", "href="] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert!(page.contains("prefers-color-scheme: dark"));
    }

    #[test]
    fn the_page_is_well_formed() {
        // every element that is opened is closed, in order; a second parser would be a dependency for this alone
        let page = page(&[
            record(),
            Record {
                counts: Vec::new(),
                verdicts: Vec::new(),
                steps: Vec::new(),
                ..record()
            },
        ]);
        let body = page.split("</style>").nth(1).unwrap();
        let mut open = Vec::new();
        for tag in body.split('<').skip(1) {
            let tag = tag.split('>').next().unwrap();
            let name = tag
                .trim_start_matches('/')
                .split([' ', '/'])
                .next()
                .unwrap();
            if tag.starts_with('/') {
                if !["html", "head"].contains(&name) {
                    assert_eq!(open.pop(), Some(name), "{tag}");
                }
            } else if !tag.ends_with('/') {
                open.push(name);
            }
        }
        assert_eq!(open, [""; 0]);
    }

    #[test]
    fn the_evidence_is_drawn_as_it_grew_where_that_is_known() {
        let line = |record: Record| {
            let page = page(&[record]);
            let line = page
                .split("<path class=\"line first\" d=\"")
                .nth(1)
                .unwrap();
            line.split('"').next().unwrap().to_owned()
        };
        assert_eq!(line(record()).matches('L').count(), 3);
        let mut watched = record();
        let evidence = watched.verdicts[3].evidence.clone();
        let at = watched.counts.iter().map(|one| one.to);
        watched.looks = at
            .map(|at| Look {
                at,
                evidence: evidence.clone(),
            })
            .collect();
        assert_eq!(line(watched).matches('L').count(), 11);
    }

    #[test]
    fn drawn_places_stay_in_the_picture() {
        let page = page(&[record()]);
        for path in page.split(" d=\"").skip(1) {
            let path = path.split('"').next().unwrap();
            for number in path
                .split([' ', 'M', 'L', 'Z'])
                .filter(|number| !number.is_empty())
            {
                let number: f64 = number.parse().unwrap();
                assert!((0.0..=100.0).contains(&number), "{path}");
            }
        }
    }
}
