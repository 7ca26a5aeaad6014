//! One query of Prometheus', made from its template, and what its answer means. Pure.
//!
//! Exactly one series with one number is a figure. Everything else is an error that names the query and what to do.

use std::fmt;
use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;

use crate::domain::{Color, ServiceName};

/// What is asked for of each color, requests first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Figure {
    /// How many ended.
    Requests,
    /// How many of them failed.
    Errors,
    /// How many of them took longer than the policy's latency.
    Slow,
}

impl Figure {
    pub(super) const ALL: [Self; 3] = [Self::Requests, Self::Errors, Self::Slow];

    /// Its key in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Errors => "errors",
            Self::Slow => "slow",
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A figure and how it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) figure: Figure,
    pub(super) text: String,
}

/// Why a query gives no figure. Each names the query.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// Nobody answers, or not in time.
    #[error("Prometheus at {url} does not answer")]
    Unreachable {
        /// Where.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// It refused the query, or cannot answer at all.
    #[error("Prometheus refused the query for {figure} with {status}: {said} (`{query}`)")]
    Refused {
        /// Which figure.
        figure: Figure,
        /// Its status.
        status: StatusCode,
        /// What it said.
        said: String,
        /// As it was asked.
        query: String,
    },
    /// What answers there is no Prometheus.
    #[error("what answers for Prometheus is none: {said} (`{query}`)")]
    Strange {
        /// The beginning of the answer, or what is wrong with it.
        said: String,
        /// As it was asked.
        query: String,
    },
    /// No series.
    #[error(
        "the query for {figure} finds no series: look at its name and labels, at a window of four scrapes or more, and write \
         `(…) or vector(0)` where a series begins with its first event (`{query}`)"
    )]
    Empty {
        /// Which figure.
        figure: Figure,
        /// As it was asked.
        query: String,
    },
    /// More than one series.
    #[error(
        "the query for {figure} finds {count} series, and one is needed: write sum(…) around it (`{query}`)"
    )]
    Several {
        /// Which figure.
        figure: Figure,
        /// How many.
        count: usize,
        /// As it was asked.
        query: String,
    },
    /// NaN, infinite or negative.
    #[error(
        "the query for {figure} gives {value}, which is no count: ask for sum(increase(…)) and not for a ratio (`{query}`)"
    )]
    NotACount {
        /// Which figure.
        figure: Figure,
        /// What it gave.
        value: String,
        /// As it was asked.
        query: String,
    },
}

impl QueryError {
    /// Whether the same may be answered otherwise a little later.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { status, .. } => status.is_server_error(),
            Self::Strange { .. }
            | Self::Empty { .. }
            | Self::Several { .. }
            | Self::NotACount { .. } => false,
        }
    }
}

impl Query {
    /// `{{service}}`, `{{color}}`, `{{window}}`, and `{{seconds}}` (slower than) stand in the template.
    pub(super) fn of(
        figure: Figure,
        template: &str,
        service: &ServiceName,
        color: Color,
        window: Duration,
        slow_over: Duration,
    ) -> Self {
        let window = if window.subsec_millis() == 0 {
            format!("{}s", window.as_secs())
        } else {
            format!("{}ms", window.as_millis())
        };
        let values = [
            ("service", service.to_string()),
            ("color", color.to_string()),
            ("window", window),
            ("seconds", slow_over.as_secs_f64().to_string()),
        ];
        let mut text = template.to_owned();
        for (name, value) in values {
            text = text
                .replace(&format!("{{{{{name}}}}}"), &value)
                .replace(&format!("{{{{ {name} }}}}"), &value);
        }
        Self { figure, text }
    }
}

