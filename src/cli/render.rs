//! `turnout render` (the balancer's configuration, staged, written or printed) and `turnout diff`.

use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use similar::{ChangeTag, TextDiff};

use super::output::{self, BAD, BOLD, DIM, GOOD};
use super::{CliError, Format, Globals, RenderArgs, local, target};
use crate::balancer::{Rendered, RenderedFile};
use crate::config::Config;
use crate::domain::Generation;
use crate::exit::ExitCode;
use crate::render::nginx_shape;

/// What `render` answers.
#[derive(Debug, Serialize)]
struct Written {
    generation: Generation,
    folder: PathBuf,
    files: Vec<PathBuf>,
}

pub(super) async fn render(globals: &Globals, args: &RenderArgs) -> Result<ExitCode, CliError> {
    let config = target::config(globals)?;
    let mut local = local::controller(&config).await?;
    if local.is_absent() {
        return Err(CliError::NothingToRender);
    }
    match args.to.as_deref() {
        None if args.dry_run => {
            let (rendered, folder) = local.controller().would_stage().await?;
            let files = rendered.files.into_iter().map(|file| file.path).collect();
            would_write(globals, rendered.generation, folder, files)?;
        }
        None => {
            let (rendered, folder) = local
                .controller()
                .stage(args.message.clone(), args.lock_wait)
                .await?;
            let written = Written {
                generation: rendered.generation,
                files: rendered.files.into_iter().map(|file| file.path).collect(),
                folder,
            };
            output::value(globals.format(), &written, |written| {
                format!(
                    "generation {} staged in {}",
                    written.generation,
                    written.folder.display()
                )
            })?;
            output::talk("next: turnout reload");
        }
        Some(to) if to == Path::new("-") => {
            let rendered = local.controller().render().await?;
            print(&ordered(&rendered, main_of(&config, &rendered)))?;
        }
        Some(to) => {
            let config = with_its_map_beside(&config, to)?;
            let mut local = local::controller(&config).await?;
            let rendered = local.controller().render().await?;
            let main = main_of(&config, &rendered);
            let files = ordered(&rendered, main);
            if args.dry_run {
                let paths = places(&files, main, to)?;
                would_write(
                    globals,
                    rendered.generation,
                    folder_of(to).to_owned(),
                    paths,
                )?;
                return Ok(ExitCode::Done);
            }
            let files = write(&files, main, to)?;
            let written = Written {
                generation: rendered.generation,
                folder: folder_of(to).to_owned(),
                files,
            };
            output::value(globals.format(), &written, |written| {
                let paths: Vec<String> = written
                    .files
                    .iter()
                    .map(|path| path.display().to_string())
                    .collect();
                paths.join("\n")
            })?;
            output::talk(format_args!(
                "generation {} written, nothing installed. Next: turnout apply",
                rendered.generation
            ));
        }
    }
    Ok(ExitCode::Done)
}

/// Says what would be written.
fn would_write(
    globals: &Globals,
    generation: Generation,
    folder: PathBuf,
    files: Vec<PathBuf>,
) -> Result<(), CliError> {
    let written = Written {
        generation,
        folder,
        files,
    };
    output::value(globals.format(), &written, |written| {
        let paths = written.files.iter().map(|path| path.display().to_string());
        paths.collect::<Vec<_>>().join("\n")
    })?;
    output::talk(format_args!(
        "generation {generation} would be written to {}; nothing was",
        written.folder.display()
    ));
    Ok(())
}

/// The files with the balancer's own first; what it refers to comes behind it, in the order of installing.
fn ordered<'a>(rendered: &'a Rendered, main: &Path) -> Vec<&'a RenderedFile> {
    let mut files: Vec<&RenderedFile> = rendered.files.iter().collect();
    files.sort_by_key(|file| file.path != main);
    files
}

/// All files on stdout. Where there are several, stderr says which begins, so that stdout holds nothing but them.
fn print(files: &[&RenderedFile]) -> Result<(), CliError> {
    for file in files {
        if files.len() > 1 {
            output::talk(format_args!("{DIM}── {}{DIM:#}", file.path.display()));
        }
        output::raw(&file.text)?;
    }
    Ok(())
}

