//! Where the daemon of a configuration is, read from a file that is broken elsewhere.
//!
//! A running daemon keeps the last good configuration, so status and the way back must not wait until somebody has mended the
//! file. The two blocks that name state directory and control API are cut out of the text by their top-level keys, so that
//! not even a tab or a bracket in another block hides them. What is read here finds a daemon and decides nothing else.

use std::path::PathBuf;

use super::check::listen_at;
use super::document::{At, Document, Report};
use super::expand::expand;
use super::valid::ControlListen;
use super::yaml::{MAX_BYTES, Value};
use super::{Env, Source, quantity};

/// Where the daemon of a configuration keeps its state and is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whereabouts {
    /// `state.dir`, absolute.
    pub state_dir: PathBuf,
    /// `control.listen`.
    pub listen: ControlListen,
}

impl Whereabouts {
    /// `state.dir`, where nothing is said.
    pub(super) const STATE_DIR: &str = "/var/lib/turnout";

    /// `control.listen`, where nothing is said.
    pub(super) fn listen() -> ControlListen {
        ControlListen::Tcp(([127, 0, 0, 1], 9180).into())
    }

    /// What a file says of them, however broken its other keys are; `None` if these two cannot be read either, and for a
    /// configuration in the environment alone.
    pub fn read(source: &Source, env: &Env<'_>) -> Option<Self> {
        let Source::File { path, shown } = source else {
            return None;
        };
        let text = std::fs::read_to_string(path)
            .ok()
            .filter(|text| text.len() <= MAX_BYTES)?;
        let said = |block: &str, key: &str| {
            let mut report = Report::default();
            let cut = cut(&text, block);
            let folder = path.parent()?;
            let parsed = Document::parse(shown, folder, cut.as_bytes(), &mut report.problems);
            let mut document = parsed.ok()?;
            expand(&mut document, &|name| env.var(name), &mut report);
            if !report.problems.is_empty() {
                return None;
            }
            let top = At::Top(&document);
            let value = match top.key(block).key(key).node() {
                Some(node) if !node.is_null() => match &node.value {
                    Value::Scalar { text, .. } => Some(text.clone()),
                    Value::List(_) | Value::Map(_) => return None,
                },
                Some(_) | None => None,
            };
            Some((document, value))
        };
        let (document, dir) = said("state", "dir")?;
        let dir = dir.as_deref().unwrap_or(Self::STATE_DIR);
        let state_dir = document.absolute(quantity::path(dir).ok()?);
        let (document, listen) = said("control", "listen")?;
        let listen = match listen {
            None => Self::listen(),
            Some(text) => listen_at(&text, &document.folder).ok()?,
        };
        Some(Self { state_dir, listen })
    }
}

/// The lines of one top-level key: up to the next line that begins with a key of its own.
fn cut(text: &str, key: &str) -> String {
    let mut lines = text.lines().skip_while(|line| {
        line.strip_prefix(key)
            .is_none_or(|rest| !rest.starts_with(':'))
    });
    let mut block = String::new();
    if let Some(first) = lines.next() {
        let inside = lines.take_while(|line| {
            !line.starts_with(|begin: char| begin.is_alphanumeric() || matches!(begin, '"' | '\''))
        });
        for line in std::iter::once(first).chain(inside) {
            block.push_str(line);
            block.push('\n');
        }
    }
    block
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[expect(clippy::disallowed_methods, reason = "a file of the test's own")]
    fn read(text: &str) -> Option<Whereabouts> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("turnout.yaml");
        std::fs::write(&path, text).unwrap();
        let env = Env::new(PathBuf::from("/"), |name| {
            (name == "DIR").then(|| "/srv/state".to_owned())
        });
        Whereabouts::read(&Source::file(&path, &env), &env)
    }

    #[test]
    fn both_are_found_in_a_file_that_is_broken_elsewhere() {
        let tcp = ControlListen::Tcp(([127, 0, 0, 1], 9280).into());
        for broken in [
            "bogus: 1\n",
            "services: {\n",
            "services:\n\tx\n",
            "hosts: [1\n",
        ] {
            let found = read(&format!(
                "version: 1\nstate:\n  # mine\n  dir: ${{DIR}}\n\ncontrol: {{ listen: \"127.0.0.1:9280\" }}\n{broken}"
            ));
            let found = found.unwrap_or_else(|| panic!("{broken:?}"));
            assert_eq!(found.state_dir, Path::new("/srv/state"), "{broken:?}");
            assert_eq!(found.listen, tcp, "{broken:?}");
        }
    }

    #[test]
    fn what_is_not_said_is_as_by_default() {
        let found = read("bogus: 1\n").unwrap();
        assert_eq!(found.state_dir, Path::new("/var/lib/turnout"));
        assert_eq!(found.listen, Whereabouts::listen());
    }

    #[test]
    fn what_is_wrong_in_these_two_is_not_guessed() {
        for text in [
            "state: { dir: ${NOT_SET} }\n",
            "state: { dir: [a] }\n",
            "state: {\n",
            "control: { listen: nowhere }\n",
        ] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }
}
