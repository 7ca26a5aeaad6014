//! The bodies: what comes in, read strictly, and what goes out.
//!
//! A body is a JSON object with known fields, each once and of its type. What is not JSON (NaN, an open bracket) is malformed;
//! what is JSON and does not fit (1e999, an unknown field) names the field. Nothing of a body that was refused has any effect.

use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::Problem;
use crate::controller::Verb;
use crate::domain::{Color, Maintenance, Split, Strategy, Traffic, TrafficMode};

/// The longest message that is taken into journal and audit log, in characters.
const MAX_MESSAGE: usize = 1000;

/// What every write may say besides its own fields.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Manner {
    /// Go on although the target is unhealthy.
    pub(super) force: bool,
    /// Why, for journal and audit.
    pub(super) message: Option<String>,
}

/// A body that can be checked beyond its types.
pub(super) trait Checked: DeserializeOwned {
    /// The body in place of none at all; `None`: there must be one.
    fn absent() -> Option<Self> {
        None
    }

    /// What its types do not say.
    fn check(&self) -> Result<(), Problem> {
        Ok(())
    }

    /// The body as it was understood, where its type lets a field fall that it does not know: serde's `deny_unknown_fields`
    /// does not hold for the fieldless variants of a tagged enum.
    fn understood(&self) -> Option<serde_json::Value> {
        None
    }
}

/// The first field in `given` that is not in `understood`, or is another thing there, as a path: a tag is a word, and serde
/// takes the number of a variant for it as well.
fn dropped(given: &serde_json::Value, understood: &serde_json::Value) -> Option<String> {
    let (given, understood) = (given.as_object()?, understood.as_object()?);
    given
        .iter()
        .find_map(|(key, value)| match understood.get(key) {
            None => Some(key.clone()),
            Some(known) if value.is_number() && known.is_string() => Some(key.clone()),
            Some(known) => dropped(value, known).map(|below| format!("{key}.{below}")),
        })
}

/// POST /orchestration/strategy
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetStrategy {
    pub(super) strategy: Strategy,
    /// Go on although the target is unhealthy.
    #[serde(default)]
    force: bool,
    /// Why, for journal and audit.
    #[schema(max_length = 1000)]
    message: Option<String>,
}

/// POST /orchestration/bluegreen/activate
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Activate {
    /// Where all traffic goes.
    pub(super) active: Color,
    /// Go on although the target is unhealthy.
    #[serde(default)]
    force: bool,
    /// Why, for journal and audit.
    #[schema(max_length = 1000)]
    message: Option<String>,
}

/// POST /orchestration/canary/weights
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Weights {
    /// Percent; with `normalize` any share.
    #[schema(minimum = 0)]
    blue: f64,
    /// Percent; with `normalize` any share.
    #[schema(minimum = 0)]
    green: f64,
    /// Scale the two to 100; without it they add up to 100, with two decimals at most.
    #[serde(default)]
    normalize: bool,
    /// Go on although the target is unhealthy.
    #[serde(default)]
    force: bool,
    /// Why, for journal and audit.
    #[schema(max_length = 1000)]
    message: Option<String>,
}

impl Weights {
    /// The split that is meant.
    pub(super) fn split(&self) -> Result<Split, Problem> {
        let split = if self.normalize {
            Split::normalized(self.blue, self.green)
        } else {
            Split::from_percents(self.blue, self.green)
        };
        split.map_err(|error| Problem::unfitting(error.to_string()))
    }
}

/// POST /orchestration/canary/shift
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Shift {
    /// Percent points, may be negative; the result is clamped to 0..=100.
    pub(super) delta: f64,
    pub(super) towards: Color,
    /// Go on although the target is unhealthy.
    #[serde(default)]
    force: bool,
    /// Why, for journal and audit.
    #[schema(max_length = 1000)]
    message: Option<String>,
}

/// POST /orchestration/rollback
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rollback {
    /// Go on although the target is unhealthy.
    #[serde(default)]
    force: bool,
    /// Why, for journal and audit.
    #[schema(max_length = 1000)]
    message: Option<String>,
}

/// POST /v1/services/{service}/traffic
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetTraffic {
    /// What becomes of the requests.
    mode: TrafficMode,
    /// Seconds; for maintenance.
    #[schema(value_type = Option<u64>, maximum = 4_294_967_295u64)]
    retry_after: Option<u32>,
    /// HTML; for maintenance.
    #[schema(max_length = 32768)]
    page: Option<String>,
    /// Go on although the target is unhealthy.
    #[serde(default)]
    force: bool,
    /// Why, for journal and audit.
    #[schema(max_length = 1000)]
    message: Option<String>,
}

impl SetTraffic {
    /// What is meant.
    pub(super) fn traffic(&self) -> Result<Traffic, Problem> {
        let traffic = match self.mode {
            TrafficMode::Open => Traffic::Open,
            TrafficMode::Hold => Traffic::Hold,
            TrafficMode::Maintenance => {
                return Ok(Traffic::Maintenance(Maintenance {
                    retry_after: self.retry_after.unwrap_or(Maintenance::RETRY_AFTER),
                    page: self.page.clone(),
                }));
            }
        };
        if self.retry_after.is_some() || self.page.is_some() {
            return Err(Problem::unfitting(
                "retry_after and page are for the mode maintenance",
            ));
        }
        Ok(traffic)
    }
}

