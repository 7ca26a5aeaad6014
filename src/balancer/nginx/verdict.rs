//! What nginx's output means: a refusal, missing rights, a part that would be ignored, the files that were read.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::super::install;
use super::check::Failed;
use crate::config::NginxSettings;

/// Lines of nginx's that a message repeats. One refusal is one or two of them; a check that floods is cut here.
const SAID_LINES: usize = 20;

/// Characters of one such line: a directive with a long regular expression fits.
const SAID_WIDTH: usize = 500;

/// What nginx said, without its own name before each line.
pub(super) fn refusal(stderr: &str, settings: &NginxSettings) -> Failed {
    let lines: Vec<String> = stderr
        .lines()
        .map(plain)
        .filter(|line| {
            !line.starts_with("configuration file ") && !line.starts_with("the configuration file ")
        })
        .take(SAID_LINES)
        .map(|line| line.chars().take(SAID_WIDTH).collect())
        .collect();
    let errors: Vec<&str> = lines
        .iter()
        .map(String::as_str)
        .filter(|line| line.starts_with("[emerg]") || line.starts_with("[crit]"))
        .collect();
    let denied = |line: &&str| line.contains("Permission denied");
    if !errors.is_empty() && errors.iter().all(denied) {
        return Failed::NotPermitted(format!(
            "nginx cannot check its configuration as {}: {}. Run turnout as root, or let that user write what the message \
             names (for the pid file: `pid` in {})",
            install::user(),
            errors.join("; "),
            settings.main.display()
        ));
    }
    Failed::Refused(if lines.is_empty() {
        "its check failed and said nothing".to_owned()
    } else {
        lines.join("\n")
    })
}

pub(super) fn warnings(stderr: &str) -> BTreeSet<String> {
    stderr
        .lines()
        .filter_map(|line| line.split_once("[warn] "))
        .map(|(_, message)| {
            // the process that said it, and where it stands, change every time
            let message = without_process(message);
            let message = message
                .rsplit_once(" in /")
                .map_or(message, |(text, _)| text);
            message.to_owned()
        })
        .collect()
}

/// Without `nginx: `, or the time and process that a log line has.
fn plain(line: &str) -> String {
    for level in ["[emerg] ", "[alert] ", "[crit] ", "[error] ", "[warn] "] {
        if let Some((_, message)) = line.split_once(level) {
            return format!("{level}{}", without_process(message));
        }
    }
    line.strip_prefix("nginx: ").unwrap_or(line).to_owned()
}

/// Without the `1234#1234: ` that a log line has and a line on the terminal has not.
fn without_process(message: &str) -> &str {
    message
        .split_once(": ")
        .filter(|(process, _)| {
            process.contains('#')
                && process
                    .bytes()
                    .all(|byte| byte.is_ascii_digit() || byte == b'#')
        })
        .map_or(message, |(_, rest)| rest)
}

/// Warnings that a check passes with and that mean "a part of this has no effect".
pub(super) fn means_ignored(warning: &str) -> bool {
    warning.starts_with("conflicting server name")
        || warning.starts_with("duplicate")
        || (warning.starts_with("could not build") && !warning.contains("optimal"))
}

/// The files that a dump says it read.
pub(super) fn files_read(dump: &str) -> Vec<PathBuf> {
    dump.lines()
        .filter_map(|line| {
            let path = line
                .strip_prefix("# configuration file ")?
                .strip_suffix(':')?;
            Some(PathBuf::from(path))
        })
        .collect()
}

pub(super) fn error_log(dump: &str) -> Option<PathBuf> {
    dump.lines().find_map(|line| {
        let value = line.trim().strip_prefix("error_log ")?;
        let path = value.split([' ', ';']).next()?;
        path.starts_with('/').then(|| PathBuf::from(path))
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn warnings_are_compared_without_their_place() {
        let stderr = "2026/11/21 03:00:00 [warn] 7#7: conflicting server name \"a\" on 0.0.0.0:80, ignored\n\
                      nginx: [warn] duplicate MIME type \"x\" in /etc/nginx/nginx.conf:3\nnginx: ok\n";
        let found = warnings(stderr);
        assert_eq!(
            found.iter().map(String::as_str).collect::<Vec<_>>(),
            [
                "conflicting server name \"a\" on 0.0.0.0:80, ignored",
                "duplicate MIME type \"x\""
            ]
        );
        assert!(found.iter().all(|line| means_ignored(line)));
        assert!(!means_ignored(
            "could not build optimal variables_hash, you should increase …"
        ));
    }

    #[test]
    fn a_dump_names_its_files_and_its_error_log() {
        let dump = "# configuration file /etc/nginx/nginx.conf:\n  error_log /var/log/nginx/error.log warn;\n# configuration file /a b:\n";
        assert_eq!(
            files_read(dump),
            [Path::new("/etc/nginx/nginx.conf"), Path::new("/a b")]
        );
        assert_eq!(
            error_log(dump).as_deref(),
            Some(Path::new("/var/log/nginx/error.log"))
        );
    }
}
