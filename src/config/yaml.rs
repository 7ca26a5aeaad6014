//! Text to a tree of nodes with their places. The only file that names a YAML crate.
//!
//! serde alone stops at the first thing it does not like and forgets where keys stand, so the tree is built from the events
//! of the parser underneath `serde-saphyr`. Bounded: 4 MiB of text (2,000 services take about 1), 32 levels, 400,000 nodes
//! counting every use of an alias, which stops alias bombs. Never decides what a key means.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, options};

use super::problem::{Place, Problem};

/// The largest file that is read, in bytes.
pub(super) const MAX_BYTES: usize = 4 << 20;
const MAX_DEPTH: usize = 32;
const MAX_NODES: usize = 400_000;

/// A value and the bytes of the file it stands on.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) span: Range<usize>,
    pub(super) value: Value,
}

/// What a node is.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// Text that may also mean a number, a boolean or nothing: that is for the schema to say.
    Scalar {
        text: String,
        style: Style,
    },
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// How a scalar came to its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// Without quotes.
    Plain,
    /// With quotes or as a block: never a number, a boolean or nothing.
    Quoted,
    /// A `${VAR}` in it was replaced; empty means nothing.
    Expanded,
}

/// A key with its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_span: Range<usize>,
    pub(super) value: Node,
}

impl Node {
    /// True for what counts as "not set".
    pub(super) fn is_null(&self) -> bool {
        match &self.value {
            Value::Scalar { text, style } => match style {
                Style::Plain => matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"),
                Style::Expanded => text.is_empty(),
                Style::Quoted => false,
            },
            Value::List(_) | Value::Map(_) => false,
        }
    }
}

/// Reads one file. `Err` for what cannot be gone on from; duplicate keys are added to `problems` and the first one kept.
pub(super) fn parse(
    file: &Path,
    bytes: &[u8],
    problems: &mut Vec<Problem>,
) -> Result<(String, Node), Box<Problem>> {
    if bytes.len() > MAX_BYTES {
        return Err(Box::new(Problem::of_whole(format!(
            "{} has {} bytes; a configuration has at most {MAX_BYTES}",
            file.display(),
            bytes.len()
        ))));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(error) => {
            let readable = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            let end = readable.len();
            return Err(Box::new(Problem {
                place: Some(Place::new(file, &readable, end..end)),
                message: format!("{} is not UTF-8 from here on", file.display()),
                label: String::new(),
                key: String::new(),
            }));
        }
    };
    let options = options! { flow_nesting_limit: MAX_DEPTH, block_nesting_limit: MAX_DEPTH, emit_comments: false };
    let mut reader = Reader {
        file,
        text: &text,
        events: Parser::new_from_str_with_options(&text, options),
        anchors: HashMap::new(),
        nodes: 0,
        problems,
    };
    let root = reader.document()?;
    Ok((text, root))
}

struct Reader<'t, 'p, P> {
    file: &'p Path,
    text: &'t str,
    events: P,
    /// Finished nodes with an anchor, and how many nodes each one is.
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
    problems: &'p mut Vec<Problem>,
}

type Fatal = Box<Problem>;

