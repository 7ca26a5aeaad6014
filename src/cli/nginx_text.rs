//! The language of nginx's configuration, as far as `turnout init --from` needs it: words, quotes, comments, blocks.
//!
//! Pure. Says nothing about what a directive means, and never opens what an `include` names.

use std::path::Path;
use std::rc::Rc;

/// A directive with its words and, for `server { … }` and its like, its block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Directive {
    /// Where it stands.
    pub(super) file: Rc<Path>,
    pub(super) line: usize,
    pub(super) name: String,
    pub(super) args: Vec<String>,
    pub(super) block: Option<Vec<Directive>>,
}

impl Directive {
    /// `FILE:LINE`.
    pub(super) fn place(&self) -> String {
        format!("{}:{}", self.file.display(), self.line)
    }
}

/// Where the text is not nginx's language.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct SyntaxError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong there.
    pub what: &'static str,
}

/// nginx itself knows no limit; real files have about 5 levels.
const MAX_DEPTH: usize = 64;

/// Reads the text of a whole file.
pub(super) fn parse(text: &str, file: &Rc<Path>) -> Result<Vec<Directive>, SyntaxError> {
    let mut open: Vec<(Directive, Vec<Directive>)> = Vec::new();
    let mut here = Vec::new();
    let mut words: Vec<(usize, String)> = Vec::new();
    let mut scanner = Scanner {
        letters: text.chars().peekable(),
        line: 1,
    };
    while let Some(token) = scanner.next()? {
        let line = scanner.line;
        let fault = |what| SyntaxError { line, what };
        match token {
            Token::Word(start, word) => words.push((start, word)),
            Token::End => {
                here.push(directive(&mut words, file).ok_or(fault("`;` without a directive"))?);
            }
            Token::Open => {
                let outer = directive(&mut words, file).ok_or(fault("`{` without a directive"))?;
                if open.len() >= MAX_DEPTH {
                    return Err(fault("nested too deeply"));
                }
                open.push((outer, std::mem::take(&mut here)));
            }
            Token::Close => {
                if !words.is_empty() {
                    return Err(fault("a directive does not end with `;`"));
                }
                let (mut done, outer) = open.pop().ok_or(fault("`}` without its `{`"))?;
                done.block = Some(std::mem::replace(&mut here, outer));
                here.push(done);
            }
        }
    }
    let fault = |what| SyntaxError {
        line: scanner.line,
        what,
    };
    if !words.is_empty() {
        return Err(fault("a directive does not end with `;`"));
    }
    if open.is_empty() {
        Ok(here)
    } else {
        Err(fault("a block is not closed"))
    }
}

fn directive(words: &mut Vec<(usize, String)>, file: &Rc<Path>) -> Option<Directive> {
    let mut words = std::mem::take(words).into_iter();
    let (line, name) = words.next()?;
    Some(Directive {
        file: Rc::clone(file),
        line,
        name,
        args: words.map(|(_, word)| word).collect(),
        block: None,
    })
}

enum Token {
    /// With the line it begins on.
    Word(usize, String),
    /// `;`
    End,
    /// `{`
    Open,
    /// `}`
    Close,
}

struct Scanner<'t> {
    letters: std::iter::Peekable<std::str::Chars<'t>>,
    line: usize,
}

impl Scanner<'_> {
    fn letter(&mut self) -> Option<char> {
        let letter = self.letters.next();
        if letter == Some('\n') {
            self.line += 1;
        }
        letter
    }

    fn next(&mut self) -> Result<Option<Token>, SyntaxError> {
        loop {
            let Some(letter) = self.letter() else {
                return Ok(None);
            };
            return match letter {
                ';' => Ok(Some(Token::End)),
                '{' => Ok(Some(Token::Open)),
                '}' => Ok(Some(Token::Close)),
                '#' => {
                    while self.letters.peek().is_some_and(|next| *next != '\n') {
                        self.letter();
                    }
                    continue;
                }
                space if space.is_whitespace() => continue,
                quote @ ('"' | '\'') => self.quoted(quote).map(Some),
                first => Ok(Some(self.word(first))),
            };
        }
    }

    fn quoted(&mut self, quote: char) -> Result<Token, SyntaxError> {
        let start = self.line;
        let mut word = String::new();
        loop {
            match self.letter() {
                Some(end) if end == quote => return Ok(Token::Word(start, word)),
                Some('\\') => word.extend(self.letter()),
                Some(letter) => word.push(letter),
                None => {
                    return Err(SyntaxError {
                        line: start,
                        what: "a quote is not closed",
                    });
                }
            }
        }
    }

    /// A word without quotes; `${name}` is a part of it.
    fn word(&mut self, first: char) -> Token {
        let start = self.line;
        let mut word = String::from(first);
        let mut in_variable = false;
        while let Some(next) = self.letters.peek().copied() {
            match next {
                '{' if word.ends_with('$') => in_variable = true,
                '}' if in_variable => in_variable = false,
                '{' | '}' | ';' => break,
                space if space.is_whitespace() => break,
                _ => {}
            }
            if next == '\\' {
                word.extend(self.letter());
            }
            word.extend(self.letter());
        }
        Token::Word(start, word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<Directive>, SyntaxError> {
        super::parse(text, &Rc::from(Path::new("nginx.conf")))
    }

    #[test]
    fn words_quotes_comments_and_blocks_are_told_apart() {
        let text = "a b 'c d' \"e;{\\\"\" ${x}y; # z {\nserver {\n  location ~ \\.php$ { f; }\n}\n";
        let root = parse(text).unwrap();
        assert_eq!(root[0].args, ["b", "c d", "e;{\"", "${x}y"]);
        let server = &root[1];
        assert_eq!((server.line, server.name.as_str()), (2, "server"));
        let location = &server.block.as_ref().unwrap()[0];
        assert_eq!(
            (location.line, location.args.as_slice()),
            (3, &["~".to_owned(), "\\.php$".to_owned()][..])
        );
        assert_eq!(location.block.as_ref().unwrap()[0].name, "f");
    }

    #[test]
    fn broken_text_names_its_line() {
        for (text, line, what) in [
            ("a", 1, "a directive does not end with `;`"),
            ("a {\nb }", 2, "a directive does not end with `;`"),
            ("\n}", 2, "`}` without its `{`"),
            ("\n;", 2, "`;` without a directive"),
            ("a '\n", 1, "a quote is not closed"),
            (&"a {".repeat(100), 1, "nested too deeply"),
        ] {
            assert_eq!(parse(text), Err(SyntaxError { line, what }), "{text}");
        }
    }
}
