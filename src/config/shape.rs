//! A tree against the JSON Schema of the mirror: which keys exist, and what kind of value each takes.
//!
//! What fits comes out as JSON that `file` is deserialized from; what does not is reported and left out, so that one
//! misspelt key hides nothing else. The schema is generated from the same types, so the two cannot disagree. Understands
//! the part of JSON Schema that `schemars` writes for those types, and nothing more.

use serde_json::{Map, Number, Value as Json};

use super::document::{At, Report};
use super::yaml::{Entry, Node, Style, Value};

/// The schema that a document is held against.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schema<'s> {
    root: &'s Json,
    here: &'s Json,
}

impl<'s> Schema<'s> {
    /// The schema as a whole.
    pub(super) const fn new(root: &'s Json) -> Self {
        Self { root, here: root }
    }

    fn to(self, here: &'s Json) -> Self {
        let here = here
            .get("$ref")
            .and_then(Json::as_str)
            .and_then(|reference| self.root.pointer(reference.trim_start_matches('#')))
            .unwrap_or(here);
        Self { here, ..self }
    }

    /// The forms a value may take; null is no form.
    fn forms(self) -> Vec<Self> {
        let choices = ["anyOf", "oneOf"]
            .iter()
            .find_map(|key| self.here.get(key)?.as_array());
        match choices {
            Some(choices) => choices
                .iter()
                .flat_map(|choice| self.to(choice).forms())
                .filter(|form| form.here.get("type") != Some(&Json::from("null")))
                .collect(),
            None => vec![self],
        }
    }

    fn is(self, kind: &str) -> bool {
        match self.here.get("type") {
            Some(Json::String(only)) => only == kind,
            Some(Json::Array(several)) => several.iter().any(|one| one == kind),
            _ => false,
        }
    }

    fn words(self) -> Option<Vec<&'s str>> {
        let words = self.here.get("enum")?.as_array()?;
        Some(words.iter().filter_map(Json::as_str).collect())
    }

    fn anything(self) -> bool {
        self.here.get("type").is_none() && self.here.get("enum").is_none()
    }

    fn expects(self) -> String {
        if let Some(words) = self.words() {
            let one_of = if words.len() > 1 { "one of " } else { "" };
            return format!("{one_of}{}", listed(words.iter().copied()));
        }
        for (kind, words) in [
            ("object", "a map"),
            ("array", "a list"),
            ("string", "a text"),
            ("integer", "a whole number"),
            ("number", "a number"),
            ("boolean", "true or false"),
        ] {
            if self.is(kind) {
                return words.to_owned();
            }
        }
        "a value".to_owned()
    }
}

/// The value as JSON, without what does not fit. `None`: nothing of it does.
pub(super) fn shaped(
    node: &Node,
    schema: Schema<'_>,
    at: At<'_>,
    report: &mut Report,
) -> Option<Json> {
    let schema = schema.to(schema.here);
    if schema.anything() && schema.forms().iter().all(|form| form.anything()) {
        return Some(plain(node));
    }
    if node.is_null() {
        return Some(Json::Null);
    }
    let forms = schema.forms();
    let fitting = forms.iter().find_map(|form| match &node.value {
        Value::Map(entries) if form.is("object") => Some(map(entries, *form, at, report)),
        Value::List(items) if form.is("array") => Some(Some(list(items, *form, at, report))),
        Value::Scalar { text, style } => scalar(text, *style, *form).map(Some),
        Value::Map(_) | Value::List(_) => None,
    });
    if let Some(value) = fitting {
        return value;
    }
    let expected = forms
        .iter()
        .map(|form| form.expects())
        .collect::<Vec<_>>()
        .join(", or ");
    let found = match &node.value {
        Value::Map(_) => "a map".to_owned(),
        Value::List(_) => "a list".to_owned(),
        Value::Scalar { text, .. } => format!("`{text}`"),
    };
    let words: Vec<&str> = forms
        .iter()
        .filter_map(|form| form.words())
        .flatten()
        .collect();
    let (range, near) = match &node.value {
        Value::Scalar { text, .. } => (out_of_range(text, &forms), nearest(text, words)),
        Value::Map(_) | Value::List(_) => (None, None),
    };
    let message = match (range, near) {
        (Some(range), _) => format!("{at}: {found} is out of range, it is {range}"),
        (None, Some(near)) => format!("{at}: unknown value {found}, did you mean `{near}`?"),
        (None, None) => format!("{at} is {expected}, not {found}"),
    };
    report.add(at, message, format!("expected {expected}"));
    None
}

fn map(entries: &[Entry], schema: Schema<'_>, at: At<'_>, report: &mut Report) -> Option<Json> {
    let properties = schema.here.get("properties").and_then(Json::as_object);
    let others = schema.here.get("additionalProperties");
    let mut out = Map::new();
    for entry in entries {
        let inner = at.key(&entry.key);
        let known = properties.and_then(|properties| properties.get(&entry.key));
        let sub = match (known, others) {
            (Some(known), _) => schema.to(known),
            (None, Some(other)) if other.as_bool() != Some(false) => schema.to(other),
            (None, _) => {
                let names = properties
                    .into_iter()
                    .flat_map(Map::keys)
                    .map(String::as_str);
                unknown(entry, names.collect(), at, report);
                continue;
            }
        };
        if let Some(value) = shaped(&entry.value, sub, inner, report) {
            out.insert(entry.key.clone(), value);
        }
    }
    let required = schema.here.get("required").and_then(Json::as_array);
    for name in required.into_iter().flatten().filter_map(Json::as_str) {
        if out.get(name).is_none_or(Json::is_null) {
            let missing = at.key(name);
            report.missing(missing, format!("{at} needs a `{name}`"), "");
            return None;
        }
    }
    Some(Json::Object(out))
}

