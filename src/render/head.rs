//! The head of a file that turnout owns: which generation it is, whether anybody touched it since, and what it says.
//!
//! ```text
//! # turnout-generation: 12
//! # turnout-sha256: 5e88…                (of everything after this line)
//! # turnout-position: shop canary blue blue=90% green=10%
//! # turnout-position: blog blue_green green blue=0% green=100% overlay=blue
//! # turnout-position: news blue_green blue blue=100% green=0% refused=blue
//! ```
//!
//! A file that says the same in every generation (a snippet) has no generation line, so that it is not rewritten.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use crate::domain::{Color, Generation, RoutingTable, ServiceName, Split};

const GENERATION: &str = "# turnout-generation: ";
const DIGEST: &str = "# turnout-sha256: ";
const POSITION: &str = "# turnout-position: ";

/// What the head of a file says, held against the rest of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Head {
    /// No head of turnout's.
    Foreign,
    /// Written by turnout, and what follows the head is not what it wrote.
    Edited {
        /// The generation in the head, where it has one.
        generation: Option<Generation>,
    },
    /// As turnout wrote it.
    Intact {
        /// The generation in the head, where it has one.
        generation: Option<Generation>,
        /// The split in force for each service: the position's, or the overlay's where there is one.
        splits: BTreeMap<ServiceName, Split>,
    },
}

impl Head {
    /// Reads the head of a whole file.
    pub fn of(text: &str) -> Self {
        let (generation, rest) = match text.strip_prefix(GENERATION) {
            Some(after) => {
                let Some((number, rest)) = after.split_once('\n') else {
                    return Self::Foreign;
                };
                let Ok(number) = number.parse() else {
                    return Self::Foreign;
                };
                (Some(Generation(number)), rest)
            }
            None => (None, text),
        };
        let Some((digest, body)) = rest
            .strip_prefix(DIGEST)
            .and_then(|after| after.split_once('\n'))
        else {
            return Self::Foreign;
        };
        if digest != hex_digest(body) {
            return Self::Edited { generation };
        }
        let splits = body
            .lines()
            .map_while(|line| line.strip_prefix(POSITION))
            .filter_map(read_position)
            .map(|(name, split, _)| (name, split))
            .collect();
        Self::Intact { generation, splits }
    }
}

/// The split in force and the colors answered with 503 of each service that the head of `text` names, edited since or not.
pub(super) fn positions(text: &str) -> BTreeMap<ServiceName, (Split, BTreeSet<Color>)> {
    text.lines()
        .take_while(|line| line.starts_with('#'))
        .filter_map(|line| read_position(line.strip_prefix(POSITION)?))
        .map(|(name, split, refused)| (name, (split, refused)))
        .collect()
}

/// `body` with a head. With a table, its generation and positions are in the head as well.
pub fn sealed(table: Option<&RoutingTable>, body: &str) -> String {
    let mut positions = String::new();
    for (name, route) in table.iter().flat_map(|table| &table.routes) {
        let position = route.position;
        let split = position.split();
        positions.push_str(POSITION);
        write_infallibly(
            &mut positions,
            format_args!(
                "{name} {} {} blue={}% green={}%",
                position.strategy(),
                position.active(),
                split.weight(Color::Blue),
                split.weight(Color::Green)
            ),
        );
        if let Some(overlay) = route.overlay {
            write_infallibly(&mut positions, format_args!(" overlay={overlay}"));
        }
        for color in &route.refused {
            write_infallibly(&mut positions, format_args!(" refused={color}"));
        }
        positions.push('\n');
    }
    let mut text = String::with_capacity(positions.len() + body.len() + 160);
    if let Some(table) = table {
        write_infallibly(
            &mut text,
            format_args!("{GENERATION}{}\n", table.generation),
        );
    }
    let rest = positions + body;
    write_infallibly(&mut text, format_args!("{DIGEST}{}\n", hex_digest(&rest)));
    text.push_str(&rest);
    text
}

fn read_position(line: &str) -> Option<(ServiceName, Split, BTreeSet<Color>)> {
    let mut words = line.split(' ');
    let name = words.next()?.parse().ok()?;
    let percent = |word: &str, label| -> Option<f64> {
        word.strip_prefix(label)?.strip_suffix('%')?.parse().ok()
    };
    let (_strategy, _active) = (words.next()?, words.next()?);
    let (blue, green) = (
        percent(words.next()?, "blue=")?,
        percent(words.next()?, "green=")?,
    );
    let mut split = Split::from_percents(blue, green).ok()?;
    let mut refused = BTreeSet::new();
    for word in words {
        if let Some(overlay) = word.strip_prefix("overlay=") {
            split = Split::all(overlay.parse().ok()?);
        } else {
            refused.insert(word.strip_prefix("refused=")?.parse().ok()?);
        }
    }
    Some((name, split, refused))
}

pub(super) fn hex_digest(text: &str) -> String {
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(text.as_bytes()) {
        write_infallibly(&mut hex, format_args!("{byte:02x}"));
    }
    hex
}

/// Writing to a `String` cannot fail; the trait only says that some writers can.
fn write_infallibly(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).ok();
}

#[cfg(test)]
mod tests {
    use super::super::nginx::tests::table;
    use super::*;

    #[test]
    fn a_sealed_file_says_its_generation_and_the_split_in_force() {
        let mut table = table(12, &["shop", "blog"]);
        table
            .routes
            .get_mut(&"blog".parse().unwrap())
            .unwrap()
            .overlay = Some(Color::Green);
        let text = sealed(Some(&table), "events {}\n");
        assert!(
            text.contains("# turnout-position: shop blue_green blue blue=100% green=0%\n"),
            "{text}"
        );
        assert!(text.contains("blog blue_green blue blue=100% green=0% overlay=green\n"));
        assert_eq!(
            Head::of(&text),
            Head::Intact {
                generation: Some(Generation(12)),
                splits: BTreeMap::from([
                    ("blog".parse().unwrap(), Split::all(Color::Green)),
                    ("shop".parse().unwrap(), Split::all(Color::Blue)),
                ])
            }
        );
    }

    #[test]
    fn one_changed_byte_after_the_head_is_an_edit() {
        let text = sealed(Some(&table(3, &["shop"])), "a b;\n");
        for edited in [
            text.replace("a b;", "a c;"),
            text.replace("blue=100%", "blue=90%"),
            format!("{text}\n"),
        ] {
            assert_eq!(
                Head::of(&edited),
                Head::Edited {
                    generation: Some(Generation(3))
                }
            );
        }
    }

    #[test]
    fn what_has_no_head_is_foreign() {
        for text in [
            "",
            "server {}\n",
            "# turnout-generation: x\n",
            "# turnout-generation: 3\nserver {}\n",
        ] {
            assert_eq!(Head::of(text), Head::Foreign, "{text:?}");
        }
        assert_eq!(
            Head::of(&sealed(None, "x\n")),
            Head::Intact {
                generation: None,
                splits: BTreeMap::new()
            }
        );
    }
}