fn folder_of(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// The balancer's own file among the rendered ones.
fn main_of<'a>(config: &'a Config, rendered: &Rendered) -> &'a Path {
    let haproxy = &config.balancer.haproxy.config;
    if rendered.files.iter().any(|file| file.path == *haproxy) {
        haproxy
    } else {
        &config.balancer.nginx.config
    }
}

/// HAProxy's configuration names its map by an absolute path: what is written to another place names the map beside it, so
/// that it can be used, and checked, as it stands there.
fn with_its_map_beside(config: &Arc<Config>, to: &Path) -> Result<Arc<Config>, CliError> {
    let to = std::path::absolute(to).map_err(|source| CliError::Write {
        path: to.to_owned(),
        source,
    })?;
    if to == config.balancer.haproxy.config {
        return Ok(Arc::clone(config));
    }
    let mut beside = Config::clone(config);
    let haproxy = &mut beside.balancer.haproxy;
    folder_of(&to).clone_into(&mut haproxy.maps);
    for file in &mut haproxy.files {
        if *file == haproxy.config {
            file.clone_from(&to);
        }
    }
    haproxy.config = to;
    Ok(Arc::new(beside))
}

/// Where each file goes: the first under the given name, the others beside it under their own; all to their own places where
/// that name is the live file's.
fn places(files: &[&RenderedFile], main: &Path, to: &Path) -> Result<Vec<PathBuf>, CliError> {
    let is_live = std::path::absolute(to).is_ok_and(|to| to == main);
    let folder = folder_of(to);
    let mut places: Vec<PathBuf> = Vec::new();
    for (index, file) in files.iter().enumerate() {
        let path = match file.path.file_name() {
            Some(_) if index > 0 && is_live => file.path.clone(),
            Some(name) if index > 0 => folder.join(name),
            _ => to.to_owned(),
        };
        if places.contains(&path) {
            return Err(CliError::Usage {
                message: format!(
                    "{} would be written twice: give --to another name",
                    path.display()
                ),
            });
        }
        places.push(path);
    }
    Ok(places)
}

/// Writes each file to its place.
fn write(files: &[&RenderedFile], main: &Path, to: &Path) -> Result<Vec<PathBuf>, CliError> {
    let places = places(files, main, to)?;
    for (file, path) in files.iter().zip(&places) {
        std::fs::create_dir_all(folder_of(path))
            .and_then(|()| replace(path, &file.text))
            .map_err(|source| CliError::Write {
                path: path.clone(),
                source,
            })?;
    }
    Ok(places)
}

/// Writes a file whole or not at all; readable for all, as a balancer's configuration is.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(folder_of(path))?;
    file.write_all(text.as_bytes())?;
    file.as_file()
        .set_permissions(std::fs::Permissions::from_mode(0o644))?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// What `diff` answers as JSON or YAML.
#[derive(Debug, Serialize)]
struct FileDiff {
    path: PathBuf,
    diff: String,
}

pub(super) async fn diff(globals: &Globals) -> Result<ExitCode, CliError> {
    let config = target::config(globals)?;
    let mut local = local::controller(&config).await?;
    if local.is_absent() {
        return plan(globals, &mut local).await;
    }
    let plan = local.controller().plan().await?;
    let rendered = local.controller().render().await?;
    let mut diffs = Vec::new();
    let mut how = "turnout apply (no reload: only positions change)";
    for file in &rendered.files {
        let live = live(&file.path)?;
        if live.as_deref() != Some(file.text.as_str()) {
            let shape = nginx_shape(&file.text);
            if shape.is_none() || live.as_deref().and_then(nginx_shape) != shape {
                how = "turnout apply";
            }
            diffs.push(FileDiff {
                diff: unified(&file.path, live.as_deref(), &file.text),
                path: file.path.clone(),
            });
        }
    }
    if diffs.is_empty() && globals.format() == Format::Table {
        output::talk("no differences: apply would change nothing");
        return Ok(ExitCode::Done);
    }
    output::value(globals.format(), &diffs, |diffs| {
        let texts: Vec<String> = diffs.iter().map(|file| colored(&file.diff)).collect();
        texts.concat()
    })?;
    if diffs.is_empty() {
        return Ok(ExitCode::Done);
    }
    for step in &plan.steps {
        output::talk(step);
    }
    output::talk(format_args!("next: {how}"));
    Ok(ExitCode::No)
}

