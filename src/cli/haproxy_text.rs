//! The language of HAProxy's configuration, as far as `turnout init --from` needs it: sections, lines, words, quotes, comments.
//!
//! Pure. Says nothing about what a line means. A word with a variable of the environment stays as it is written.

/// One section, such as `frontend web`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Section {
    /// `global`, `defaults`, `frontend`, …
    pub(super) kind: String,
    /// Empty where it has none.
    pub(super) name: String,
    pub(super) lines: Vec<Line>,
}

/// One line of a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// From 1.
    pub(super) number: usize,
    /// At least one.
    pub(super) words: Vec<String>,
}

impl Line {
    /// The words behind `keyword`, if the line begins with it.
    pub(super) fn after(&self, keyword: &str) -> Option<&[String]> {
        let (first, rest) = self.words.split_first()?;
        (first == keyword).then_some(rest)
    }

    /// As it is written, but for quotes and blanks.
    pub(super) fn text(&self) -> String {
        self.words.join(" ")
    }
}

/// Where the text is not HAProxy's language.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct NotHaproxy {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong there.
    pub what: &'static str,
}

/// Those of HAProxy 2.6 to 3.2 (configuration.txt, chapters 2 to 12).
const SECTIONS: &[&str] = &[
    "global",
    "defaults",
    "frontend",
    "backend",
    "listen",
    "userlist",
    "peers",
    "mailers",
    "resolvers",
    "ring",
    "log-forward",
    "log-profile",
    "cache",
    "program",
    "http-errors",
    "fcgi-app",
    "crt-store",
    "traces",
    "acme",
];

/// True if the first line that is no comment is HAProxy's: it begins a section, and does not end as nginx's do.
pub(super) fn begins_like_haproxy(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim);
    let first = lines.find(|line| !line.is_empty() && !line.starts_with('#'));
    first.is_some_and(|line| {
        let word = line.split_whitespace().next().unwrap_or_default();
        SECTIONS.contains(&word) && !line.ends_with(['{', ';'])
    })
}

/// Reads the text of a whole file.
pub(super) fn parse(text: &str) -> Result<Vec<Section>, NotHaproxy> {
    let mut sections: Vec<Section> = Vec::new();
    for (number, text) in (1..).zip(text.lines()) {
        let words = words(text).map_err(|what| NotHaproxy { line: number, what })?;
        let Some(first) = words.first() else { continue };
        // .if, .else, .notice: both branches are read, and a person sees what fits
        if first.starts_with('.') {
            continue;
        }
        if SECTIONS.contains(&first.as_str()) {
            sections.push(Section {
                kind: first.clone(),
                name: words.get(1).cloned().unwrap_or_default(),
                lines: Vec::new(),
            });
        } else if let Some(section) = sections.last_mut() {
            section.lines.push(Line { number, words });
        } else {
            return Err(NotHaproxy {
                line: number,
                what: "a line before the first section (`global`, `defaults`, `frontend`, …)",
            });
        }
    }
    Ok(sections)
}

fn words(line: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            (_, Some(open)) if letter == open => quote = None,
            // nothing is special in single quotes
            ('\\', None | Some('"')) => {
                let next = letters.next().ok_or("it ends with a backslash")?;
                word.get_or_insert_default().push(next);
            }
            ('"' | '\'', None) => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            ('#', None) => break,
            (blank, None) if blank.is_whitespace() => words.extend(word.take()),
            (letter, _) => word.get_or_insert_default().push(letter),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed");
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_lines_and_quoted_words_are_read() {
        let text = "# top\nglobal\n\tstats socket /run/a\\ b.sock level admin # not this\n\nfrontend web\n  http-request set-header X \"a # b\" 'c \"d\"'\n  .if defined(A)\n  bind :80\n  .endif\n";
        let sections = parse(text).unwrap();
        assert_eq!(sections.len(), 2);
        assert_eq!(sections[0].kind, "global");
        assert_eq!(sections[0].lines[0].number, 3);
        assert_eq!(
            sections[0].lines[0].words,
            ["stats", "socket", "/run/a b.sock", "level", "admin"]
        );
        assert_eq!(sections[1].name, "web");
        assert_eq!(
            sections[1].lines[0].words,
            ["http-request", "set-header", "X", "a # b", "c \"d\""]
        );
        assert_eq!(sections[1].lines[1].after("bind").unwrap(), [":80"]);
    }

    #[test]
    fn what_is_not_haproxys_is_told_with_its_line() {
        for (text, line, what) in [
            (
                "user www-data;\n",
                1,
                "a line before the first section (`global`, `defaults`, `frontend`, …)",
            ),
            ("global\n  a \"b\n", 2, "a quote is not closed"),
            ("global\n  a \\", 2, "it ends with a backslash"),
        ] {
            assert_eq!(parse(text), Err(NotHaproxy { line, what }), "{text}");
        }
    }

    #[test]
    fn it_is_told_from_nginx_by_its_first_line() {
        assert!(begins_like_haproxy("# x\n\n  global\n\tdaemon\n"));
        assert!(begins_like_haproxy("listen web\n  bind :80\n"));
        for other in [
            "",
            "user root;\n",
            "upstream a {\n",
            "http {\n",
            "version: 1\n",
            "ring {",
        ] {
            assert!(!begins_like_haproxy(other), "{other}");
        }
    }
}
