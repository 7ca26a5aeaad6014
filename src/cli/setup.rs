//! The verbs that set things up or describe them: init, schema, completion, man. None of them asks a daemon.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;
use serde::Serialize;

use super::nginx_tree::{self, TreeError};
use super::{
    Cli, CliError, Format, Globals, InitArgs, balancers_here, haproxy_init, haproxy_text,
    init as texts, output,
};
use crate::exit::ExitCode;

/// What `init` writes where `--config` names nothing else.
const FILE: &str = "turnout.yaml";

pub(super) fn init(globals: &Globals, args: &InitArgs) -> Result<ExitCode, CliError> {
    if let Some(path) = args.from.as_deref() {
        let proposal = proposal(path)?;
        output::text(&proposal)?;
        return Ok(ExitCode::Done);
    }
    let path = globals.config().unwrap_or(Path::new(FILE));
    let text = texts::starter_config();
    if args.dry_run {
        if path.symlink_metadata().is_ok() {
            return Err(CliError::Exists {
                path: path.to_owned(),
            });
        }
        output::text(&text)?;
        output::talk(format_args!(
            "{} would be written; nothing was",
            path.display()
        ));
        return Ok(ExitCode::Done);
    }
    create(path, &text)?;
    let created = Created { file: path };
    // for a person the line below says it
    if globals.format() != Format::Table {
        output::value(globals.format(), &created, |_| String::new())?;
    }
    output::talk(format_args!(
        "{} written. Next: put your servers into it, then turnout doctor",
        path.display()
    ));
    for file in balancers_here::files(Path::new("/proc")) {
        output::talk(format_args!(
            "A balancer runs here with {}: turnout init --from {} prints a configuration for it",
            file.display(),
            file.display()
        ));
    }
    Ok(ExitCode::Done)
}

/// The proposal from a configuration of nginx's or HAProxy's, which are told by their first line.
fn proposal(path: &Path) -> Result<String, CliError> {
    let unreadable = |source| CliError::Read {
        path: path.to_owned(),
        source,
    };
    let no_proposal = |source| CliError::FromBalancer {
        path: path.to_owned(),
        source,
    };
    let bytes = fs::read(path).map_err(unreadable)?;
    let text = String::from_utf8_lossy(&bytes);
    if haproxy_text::begins_like_haproxy(&text) {
        let path = std::path::absolute(path).map_err(unreadable)?;
        return haproxy_init::from_haproxy(&text, &path).map_err(no_proposal);
    }
    let tree = nginx_tree::read(path).map_err(|error| match error {
        TreeError::Read { path, source } => CliError::Read { path, source },
        TreeError::Syntax(source) => no_proposal(source.into()),
    })?;
    texts::from_nginx(&tree).map_err(no_proposal)
}

/// What `init` answers as JSON or YAML.
#[derive(Debug, Serialize)]
struct Created<'a> {
    file: &'a Path,
}

/// Writes a new file, whole or not at all. One that exists is somebody's work.
fn create(path: &Path, text: &str) -> Result<(), CliError> {
    let fail = |source| CliError::Write {
        path: path.to_owned(),
        source,
    };
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    };
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(fail)?;
    file.write_all(text.as_bytes())
        .and_then(|()| {
            // as for any file that a person begins: who else may read it is for them to decide
            let mode = Permissions::from_mode(0o644);
            file.as_file().set_permissions(mode)
        })
        .map_err(fail)?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Err(CliError::Exists {
            path: path.to_owned(),
        }),
        Err(error) => Err(fail(error.error)),
    }
}

/// The schema is JSON; as YAML only if asked for.
pub(super) fn schema(globals: &Globals) -> Result<ExitCode, CliError> {
    let format = match globals.format() {
        Format::Table | Format::Json => Format::Json,
        Format::Yaml => Format::Yaml,
    };
    output::value(format, &crate::config::schema(), |_| String::new())?;
    Ok(ExitCode::Done)
}

pub(super) fn completion(shell: Shell) -> Result<ExitCode, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "turnout", &mut script);
    output::raw(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::Done)
}

pub(super) fn man(to: Option<&Path>) -> Result<ExitCode, CliError> {
    let Some(folder) = to else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command())
            .render(&mut page)
            .map_err(CliError::Stdout)?;
        output::raw(&String::from_utf8_lossy(&page))?;
        return Ok(ExitCode::Done);
    };
    fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), folder))
        .map_err(|source| CliError::Write {
            path: folder.to_owned(),
            source,
        })?;
    output::talk(format_args!("pages written to {}", folder.display()));
    Ok(ExitCode::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_file_that_exists_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        create(&path, "first").unwrap();
        let error = create(&path, "second").unwrap_err();
        assert_eq!(error.exit(), ExitCode::No);
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
    }
}
