//! Reading: the main file, the fragments it includes, and all of their problems in one list.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::check::{self, Found, Merged};
use super::document::{At, Document, Report};
use super::expand::expand;
use super::file::{self, shape_of};
use super::problem::{ConfigError, Problem};
use super::shape::{Schema, shaped};
use super::valid::{Config, Mode};
use super::yaml::{MAX_BYTES, Value};
use super::{Env, Source, environment};

impl Config {
    /// Reads and checks everything. Changes nothing; an error names every problem of every file.
    pub fn load(source: &Source, env: &Env<'_>) -> Result<Self, ConfigError> {
        match source {
            Source::File { path, shown } => from_file(path, shown, env, None),
            Source::Environment { blue, green } => {
                environment::config(blue.as_deref(), green.as_deref(), env)
            }
        }
    }
}

/// A file of the configuration as it would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlay {
    /// Which, absolute. Only one that an entry of `include` matches is read.
    pub path: PathBuf,
    /// All of its text; `None`: it is not there.
    pub text: Option<String>,
}

impl Config {
    /// As [`Config::load`], with one fragment as it would be.
    pub fn load_with(
        source: &Source,
        env: &Env<'_>,
        overlay: &Overlay,
    ) -> Result<Self, ConfigError> {
        match source {
            Source::File { path, shown } => from_file(path, shown, env, Some(overlay)),
            Source::Environment { .. } => Self::load(source, env),
        }
    }
}

fn from_file(
    path: &Path,
    shown: &Path,
    env: &Env<'_>,
    overlay: Option<&Overlay>,
) -> Result<Config, ConfigError> {
    let mut report = Report::default();
    let main = match open(path, shown, env, None, &mut report)? {
        Ok(main) => main,
        Err(fatal) => {
            return Err(ConfigError::Invalid {
                problems: vec![*fatal],
            });
        }
    };
    let root: file::Root = mirrored(&main, false, &mut report);

    let mut files = vec![path.to_owned()];
    let mut documents = Vec::new();
    let patterns = include(&main, &root, &mut report);
    for fragment in overlaid(fragments(&main, &patterns, &mut report), &patterns, overlay) {
        let shown = shown_as(&fragment, path, shown);
        // The main file may lie in the folder it includes.
        if files.contains(&fragment) {
            continue;
        }
        let text = overlay.filter(|overlay| overlay.path == fragment);
        let text = text.and_then(|overlay| overlay.text.as_deref());
        match open(&fragment, &shown, env, text, &mut report) {
            Ok(Ok(document)) => documents.push(document),
            Ok(Err(fatal)) => report.problems.push(*fatal),
            // One line among the others, so that it hides no other problem.
            Err(unread) => report.problems.push(Problem::of_whole(chained(&unread))),
        }
        files.push(fragment);
    }

    let mut root = root;
    let mut services = Vec::new();
    collect(&mut services, &main, root.services.take(), &mut report);
    for document in &documents {
        let fragment: file::Fragment = mirrored(document, true, &mut report);
        collect(&mut services, document, fragment.services, &mut report);
    }
    let merged = Merged {
        main: &main,
        root,
        services,
    };
    let mode = Mode::File(path.to_owned());
    let config = check::checked(&merged, mode, env, &mut report);
    if let Some(config) = config {
        return Ok(Config {
            files,
            include: patterns,
            ..config
        });
    }
    let names: Vec<&Path> = std::iter::once(&main)
        .chain(&documents)
        .map(|document| document.shown.as_path())
        .collect();
    let mut problems = report.problems;
    problems.sort_by_key(|problem| {
        let file = problem.place.as_ref().map(|place| place.file.as_path());
        (
            names.iter().position(|name| Some(*name) == file),
            problem.position(),
        )
    });
    Err(ConfigError::Invalid { problems })
}

fn chained(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chained(source)),
        None => error.to_string(),
    }
}

/// A file as a document: the outer error for what cannot be read, the inner one for what cannot be parsed.
fn open(
    path: &Path,
    shown: &Path,
    env: &Env<'_>,
    in_its_place: Option<&str>,
    report: &mut Report,
) -> Result<Result<Document, Box<Problem>>, ConfigError> {
    let refused = |source| ConfigError::Read {
        path: shown.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    match in_its_place {
        Some(text) => bytes.extend_from_slice(text.as_bytes()),
        // One byte more than is allowed, so that a huge file (or a device) is refused without being read.
        None => File::open(path)
            .and_then(|file| file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes))
            .map(drop)
            .map_err(refused)?,
    }
    let folder = path.parent().unwrap_or(Path::new("/"));
    let parsed = Document::parse(shown, folder, &bytes, &mut report.problems);
    Ok(parsed.map(|mut document| {
        expand(&mut document, &|name| env.var(name), report);
        document
    }))
}

