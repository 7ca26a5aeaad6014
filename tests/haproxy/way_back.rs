//! A change that HAProxy took and that could not be recorded is taken back: files byte for byte, the running worker with them.

use std::path::PathBuf;

use turnout::domain::Color;

use super::lab::{Lab, Layout};
use crate::support::shared;

/// What the running worker was started with.
fn shape(lab: &Lab) -> String {
    let said = lab.socket("show env TURNOUT_SHAPE");
    said.trim().to_owned()
}

fn files(lab: &Lab) -> [Vec<u8>; 2] {
    [lab.map(), lab.config()].map(|path| std::fs::read(path).unwrap())
}

/// A folder in the place of a file that a record renames another one over.
fn in_the_way(lab: &Lab) -> PathBuf {
    let path = lab.path("state/active/shop");
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir_all(path.join("folder")).unwrap();
    path
}

#[test]
fn a_switch_that_cannot_be_recorded_is_taken_back_without_a_reload() {
    let _turn = shared();
    let mut lab = Lab::on_blue(Layout::Whole);
    let (before, workers) = (files(&lab), lab.workers());
    let way = in_the_way(&lab);
    let ran = lab.turnout().run(&["switch", "green"]);
    assert!(
        matches!(ran.code(), Some(1 | 3 | 73 | 74)),
        "{:?}: {}",
        ran.code(),
        ran.stderr
    );
    assert_eq!(files(&lab), before, "{}", ran.stderr);
    assert_eq!(lab.blue_share(), 10_000, "{}", ran.stderr);
    assert_eq!(lab.served(), Color::Blue);
    assert_eq!(lab.workers(), workers, "a reload was not needed");
    std::fs::remove_dir_all(way).unwrap();
    lab.turnout().ok(&["switch", "green"]);
    assert_eq!(lab.agreed("after the way was free"), Color::Green);
}

#[test]
fn a_shape_that_cannot_be_recorded_is_taken_back_with_its_position() {
    let _turn = shared();
    let mut lab = Lab::on_blue(Layout::Whole);
    let (before, shape_before) = (files(&lab), shape(&lab));
    lab.shop = "    timeouts: { response: 77s }\n".to_owned();
    lab.write();
    let way = in_the_way(&lab);
    let ran = lab.turnout().run(&["switch", "green"]);
    assert!(
        matches!(ran.code(), Some(1 | 3 | 73 | 74)),
        "{:?}: {}",
        ran.code(),
        ran.stderr
    );
    assert_eq!(files(&lab), before, "{}", ran.stderr);
    assert_eq!(shape(&lab), shape_before, "{}", ran.stderr);
    assert_eq!(lab.served(), Color::Blue);
    std::fs::remove_dir_all(way).unwrap();
    lab.turnout().ok(&["apply"]);
    assert_ne!(shape(&lab), shape_before);
    assert_eq!(lab.agreed("after the way was free"), Color::Blue);
}

#[test]
fn a_color_without_a_healthy_server_is_answered_503_by_the_map_alone() {
    let _turn = shared();
    let lab = Lab::on_blue(Layout::Whole);
    let workers = lab.workers();
    // what turnout writes for a blue that is refused: 20000 more than its share
    let set = |value: u32| lab.socket(&format!("set map {} shop {value}", lab.map().display()));
    assert_eq!(set(30_000).trim(), "");
    let answer = lab.ask("/", &[]);
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(answer.text(), "No active backend available");
    assert_eq!(
        answer.header("x-turnout-error"),
        Some("No active backend available")
    );
    // green is refused, and nobody is sent there
    assert_eq!(set(50_000).trim(), "");
    assert_eq!(lab.served(), Color::Blue);
    assert_eq!(lab.workers(), workers);
}
