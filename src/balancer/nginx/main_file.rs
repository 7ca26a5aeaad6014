//! The user's main file, read far enough to find its `include`, `pid` and hash directives, and rewritten for a check.
//!
//! The rewritten copy stands beside the original, because nginx resolves relative paths from the folder of its main file.
//! In it the include that loads turnout's file names the candidate instead, a glob is written out in its own order, and
//! `pid` points to a file of turnout's. Never changes the original.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::render::HASH_DIRECTIVES;

/// One directive and where it stands. Nested ones are listed like those at the top, with their depth.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Directive {
    words: Vec<String>,
    depth: usize,
    /// From the name to the semicolon or opening brace, inclusive.
    span: Range<usize>,
}

/// Those of the hash directives that a main file sets.
pub(super) fn hash_directives(text: &str) -> BTreeSet<&'static str> {
    let directives = directives(text);
    HASH_DIRECTIVES
        .into_iter()
        .filter(|name| {
            directives
                .iter()
                .any(|directive| directive.words.first().is_some_and(|word| word == name))
        })
        .collect()
}

/// True if the `http` block has an access log, and has not switched logs off.
pub(super) fn logs_at_http_level(text: &str) -> bool {
    let logs: Vec<_> = directives(text)
        .into_iter()
        .filter(|directive| directive.depth == 1)
        .filter(|directive| {
            directive
                .words
                .first()
                .is_some_and(|word| word == "access_log")
        })
        .collect();
    !logs.is_empty()
        && !logs
            .iter()
            .any(|log| log.words.get(1).is_some_and(|word| word == "off"))
}

/// The patterns of all `include` directives of a file, as they are written.
pub(super) fn include_patterns(text: &str) -> Vec<String> {
    directives(text)
        .into_iter()
        .filter_map(|directive| match directive.words.as_slice() {
            [name, pattern] if name == "include" => Some(pattern.clone()),
            _ => None,
        })
        .collect()
}

/// `text`, the main file `main`, with `candidate` in the place of `live` and `pid` elsewhere. `None` if no include of the
/// main file itself loads `live`.
pub(super) fn rewritten(
    text: &str,
    main: &Path,
    live: &Path,
    candidate: &Path,
    pid: &Path,
) -> Option<String> {
    let mut output = String::with_capacity(text.len() + 256);
    let (mut copied, mut found, mut pid_set) = (0, false, false);
    for directive in directives(text) {
        let replacement = match directive.words.as_slice() {
            [name, _] if name == "pid" && directive.depth == 0 => {
                pid_set = true;
                format!("pid \"{}\";", pid.display())
            }
            [name, pattern] if name == "include" => {
                match includes(main, pattern, live, candidate) {
                    Some(lines) => {
                        found = true;
                        lines
                    }
                    None => continue,
                }
            }
            _ => continue,
        };
        output.push_str(&text[copied..directive.span.start]);
        output.push_str(&replacement);
        copied = directive.span.end;
    }
    output.push_str(&text[copied..]);
    if !pid_set {
        output = format!("pid \"{}\"; {output}", pid.display());
    }
    found.then_some(output)
}

/// The include directives, on one line, that load what `pattern` loads with `candidate` for `live`. `None` if the pattern
/// does not load `live`, or has a wildcard before its last part, which is left to another way of checking.
fn includes(main: &Path, pattern: &str, live: &Path, candidate: &Path) -> Option<String> {
    let base = main.parent().unwrap_or(Path::new("/"));
    let pattern = base.join(pattern);
    let line = |path: &Path| format!("include \"{}\";", path.display());
    if same(&pattern, live) {
        return Some(line(candidate));
    }
    let (dir, last) = (pattern.parent()?, pattern.file_name()?.to_str()?);
    let live_name = live.file_name()?.to_str()?;
    if !same(dir, live.parent()?) || !matches(last, live_name) {
        return None;
    }
    let mut names: BTreeSet<String> = fs::read_dir(dir)
        .ok()?
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| matches(last, name))
        .collect();
    names.insert(live_name.to_owned());
    let lines: Vec<String> = names
        .iter()
        .map(|name| {
            if name == live_name {
                line(candidate)
            } else {
                line(&dir.join(name))
            }
        })
        .collect();
    Some(lines.join(" "))
}

/// True if both name the same place; the last part need not exist.
pub(super) fn same(one: &Path, other: &Path) -> bool {
    fn real(path: &Path) -> PathBuf {
        path.canonicalize().unwrap_or_else(|_| {
            match (
                path.parent().and_then(|parent| parent.canonicalize().ok()),
                path.file_name(),
            ) {
                (Some(parent), Some(name)) => parent.join(name),
                _ => path.to_owned(),
            }
        })
    }
    one == other || real(one) == real(other)
}

/// `glob(3)` for one part of a path: `*`, `?`, `[…]`; a leading dot only matches a dot.
fn matches(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    match_from(&pattern, &name)
}