/// What fits of a document, as its mirror.
fn mirrored<T: DeserializeOwned + Default>(
    document: &Document,
    fragment: bool,
    report: &mut Report,
) -> T {
    let top = At::Top(document);
    let schema = Schema::new(shape_of(fragment));
    if document.root.is_null() {
        return T::default();
    }
    if !matches!(document.root.value, Value::Map(_)) {
        report.add(
            top,
            "a configuration is a map of keys, and this is none",
            "",
        );
        return T::default();
    }
    let Some(json) = shaped(&document.root, schema, top, report) else {
        return T::default();
    };
    serde_json::from_value(json).unwrap_or_else(|error| {
        // The schema is made from the same types, so only a fault of turnout's own leads here.
        let shown = document.shown.display();
        report
            .problems
            .push(Problem::of_whole(format!("{shown}: {error}")));
        T::default()
    })
}

/// The patterns of `include`, absolute.
fn include(main: &Document, root: &file::Root, report: &mut Report) -> Vec<PathBuf> {
    let top = At::Top(main);
    let at = top.key("include");
    let given = root.include.iter().flatten().enumerate();
    given
        .filter_map(|(index, text)| {
            let at = at.item(index);
            report.read(at, text.as_deref(), |text| {
                super::quantity::path(text)?;
                let pattern = main.absolute(text);
                match glob::Pattern::new(&pattern.to_string_lossy()) {
                    Ok(_) => Ok(pattern),
                    Err(error) => Err(super::quantity::Refusal(format!(
                        "`{text}` is not a pattern: {}",
                        error.msg
                    ))),
                }
            })
        })
        .collect()
}

/// The files that the patterns name, each once, in the order of patterns and names. A pattern without a match is fine; a
/// plain path that is not there is a problem.
fn fragments(main: &Document, patterns: &[PathBuf], report: &mut Report) -> Vec<PathBuf> {
    let top = At::Top(main);
    let at = top.key("include");
    let mut files = Vec::new();
    for (index, pattern) in patterns.iter().enumerate() {
        let text = pattern.to_string_lossy();
        // Checked by `include`; what cannot be listed has no match.
        let Ok(matches) = glob::glob(&text) else {
            continue;
        };
        let plain = !text.contains(['*', '?', '[']);
        let mut found = false;
        for path in matches.flatten() {
            found = true;
            if !files.contains(&path) && (plain || path.is_file()) {
                files.push(path);
            }
        }
        if plain && !found {
            let at = at.item(index);
            report.add(at, format!("{at}: there is no file {text}"), "");
        }
    }
    files
}

/// The files with the one that would be there, or without the one that would not.
fn overlaid(
    mut files: Vec<PathBuf>,
    patterns: &[PathBuf],
    overlay: Option<&Overlay>,
) -> Vec<PathBuf> {
    let Some(overlay) = overlay else {
        return files;
    };
    files.retain(|file| *file != overlay.path);
    let is_matched = patterns.iter().any(|pattern| {
        // checked by `include`
        glob::Pattern::new(&pattern.to_string_lossy())
            .is_ok_and(|pattern| pattern.matches_path(&overlay.path))
    });
    if overlay.text.is_some() && is_matched {
        files.push(overlay.path.clone());
    }
    files
}

/// A fragment's name in messages: relative where the main file's is.
fn shown_as(fragment: &Path, main: &Path, main_shown: &Path) -> PathBuf {
    let folder = main.parent().unwrap_or(Path::new("/"));
    match fragment.strip_prefix(folder) {
        Ok(rest) => main_shown.with_file_name("").join(rest),
        Err(_) => fragment.to_owned(),
    }
}

fn collect<'d>(
    services: &mut Vec<Found<'d>>,
    document: &'d Document,
    given: Option<std::collections::BTreeMap<String, Option<file::Service>>>,
    report: &mut Report,
) {
    let known: HashMap<String, &Document> = services
        .iter()
        .map(|found| (found.name.clone(), found.document))
        .collect();
    for (name, service) in given.into_iter().flatten() {
        if let Some(first) = known.get(&name) {
            let (here, there) = (At::Top(document), At::Top(first));
            let (here, there) = (here.key("services"), there.key("services"));
            let (here, there) = (here.key(&name), there.key(&name));
            let place = first.place(there.key_span().unwrap_or_default());
            let span = here.key_span().unwrap_or_default();
            report.mark(
                here,
                span,
                format!(
                    "the service `{name}` is defined twice, first in {}:{}",
                    place.file.display(),
                    place.line
                ),
                "",
            );
            continue;
        }
        services.push(Found {
            name,
            document,
            service: service.unwrap_or_default(),
        });
    }
}