fn check_traffic(traffic: &Traffic) -> Result<(), Problem> {
    match traffic {
        Traffic::Maintenance(Maintenance {
            page: Some(page), ..
        }) if page.len() > Maintenance::LONGEST_PAGE => Err(Problem::unfitting(format!(
            "page: at most {} bytes",
            Maintenance::LONGEST_PAGE
        ))),
        Traffic::Open | Traffic::Hold | Traffic::Maintenance(_) => Ok(()),
    }
}

impl Checked for SetTraffic {
    fn check(&self) -> Result<(), Problem> {
        check_message(self.message.as_ref())?;
        check_traffic(&self.traffic()?)
    }
}

macro_rules! manners {
    ($($body:ident),*) => {$(
        impl $body {
            /// How it is to be done.
            pub(super) fn manner(&self) -> Manner {
                Manner { force: self.force, message: self.message.clone() }
            }
        }
    )*};
}
manners!(SetStrategy, Activate, Weights, Shift, Rollback, SetTraffic);

pub(super) fn check_message(message: Option<&String>) -> Result<(), Problem> {
    match message {
        Some(text) if text.chars().count() > MAX_MESSAGE => Err(Problem::unfitting(format!(
            "message: at most {MAX_MESSAGE} characters"
        ))),
        Some(_) | None => Ok(()),
    }
}

impl Checked for SetStrategy {
    fn check(&self) -> Result<(), Problem> {
        check_message(self.message.as_ref())
    }
}

impl Checked for Activate {
    fn check(&self) -> Result<(), Problem> {
        check_message(self.message.as_ref())
    }
}

impl Checked for Weights {
    fn check(&self) -> Result<(), Problem> {
        check_message(self.message.as_ref())?;
        self.split().map(drop)
    }
}

impl Checked for Shift {
    fn check(&self) -> Result<(), Problem> {
        check_message(self.message.as_ref())
    }
}

impl Checked for Rollback {
    /// `{}` has nothing to say, so no body is as good.
    fn absent() -> Option<Self> {
        Some(Self::default())
    }

    fn check(&self) -> Result<(), Problem> {
        check_message(self.message.as_ref())
    }
}

impl Checked for crate::controller::Request {
    fn check(&self) -> Result<(), Problem> {
        const DAY: std::time::Duration = std::time::Duration::from_hours(24);
        check_message(self.message.as_ref())?;
        if self.lock_wait > DAY {
            return Err(Problem::unfitting("lock_wait: at most a day (86400000 ms)"));
        }
        if let Verb::Traffic { to, .. } = &self.change {
            check_traffic(to)?;
        }
        Ok(())
    }

    fn understood(&self) -> Option<serde_json::Value> {
        serde_json::to_value(self).ok()
    }
}

/// Reads a body.
pub(super) fn parse<T: Checked>(bytes: &[u8]) -> Result<T, Problem> {
    let text = bytes.trim_ascii();
    if text.is_empty() {
        return T::absent()
            .ok_or_else(|| Problem::malformed("the body is empty, and a JSON object is expected"));
    }
    // Well-formed at all? This pass recurses into nothing, so brackets are no stack; serde's own classes will not do, since
    // they call a number in the place of a word a syntax error.
    serde_json::from_slice::<serde::de::IgnoredAny>(text)
        .map_err(|error| Problem::malformed(format!("the body is not JSON: {error}")))?;
    if text.first() != Some(&b'{') {
        // serde would take an array for a struct, in the order of its fields
        return Err(Problem::unfitting("the body is not a JSON object"));
    }
    let mut reader = serde_json::Deserializer::from_slice(text);
    let body: T = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let cause = error.into_inner();
        Problem::unfitting(match path.as_str() {
            "." => cause.to_string(),
            path => format!("{path}: {cause}"),
        })
    })?;
    body.check()?;
    if let Some(understood) = body.understood()
        && let Ok(given) = serde_json::from_slice(text)
        && let Some(path) = dropped(&given, &understood)
    {
        return Err(Problem::unfitting(format!(
            "{path}: unknown field or value"
        )));
    }
    Ok(body)
}

/// The answer of GET /v1/identity: which daemon this is. A command compares `state_dir` with its own before it writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Identity {
    /// The state directory, absolute.
    #[schema(value_type = String)]
    pub state_dir: PathBuf,
    /// The daemon's process id.
    pub pid: u32,
    /// Its version.
    pub version: String,
}

/// A problem document, RFC 9457.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = Problem)]
pub(super) struct ProblemBody {
    /// `about:blank`: the status says which kind of problem it is.
    #[serde(rename = "type")]
    pub(super) kind: String,
    /// The status in words.
    pub(super) title: String,
    /// The HTTP status.
    pub(super) status: u16,
    /// What is wrong, its causes, and what to do.
    pub(super) detail: String,
    /// The exit code of the command line for this.
    pub(super) exit: Option<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused<T: Checked + std::fmt::Debug>(text: &str) -> (u16, String) {
        let problem = parse::<T>(text.as_bytes()).unwrap_err();
        (problem.status(), problem.detail().to_owned())
    }