fn unknown(entry: &Entry, names: Vec<&str>, at: At<'_>, report: &mut Report) {
    let key = &entry.key;
    let place = match at {
        At::Top(_) => "at the top".to_owned(),
        At::Key(..) | At::Item(..) => format!("in {at}"),
    };
    let (message, label) = match nearest(key, names.clone()) {
        Some(near) => (
            format!("unknown field `{key}` {place}, did you mean `{near}`?"),
            format!("expected `{near}`"),
        ),
        None => (
            format!("unknown field `{key}` {place}"),
            format!("expected one of {}", listed(names.into_iter())),
        ),
    };
    // Under the key of its map, so that nothing is called missing that may only be misspelt.
    report.mark(at, entry.key_span.clone(), message, label);
}

fn list(items: &[Node], schema: Schema<'_>, at: At<'_>, report: &mut Report) -> Json {
    let Some(inner) = schema.here.get("items") else {
        return Json::Array(items.iter().map(plain).collect());
    };
    let values = items.iter().enumerate().map(|(index, item)| {
        // A refused item keeps its place, so that the indexes of the others still lead to their lines.
        shaped(item, schema.to(inner), at.item(index), report).unwrap_or(Json::Null)
    });
    Json::Array(values.collect())
}

fn scalar(text: &str, style: Style, schema: Schema<'_>) -> Option<Json> {
    if let Some(words) = schema.words() {
        return words.contains(&text).then(|| Json::from(text));
    }
    if schema.is("string") {
        return Some(Json::from(text));
    }
    if style == Style::Quoted {
        return None;
    }
    if schema.is("boolean") {
        return match text {
            "true" => Some(Json::Bool(true)),
            "false" => Some(Json::Bool(false)),
            _ => None,
        };
    }
    let within = |number: f64| {
        let bound = |key| schema.here.get(key).and_then(Json::as_f64);
        bound("minimum").is_none_or(|low| number >= low)
            && bound("maximum").is_none_or(|high| number <= high)
    };
    if schema.is("integer") {
        let number: i64 = text.parse().ok()?;
        #[expect(clippy::cast_precision_loss, reason = "bounds here are far below 2^53")]
        return within(number as f64).then(|| Json::from(number));
    }
    if schema.is("number") {
        return number(text).filter(|_| text.parse().is_ok_and(within));
    }
    None
}

fn out_of_range(text: &str, forms: &[Schema<'_>]) -> Option<String> {
    let form = forms
        .iter()
        .find(|form| form.is("integer") || form.is("number"))?;
    let _: f64 = text
        .parse()
        .ok()
        .filter(|number: &f64| number.is_finite())?;
    if form.is("integer") && text.parse::<i128>().is_err() {
        return None;
    }
    let bound = |key| form.here.get(key).map(ToString::to_string);
    match (bound("minimum"), bound("maximum")) {
        (Some(low), Some(high)) => Some(format!("from {low} to {high}")),
        (Some(low), None) => Some(format!("{low} or more")),
        (None, Some(high)) => Some(format!("{high} or less")),
        (None, None) => None,
    }
}

/// A finite number as JSON; whole ones stay whole.
fn number(text: &str) -> Option<Json> {
    if !text.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first)) {
        return None;
    }
    let whole = text.parse::<i64>().ok().map(Json::from);
    whole.or_else(|| Number::from_f64(text.parse().ok()?).map(Json::Number))
}

/// A value that has no schema, by the core schema of YAML 1.2: only `true` and `false` are booleans.
fn plain(node: &Node) -> Json {
    if node.is_null() {
        return Json::Null;
    }
    match &node.value {
        Value::Scalar { text, style } => match (style, text.as_str()) {
            (Style::Quoted, text) => Json::from(text),
            (Style::Plain | Style::Expanded, "true") => Json::Bool(true),
            (Style::Plain | Style::Expanded, "false") => Json::Bool(false),
            (Style::Plain | Style::Expanded, text) => number(text).unwrap_or(Json::from(text)),
        },
        Value::List(items) => Json::Array(items.iter().map(plain).collect()),
        Value::Map(entries) => Json::Object(
            entries
                .iter()
                .map(|entry| (entry.key.clone(), plain(&entry.value)))
                .collect(),
        ),
    }
}

/// The word that was probably meant: at most a third of the letters differ, or one is cut short.
pub(super) fn nearest<'w>(word: &str, known: Vec<&'w str>) -> Option<&'w str> {
    let normal = |text: &str| text.to_ascii_lowercase().replace(['-', '_'], "");
    let word = normal(word);
    if word.is_empty() {
        return None;
    }
    known
        .into_iter()
        .map(|candidate| {
            let other = normal(candidate);
            let distance = strsim::damerau_levenshtein(&word, &other);
            (
                distance,
                other.chars().count().max(word.chars().count()),
                candidate,
            )
        })
        .filter(|(distance, length, _)| distance * 3 <= *length)
        .min_by_key(|(distance, ..)| *distance)
        .map(|(.., candidate)| candidate)
}

fn listed<'w>(words: impl Iterator<Item = &'w str>) -> String {
    words
        .map(|word| format!("`{word}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_near() {
        let known = vec!["servers", "sticky", "listen", "on_unhealthy", "pid"];
        for (word, near) in [
            ("severs", Some("servers")),
            ("Servers", Some("servers")),
            ("on-unhealthy", Some("on_unhealthy")),
            ("lisetn", Some("listen")),
            ("pidd", Some("pid")),
            ("weight", None),
            ("xyz", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known.clone()), near, "{word}");
        }
    }
}
