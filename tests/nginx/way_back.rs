//! The ways back with a real nginx: what a change replaced byte for byte, a master that is slow or dies in the middle, what
//! cannot be undone, and the snippets of services that are gone.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use nix::sys::stat::Mode;
use turnout::balancer::{ApplyError, Balancer as _, Disk, Foreign, Nginx, Served};
use turnout::config::NginxReload;
use turnout::domain::{Color, Generation, RoutingTable};

use super::lab::Lab;
use super::tables::whole;
use super::{apply, must_apply, refused};

async fn served(nginx: &Nginx) -> Option<u64> {
    match nginx.observe().await.served {
        Served::Generation { generation, .. } => Some(generation.0),
        Served::Foreign { .. } | Served::Unreachable { .. } => None,
    }
}

/// Another shape of the service, so that no rendering of the first table makes the first file again.
fn reshaped(lab: &Lab, generation: u64, color: Color) -> RoutingTable {
    lab.table_with(generation, whole(color), |shape| {
        shape.timeouts.response = Duration::from_secs(77);
    })
}

#[tokio::test]
async fn a_proved_change_is_taken_back_byte_for_byte_once_and_again() {
    let lab = Lab::start().await;
    let nginx = lab.nginx();
    let first = lab.table(1, whole(Color::Blue));
    must_apply(&nginx, &first, None, Foreign::Refuse).await;
    let before = fs::read(lab.config()).unwrap();
    let second = reshaped(&lab, 2, Color::Green);
    must_apply(&nginx, &second, Some(&first), Foreign::Refuse).await;

    let reverted = nginx.revert(Generation(1), Foreign::Refuse).await.unwrap();
    assert_eq!(reverted.unwrap().generation(), Generation(1));
    assert_eq!(fs::read(lab.config()).unwrap(), before);
    assert_eq!(served(&nginx).await, Some(1));
    assert_eq!(lab.get("/", &[]).await.header("x-backend"), "blue");
    // in force already: proved, and nothing is touched
    let workers = lab.workers();
    let again = nginx.revert(Generation(1), Foreign::Refuse).await.unwrap();
    assert_eq!(again.unwrap().generation(), Generation(1));
    assert_eq!(lab.workers(), workers);
    assert!(
        nginx
            .revert(Generation(2), Foreign::Refuse)
            .await
            .unwrap()
            .is_none(),
        "nothing is left of what was taken back"
    );
    assert_eq!(lab.workers(), workers);
}

#[tokio::test]
async fn the_first_change_is_taken_back_to_nothing() {
    let lab = Lab::start().await;
    let nginx = lab.nginx();
    let first = lab.table(1, whole(Color::Blue));
    must_apply(&nginx, &first, None, Foreign::Refuse).await;
    let reverted = nginx.revert(Generation(0), Foreign::Refuse).await.unwrap();
    assert_eq!(reverted.unwrap().generation(), Generation(0));
    assert!(!lab.config().exists());
    assert_eq!(served(&nginx).await, None);
}

#[tokio::test]
async fn an_edit_made_since_is_not_taken_back_in_silence() {
    let lab = Lab::start().await;
    let nginx = lab.nginx();
    let first = lab.table(1, whole(Color::Blue));
    must_apply(&nginx, &first, None, Foreign::Refuse).await;
    let before = fs::read(lab.config()).unwrap();
    must_apply(
        &nginx,
        &reshaped(&lab, 2, Color::Green),
        Some(&first),
        Foreign::Refuse,
    )
    .await;
    let edited = fs::read_to_string(lab.config()).unwrap() + "# mine\n";
    lab.put("conf.d/turnout.conf", &edited);
    let error = nginx
        .revert(Generation(1), Foreign::Refuse)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, ApplyError::Edited { path, what } if *path == lab.config() && what == "was edited by hand since generation 2"),
        "{error}"
    );
    assert_eq!(fs::read_to_string(lab.config()).unwrap(), edited);
    let reverted = nginx.revert(Generation(1), Foreign::Replace).await.unwrap();
    let warnings = reverted.unwrap().warnings().to_vec();
    let copy = warnings[0].rsplit_once("a copy is ").unwrap().1;
    assert_eq!(fs::read_to_string(copy).unwrap(), edited);
    assert_eq!(fs::read(lab.config()).unwrap(), before);
}

/// A configuration that nginx reads to its end only once somebody opens this for writing: a slow name in an upstream, as
/// far as the master is concerned. Its check is not held up.
struct Slow(std::path::PathBuf);

