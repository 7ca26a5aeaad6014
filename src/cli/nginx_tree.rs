//! An nginx configuration with everything that it includes, for `turnout init --from`.
//!
//! Includes are followed as nginx follows them: globs, sorted; paths relative to the folder of nginx.conf. What cannot be
//! followed (a missing file, a circle, a file that is not nginx's language) is told and left out, never guessed. Reads only.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::nginx_text::{Directive, SyntaxError, parse};

/// Files that are read at most; a host with 2,000 sites has one for each.
const FILES: usize = 10_000;

/// The name of a main file, by which its folder is known.
const MAIN: &str = "nginx.conf";

/// A configuration as one tree.
#[derive(Debug)]
pub(super) struct Tree {
    /// The directives; those of an included file follow its `include`.
    pub(super) root: Vec<Directive>,
    /// The main file, if that is what was read or if one stands above it.
    pub(super) main: Option<PathBuf>,
    /// What was left out, a line for each.
    pub(super) left_out: Vec<String>,
}

/// Why the first file gives no tree.
#[derive(Debug, thiserror::Error)]
pub(super) enum TreeError {
    #[error("failed to read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
}

/// Reads `path` and what it includes.
pub(super) fn read(path: &Path) -> Result<Tree, TreeError> {
    let failed = |source| TreeError::Read {
        path: path.to_owned(),
        source,
    };
    // a link such as sites-enabled/shop is followed for its text alone: nginx goes by the name
    let path = std::path::absolute(path).map_err(failed)?;
    let text = fs::read_to_string(&path).map_err(failed)?;
    let file: Rc<Path> = Rc::from(path.as_path());
    let parsed = parse(&text, &file)?;
    let is_main = parsed
        .iter()
        .any(|directive| matches!(directive.name.as_str(), "events" | "http"));
    let main = if is_main {
        Some(path.clone())
    } else {
        let folders = path.ancestors().skip(1);
        folders
            .map(|folder| folder.join(MAIN))
            .find(|main| main.is_file())
    };
    let base = main.as_ref().unwrap_or(&path).parent();
    let mut reader = Reader {
        base: base.unwrap_or(Path::new("/")).to_owned(),
        open: vec![path.clone()],
        read: 1,
        left_out: Vec::new(),
    };
    let root = reader.expand(parsed);
    Ok(Tree {
        root,
        main,
        left_out: reader.left_out,
    })
}

struct Reader {
    base: PathBuf,
    /// From the first file to the one that is being read.
    open: Vec<PathBuf>,
    read: usize,
    left_out: Vec<String>,
}

impl Reader {
    fn expand(&mut self, directives: Vec<Directive>) -> Vec<Directive> {
        let mut all = Vec::with_capacity(directives.len());
        for mut directive in directives {
            directive.block = directive.block.map(|block| self.expand(block));
            let pattern = match (directive.name.as_str(), directive.args.as_slice()) {
                ("include", [pattern]) => Some(self.base.join(pattern)),
                _ => None,
            };
            let place = directive.place();
            all.push(directive);
            if let Some(pattern) = pattern {
                all.extend(self.included(&pattern, &place));
            }
        }
        all
    }

    fn included(&mut self, pattern: &Path, place: &str) -> Vec<Directive> {
        let Some(paths) = pattern
            .to_str()
            .and_then(|text| glob::glob_with(text, AS_NGINX).ok())
        else {
            self.leave_out(place, pattern, "it is no pattern");
            return Vec::new();
        };
        let paths: Vec<PathBuf> = paths.flatten().collect();
        let is_glob = pattern.to_string_lossy().contains(['*', '?', '[']);
        if paths.is_empty() && !is_glob {
            self.leave_out(place, pattern, "there is no such file");
        }
        let mut all = Vec::new();
        for path in paths {
            if self.open.contains(&path) {
                self.leave_out(place, &path, "it includes itself");
                continue;
            }
            if self.read >= FILES {
                self.leave_out(place, &path, "too many files");
                break;
            }
            self.read += 1;
            let parsed = fs::read(&path)
                .map_err(|error| error.to_string())
                .and_then(|bytes| {
                    parse(&String::from_utf8_lossy(&bytes), &Rc::from(path.as_path()))
                        .map_err(|error| error.to_string())
                });
            match parsed {
                Ok(parsed) => {
                    self.open.push(path);
                    all.extend(self.expand(parsed));
                    self.open.pop();
                }
                Err(reason) => self.leave_out(place, &path, &reason),
            }
        }
        all
    }

    fn leave_out(&mut self, place: &str, path: &Path, reason: &str) {
        self.left_out.push(format!(
            "{place}: `include {}` is left out: {reason}",
            path.display()
        ));
    }
}

const AS_NGINX: glob::MatchOptions = glob::MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

#[cfg(test)]
mod tests {
    use super::*;

    fn put(folder: &Path, name: &str, text: &str) -> PathBuf {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::io::Write::write_all(&mut fs::File::create(&path).unwrap(), text.as_bytes()).unwrap();
        path
    }

    #[test]
    fn includes_are_followed_from_the_main_file_s_folder_and_circles_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let main = put(
            folder.path(),
            "nginx.conf",
            "events {}\nhttp {\n include sites-enabled/*;\n include none/*.conf;\n include gone.conf;\n}\n",
        );
        let site = put(
            folder.path(),
            "sites-enabled/shop",
            "include parts/a.conf;\n",
        );
        put(folder.path(), "sites-enabled/.hidden", "hidden;\n");
        put(folder.path(), "parts/a.conf", "a;\ninclude nginx.conf;\n");
        let tree = read(&main).unwrap();
        let http = tree.root[1].block.as_ref().unwrap();
        let names: Vec<&str> = http.iter().map(|inner| inner.name.as_str()).collect();
        assert_eq!(
            names,
            ["include", "include", "a", "include", "include", "include"]
        );
        let a = folder.path().join("parts/a.conf");
        assert_eq!(http[2].place(), format!("{}:1", a.display()));
        assert_eq!(
            tree.left_out,
            [
                format!(
                    "{}:2: `include {}` is left out: it includes itself",
                    a.display(),
                    main.display()
                ),
                format!(
                    "{}:5: `include {}` is left out: there is no such file",
                    main.display(),
                    folder.path().join("gone.conf").display()
                ),
            ]
        );
        // a site's own file: the main file stands above it
        let tree = read(&site).unwrap();
        assert_eq!(tree.main, Some(main));
        assert_eq!(tree.root[1].name, "a");
    }
}
