//! Replacements, refusals and restorations on a real file system. The disk that is full is a tmpfs of two pages.

use std::os::unix::fs::symlink;

use std::fs::{File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use super::*;
use std::collections::BTreeMap;

use crate::domain::RoutingTable;
use crate::exec::Program;
use crate::render::sealed;

struct Place {
    root: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("conf.d")).unwrap();
        Self { root }
    }

    fn live(&self) -> PathBuf {
        self.root.path().join("conf.d/turnout.conf")
    }

    fn state(&self) -> PathBuf {
        self.root.path().join("state")
    }

    fn put(&self, text: &str) {
        File::create(self.live())
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
    }

    fn names(&self) -> Vec<String> {
        fs::read_dir(self.root.path().join("conf.d"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    fn files(&self, text: &str) -> Vec<RenderedFile> {
        vec![RenderedFile {
            path: self.live(),
            text: text.to_owned(),
        }]
    }

    fn install(
        &self,
        text: &str,
        foreign: Foreign,
    ) -> Result<(LastGood, Vec<String>), InstallError> {
        let files = self.files(text);
        let targets = targets(&files, &[], foreign)?;
        let last_good = LastGood::keep(&self.state(), Generation(2), None, &targets)?;
        let warnings =
            install(&self.state(), Generation(2), &targets, &last_good).map_err(undone)?;
        Ok((last_good, warnings))
    }
}

fn undone(failure: NotInstalled) -> InstallError {
    match failure {
        NotInstalled::Undone(error) => error,
        halfway @ NotInstalled::Halfway { .. } => panic!("{halfway:?}"),
    }
}

#[test]
fn a_replacement_keeps_mode_and_owner_and_can_be_put_back_byte_for_byte() {
    let place = Place::new();
    let old = sealed(None, "old;\n");
    place.put(&old);
    fs::set_permissions(place.live(), Permissions::from_mode(0o640)).unwrap();
    let (last_good, warnings) = place.install("new;\n", Foreign::Refuse).unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(fs::read_to_string(place.live()).unwrap(), "new;\n");
    assert_eq!(fs::metadata(place.live()).unwrap().mode() & 0o7777, 0o640);
    assert_eq!(place.names(), ["turnout.conf"]);
    last_good.restore().unwrap();
    assert_eq!(fs::read_to_string(place.live()).unwrap(), old);
    assert_eq!(fs::metadata(place.live()).unwrap().mode() & 0o7777, 0o640);
}

#[test]
fn what_was_not_there_is_removed_again() {
    let place = Place::new();
    let (last_good, _) = place.install("new;\n", Foreign::Refuse).unwrap();
    last_good.restore().unwrap();
    assert_eq!(place.names(), Vec::<String>::new());
}

#[test]
fn an_unproved_file_is_never_taken_for_the_last_good_one() {
    let place = Place::new();
    let old = sealed(None, "old;\n");
    place.put(&old);
    // the process dies here: neither settled nor restored
    drop(
        place
            .install(&sealed(None, "unproved;\n"), Foreign::Refuse)
            .unwrap(),
    );
    let (last_good, _) = place
        .install(&sealed(None, "third;\n"), Foreign::Refuse)
        .unwrap();
    last_good.restore().unwrap();
    assert_eq!(fs::read_to_string(place.live()).unwrap(), old);
    last_good.settle().unwrap();
    let (last_good, _) = place.install("fourth;\n", Foreign::Refuse).unwrap();
    last_good.settle().unwrap();
    let (last_good, _) = place.install("fifth;\n", Foreign::Replace).unwrap();
    last_good.restore().unwrap();
    assert_eq!(fs::read_to_string(place.live()).unwrap(), "fourth;\n");
}

#[test]
fn a_file_that_others_wrote_is_refused_or_kept_as_a_copy() {
    let place = Place::new();
    for (text, what) in [
        ("server {}\n".to_owned(), "was not written by turnout"),
        (
            sealed(None, "a;\n").replace("a;", "b;"),
            "was edited by hand since turnout wrote it",
        ),
    ] {
        place.put(&text);
        let error = place.install("new;\n", Foreign::Refuse).unwrap_err();
        assert!(
            matches!(&error, InstallError::Edited { what: said, .. } if said == what),
            "{error}"
        );
        assert_eq!(fs::read_to_string(place.live()).unwrap(), text);
        let (last_good, warnings) = place.install("new;\n", Foreign::Replace).unwrap();
        last_good.settle().unwrap();
        let (said, copy) = warnings[0].split_once("a copy is ").unwrap();
        assert!(said.contains(what), "{said}");
        assert_eq!(fs::read_to_string(copy).unwrap(), text);
        fs::remove_file(copy).unwrap();
    }
}

#[test]
fn what_root_keeps_belongs_to_the_owner_of_the_state_directory_and_to_nobody_else() {
    let place = Place::new();
    place.put("mine;\n");
    fs::create_dir(place.state()).unwrap();
    let owner = if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(place.state(), Some(65_534), Some(65_534)).unwrap();
        (65_534, 65_534)
    } else {
        let state = fs::metadata(place.state()).unwrap();
        (state.uid(), state.gid())
    };
    let (_, warnings) = place.install("new;\n", Foreign::Replace).unwrap();
    assert_eq!(warnings.len(), 1);
    for (folder, files) in [("last-good", 2), ("replaced", 1)] {
        let folder = place.state().join(folder);
        let metadata = fs::metadata(&folder).unwrap();
        assert_eq!(
            ((metadata.uid(), metadata.gid()), metadata.mode() & 0o777),
            (owner, 0o700)
        );
        let entries: Vec<_> = fs::read_dir(&folder).unwrap().flatten().collect();
        assert_eq!(entries.len(), files);
        for entry in entries {
            let metadata = entry.metadata().unwrap();
            let seen = ((metadata.uid(), metadata.gid()), metadata.mode() & 0o777);
            assert_eq!(seen, (owner, 0o600), "{}", entry.path().display());
        }
    }
    // root does not follow a link that the state directory's owner may have put there
    fs::remove_dir_all(place.state().join("last-good")).unwrap();
    let elsewhere = place.root.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    symlink(&elsewhere, place.state().join("last-good")).unwrap();
    let error = place.install("other;\n", Foreign::Replace).unwrap_err();
    assert!(error.to_string().contains("last-good"), "{error}");
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
}

#[test]
fn a_target_that_is_to_go_is_removed_and_put_back() {
    let place = Place::new();
    let text = sealed(None, "old;\n");
    place.put(&text);
    let gone = [place.live()];
    let targets = targets(&[], &gone, Foreign::Refuse).unwrap();
    let last_good = LastGood::keep(&place.state(), Generation(2), None, &targets).unwrap();
    install(&place.state(), Generation(2), &targets, &last_good).unwrap();
    assert_eq!(place.names(), Vec::<String>::new());
    last_good.restore().unwrap();
    assert_eq!(fs::read_to_string(place.live()).unwrap(), text);
}

#[test]
fn an_open_change_that_was_proved_since_does_not_keep_older_files() {
    let place = Place::new();
    let (first, second) = (sealed(None, "first;\n"), sealed(None, "second;\n"));
    place.put(&first);
    let (left_open, _) = place.install(&second, Foreign::Refuse).unwrap();
    drop(left_open);
    let files = place.files("third;\n");
    let keep = |by: u64, proved: Option<u64>| {
        let table = proved.map(|generation| RoutingTable {
            generation: Generation(generation),
            routes: BTreeMap::new(),
            aliases: BTreeMap::new(),
        });
        let targets = targets(&files, &[], Foreign::Replace).unwrap();
        let kept = LastGood::keep(&place.state(), Generation(by), table.as_ref(), &targets);
        kept.unwrap().restore().unwrap();
        fs::read_to_string(place.live()).unwrap()
    };
    assert_eq!(keep(3, Some(2)), second);
    place.put(&first);
    assert_eq!(keep(4, None), second, "3 was never proved");
    assert_eq!(keep(4, Some(4)), second, "nor is 4 by trying it again");
}

#[test]
fn an_empty_file_is_nobodys() {
    let place = Place::new();
    place.put("\n");
    let (_, warnings) = place.install("new;\n", Foreign::Refuse).unwrap();
    assert_eq!(warnings, Vec::<String>::new());
}

#[test]
fn links_devices_and_missing_folders_are_named_and_nothing_changes() {
    let place = Place::new();
    let real = place.root.path().join("real.conf");
    File::create(&real).unwrap();
    symlink(&real, place.live()).unwrap();
    let error = place.install("new;\n", Foreign::Replace).unwrap_err();
    assert!(
        error.to_string().contains("is a symbolic link to")
            && error.to_string().contains("real path"),
        "{error}"
    );
    assert!(fs::symlink_metadata(place.live()).unwrap().is_symlink());
    fs::remove_file(place.live()).unwrap();
    fs::create_dir(place.live()).unwrap();
    let error = place.install("new;\n", Foreign::Replace).unwrap_err();
    assert!(
        error.to_string().ends_with("is not a regular file"),
        "{error}"
    );
    fs::remove_dir_all(place.root.path().join("conf.d")).unwrap();
    let error = place.install("new;\n", Foreign::Replace).unwrap_err();
    assert!(
        matches!(error, InstallError::MissingParent { .. }),
        "{error}"
    );
}

#[test]
fn leftovers_of_a_killed_turnout_are_swept_and_nothing_else() {
    let place = Place::new();
    place.put("x");
    for name in [".turnout.conf.turnout-tmp", ".other", "mine.turnout-tmp"] {
        File::create(place.root.path().join("conf.d").join(name)).unwrap();
    }
    sweep([place.live().as_path()]);
    let mut names = place.names();
    names.sort();
    assert_eq!(names, [".other", "mine.turnout-tmp", "turnout.conf"]);
}

const MOUNTED: &str = "balancer::install::tests::a_full_disk_a_read_only_folder_and_a_mounted_file_are_named_and_nothing_changes";
const CONF_D: &str = "TURNOUT_TEST_CONF_D";

/// The outer run makes the mounts in a namespace of its own, which go with it, and runs this test again inside.
#[tokio::test]
async fn a_full_disk_a_read_only_folder_and_a_mounted_file_are_named_and_nothing_changes() {
    let Some(dir) = std::env::var_os(CONF_D).map(PathBuf::from) else {
        let me = std::env::current_exe().unwrap();
        let root = tempfile::tempdir().unwrap();
        let script = format!(
            "cd \"$1\"; for d in full read-only busy; do mkdir $d; done
             mount -t tmpfs -o size=8k tmpfs full; echo old > full/turnout.conf; head -c 4096 /dev/zero > full/rest
             echo old > read-only/turnout.conf; mount --bind -o ro read-only read-only
             echo old > busy/turnout.conf; echo old > source; mount --bind source busy/turnout.conf
             exec \"$0\" --exact {MOUNTED}"
        );
        let argv = ["unshare", "-m", "--propagation", "private", "sh", "-ec"];
        let argv = argv.map(std::ffi::OsString::from).into_iter().chain([
            script.into(),
            me.into(),
            root.path().into(),
        ]);
        let output = Program::new(argv)
            .env(CONF_D, &root.path().display().to_string())
            .run()
            .await
            .unwrap();
        assert!(
            output.stdout.contains("1 passed"),
            "{}{}",
            output.stdout,
            output.stderr
        );
        return;
    };
    for (folder, says) in [
        ("full", "No space left on device"),
        ("read-only", "Read-only file system"),
        ("busy", "mount the directory"),
    ] {
        let files = [RenderedFile {
            path: dir.join(folder).join("turnout.conf"),
            text: "new;\n".repeat(2_000),
        }];
        let state = dir.join("state");
        let targets = targets(&files, &[], Foreign::Replace).unwrap();
        let last_good = LastGood::keep(&state, Generation(2), None, &targets).unwrap();
        let error = undone(install(&state, Generation(2), &targets, &last_good).unwrap_err());
        last_good.settle().unwrap();
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        let said = format!("{error}: {}", cause.unwrap_or_default());
        assert!(said.contains(says), "{folder}: {said}");
        assert_eq!(fs::read_to_string(&files[0].path).unwrap(), "old\n");
        assert!(!temporary(&files[0].path).exists(), "{folder}");
    }
}
