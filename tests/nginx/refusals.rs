//! What is refused before nginx is told of it: bad templates, conflicts, files of others, and an nginx that is not there.

use std::fs;
use std::os::unix::fs::symlink;

use turnout::balancer::{ApplyError, Balancer as _, Disk, Foreign, Served};
use turnout::domain::{Color, Generation};

use super::lab::Lab;
use super::tables::whole;
use super::{apply, must_apply, refused};

#[tokio::test]
async fn what_nginx_refuses_is_told_with_the_template_line() {
    let mut lab = Lab::start().await;
    must_apply(
        &lab.nginx(),
        &lab.table(1, whole(Color::Blue)),
        None,
        Foreign::Refuse,
    )
    .await;
    let before = fs::read(lab.config()).unwrap();
    let built_in = include_str!("../../templates/nginx.conf.j2");
    let broken = built_in.replace(
        "    keepalive 32;\n",
        "    keepalive 32;\n    keepallive 33;\n",
    );
    let line = broken
        .lines()
        .position(|line| line.contains("keepallive"))
        .unwrap()
        + 1;
    lab.set_template(&broken);
    let error = refused(
        apply(
            &lab.nginx(),
            &lab.table(2, whole(Color::Green)),
            None,
            Foreign::Refuse,
        )
        .await,
    );
    let said = error.to_string();
    assert!(matches!(error, ApplyError::Refused { .. }), "{said}");
    assert!(
        said.contains("unknown directive \"keepallive\" in ") && said.contains("/mine.conf.j2:"),
        "{said}"
    );
    assert!(
        said.contains(&format!(
            "mine.conf.j2:{line} (rendered {}:",
            lab.config().display()
        )),
        "{said}"
    );
    assert_eq!(fs::read(lab.config()).unwrap(), before);
    assert_eq!(lab.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn a_warning_that_means_ignored_is_refused_if_it_is_new() {
    let lab = Lab::start().await;
    lab.put(
        "conf.d/mine.conf",
        &format!(
            "server {{ listen {}; server_name shop.example.com; return 200 mine; }}\n",
            lab.front()
        ),
    );
    let nginx = lab.nginx();
    let error = refused(
        apply(
            &nginx,
            &lab.table(1, whole(Color::Blue)),
            None,
            Foreign::Refuse,
        )
        .await,
    );
    assert!(
        matches!(&error, ApplyError::Refused { message, .. } if message.contains("conflicting server name \"shop.example.com\"")),
        "{error}"
    );
    // the user's own conflict is theirs
    lab.put("conf.d/mine.conf", "server { listen 127.0.0.1:1; server_name a; } server { listen 127.0.0.1:1; server_name a; }\n");
    lab.put(
        "conf.d/mine.conf",
        &format!(
            "server {{ listen {0}; server_name a; }} server {{ listen {0}; server_name a; }}\n",
            lab.front()
        ),
    );
    must_apply(
        &nginx,
        &lab.table(1, whole(Color::Blue)),
        None,
        Foreign::Refuse,
    )
    .await;
}

#[tokio::test]
async fn without_a_running_nginx_nothing_is_touched_and_nothing_is_signalled() {
    let lab = Lab::start().await;
    let nginx = lab.nginx();
    let table = lab.table(1, whole(Color::Blue));
    lab.stop().await;
    let unreachable = async |says: &str| {
        let error = refused(apply(&nginx, &table, None, Foreign::Refuse).await);
        assert!(
            matches!(&error, ApplyError::Unreachable { message } if message.contains(says)),
            "{error}"
        );
        assert!(!lab.config().exists());
    };
    unreachable("does not exist").await;
    assert!(
        !lab.pid_file().exists(),
        "an empty pid file was left behind"
    );
    lab.put("nginx.pid", "");
    unreachable("is empty").await;
    let sleeper = Lab::sleeper();
    lab.put("nginx.pid", &format!("{}\n", sleeper.id()));
    unreachable("is now `sleep 600` and was left alone").await;
    assert!(sleeper.lives());
    let gone = sleeper.end().await;
    lab.put("nginx.pid", &format!("{gone}\n"));
    unreachable("which is gone").await;
    assert!(matches!(
        nginx.observe().await.served,
        Served::Unreachable { .. }
    ));
}

#[tokio::test]
async fn a_reload_command_does_not_hide_that_nginx_is_gone() {
    let mut lab = Lab::start().await;
    let pid = lab.pid_file().display().to_string();
    lab.settings.reload = turnout::config::NginxReload::Command(vec![
        "sh".into(),
        "-c".into(),
        format!("kill -HUP $(cat {pid})"),
    ]);
    let blue = lab.table(1, whole(Color::Blue));
    let green = lab.table(2, whole(Color::Green));
    must_apply(&lab.nginx(), &blue, None, Foreign::Refuse).await;
    let before = fs::read_to_string(lab.config()).unwrap();
    lab.stop().await;
    let error = refused(apply(&lab.nginx(), &green, Some(&blue), Foreign::Refuse).await);
    assert!(matches!(error, ApplyError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains("nginx does not run"), "{error}");
    assert_eq!(fs::read_to_string(lab.config()).unwrap(), before);
    assert!(matches!(
        lab.nginx().observe().await.served,
        Served::Unreachable { .. }
    ));

    // before the first apply nothing can be seen; the command is tried, and what it was to load is taken back
    fs::remove_file(lab.config()).unwrap();
    let error = refused(apply(&lab.nginx(), &blue, None, Foreign::Refuse).await);
    assert!(matches!(error, ApplyError::Unreachable { .. }), "{error:?}");
    assert!(!lab.config().exists());
}

#[tokio::test]
async fn a_link_and_a_hand_edit_are_refused_and_an_edit_can_be_replaced_with_a_copy() {
    let lab = Lab::start().await;
    let nginx = lab.nginx();
    let blue = lab.table(1, whole(Color::Blue));
    must_apply(&nginx, &blue, None, Foreign::Refuse).await;
    let edited = fs::read_to_string(lab.config())
        .unwrap()
        .replace("{ * blue; }", "{ * green; }");
    lab.put("conf.d/turnout.conf", &edited);
    lab.reload().await;
    let served = nginx.observe().await;
    assert_eq!(
        served.disk,
        Some(Disk::Edited {
            generation: Generation(1),
            path: lab.config()
        })
    );
    assert_eq!(
        served.served.whole(&"shop".parse().unwrap()),
        Some(Color::Green),
        "a hand-made reload is seen"
    );
    let green = lab.table(2, whole(Color::Green));
    let error = refused(apply(&nginx, &green, Some(&blue), Foreign::Refuse).await);
    assert!(
        matches!(&error, ApplyError::Edited { what, .. } if what == "was edited by hand since generation 1"),
        "{error}"
    );
    let applied = apply(&nginx, &green, Some(&blue), Foreign::Replace)
        .await
        .unwrap();
    let copy = applied.warnings()[0].rsplit_once("a copy is ").unwrap().1;
    assert_eq!(fs::read_to_string(copy).unwrap(), edited);

    let real = lab.path("real.conf");
    fs::rename(lab.config(), &real).unwrap();
    symlink(&real, lab.config()).unwrap();
    let error = refused(
        apply(
            &nginx,
            &lab.table(3, whole(Color::Blue)),
            Some(&green),
            Foreign::Replace,
        )
        .await,
    );
    assert!(
        matches!(&error, ApplyError::Unchanged { message, .. } if message.contains("symbolic link")),
        "{error}"
    );
    assert!(fs::symlink_metadata(lab.config()).unwrap().is_symlink());
}

#[tokio::test]
async fn a_check_that_hangs_floods_or_is_missing_is_bounded_and_named() {
    let mut lab = Lab::start().await;
    let table = lab.table(1, whole(Color::Blue));
    for (binary, says) in [
        (lab.program("flood", "head -c 300000000 /dev/zero | tr '\\0' x; echo 'nginx: [emerg] flooded' >&2; exit 1"), "flooded"),
        (lab.path("nothing").display().to_string(), "there is no such program"),
    ] {
        lab.settings.binary = binary;
        let error = refused(apply(&lab.nginx(), &table, None, Foreign::Refuse).await);
        assert!(error.to_string().contains(says), "{error}");
        assert!(!lab.config().exists());
    }
}