fn match_from(pattern: &[char], name: &[char]) -> bool {
    match (pattern.first(), name.first()) {
        (None, None) => true,
        (Some('*'), _) => (0..=name.len()).any(|skip| match_from(&pattern[1..], &name[skip..])),
        (Some('?'), Some(_)) => match_from(&pattern[1..], &name[1..]),
        (Some('['), Some(letter)) => {
            let Some(end) = pattern
                .iter()
                .skip(2)
                .position(|c| *c == ']')
                .map(|at| at + 2)
            else {
                return *letter == '[' && match_from(&pattern[1..], &name[1..]);
            };
            let negated = matches!(pattern[1], '!' | '^');
            let set = &pattern[if negated { 2 } else { 1 }..end];
            let mut place = 0;
            let mut inside = false;
            while place < set.len() {
                if place + 2 < set.len() && set[place + 1] == '-' {
                    inside |= (set[place]..=set[place + 2]).contains(letter);
                    place += 3;
                } else {
                    inside |= set[place] == *letter;
                    place += 1;
                }
            }
            inside != negated && match_from(&pattern[end + 1..], &name[1..])
        }
        (Some(one), Some(other)) => one == other && match_from(&pattern[1..], &name[1..]),
        (None, Some(_)) | (Some(_), None) => false,
    }
}

/// All directives, as nginx's own reader splits them: words, quotes, `#` to the end of the line, `;`, `{`, `}`.
fn directives(text: &str) -> Vec<Directive> {
    let mut directives = Vec::new();
    let mut words: Vec<String> = Vec::new();
    let (mut depth, mut start) = (0_usize, 0);
    let mut letters = text.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        match letter {
            ';' | '{' => {
                if !words.is_empty() {
                    directives.push(Directive {
                        words: std::mem::take(&mut words),
                        depth,
                        span: start..at + 1,
                    });
                }
                depth += usize::from(letter == '{');
            }
            '}' => depth = depth.saturating_sub(1),
            '#' => while letters.next_if(|(_, next)| *next != '\n').is_some() {},
            letter if letter.is_whitespace() => {}
            letter => {
                if words.is_empty() {
                    start = at;
                }
                let quote = matches!(letter, '"' | '\'').then_some(letter);
                let mut word = String::new();
                if quote.is_none() {
                    word.push(letter);
                }
                while let Some((_, next)) = letters.peek().copied() {
                    let ends = match quote {
                        Some(quote) => next == quote,
                        None => {
                            next.is_whitespace()
                                || next == ';'
                                || (next == '{' && !word.ends_with('$'))
                        }
                    };
                    if ends {
                        if quote.is_some() {
                            letters.next();
                        }
                        break;
                    }
                    letters.next();
                    word.push(next);
                    if next == '\\'
                        && let Some((_, escaped)) = letters.next()
                    {
                        word.push(escaped);
                    }
                }
                words.push(word);
            }
        }
    }
    directives
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_as_nginx_s() {
        for (pattern, name, expected) in [
            ("*.conf", "turnout.conf", true),
            ("*.conf", ".turnout.conf.turnout-tmp", false),
            ("*", ".x", false),
            ("*", "app.conf.bak", true),
            ("x[.]conf", "x.conf", true),
            ("[a-c]?.conf", "b1.conf", true),
            ("[!a-c]*", "abc", false),
            ("turnout", "turnout.conf", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn directives_are_found_between_comments_quotes_and_blocks() {
        let text = "pid '/run/n x.pid'; # include a;\nhttp { server_names_hash_max_size 512; log_format m \"a;b{\"; if ($x = ${y}) { set $z 1; } }";
        let found: Vec<_> = directives(text)
            .into_iter()
            .map(|directive| (directive.words.join("|"), directive.depth))
            .collect();
        assert_eq!(found[0], ("pid|/run/n x.pid".into(), 0));
        assert_eq!(found[2], ("server_names_hash_max_size|512".into(), 1));
        assert_eq!(found[3], ("log_format|m|a;b{".into(), 1));
        assert_eq!(
            hash_directives(text),
            BTreeSet::from(["server_names_hash_max_size"])
        );
    }

    #[test]
    fn a_log_at_http_level_is_seen_unless_logs_are_off() {
        assert!(logs_at_http_level(
            "http { access_log /a m; server { access_log off; } }"
        ));
        assert!(!logs_at_http_level("http { access_log off; }"));
        assert!(!logs_at_http_level("http { server { access_log /a; } }"));
    }

    #[test]
    fn the_candidate_takes_the_place_of_the_live_file_in_a_glob() {
        let dir = tempfile::tempdir().unwrap();
        let conf = dir.path().join("conf.d");
        fs::create_dir(&conf).unwrap();
        for name in ["a.conf", "z.conf", "b.txt", ".c.conf"] {
            fs::File::create(conf.join(name)).unwrap();
        }
        let main = dir.path().join("nginx.conf");
        let text = "events {}\nhttp { include conf.d/*.conf; }\n";
        let new = rewritten(
            text,
            &main,
            &conf.join("turnout.conf"),
            Path::new("/s/c"),
            Path::new("/s/pid"),
        );
        let (a, z) = (conf.join("a.conf"), conf.join("z.conf"));
        assert_eq!(
            new.unwrap(),
            format!(
                "pid \"/s/pid\"; events {{}}\nhttp {{ include \"{}\"; include \"/s/c\"; include \"{}\"; }}\n",
                a.display(),
                z.display()
            )
        );
        let elsewhere = rewritten(
            text,
            &main,
            &dir.path().join("turnout.conf"),
            Path::new("/s/c"),
            Path::new("/s/pid"),
        );
        assert_eq!(elsewhere, None);
    }
}