    #[test]
    fn fitting_bodies_are_taken() {
        assert_eq!(
            parse::<Activate>(br#" {"active":"green"} "#)
                .unwrap()
                .active,
            Color::Green
        );
        let weights: Weights = parse(br#"{"blue":8,"green":2,"normalize":true}"#).unwrap();
        assert_eq!(
            weights.split().unwrap(),
            Split::from_percents(80.0, 20.0).unwrap()
        );
        let forced: Activate = parse(br#"{"active":"blue","force":true,"message":"why"}"#).unwrap();
        assert_eq!(
            forced.manner(),
            Manner {
                force: true,
                message: Some("why".to_owned())
            }
        );
        assert_eq!(parse::<Rollback>(b"").unwrap().manner(), Manner::default());
        let shift: Shift = parse(br#"{"delta":-2.5,"towards":"blue"}"#).unwrap();
        assert!((shift.delta + 2.5).abs() < 1e-9, "{shift:?}");
    }

    #[test]
    fn what_is_not_json_is_400() {
        for text in [
            "",
            "{",
            "nonsense",
            "{\"active\": green}",
            r#"{"active":"green"} x"#,
            r#"{"active":NaN}"#,
            "\u{feff}{}",
        ] {
            assert_eq!(refused::<Activate>(text).0, 400, "{text}");
        }
        assert_eq!(refused::<Activate>(&"[".repeat(10_000)).0, 400);
    }

    #[test]
    fn depth_is_no_stack() {
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        assert_eq!(refused::<Activate>(&deep).0, 422);
        let inside = format!(r#"{{"active":{deep}}}"#);
        assert_eq!(refused::<Activate>(&inside).0, 422);
        let unknown = format!(r#"{{"x":{deep}}}"#);
        assert_eq!(refused::<Activate>(&unknown).0, 422);
        let change = format!(r#"{{"change":{deep}}}"#);
        assert_eq!(refused::<crate::controller::Request>(&change).0, 422);
    }

    #[test]
    fn what_does_not_fit_is_422_and_names_the_field() {
        for (text, word) in [
            (r#"{"active":"red"}"#, "red"),
            (r#"{"active":1}"#, "active"),
            (r#"{"active":"green","active":"blue"}"#, "active"),
            (r#"{"activ":"green"}"#, "activ"),
            (r#"{"active":"green","force":"yes"}"#, "force"),
            ("{}", "active"),
            (r#"["green"]"#, "object"),
            ("null", "object"),
        ] {
            let (status, detail) = refused::<Activate>(text);
            assert_eq!(status, 422, "{text}: {detail}");
            assert!(detail.contains(word), "{text}: {detail}");
        }
        for (text, word) in [
            (r#"{"blue":80,"green":30}"#, "110"),
            (r#"{"blue":-1,"green":101}"#, "-1"),
            (r#"{"blue":"80","green":20}"#, "blue"),
            (r#"{"blue":80}"#, "green"),
            (r#"{"blue":1e999,"green":1}"#, "blue"),
            (r#"{"blue":0,"green":0,"normalize":true}"#, "scaled"),
            (r#"{"blue":99.999,"green":0.001}"#, "decimals"),
        ] {
            let (status, detail) = refused::<Weights>(text);
            assert_eq!(status, 422, "{text}: {detail}");
            assert!(detail.contains(word), "{text}: {detail}");
        }
        let long = format!(r#"{{"message":"{}"}}"#, "x".repeat(1001));
        assert_eq!(refused::<Rollback>(&long).0, 422);
    }

    #[test]
    fn a_change_says_what_but_never_who() {
        let text = r#"{"change":{"verb":"switch","service":null,"to":"green"},"actor":"root"}"#;
        assert_eq!(refused::<crate::controller::Request>(text).0, 422);
        for (text, says) in [
            (
                r#"{"change":{"verb":"apply","service":"shop"}}"#,
                "change.service: unknown field or value",
            ),
            (
                r#"{"change":{"verb":"traffic","to":{"mode":"open","page":"x"}}}"#,
                "change.to.page: unknown field or value",
            ),
            (
                r#"{"change":{"verb":"traffic","to":{"mode":0}}}"#,
                "change.to.mode: unknown field or value",
            ),
        ] {
            let refused = refused::<crate::controller::Request>(text);
            assert_eq!(refused, (422, says.to_owned()));
        }
        // the words are serde's own
        for text in [r#"{"change":{"verb":6}}"#, r#"{"change":{"verb":"fly"}}"#] {
            let (status, says) = refused::<crate::controller::Request>(text);
            assert_eq!(status, 422);
            assert!(says.starts_with("change.verb: "), "{says}");
        }
        let text = r#"{"change":{"verb":"weights","service":"shop","weights":{"blue":80,"green":20}},"lock_wait":99999999999}"#;
        assert_eq!(refused::<crate::controller::Request>(text).0, 422);
    }
}
