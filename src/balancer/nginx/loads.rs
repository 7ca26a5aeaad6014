//! Whether the running nginx reads turnout's file at all: the question behind `balancer.kind: auto`.
//!
//! Follows the `include` directives from the main file as nginx does (globs, paths relative to the main file's folder),
//! and counts a pattern that will match turnout's file once it is there. Reads only: nginx is not run for it, since its
//! check needs rights (keys, the pid file) that who asks may not have. In which block an include stands is left to the check
//! of the first apply.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::main_file;
use super::process::{Master, MasterError};
use crate::config::NginxSettings;

/// Files that are read at most; a host with 2,000 sites has one for each.
const FILES: usize = 10_000;

pub(super) async fn loads(settings: &NginxSettings) -> bool {
    let runs = match Master::find(&settings.pid).await {
        // started with another main file: a foreign one, whatever this one says
        Ok(master) => match master.option("-c").map(Path::new) {
            Some(main) => !main.is_absolute() || main_file::same(main, &settings.main),
            None => true,
        },
        // it runs, and belongs to somebody else: to be told that beats serving from elsewhere
        Err(MasterError::NotPermitted { .. }) => true,
        Err(
            MasterError::Missing { .. }
            | MasterError::Empty { .. }
            | MasterError::Garbage { .. }
            | MasterError::Stale { .. }
            | MasterError::NoMaster { .. }
            | MasterError::Reused { .. }
            | MasterError::Unreadable { .. },
        ) => false,
    };
    runs && wanted(&settings.main, &settings.config)
}

/// True if an include that is reached from `main` names `live` or matches it. `live` need not exist.
pub(super) fn wanted(main: &Path, live: &Path) -> bool {
    let base = main.parent().unwrap_or(Path::new("/"));
    let mut read = BTreeSet::new();
    let mut open = vec![main.to_owned()];
    while let Some(path) = open.pop() {
        if read.len() >= FILES || !read.insert(path.clone()) {
            continue;
        }
        // what cannot be read is nginx's to complain of
        let Ok(text) = fs::read(&path) else { continue };
        for pattern in main_file::include_patterns(&String::from_utf8_lossy(&text)) {
            let pattern = base.join(pattern);
            if main_file::same(&pattern, live) || matches(&pattern, live) {
                return true;
            }
            open.extend(files(&pattern));
        }
    }
    false
}

/// True if the glob `pattern` matches `live`, under the name it has or the one its folder really has.
fn matches(pattern: &Path, live: &Path) -> bool {
    let Some(glob) = pattern
        .to_str()
        .and_then(|text| glob::Pattern::new(text).ok())
    else {
        return false;
    };
    let as_nginx = glob::MatchOptions {
        case_sensitive: true,
        require_literal_separator: true,
        require_literal_leading_dot: true,
    };
    let real = live
        .parent()
        .and_then(|folder| folder.canonicalize().ok())
        .zip(live.file_name())
        .map(|(folder, name)| folder.join(name));
    glob.matches_path_with(live, as_nginx)
        || real.is_some_and(|real| glob.matches_path_with(&real, as_nginx))
}

fn files(pattern: &Path) -> Vec<PathBuf> {
    let Some(text) = pattern.to_str() else {
        return Vec::new();
    };
    glob::glob(text)
        .map(|paths| paths.flatten().take(FILES).collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, text: &str) {
        use std::io::Write as _;
        let mut file = fs::File::create(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn a_file_that_is_yet_to_be_written_is_wanted_by_name_by_glob_and_through_another_file() {
        let dir = tempfile::tempdir().unwrap();
        let conf = dir.path().join("conf.d");
        fs::create_dir(&conf).unwrap();
        let (main, live) = (dir.path().join("nginx.conf"), conf.join("turnout.conf"));
        for (include, expected) in [
            ("include conf.d/turnout.conf;", true),
            ("include conf.d/*.conf;", true),
            ("include */t*.conf;", true),
            ("include more.conf;", true),
            ("# include conf.d/*.conf;", false),
            ("include conf.d/*.inc;", false),
            ("include *.conf;", false),
            ("", false),
        ] {
            write(
                &dir.path().join("more.conf"),
                "include \"conf.d/[t]*.conf\";",
            );
            write(&main, &format!("events {{}}\nhttp {{ {include} }}\n"));
            // the main file itself matches `*.conf`, and more.conf would be reached through it
            if include == "include *.conf;" {
                fs::remove_file(dir.path().join("more.conf")).unwrap();
            }
            assert_eq!(wanted(&main, &live), expected, "{include}");
        }
    }

    #[test]
    fn a_folder_behind_a_link_is_the_same_folder() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let main = dir.path().join("nginx.conf");
        write(
            &main,
            &format!("http {{ include {}/*.conf; }}", real.display()),
        );
        assert!(wanted(&main, &link.join("turnout.conf")));
    }
}