#[derive(Debug, Deserialize)]
struct Answer {
    data: Option<Data>,
    error: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum Data {
    Vector(Vec<Sample>),
    Scalar((f64, String)),
    Matrix(serde::de::IgnoredAny),
    String(serde::de::IgnoredAny),
}

#[derive(Debug, Deserialize)]
struct Sample {
    value: (f64, String),
}

/// Characters of a strange answer that an error repeats.
const SAID: usize = 200;

/// The figure in an answer.
pub(super) fn number(query: &Query, status: StatusCode, text: &str) -> Result<f64, QueryError> {
    let (figure, asked) = (query.figure, || query.text.clone());
    let strange = |said: String| QueryError::Strange {
        said,
        query: asked(),
    };
    let answer: Answer = match serde_json::from_str(text) {
        Ok(answer) => answer,
        Err(_) if !status.is_success() => Answer {
            data: None,
            error: Some(text.chars().take(SAID).collect()),
        },
        Err(error) => {
            let begin: String = text.chars().take(SAID).collect();
            return Err(strange(format!("{error} in {begin:?}")));
        }
    };
    if !status.is_success() || answer.error.is_some() {
        return Err(QueryError::Refused {
            figure,
            status,
            said: answer.error.unwrap_or_default(),
            query: asked(),
        });
    }
    let value = match answer.data {
        Some(Data::Scalar((_, value))) => value,
        Some(Data::Vector(mut series)) => match (series.pop(), series.len()) {
            (Some(Sample { value: (_, value) }), 0) => value,
            (Some(_), more) => {
                return Err(QueryError::Several {
                    figure,
                    count: more + 1,
                    query: asked(),
                });
            }
            (None, _) => {
                return Err(QueryError::Empty {
                    figure,
                    query: asked(),
                });
            }
        },
        Some(Data::Matrix(_) | Data::String(_)) => {
            return Err(strange(
                "a range or a text; write sum(increase(…[{{window}}]))".to_owned(),
            ));
        }
        None => return Err(strange("an answer without data".to_owned())),
    };
    match value.parse::<f64>() {
        Ok(number) if number.is_finite() && number >= 0.0 => Ok(number),
        Ok(_) | Err(_) => Err(QueryError::NotACount {
            figure,
            value,
            query: asked(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query() -> Query {
        Query::of(
            Figure::Errors,
            r#"sum(increase(http_total{service="{{service}}",color="{{ color }}"}[{{window}}])) > {{seconds}}"#,
            &"shop".parse().unwrap(),
            Color::Green,
            Duration::from_secs(10),
            Duration::from_millis(300),
        )
    }

    #[test]
    fn a_template_is_filled() {
        assert_eq!(
            query().text,
            r#"sum(increase(http_total{service="shop",color="green"}[10s])) > 0.3"#
        );
    }

    #[test]
    fn one_series_with_one_number_is_a_figure_and_nothing_else_is() {
        let ask =
            |status: u16, text: &str| number(&query(), StatusCode::from_u16(status).unwrap(), text);
        let vector = |result: &str| {
            format!(
                r#"{{"status":"success","data":{{"resultType":"vector","result":[{result}]}}}}"#
            )
        };
        let sample = |value: &str| format!(r#"{{"metric":{{}},"value":[1.5,"{value}"]}}"#);
        assert!((ask(200, &vector(&sample("12.5"))).unwrap() - 12.5).abs() < 1e-9);
        let scalar = r#"{"status":"success","data":{"resultType":"scalar","result":[1,"3"]}}"#;
        assert!((ask(200, scalar).unwrap() - 3.0).abs() < 1e-9);
        let said = |status, text: &str| ask(status, text).unwrap_err().to_string();
        assert!(said(200, &vector("")).starts_with("the query for errors finds no series"));
        let two = format!("{},{}", sample("1"), sample("2"));
        assert!(said(200, &vector(&two)).starts_with("the query for errors finds 2 series"));
        for value in ["NaN", "+Inf", "-1"] {
            let said = said(200, &vector(&sample(value)));
            assert!(
                said.contains(&format!("gives {value}, which is no count")),
                "{said}"
            );
        }
        let refused =
            r#"{"status":"error","errorType":"bad_data","error":"parse error: unexpected \"}\""}"#;
        let said_400 = said(400, refused);
        assert!(
            said_400.contains("400 Bad Request: parse error"),
            "{said_400}"
        );
        assert!(said_400.contains("http_total"), "{said_400}");
        assert!(
            said(200, "<html>").contains("none: expected value"),
            "{}",
            said(200, "<html>")
        );
        assert!(said(502, "<html>").contains("502 Bad Gateway: <html>"));
        let range = r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#;
        assert!(said(200, range).contains("a range or a text"));
    }
}
