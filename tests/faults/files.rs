//! The disk is full, the directory read-only, the target a link or a mount.

use std::path::{Path, PathBuf};

use turnout::domain::Color;

use super::{recovers, refused};
use crate::support::{Run, Site, is_root, shared};

/// Something mounted, until dropped.
struct Mount(PathBuf);

impl Mount {
    /// `mount ARGS AT`
    fn new(args: &[&str], at: &Path) -> Self {
        Run::new("mount").args(args).arg(at).run().exits(0);
        Self(at.to_owned())
    }

    fn remount(&self, options: &str) {
        Run::new("mount")
            .args(["-o", &format!("remount,{options}")])
            .arg(&self.0)
            .run()
            .exits(0);
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // nginx may hold a file open in it
        Run::new("umount").arg("--lazy").arg(&self.0).run();
    }
}

/// A file that takes all the space that is left.
fn fill(folder: &Path) -> PathBuf {
    let filler = folder.join("filler");
    let ran = Run::new("dd")
        .args(["if=/dev/zero", "bs=4096"])
        .arg(format!("of={}", filler.display()))
        .run();
    assert!(ran.stderr.contains("No space left"), "{ran}");
    filler
}

#[test]
fn a_full_disk_under_nginxs_folder_changes_nothing() {
    let _turn = shared();
    if !is_root("mounting a small file system") {
        return;
    }
    let site = Site::nginx();
    let folder = site.balancer().conf_d();
    let _small = Mount::new(&["-t", "tmpfs", "-o", "size=64k", "none"], &folder);
    site.turnout().ok(&["apply"]);
    let filler = fill(&folder);
    refused(&site, 3)
        .says("No space left")
        .says(&folder.display().to_string());
    std::fs::remove_file(filler).unwrap();
    recovers(&site);
}

#[test]
fn a_full_disk_under_the_state_changes_nothing() {
    let _turn = shared();
    if !is_root("mounting a small file system") {
        return;
    }
    let site = Site::nginx();
    let folder = site.state_dir();
    std::fs::create_dir(&folder).unwrap();
    let _small = Mount::new(&["-t", "tmpfs", "-o", "size=128k", "none"], &folder);
    site.turnout().ok(&["apply"]);
    let filler = fill(&folder);
    refused(&site, 3)
        .says("No space left")
        .says(&folder.display().to_string());
    // traffic can still be looked at
    site.turnout().ok(&["status"]);
    std::fs::remove_file(filler).unwrap();
    recovers(&site);
}

#[test]
fn a_read_only_folder_changes_nothing() {
    let _turn = shared();
    if !is_root("mounting a folder read-only") {
        return;
    }
    let site = Site::nginx_on_blue();
    for folder in [site.balancer().conf_d(), site.state_dir()] {
        let path = folder.display().to_string();
        let mount = Mount::new(&["--bind", &path], &folder);
        mount.remount("bind,ro");
        let before = site.picture();
        site.turnout()
            .run(&["switch", "green"])
            .sane()
            .exits_with_one_of(&[3, 77])
            .says("Read-only file system")
            .says(&path);
        assert!(site.picture() == before, "{:?}", site.picture());
        assert_eq!(site.served(), Color::Blue);
        drop(mount);
    }
    recovers(&site);
}

#[test]
fn a_symbolic_link_in_the_place_of_the_file_is_refused() {
    let _turn = shared();
    let site = Site::nginx_on_blue();
    let (link, real) = (
        site.balancer().config(),
        site.balancer().conf_d().join("real"),
    );
    std::fs::rename(&link, &real).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let ran = site
        .turnout()
        .run(&["switch", "green"])
        .sane()
        .says("symbolic link")
        .says(&link.display().to_string());
    ran.exits(3);
    assert_eq!(std::fs::read_link(&link).unwrap(), real);
    assert_eq!(site.served(), Color::Blue);
    assert_eq!(site.recorded(), Color::Blue);
    std::fs::rename(&real, &link).unwrap();
    recovers(&site);
}

#[test]
fn a_single_file_that_is_a_mount_says_to_mount_the_folder() {
    let _turn = shared();
    if !is_root("mounting a single file") {
        return;
    }
    let site = Site::nginx_on_blue();
    let file = site.balancer().config();
    let outside = site.folder().join("outside.conf");
    std::fs::copy(&file, &outside).unwrap();
    let mount = Mount::new(&["--bind", &outside.display().to_string()], &file);
    refused(&site, 3)
        .says("mount the directory")
        .says(&file.display().to_string());
    drop(mount);
    recovers(&site);
}
