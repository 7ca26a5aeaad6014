//! turnout without root: what it can do all the same, and what it says of the rest.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Mutex;

use turnout::balancer::{ApplyError, Balancer as _, Change, Foreign, FrontDoor, Progress, Step};
use turnout::domain::{Color, Generation};
use turnout::exec::Program;

use super::lab::Lab;
use super::refused;
use super::tables::whole;

const AS_NOBODY: &str = "nginx::unprivileged::without_root_the_check_uses_a_copy_or_works_in_place_and_says_what_is_not_permitted";
const ROOTS_PID_FILE: &str = "TURNOUT_TEST_ROOTS_PID_FILE";

#[tokio::test]
async fn without_root_the_check_uses_a_copy_or_works_in_place_and_says_what_is_not_permitted() {
    if nix::unistd::geteuid().is_root() {
        let roots = Lab::start().await;
        let me = std::env::current_exe().unwrap();
        let output = Program::new(
            [
                "setpriv",
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
            ]
            .map(Into::into)
            .into_iter()
            .chain([me.into_os_string(), "--exact".into(), AS_NOBODY.into()]),
        )
        .env(ROOTS_PID_FILE, &roots.pid_file().display().to_string())
        .deadline(std::time::Duration::from_mins(2))
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
    }
    let mut lab = Lab::start().await;
    let told = Mutex::new(Vec::new());
    let config = lab.config();
    let listener = |step: Step, detail: &str| {
        if step == Step::Check {
            let stands = fs::read(&config).unwrap_or_default();
            told.lock().unwrap().push((detail.to_owned(), stands));
        }
    };
    let apply = async |lab: &Lab, generation, color| {
        let table = lab.table(generation, whole(color));
        let nginx = lab.nginx();
        let rendered = nginx.render(&table).unwrap();
        nginx
            .apply(Change {
                desired: &table,
                rendered: &rendered,
                previous: None,
                front_door: FrontDoor::Ask,
                unseen: &BTreeSet::new(),
                foreign: Foreign::Refuse,
                progress: Progress::new(&listener),
            })
            .await
    };
    assert_eq!(
        apply(&lab, 1, Color::Blue).await.unwrap().generation(),
        Generation(1)
    );
    assert_eq!(told.lock().unwrap()[0].0, "through a copy of the main file");
    assert_eq!(lab.leftovers(), Vec::<String>::new());

    // the main file's folder takes no copy: installed, checked, put back
    fs::create_dir(lab.path("state")).ok();
    lab.set_template("nonsense;\n");
    fs::set_permissions(lab.path(""), fs::Permissions::from_mode(0o555)).unwrap();
    let before = fs::read(lab.config()).unwrap();
    let error = refused(apply(&lab, 2, Color::Green).await);
    assert!(
        matches!(&error, ApplyError::Refused { message, .. } if message.contains("mine.conf.j2:1 ")),
        "{error}"
    );
    assert_eq!(fs::read(lab.config()).unwrap(), before);
    lab.settings.template = None;
    told.lock().unwrap().clear();
    assert_eq!(
        apply(&lab, 3, Color::Green).await.unwrap().generation(),
        Generation(3)
    );
    // whoever stops a change before its first step finds the files as they were
    let told_first = told.lock().unwrap()[..2].to_vec();
    assert_eq!(
        told_first,
        [
            ("only once the files stand in place".to_owned(), before),
            ("in place".to_owned(), fs::read(lab.config()).unwrap())
        ]
    );
    fs::set_permissions(lab.path(""), fs::Permissions::from_mode(0o755)).unwrap();

    // the log and the pid file belong to somebody else
    let pid = lab.pid_file();
    lab.settings.pid = lab.path("copy.pid");
    fs::copy(&pid, lab.path("copy.pid")).unwrap();
    let main = fs::read_to_string(lab.main()).unwrap();
    lab.put(
        "nginx.conf",
        &main.replace(&*lab.path("error.log").to_string_lossy(), "/proc/1/mem"),
    );
    let error = refused(apply(&lab, 4, Color::Blue).await);
    assert!(
        matches!(&error, ApplyError::NotPermitted { message } if message.contains("Run turnout as root")),
        "{error}"
    );
    lab.put("nginx.conf", &main);
    lab.settings.pid = pid;

    // so does the master
    if let Ok(roots) = std::env::var(ROOTS_PID_FILE) {
        let own = std::mem::replace(&mut lab.settings.pid, roots.into());
        let error = refused(apply(&lab, 4, Color::Blue).await);
        assert!(
            matches!(&error, ApplyError::NotPermitted { message } if message.contains("may not signal the nginx master")),
            "{error}"
        );
        lab.settings.pid = own;
    }
}
