//! `${VAR}` and `${VAR:-default}` inside values, replaced after parsing so that a value can never add YAML of its own.
//!
//! The default stands in for a variable that is unset or empty, as in a shell. `$${` is a literal `${`. Keys are never
//! expanded, and what a variable holds is not expanded again.

use super::document::{Document, Report};
use super::problem::Problem;
use super::yaml::{Node, Style, Value};

/// Replaces all variables of a document.
pub(super) fn expand(
    document: &mut Document,
    vars: &dyn Fn(&str) -> Option<String>,
    report: &mut Report,
) {
    let mut refused = Vec::new();
    visit(&mut document.root, vars, &mut refused);
    for (span, message) in refused {
        report.problems.push(Problem {
            place: Some(document.place(span)),
            message,
            label: String::new(),
            key: String::new(),
        });
    }
}

type Refused = Vec<(std::ops::Range<usize>, String)>;

fn visit(node: &mut Node, vars: &dyn Fn(&str) -> Option<String>, refused: &mut Refused) {
    match &mut node.value {
        Value::Scalar { text, style } if text.contains("${") => match replaced(text, vars) {
            Ok(new) => {
                *text = new;
                *style = Style::Expanded;
            }
            Err(error) => {
                refused.push((node.span.clone(), error.to_string()));
                // An empty value counts as not set, so that nothing else complains about this one.
                text.clear();
                *style = Style::Expanded;
            }
        },
        Value::Scalar { .. } => {}
        Value::List(items) => items.iter_mut().for_each(|item| visit(item, vars, refused)),
        Value::Map(entries) => entries
            .iter_mut()
            .for_each(|entry| visit(&mut entry.value, vars, refused)),
    }
}

#[derive(Debug, PartialEq, thiserror::Error)]
enum ExpandError {
    #[error("`${{` without its `}}` (write `$${{` for the two characters themselves)")]
    Open,
    #[error(
        "`{0}` is not the name of a variable: `${{NAME}}` or `${{NAME:-default}}` (write `$${{` for the characters themselves)"
    )]
    Name(String),
    #[error("the variable `{0}` is not set: set it, or write `${{{0}:-default}}`")]
    Unset(String),
}

fn replaced(text: &str, vars: &dyn Fn(&str) -> Option<String>) -> Result<String, ExpandError> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, after) = (&rest[..start], &rest[start + 2..]);
        if let Some(kept) = before.strip_suffix('$') {
            out.push_str(kept);
            out.push_str("${");
            rest = after;
            continue;
        }
        out.push_str(before);
        let (inside, tail) = after.split_once('}').ok_or(ExpandError::Open)?;
        let (name, default) = inside
            .split_once(":-")
            .map_or((inside, None), |(name, default)| (name, Some(default)));
        let mut letters = name.bytes();
        let named = letters
            .next()
            .is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
            && letters.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !named {
            return Err(ExpandError::Name(name.to_owned()));
        }
        match (vars(name), default) {
            (Some(value), None) => out.push_str(&value),
            (Some(value), Some(_)) if !value.is_empty() => out.push_str(&value),
            (_, Some(default)) => out.push_str(default),
            (None, None) => return Err(ExpandError::Unset(name.to_owned())),
        }
        rest = tail;
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vars(name: &str) -> Option<String> {
        match name {
            "PORT" => Some("5001".into()),
            "EMPTY" => Some(String::new()),
            "NESTED" => Some("${PORT}".into()),
            _ => None,
        }
    }

    #[test]
    fn variables_are_replaced_once_with_defaults_for_unset_and_empty() {
        for (text, want) in [
            ("http://h:${PORT}/", "http://h:5001/"),
            ("${PORT}${PORT:-1}", "50015001"),
            ("${NONE:-a:-b}", "a:-b"),
            ("${NONE:-}", ""),
            ("${EMPTY:-x}", "x"),
            ("[${EMPTY}]", "[]"),
            ("${NESTED}", "${PORT}"),
            ("$${PORT} and $PORT", "${PORT} and $PORT"),
        ] {
            assert_eq!(replaced(text, &vars), Ok(want.to_owned()), "{text}");
        }
        assert_eq!(replaced("${PORT", &vars), Err(ExpandError::Open));
        assert_eq!(
            replaced("${NONE}", &vars),
            Err(ExpandError::Unset("NONE".into()))
        );
        assert_eq!(
            replaced("${1x}", &vars),
            Err(ExpandError::Name("1x".into()))
        );
    }
}