/// The embedded proxy has no file to compare: its difference is the plan.
async fn plan(globals: &Globals, local: &mut local::Local) -> Result<ExitCode, CliError> {
    let plan = local.controller().plan().await?;
    if plan.is_empty() && globals.format() == Format::Table {
        output::talk("no differences: apply would change nothing");
        return Ok(ExitCode::Done);
    }
    output::value(globals.format(), &plan, |plan| {
        let lines: Vec<String> = plan.steps.iter().map(ToString::to_string).collect();
        lines.join("\n")
    })?;
    Ok(if plan.is_empty() {
        ExitCode::Done
    } else {
        ExitCode::No
    })
}

/// What stands there now; `None`: nothing. Bytes that are not UTF-8 are shown as such, since they differ in any case.
fn live(path: &Path) -> Result<Option<String>, CliError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(CliError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

fn unified(path: &Path, live: Option<&str>, desired: &str) -> String {
    let old = live.map_or("/dev/null".to_owned(), |_| path.display().to_string());
    let new = format!("{} (apply)", path.display());
    TextDiff::from_lines(live.unwrap_or_default(), desired)
        .unified_diff()
        .context_radius(3)
        .header(&old, &new)
        .to_string()
}

/// A unified diff in its usual colours.
fn colored(diff: &str) -> String {
    let mut text = String::new();
    for (number, line) in diff.lines().enumerate() {
        let tag = match line.as_bytes().first() {
            // the two lines of the head start with --- and +++
            _ if number < 2 => None,
            Some(b'+') => Some(ChangeTag::Insert),
            Some(b'-') => Some(ChangeTag::Delete),
            Some(b' ') => Some(ChangeTag::Equal),
            _ => None,
        };
        let line = match tag {
            Some(ChangeTag::Insert) => format!("{GOOD}{line}{GOOD:#}\n"),
            Some(ChangeTag::Delete) => format!("{BAD}{line}{BAD:#}\n"),
            Some(ChangeTag::Equal) => format!("{line}\n"),
            None => format!("{BOLD}{line}{BOLD:#}\n"),
        };
        text.push_str(&line);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> RenderedFile {
        RenderedFile {
            path: PathBuf::from(path),
            text: text.to_owned(),
        }
    }

    #[test]
    fn a_diff_is_unified_and_names_the_live_file() {
        let diff = unified(Path::new("/etc/t.conf"), Some("a\nb\n"), "a\nc\n");
        assert_eq!(
            diff,
            "--- /etc/t.conf\n+++ /etc/t.conf (apply)\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n"
        );
        let fresh = unified(Path::new("/etc/t.conf"), None, "a\n");
        assert!(fresh.starts_with("--- /dev/null\n"), "{fresh}");
        assert_eq!(
            anstream::adapter::strip_str(&colored(&diff)).to_string(),
            diff
        );
    }

    #[test]
    fn the_own_file_takes_the_given_name_and_the_others_stand_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let rendered = Rendered {
            generation: Generation(3),
            files: vec![
                file("/etc/nginx/turnout/shop.conf", "snippet\n"),
                file("/etc/nginx/conf.d/turnout.conf", "main\n"),
            ],
        };
        let to = folder.path().join("out.conf");
        let files = ordered(&rendered, Path::new("/etc/nginx/conf.d/turnout.conf"));
        let main = Path::new("/etc/nginx/conf.d/turnout.conf");
        let written = write(&files, main, &to).unwrap();
        assert_eq!(written, [to.clone(), folder.path().join("shop.conf")]);
        assert_eq!(std::fs::read_to_string(&to).unwrap(), "main\n");
        assert_eq!(std::fs::read_to_string(&written[1]).unwrap(), "snippet\n");
        let mode = std::fs::metadata(&to).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
    }

    #[test]
    fn two_files_of_one_name_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (file("/a/x.conf", "1"), file("/b/x.conf", "2"));
        let to = folder.path().join("x.conf");
        let error = write(&[&one, &two], Path::new("/a/x.conf"), &to).unwrap_err();
        assert_eq!(error.exit(), ExitCode::Usage);
    }
}