impl Slow {
    fn down(lab: &mut Lab) -> Self {
        let fifo = lab.path("conf.d/z-slow.conf");
        nix::unistd::mkfifo(&fifo, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        lab.settings.binary = lab.program(
            "quick",
            &format!("(: > {}) & exec nginx \"$@\"", fifo.display()),
        );
        Self(fifo)
    }

    /// The master goes on, now and in the next reloads.
    fn release(&self) {
        let fifo = self.0.clone();
        std::thread::spawn(move || {
            while let Ok(writer) = fs::OpenOptions::new().write(true).open(&fifo) {
                drop(writer);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
    }
}

#[tokio::test]
async fn restored_is_not_said_while_a_slow_master_still_takes_the_failed_configuration() {
    let mut lab = Lab::start().await;
    let first = lab.table(1, whole(Color::Blue));
    must_apply(&lab.nginx(), &first, None, Foreign::Refuse).await;
    let before = fs::read(lab.config()).unwrap();
    let slow = Slow::down(&mut lab);
    let nginx = lab.nginx();
    let second = lab.table(2, whole(Color::Green));
    let old = lab.workers();
    let applying = apply(&nginx, &second, Some(&first), Foreign::Refuse);
    let releasing = async {
        // longer than the proof waits: the failed configuration is taken after its files are gone again
        while fs::read(lab.config()).is_ok_and(|bytes| bytes == before) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        while fs::read(lab.config()).is_ok_and(|bytes| bytes != before) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(lab.workers(), old, "the master was too quick");
        slow.release();
    };
    let (applied, ()) = tokio::join!(applying, releasing);
    let error = refused(applied);
    assert!(
        matches!(
            &error,
            ApplyError::Restored {
                serves: Generation(1),
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(fs::read(lab.config()).unwrap(), before);
    assert!(!lab.workers().iter().any(|pid| old.contains(pid)));
    for _ in 0..50 {
        assert_eq!(served(&nginx).await, Some(1));
        assert_eq!(lab.get("/", &[]).await.header("x-backend"), "blue");
    }
}

#[tokio::test]
async fn an_nginx_that_dies_in_the_middle_of_a_reload_leaves_the_files_as_before() {
    let mut lab = Lab::start().await;
    let first = lab.table(1, whole(Color::Blue));
    must_apply(&lab.nginx(), &first, None, Foreign::Refuse).await;
    let before = fs::read(lab.config()).unwrap();
    let _slow = Slow::down(&mut lab);
    let nginx = lab.nginx();
    let second = lab.table(2, whole(Color::Green));
    let applying = apply(&nginx, &second, Some(&first), Foreign::Refuse);
    let orphans = lab.workers();
    let killing = async {
        lab.is_loading().await;
        lab.kill_master();
    };
    let (applied, ()) = tokio::join!(applying, killing);
    for orphan in orphans {
        Lab::kill_orphan(&orphan);
    }
    let error = refused(applied);
    assert!(
        matches!(&error, ApplyError::Unreachable { message } if message.contains("nginx ended during the reload")
            && message.contains("its files are as before") && message.contains("start it")),
        "{error}"
    );
    assert_eq!(fs::read(lab.config()).unwrap(), before);
}

#[tokio::test]
async fn what_cannot_be_put_back_is_told_with_the_commands_that_do_it() {
    let mut lab = Lab::start().await;
    let first = lab.table(1, whole(Color::Blue));
    must_apply(&lab.nginx(), &first, None, Foreign::Refuse).await;
    let before = fs::read(lab.config()).unwrap();
    // a reload command that fails and leaves a folder where the file was
    let spoil = lab.program(
        "spoil",
        &format!(
            "rm {0}; mkdir {0}; echo no >&2; exit 1",
            lab.config().display()
        ),
    );
    lab.settings.reload = NginxReload::Command(vec![spoil]);
    let nginx = lab.nginx();
    let second = lab.table(2, whole(Color::Green));
    let error = refused(apply(&nginx, &second, Some(&first), Foreign::Refuse).await);
    let ApplyError::NotRestored {
        message,
        undo,
        advice,
    } = &error
    else {
        panic!("{error}")
    };
    assert!(message.contains("the reload command failed"), "{message}");
    assert!(
        undo.contains("could not be put back") && undo.contains("Is a directory"),
        "{undo}"
    );
    // what it says is what helps
    let command = advice.strip_prefix("By hand: ").unwrap();
    let command = command.split(" && ").next().unwrap();
    fs::remove_dir(lab.config()).unwrap();
    let words: Vec<&str> = command.split(' ').collect();
    assert_eq!(words[0], "cp");
    fs::copy(words[1], words[2]).unwrap();
    assert_eq!(fs::read(lab.config()).unwrap(), before);
}

#[tokio::test]
async fn a_reload_that_works_once_only_is_not_called_restored() {
    let mut lab = Lab::start().await;
    let first = lab.table(1, whole(Color::Blue));
    must_apply(&lab.nginx(), &first, None, Foreign::Refuse).await;
    let once = lab.program(
        "once",
        &format!(
            "[ -e {0} ] || {{ : > {0}; kill -HUP $(cat {1}); }}",
            lab.path("done").display(),
            lab.pid_file().display()
        ),
    );
    lab.settings.reload = NginxReload::Command(vec![once]);
    let nginx = lab.nginx();
    let second = lab.table(2, whole(Color::Green));
    let mut rendered = nginx.render(&second).unwrap();
    rendered.files[0].text = rendered.files[0]
        .text
        .replace("add_header X-Routed-To", "add_header X-Elsewhere");
    let change = turnout::balancer::Change {
        desired: &second,
        rendered: &rendered,
        previous: Some(&first),
        unseen: &std::collections::BTreeSet::new(),
        front_door: turnout::balancer::FrontDoor::Ask,
        foreign: Foreign::Refuse,
        progress: turnout::balancer::Progress::silent(),
    };
    let error = refused(nginx.apply(change).await);
    assert!(
        matches!(&error, ApplyError::NotRestored { undo, .. } if undo.contains("it still serves generation 2")),
        "{error}"
    );
}

#[tokio::test]
async fn an_ipv6_listener_is_proved_and_a_busy_one_is_found() {
    let lab = Lab::start().await;
    let nginx = lab.nginx();
    let free = std::net::TcpListener::bind("[::1]:0").unwrap();
    let address = free.local_addr().unwrap();
    let table = |generation, color| {
        lab.table_with(generation, whole(color), |shape| {
            shape.listen = Some(address);
        })
    };
    let error = refused(apply(&nginx, &table(1, Color::Blue), None, Foreign::Refuse).await);
    assert!(
        error.to_string().contains(&format!(
            "bind() to {address} failed (98: Address already in use): it is held by "
        )),
        "{error}"
    );
    drop(free);
    let blue = table(1, Color::Blue);
    must_apply(&nginx, &blue, None, Foreign::Refuse).await;
    let green = table(2, Color::Green);
    let applied = apply(&nginx, &green, Some(&blue), Foreign::Refuse)
        .await
        .unwrap();
    let door = format!("front door {address} (Host shop.example.com): green");
    assert!(
        applied.evidence().contains(&door),
        "{:?}",
        applied.evidence()
    );
}

#[tokio::test]
async fn the_snippet_of_a_service_that_is_gone_goes_once_nobody_includes_it() {
    let lab = Lab::start_with_own_server().await;
    let nginx = lab.nginx();
    let own = lab.table_with(1, whole(Color::Blue), |shape| {
        shape.listen = None;
        shape.public = Some(turnout::domain::PublicUrl(lab.public_url()));
    });
    must_apply(&nginx, &own, None, Foreign::Refuse).await;
    let snippet = fs::read(lab.snippet()).unwrap();
    lab.put("snippets/mine.conf", "# of the user's own\n");

    // the user's server block still includes it: refused before anything is touched
    let before = fs::read(lab.config()).unwrap();
    let without = lab.many(2, 1);
    let error = refused(apply(&nginx, &without, Some(&own), Foreign::Refuse).await);
    assert!(
        matches!(&error, ApplyError::Refused { message, .. } if message.contains("z-own.conf:2")
            && message.contains(&format!("{} goes with its service", lab.snippet().display()))),
        "{error}"
    );
    assert_eq!(fs::read(lab.config()).unwrap(), before);
    assert_eq!(fs::read(lab.snippet()).unwrap(), snippet);

    fs::remove_file(lab.path("conf.d/z-own.conf")).unwrap();
    must_apply(&nginx, &without, Some(&own), Foreign::Refuse).await;
    assert!(!lab.snippet().exists());
    assert!(lab.path("snippets/mine.conf").exists());

    // and it comes back with the way back
    let reverted = nginx.revert(Generation(1), Foreign::Refuse).await.unwrap();
    assert_eq!(reverted.unwrap().generation(), Generation(1));
    assert_eq!(fs::read(lab.snippet()).unwrap(), snippet);
    assert_eq!(
        fs::metadata(lab.snippet()).unwrap().permissions().mode() & 0o777,
        0o644
    );
}

#[tokio::test]
async fn an_edited_snippet_is_told_by_its_own_name() {
    let lab = Lab::start_with_own_server().await;
    let nginx = lab.nginx();
    let own = lab.table_with(1, whole(Color::Blue), |shape| {
        shape.listen = None;
        shape.public = Some(turnout::domain::PublicUrl(lab.public_url()));
    });
    must_apply(&nginx, &own, None, Foreign::Refuse).await;
    let edited = fs::read_to_string(lab.snippet()).unwrap() + "# mine\n";
    lab.put("snippets/shop.conf", &edited);
    assert_eq!(
        nginx.observe().await.disk,
        Some(Disk::Edited {
            generation: Generation(1),
            path: lab.snippet()
        })
    );
}
