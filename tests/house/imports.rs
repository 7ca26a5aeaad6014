//! Reads Rust as text: which paths of this crate a file uses, apart from what stands in comments and literals.
//!
//! A parser would be more exact and a dependency more; rustfmt's one way of writing `use` trees makes this enough.

use std::collections::BTreeSet;

/// All paths into this crate in `text`, from the top-level module on: those of `use` trees, and those written in place.
pub(super) fn imports(text: &str, path: &[&str]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (start, _) in text.match_indices("use ") {
        let before = text[..start].chars().next_back();
        if before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_') {
            continue;
        }
        let tree = text[start + 4..].split(';').next().unwrap_or_default();
        let tree: String = tree.split_whitespace().collect::<Vec<_>>().join(" ");
        leaves(&tree, "", &mut |leaf| {
            found.extend(resolve(leaf, path));
        });
    }
    for start in ["crate::", "super::"] {
        for (at, _) in text.match_indices(start) {
            let before = text[..at].chars().next_back();
            // the middle of `super::super::` was taken with its beginning; `pub(in crate::x)` is no import
            if before.is_some_and(|letter| letter.is_alphanumeric() || letter == ':') {
                continue;
            }
            let leaf: String = text[at..]
                .chars()
                .take_while(|letter| letter.is_alphanumeric() || matches!(letter, '_' | ':'))
                .collect();
            // a tree follows, which was taken apart above
            if text[at + leaf.len()..].starts_with('{') {
                continue;
            }
            found.extend(resolve(leaf.trim_end_matches(':'), path));
        }
    }
    found
}

/// Calls `leaf` for each path of a `use` tree: `a::{b, c::{d, e}}` has `a::b`, `a::c::d` and `a::c::e`.
fn leaves(tree: &str, prefix: &str, leaf: &mut impl FnMut(&str)) {
    let tree = tree.trim();
    let Some((head, rest)) = tree.split_once('{') else {
        let name = tree.split(" as ").next().unwrap_or(tree).trim();
        leaf(&format!("{prefix}{name}"));
        return;
    };
    let inner = rest.strip_suffix('}').unwrap_or(rest);
    let prefix = format!("{prefix}{head}");
    let (mut depth, mut begin) = (0, 0);
    for (at, letter) in inner.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                leaves(&inner[begin..at], &prefix, leaf);
                begin = at + 1;
            }
            _ => {}
        }
    }
    if !inner[begin..].trim().is_empty() {
        leaves(&inner[begin..], &prefix, leaf);
    }
}

/// A path from the top of the crate; `None` if it leads elsewhere. Names of `crate` itself (`crate::module` alone) stay.
fn resolve(leaf: &str, path: &[&str]) -> Option<String> {
    let mut parts: Vec<&str> = leaf.split("::").collect();
    let mut here: Vec<&str> = match *parts.first()? {
        "crate" => {
            parts.remove(0);
            Vec::new()
        }
        "turnout" if path[0] == "main" => {
            parts.remove(0);
            Vec::new()
        }
        "self" => {
            parts.remove(0);
            path.to_vec()
        }
        "super" => path.to_vec(),
        _ => return None,
    };
    while parts.first() == Some(&"super") {
        parts.remove(0);
        here.pop();
    }
    here.extend(parts);
    (!here.is_empty()).then(|| here.join("::"))
}

/// The text with comments and the insides of string and character literals replaced by spaces.
pub(super) fn blank(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(hashes) = raw_string(rest) {
            let close = format!("\"{}", "#".repeat(hashes));
            let open = 2 + hashes;
            rest[open..]
                .find(&close)
                .map_or(rest.len(), |end| open + end + close.len())
        } else if letter == '"' {
            string_end(rest)
        } else if let Some(length) = character(rest) {
            length
        } else {
            out.push(letter);
            rest = &rest[letter.len_utf8()..];
            continue;
        };
        out.extend(
            rest[..length]
                .chars()
                .map(|letter| if letter == '\n' { '\n' } else { ' ' }),
        );
        rest = &rest[length..];
    }
    out
}

/// How many `#` a raw string that begins here has.
fn raw_string(text: &str) -> Option<usize> {
    let rest = text.strip_prefix('r')?;
    let hashes = rest.len() - rest.trim_start_matches('#').len();
    rest[hashes..].starts_with('"').then_some(hashes)
}

fn string_end(text: &str) -> usize {
    let mut escaped = true;
    for (at, letter) in text.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of a character literal that begins here; a lifetime is none.
fn character(text: &str) -> Option<usize> {
    let rest = text.strip_prefix('\'')?;
    if let Some(escape) = rest.strip_prefix('\\') {
        let after = escape.chars().next()?.len_utf8();
        return escape[after..].find('\'').map(|end| 2 + after + end + 1);
    }
    let letter = rest.chars().next()?;
    rest[letter.len_utf8()..]
        .starts_with('\'')
        .then(|| 2 + letter.len_utf8())
}

#[test]
fn the_reader_of_imports_understands_trees_and_literals() {
    let text = blank(
        "use crate::domain::{Color, Split as S};\nuse super::{Store, state::{A, B}};\nuse std::fmt;\n\
         // use crate::cli;\nlet x = \"use crate::api;\"; crate::exec::run(r#\"crate::api::x\"#, '\"', 'a');",
    );
    let found = imports(&text, &["store", "lock"]);
    let expected = [
        "domain::Color",
        "domain::Split",
        "exec::run",
        "store::Store",
        "store::state::A",
        "store::state::B",
    ];
    assert_eq!(found.into_iter().collect::<Vec<_>>(), expected);
}
