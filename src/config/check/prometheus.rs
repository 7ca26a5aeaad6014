//! `canary.source.prometheus`: a URL, and queries that can tell the colors apart.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Checker;
use crate::config::document::At;
use crate::config::file;
use crate::config::prometheus::PrometheusSettings;
use crate::config::quantity::{Refusal, duration, positive, public_url};

/// What is asked for. All but the last have to be.
const FIGURES: [&str; 3] = ["requests", "errors", "slow"];
/// What may stand in a query.
const PLACEHOLDERS: [&str; 4] = ["color", "service", "window", "seconds"];

pub(super) fn prometheus(
    checker: &mut Checker<'_>,
    at: At<'_>,
    given: &file::Prometheus,
) -> PrometheusSettings {
    checker
        .report
        .read(at.key("url"), Some(&given.url), |text| {
            // a secret in its query is none of a message's
            public_url(text.split_once('?').map_or(text, |(base, _)| base)).map(|_| ())
        });
    let mut time = |key: &str, given: Option<&str>, default, read: fn(&str) -> _| {
        let read = checker.report.read(at.key(key), given, read);
        read.unwrap_or(Duration::from_secs(default))
    };
    let window = time("window", given.window.as_deref(), 60, positive);
    let lag = time("lag", given.lag.as_deref(), 30, duration);
    let timeout = time("timeout", given.timeout.as_deref(), 5, positive);
    PrometheusSettings {
        url: given.url.clone(),
        queries: queries(checker, at.key("queries"), given),
        window,
        lag,
        timeout,
        failures: given.failures.unwrap_or(3),
    }
}

fn queries(
    checker: &mut Checker<'_>,
    at: At<'_>,
    given: &file::Prometheus,
) -> BTreeMap<String, String> {
    let mut queries = BTreeMap::new();
    for (name, text) in given.queries.iter().flatten() {
        let here = at.key(name);
        if !FIGURES.contains(&name.as_str()) {
            let span = here.key_span().unwrap_or_default();
            checker.report.mark(
                here,
                span,
                format!(
                    "unknown figure `{name}` in {at}: it is one of {}",
                    FIGURES.join(", ")
                ),
                "",
            );
        } else if checker.report.read(here, text.as_deref(), query).is_some() {
            queries.insert(name.clone(), text.clone().unwrap_or_default());
        }
    }
    for needed in &FIGURES[..2] {
        if !given
            .queries
            .iter()
            .flatten()
            .any(|(name, _)| name == needed)
        {
            checker.report.missing(
                at,
                format!("{at} has no query for {needed}, which every verdict needs"),
                "",
            );
        }
    }
    queries
}

/// A query that names the color, and no placeholder that there is not.
fn query(text: &str) -> Result<(), Refusal> {
    let mut named = Vec::new();
    for part in text.split("{{").skip(1) {
        let Some((name, _)) = part.split_once("}}") else {
            return Err(Refusal("a `{{` has no `}}`".to_owned()));
        };
        let name = name.trim();
        if !PLACEHOLDERS.contains(&name) {
            return Err(Refusal(format!(
                "`{{{{{name}}}}}` stands for nothing: there are {{{{{}}}}}",
                PLACEHOLDERS.join("}}, {{")
            )));
        }
        named.push(name);
    }
    if named.contains(&"color") {
        Ok(())
    } else {
        Err(Refusal(
            "a query names {{color}}, or both colors have the same figures".to_owned(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_the_color_and_knows_its_placeholders() {
        assert_eq!(query(r#"a{c="{{color}}"}[{{ window }}]"#), Ok(()));
        for (text, said) in [
            (
                "up",
                "a query names {{color}}, or both colors have the same figures",
            ),
            (
                "{{colour}}",
                "`{{colour}}` stands for nothing: there are {{color}}, {{service}}, {{window}}, {{seconds}}",
            ),
            ("{{color", "a `{{` has no `}}`"),
        ] {
            assert_eq!(query(text), Err(Refusal(said.into())), "{text}");
        }
    }
}
