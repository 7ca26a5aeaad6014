//! HAProxy's own check of what is staged (`haproxy -c`), with all files of the configuration and without touching a live one.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::install::{self, InstallError};
use super::super::{ApplyError, RenderedFile};
use super::Haproxy;
use crate::exec::{CommandError, Program};

/// HAProxy resolves names in its check, which takes a while where a resolver does not answer.
const CHECK: Duration = Duration::from_secs(30);

/// The staged copies: a folder of the state directory, gone again with this value.
struct Stage(PathBuf);

impl Stage {
    fn new(state_dir: &Path) -> Result<Self, InstallError> {
        let dir = state_dir.join("check");
        install::make_private_dir(&dir)?;
        Ok(Self(dir))
    }

    fn put(&self, name: &str, text: &str) -> Result<PathBuf, InstallError> {
        let path = self.0.join(name);
        std::fs::File::create(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|source| InstallError::of("write", &path, source))?;
        Ok(path)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // the next check overwrites it
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// Checks the rendered files in the place of the live ones. The lines are HAProxy's warnings.
pub(super) async fn staged(
    haproxy: &Haproxy,
    files: &[RenderedFile],
    translate: impl Fn(&str) -> String,
) -> Result<Vec<String>, ApplyError> {
    let stage = Stage::new(&haproxy.state_dir)?;
    let settings = &haproxy.settings;
    let map = haproxy.map();
    let text = |path: &Path| files.iter().find(|file| file.path == *path);
    let staged_map = match text(&map) {
        Some(file) => stage.put("position.map", &file.text)?,
        None => map.clone(),
    };
    let Some(config) = text(&settings.config) else {
        return Ok(Vec::new());
    };
    let replaced = config.text.replace(
        &map.display().to_string(),
        &staged_map.display().to_string(),
    );
    let candidate = stage.put("turnout.cfg", &replaced)?;
    let mut argv = vec![settings.binary.clone(), "-c".to_owned()];
    let files = haproxy.files();
    for file in files.iter().flat_map(|file| opened(file, &settings.config)) {
        let file = if file == settings.config {
            &candidate
        } else {
            &file
        };
        argv.extend(["-f".to_owned(), file.display().to_string()]);
    }
    let live = |said: &str| {
        said.replace(
            &candidate.display().to_string(),
            &settings.config.display().to_string(),
        )
        .replace(
            &staged_map.display().to_string(),
            &map.display().to_string(),
        )
    };
    let output = match Program::new(argv).deadline(CHECK).run().await {
        Ok(output) => output,
        Err(error @ (CommandError::NotFound { .. } | CommandError::NotExecutable { .. })) => {
            return Err(ApplyError::Unchanged {
                message: format!("{error}; set balancer.haproxy.binary"),
                source: None,
            });
        }
        Err(error) => {
            return Err(ApplyError::Unchanged {
                message: error.to_string(),
                source: None,
            });
        }
    };
    let said = live(&output.stderr);
    if output.status.success() {
        return Ok(lines_of(&said, "[WARNING]"));
    }
    let mut alerts = lines_of(&said, "[ALERT]");
    // the last two only say that there were others
    alerts.retain(|line| !line.contains("Error(s) found in") && !line.contains("Fatal errors"));
    let message = if alerts.is_empty() {
        said.trim().to_owned()
    } else {
        alerts.join("; ")
    };
    Err(ApplyError::Refused {
        balancer: "haproxy",
        message: translate(&message),
    })
}

/// The files that `-f PATH` stands for: itself, or for a folder all of its `*.cfg` in the order of their bytes, `config` among
/// them before it is there.
fn opened(path: &Path, config: &Path) -> Vec<PathBuf> {
    if !path.is_dir() {
        return vec![path.to_owned()];
    }
    let mut files: Vec<PathBuf> = std::fs::read_dir(path)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .chain((install::parent(config) == path).then(|| config.to_owned()))
        .filter(|file| {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            name.ends_with(".cfg") && !name.starts_with('.')
        })
        .collect();
    files.sort_unstable();
    files.dedup();
    files
}

/// The lines of a level, without level and process number.
fn lines_of(said: &str, level: &str) -> Vec<String> {
    said.lines()
        .filter_map(|line| line.strip_prefix(level))
        .map(|line| match line.split_once(") : ") {
            Some((_, text)) => text.trim().to_owned(),
            None => line.trim().to_owned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_its_files_in_order_with_turnout_s_own_before_it_is_there() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.cfg", "a.cfg", ".c.cfg", "d.cfg.bak"] {
            std::fs::File::create(dir.path().join(name)).unwrap();
        }
        let own = dir.path().join("aa.cfg");
        let names = ["a.cfg", "aa.cfg", "b.cfg"].map(|name| dir.path().join(name));
        assert_eq!(opened(dir.path(), &own), names);
        assert_eq!(opened(&own, &own), std::slice::from_ref(&own));
    }

    #[test]
    fn alerts_and_warnings_are_told_without_their_process_numbers() {
        let said = "[NOTICE]   (7) : haproxy version is 2.6.12\n[ALERT]    (7) : config : parsing [a.cfg:3] : unknown keyword 'x'\n\
                    [WARNING]  (7) : config : 'y' is odd\n";
        assert_eq!(
            lines_of(said, "[ALERT]"),
            ["config : parsing [a.cfg:3] : unknown keyword 'x'"]
        );
        assert_eq!(lines_of(said, "[WARNING]"), ["config : 'y' is odd"]);
    }
}