impl<'t, P: Iterator<Item = Result<(Event<'t>, Span), ScanError>>> Reader<'t, '_, P> {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the parser's events, which may grow; whatever is not named begins a value"
    )]
    fn document(&mut self) -> Result<Node, Fatal> {
        let mut root = None;
        while let Some((event, span)) = self.next()? {
            match event {
                Event::StreamStart
                | Event::StreamEnd
                | Event::DocumentStart(..)
                | Event::DocumentEnd => {}
                event if root.is_none() => root = Some(self.node(event, &span, 0)?),
                _ => {
                    return Err(self.fatal(
                        range(&span),
                        "a configuration is one YAML document, and here a second one begins",
                    ));
                }
            }
        }
        Ok(root.unwrap_or(Node {
            span: 0..0,
            value: Value::Map(Vec::new()),
        }))
    }

    fn next(&mut self) -> Result<Option<(Event<'t>, Span)>, Fatal> {
        loop {
            match self.events.next() {
                None => return Ok(None),
                Some(Ok((Event::Comment(..) | Event::Anchor(..), _))) => {}
                Some(Ok(pair)) => return Ok(Some(pair)),
                Some(Err(error)) => {
                    let at = error.marker().byte_offset().unwrap_or(self.text.len());
                    return Err(self.fatal(at..at + 1, &format!("YAML: {}", error.info())));
                }
            }
        }
    }

    fn inner(&mut self) -> Result<(Event<'t>, Span), Fatal> {
        let end = self.text.len();
        self.next()?
            .ok_or_else(|| self.fatal(end..end, "YAML: the file ends too early"))
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the parser's events, which may grow; whatever is not named is no value"
    )]
    fn node(&mut self, event: Event<'t>, span: &Span, depth: usize) -> Result<Node, Fatal> {
        let before = self.nodes;
        self.count(1, span)?;
        if depth > MAX_DEPTH {
            return Err(self.fatal(
                range(span),
                &format!("nested deeper than {MAX_DEPTH} levels"),
            ));
        }
        let (value, anchor, tag) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let style = match style {
                    ScalarStyle::Plain => Style::Plain,
                    ScalarStyle::SingleQuoted
                    | ScalarStyle::DoubleQuoted
                    | ScalarStyle::Literal
                    | ScalarStyle::Folded => Style::Quoted,
                };
                let text = text.into_owned();
                (Value::Scalar { text, style }, anchor, tag)
            }
            Event::SequenceStart(_, anchor, tag) => (self.list(depth)?, anchor, tag),
            Event::MappingStart(_, anchor, tag) => (self.map(depth)?, anchor, tag),
            Event::Alias(id) => {
                let Some((node, size)) = self.anchors.get(&id) else {
                    return Err(self.fatal(range(span), "this alias stands inside what it names"));
                };
                let (mut node, size) = (node.clone(), *size);
                self.count(size, span)?;
                node.span = range(span);
                return Ok(node);
            }
            _ => return Err(self.fatal(range(span), "YAML: a value was expected here")),
        };
        if tag.is_some() {
            return Err(self.fatal(range(span), "YAML tags (`!…`) mean nothing here"));
        }
        let node = Node {
            span: range(span),
            value,
        };
        if anchor != 0 {
            self.anchors
                .insert(anchor, (node.clone(), self.nodes - before));
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Value, Fatal> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.inner()?;
            if matches!(event, Event::SequenceEnd) {
                return Ok(Value::List(items));
            }
            items.push(self.node(event, &span, depth + 1)?);
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value, Fatal> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut seen: HashMap<String, Range<usize>> = HashMap::new();
        let mut merged = Vec::new();
        loop {
            let (event, span) = self.inner()?;
            if matches!(event, Event::MappingEnd) {
                break;
            }
            let Value::Scalar { text: key, style } = self.node(event, &span, depth + 1)?.value
            else {
                return Err(self.fatal(range(&span), "a key is a plain word, not a list or a map"));
            };
            let (event, value_span) = self.inner()?;
            let value = self.node(event, &value_span, depth + 1)?;
            if key == "<<" && style == Style::Plain {
                merged.push(value);
            } else if let Some(first) = seen.get(&key) {
                let line = Place::new(self.file, self.text, first.clone()).line;
                self.problems.push(Problem {
                    label: format!("first given on line {line}"),
                    ..*self.fatal(range(&span), &format!("duplicate key `{key}`"))
                });
            } else {
                seen.insert(key.clone(), range(&span));
                entries.push(Entry {
                    key,
                    key_span: range(&span),
                    value,
                });
            }
        }
        for value in merged {
            let sources = match value.value {
                Value::List(items) => items,
                Value::Map(_) | Value::Scalar { .. } => vec![value],
            };
            for source in sources {
                let Value::Map(more) = source.value else {
                    return Err(self.fatal(source.span, "`<<` takes a map, or a list of maps"));
                };
                for entry in more {
                    if !seen.contains_key(&entry.key) {
                        seen.insert(entry.key.clone(), entry.key_span.clone());
                        entries.push(entry);
                    }
                }
            }
        }
        Ok(Value::Map(entries))
    }

    fn count(&mut self, more: usize, span: &Span) -> Result<(), Fatal> {
        self.nodes += more;
        if self.nodes > MAX_NODES {
            return Err(self.fatal(
                range(span),
                &format!("more than {MAX_NODES} values, counting every use of an alias"),
            ));
        }
        Ok(())
    }

    fn fatal(&self, span: Range<usize>, message: &str) -> Fatal {
        Box::new(Problem {
            place: Some(Place::new(self.file, self.text, span)),
            message: message.to_owned(),
            label: String::new(),
            key: String::new(),
        })
    }
}

fn range(span: &Span) -> Range<usize> {
    span.byte_range().unwrap_or(0..0)
}
