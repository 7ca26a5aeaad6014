//! A real nginx with a prefix, ports and pid of its own: what turnout renders, how it applies and restores, and each of the
//! messages for what can be wrong with somebody else's nginx.

#![expect(clippy::unwrap_used, reason = "the helpers of tests fail like tests")]

mod answers;
mod instant;
mod lab;
mod way_back;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::sync::Mutex;

use lab::{Lab, canary, whole};
use turnout::balancer::{
    Applied, ApplyError, Balancer as _, Change, Disk, Drained, Foreign, FrontDoor, Nginx, Progress,
    Served, Step,
};
use turnout::domain::{Bucket, Color, Generation, RoutingTable, Split};
use turnout::exec::Program;

async fn apply(
    nginx: &Nginx,
    table: &RoutingTable,
    previous: Option<&RoutingTable>,
    foreign: Foreign,
) -> Result<Applied, ApplyError> {
    let rendered = nginx.render(table).unwrap();
    nginx
        .apply(Change {
            desired: table,
            rendered: &rendered,
            previous,
            front_door: FrontDoor::Ask,
            unseen: &BTreeSet::new(),
            foreign,
            progress: Progress::silent(),
        })
        .await
}

async fn must_apply(
    nginx: &Nginx,
    table: &RoutingTable,
    previous: Option<&RoutingTable>,
    foreign: Foreign,
) {
    let applied = apply(nginx, table, previous, foreign).await.unwrap();
    assert_eq!(applied.generation(), table.generation);
}

fn refused(result: Result<Applied, ApplyError>) -> ApplyError {
    match result {
        Ok(applied) => panic!("it was applied: {applied:?}"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn a_switch_is_proved_observed_and_repeated_without_a_reload() {
    let lab = Lab::start().await;
    let nginx = lab.nginx();
    let blue = lab.table(1, whole(Color::Blue));
    let applied = apply(&nginx, &blue, None, Foreign::Refuse).await.unwrap();
    assert_eq!(applied.generation(), Generation(1));
    assert_eq!(lab.get("/", &[]).await.header("x-backend"), "blue");

    let green = lab.table(2, whole(Color::Green));
    let steps = Mutex::new(Vec::new());
    let listener = |step: Step, _: &str| steps.lock().unwrap().push(step);
    let rendered = nginx.render(&green).unwrap();
    let change = Change {
        desired: &green,
        rendered: &rendered,
        previous: Some(&blue),
        front_door: FrontDoor::Ask,
        unseen: &BTreeSet::new(),
        foreign: Foreign::Refuse,
        progress: Progress::new(&listener),
    };
    let applied = nginx.apply(change).await.unwrap();
    assert!(
        applied
            .evidence()
            .iter()
            .any(|line| line.starts_with("front door ") && line.ends_with(": green")),
        "{:?}",
        applied.evidence()
    );
    steps.lock().unwrap().dedup();
    assert_eq!(
        *steps.lock().unwrap(),
        [Step::Check, Step::Install, Step::Reload, Step::Prove]
    );
    for _ in 0..20 {
        let answer = lab.get("/", &[]).await;
        assert_eq!(
            (answer.header("x-routed-to"), answer.header("x-backend")),
            ("green", "green")
        );
        assert_eq!(
            answer.header("x-upstream-url"),
            lab.server(Color::Green).to_string()
        );
    }
    let splits = BTreeMap::from([("shop".parse().unwrap(), Split::all(Color::Green))]);
    let observed = nginx.observe().await;
    assert_eq!(
        observed.disk,
        Some(Disk::Intact {
            generation: Generation(2),
            splits: splits.clone()
        })
    );
    assert_eq!(
        observed.served,
        Served::Generation {
            generation: Generation(2),
            splits
        }
    );

    let workers = lab.workers();
    let again = apply(&nginx, &green, Some(&green), Foreign::Refuse)
        .await
        .unwrap();
    assert_eq!(again.evidence()[0], "already in force: no reload");
    assert_eq!(lab.workers(), workers);
    assert_eq!(
        nginx
            .drained(
                &"shop".parse().unwrap(),
                turnout::domain::Color::Blue,
                std::time::Duration::from_secs(5)
            )
            .await,
        Drained::Done
    );
    assert_eq!(lab.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn a_key_gets_the_same_color_from_nginx_and_from_the_bucket() {
    let lab = Lab::start().await;
    let nginx = lab.nginx();
    let service = "shop".parse().unwrap();
    for (generation, blue) in [10.0, 25.0, 50.0, 0.01, 99.99].into_iter().enumerate() {
        let position = canary(blue);
        let table = lab.table(generation as u64 + 1, position);
        must_apply(&nginx, &table, None, Foreign::Refuse).await;
        let mut seen = BTreeMap::new();
        let mut connection = lab.connection().await;
        for number in 0..1_000 {
            // nginx ends a connection after 1,000 requests
            if number == 500 {
                connection = lab.connection().await;
            }
            let key = format!("user-{number}-{}", "k".repeat(number % 9));
            let expected = Bucket::of(&service, key.as_bytes()).color(position.split());
            let routed = connection.routed(&[("X-Session-Key", &key)]).await;
            assert_eq!(routed, expected, "{key} at {blue} %");
            if number % 50 == 0 {
                let by_cookie = connection
                    .routed(&[("Cookie", &format!("a=b; session_id={key}"))])
                    .await;
                assert_eq!(by_cookie, expected, "cookie {key} at {blue} %");
            }
            *seen.entry(routed).or_insert(0) += 1;
        }
        let share = f64::from(*seen.get(&Color::Blue).unwrap_or(&0)) / 10.0;
        assert!((share - blue).abs() < 4.0, "{share} % at {blue} %");
    }
}

#[tokio::test]
async fn what_reaches_the_server_is_what_came_but_for_what_was_forged() {
    let mut lab = Lab::start().await;
    let nginx = lab.nginx();
    must_apply(
        &nginx,
        &lab.table(1, whole(Color::Blue)),
        None,
        Foreign::Refuse,
    )
    .await;
    let path = "/a%2Fb//c/./d?x=%20&y=a+b";
    let forged = [
        ("X-Forwarded-For", "6.6.6.6"),
        ("X-Forwarded-Proto", "https"),
        ("X-Real-IP", "6.6.6.6"),
        ("X-Request-ID", "given"),
        ("Proxy-Connection", "x"),
        ("Forwarded", "for=6.6.6.6"),
    ];
    let echo = lab.get(path, &forged).await.body.to_ascii_lowercase();
    assert!(
        echo.starts_with(&format!("get {} http/1.1", path.to_ascii_lowercase())),
        "{echo}"
    );
    for line in [
        "host: shop.example.com",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-proto: http",
        "x-forwarded-host: shop.example.com",
        "x-real-ip: 127.0.0.1",
        "x-request-id: given",
    ] {
        assert!(
            echo.lines().any(|found| found == line),
            "no `{line}` in {echo}"
        );
    }
    assert!(
        !echo.contains("proxy-connection") && !echo.contains("forwarded: for"),
        "{echo}"
    );
    lab.trusted = vec!["127.0.0.0/8".parse().unwrap()];
    must_apply(
        &lab.nginx(),
        &lab.table(2, whole(Color::Blue)),
        None,
        Foreign::Refuse,
    )
    .await;
    let echo = lab.get(path, &forged).await.body.to_ascii_lowercase();
    for line in [
        "x-forwarded-for: 6.6.6.6, 127.0.0.1",
        "x-forwarded-proto: https",
        "x-real-ip: 6.6.6.6",
        "forwarded: for=6.6.6.6",
    ] {
        assert!(
            echo.lines().any(|found| found == line),
            "no `{line}` in {echo}"
        );
    }
}

#[tokio::test]
async fn the_preview_header_names_a_color_and_an_unknown_host_is_refused() {
    let lab = Lab::start().await;
    let nginx = lab.nginx();
    let table = lab.table_with(1, whole(Color::Blue), |shape| {
        shape.preview = Some("X-Turnout-Color".into());
    });
    must_apply(&nginx, &table, None, Foreign::Refuse).await;
    let preview = lab.get("/", &[("X-Turnout-Color", "green")]).await;
    assert_eq!(preview.header("x-backend"), "green");
    assert_eq!(
        lab.get("/", &[("X-Turnout-Color", "red")])
            .await
            .header("x-backend"),
        "blue"
    );
    let unknown = lab.get_as("other.example.com", "/", &[]).await;
    assert_eq!(
        (unknown.status, unknown.header("x-turnout-error")),
        (404, "No service answers to this host here")
    );
}

#[tokio::test]
async fn a_first_visitor_is_pinned_by_the_cookie_that_comes_with_the_answer() {
    let lab = Lab::start().await;
    let table = lab.table_with(1, canary(50.0), |shape| {
        if let Some(sticky) = &mut shape.sticky {
            sticky.set_cookie = true;
            sticky.cookie = "turnout-pin".into();
        }
    });
    must_apply(&lab.nginx(), &table, None, Foreign::Refuse).await;
    for _ in 0..40 {
        let first = lab.get("/", &[]).await;
        let cookie = first
            .header("set-cookie")
            .split(';')
            .next()
            .unwrap()
            .to_owned();
        let color = first.header("x-routed-to").to_owned();
        for _ in 0..3 {
            let next = lab.get("/", &[("Cookie", &cookie)]).await;
            assert_eq!(next.header("x-routed-to"), color);
            assert_eq!(next.header("set-cookie"), "");
        }
    }
}

#[tokio::test]
async fn a_dead_server_is_passed_over_within_its_color_and_never_for_the_other_color() {
    let lab = Lab::start().await;
    let table = lab.table_with(1, whole(Color::Blue), |shape| {
        lab::colors(shape)
            .blue
            .insert(0, "http://127.0.0.1:1".parse().unwrap());
    });
    let nginx = lab.nginx();
    must_apply(&nginx, &table, None, Foreign::Refuse).await;
    for _ in 0..10 {
        let answer = lab.get("/", &[]).await;
        assert_eq!((answer.status, answer.header("x-backend")), (200, "blue"));
    }
    let dead = lab.table_with(2, whole(Color::Blue), |shape| {
        lab::colors(shape).blue = vec!["http://127.0.0.1:1".parse().unwrap()];
    });
    must_apply(&nginx, &dead, Some(&table), Foreign::Refuse).await;
    let answer = lab.get("/", &[]).await;
    assert_eq!(
        (
            answer.status,
            answer.header("x-routed-to"),
            answer.header("x-backend")
        ),
        (502, "blue", "")
    );
}

#[tokio::test]
async fn a_user_s_own_tls_server_block_is_proved_through_its_public_url() {
    let lab = Lab::start_with_own_server().await;
    let nginx = lab.nginx();
    let shape = |shape: &mut turnout::domain::Service| {
        shape.listen = None;
        shape.public = Some(turnout::domain::PublicUrl(lab.public_url()));
    };
    let blue = lab.table_with(1, whole(Color::Blue), shape);
    let applied = apply(&nginx, &blue, None, Foreign::Refuse).await.unwrap();
    assert!(
        applied.evidence().contains(&format!(
            "front door {} (Host shop.example.com): blue",
            lab.public_url()
        )),
        "{:?}",
        applied.evidence()
    );
    let snippet = fs::read_to_string(lab.snippet()).unwrap();
    let green = lab.table_with(2, whole(Color::Green), shape);
    let applied = apply(&nginx, &green, Some(&blue), Foreign::Refuse)
        .await
        .unwrap();
    assert!(
        applied.evidence().contains(&format!(
            "front door {} (Host shop.example.com): green",
            lab.public_url()
        )),
        "{:?}",
        applied.evidence()
    );
    assert_eq!(fs::read_to_string(lab.snippet()).unwrap(), snippet);

    fs::OpenOptions::new()
        .append(true)
        .open(lab.snippet())
        .map(|mut file| std::io::Write::write_all(&mut file, b"# mine\n"))
        .unwrap()
        .unwrap();
    assert_eq!(
        nginx.observe().await.disk,
        Some(Disk::Edited {
            generation: Generation(2),
            path: lab.snippet()
        })
    );
}

#[tokio::test]
async fn a_server_block_that_does_not_include_its_snippet_yet_is_a_warning_until_it_was_seen() {
    let lab = Lab::start_with_own_server().await;
    let include = fs::read_to_string(lab.path("conf.d/z-own.conf")).unwrap();
    let without = include.replace(
        &format!("include {};", lab.snippet().display()),
        "return 200;",
    );
    lab.put("conf.d/z-own.conf", &without);
    lab.reload().await;
    let nginx = lab.nginx();
    let shape = |shape: &mut turnout::domain::Service| {
        shape.listen = None;
        shape.public = Some(turnout::domain::PublicUrl(lab.public_url()));
    };
    let blue = lab.table_with(1, whole(Color::Blue), shape);
    let rendered = nginx.render(&blue).unwrap();
    let unseen = BTreeSet::from(["shop".parse().unwrap()]);
    let change = || Change {
        desired: &blue,
        rendered: &rendered,
        previous: None,
        front_door: FrontDoor::Ask,
        unseen: &unseen,
        foreign: Foreign::Refuse,
        progress: Progress::silent(),
    };
    let applied = nginx.apply(change()).await.unwrap();
    assert_eq!(applied.routed(), &BTreeSet::new());
    assert_eq!(
        applied.warnings(),
        [format!(
            "applied, but {} (Host shop.example.com) does not go through turnout yet: add `include {};` to its location, reload nginx, then run \
             `turnout verify`",
            lab.public_url(),
            lab.snippet().display()
        )]
    );
    // who was seen once has to be seen again
    let green = lab.table_with(2, whole(Color::Green), shape);
    let error = refused(apply(&nginx, &green, Some(&blue), Foreign::Refuse).await);
    assert!(matches!(error, ApplyError::Restored { .. }), "{error:?}");
    assert!(error.to_string().contains("without X-Routed-To"), "{error}");

    lab.put("conf.d/z-own.conf", &include);
    lab.reload().await;
    let applied = nginx.apply(change()).await.unwrap();
    assert_eq!((applied.routed(), applied.warnings()), (&unseen, &[][..]));
    must_apply(&nginx, &green, Some(&blue), Foreign::Refuse).await;
}

#[tokio::test]
async fn a_reload_that_lies_is_found_out_and_undone() {
    // root's `nginx -t` may bind a low port, the master that runs as nobody may not
    let lab = Lab::start_as_nobody().await;
    let nginx = lab.nginx();
    let blue = lab.table(1, whole(Color::Blue));
    must_apply(&nginx, &blue, None, Foreign::Refuse).await;
    let before = fs::read(lab.config()).unwrap();
    let low = crate::support::Ports::low();
    let table = lab.table_with(2, whole(Color::Green), |shape| {
        shape.listen = Some(low);
    });
    let error = refused(apply(&nginx, &table, Some(&blue), Foreign::Refuse).await);
    let ApplyError::Restored { message, serves } = &error else {
        panic!("{error}")
    };
    assert_eq!(*serves, Generation(1));
    assert!(
        message.contains(&format!("bind() to {low} failed (13: Permission denied)")),
        "{message}"
    );
    assert_eq!(fs::read(lab.config()).unwrap(), before);
    assert_eq!(lab.get("/", &[]).await.header("x-backend"), "blue");
    let Served::Generation { generation, .. } = nginx.observe().await.served else {
        panic!()
    };
    assert_eq!(generation, Generation(1));
    // and it is no obstacle to the next change
    let green = lab.table(3, whole(Color::Green));
    must_apply(&nginx, &green, Some(&blue), Foreign::Refuse).await;
}

#[tokio::test]
async fn a_first_apply_that_nginx_does_not_take_leaves_no_file_behind() {
    let lab = Lab::start_as_nobody().await;
    let table = lab.table_with(1, whole(Color::Blue), |shape| {
        shape.listen = Some(crate::support::Ports::low());
    });
    let error = refused(apply(&lab.nginx(), &table, None, Foreign::Refuse).await);
    assert!(
        matches!(
            error,
            ApplyError::Restored {
                serves: Generation(0),
                ..
            }
        ),
        "{error}"
    );
    assert!(!lab.config().exists());
}

#[tokio::test]
async fn a_front_door_that_shows_the_wrong_color_is_undone_with_a_second_reload() {
    let lab = Lab::start().await;
    let nginx = lab.nginx();
    let blue = lab.table(1, whole(Color::Blue));
    must_apply(&nginx, &blue, None, Foreign::Refuse).await;
    let before = fs::read(lab.config()).unwrap();
    let green = lab.table(2, whole(Color::Green));
    let mut rendered = nginx.render(&green).unwrap();
    rendered.files[0].text = rendered.files[0]
        .text
        .replace("add_header X-Routed-To", "add_header X-Elsewhere");
    let change = Change {
        desired: &green,
        rendered: &rendered,
        previous: Some(&blue),
        front_door: FrontDoor::Ask,
        unseen: &BTreeSet::new(),
        foreign: Foreign::Refuse,
        progress: Progress::silent(),
    };
    let error = refused(nginx.apply(change).await);
    assert!(error.to_string().contains("without X-Routed-To"), "{error}");
    assert!(
        matches!(
            error,
            ApplyError::Restored {
                serves: Generation(1),
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(fs::read(lab.config()).unwrap(), before);
    assert_eq!(lab.get("/", &[]).await.header("x-backend"), "blue");
}

#[tokio::test]
async fn a_busy_address_is_found_before_nginx_is_told() {
    let lab = Lab::start().await;
    let nginx = lab.nginx();
    let blue = lab.table(1, whole(Color::Blue));
    must_apply(&nginx, &blue, None, Foreign::Refuse).await;
    let before = fs::read(lab.config()).unwrap();
    let workers = lab.workers();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = other.local_addr().unwrap();
    let table = lab.table_with(2, whole(Color::Green), |shape| shape.listen = Some(busy));
    let error = refused(apply(&nginx, &table, Some(&blue), Foreign::Refuse).await);
    let said = error.to_string();
    assert!(matches!(error, ApplyError::Unchanged { .. }), "{said}");
    assert!(
        said.contains(&format!(
            "bind() to {busy} failed (98: Address already in use): it is held by "
        )),
        "{said}"
    );
    assert!(
        said.contains(&format!("(pid {})", std::process::id())),
        "{said}"
    );
    assert_eq!(
        (fs::read(lab.config()).unwrap(), lab.workers()),
        (before, workers)
    );
}

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
async fn a_missing_include_is_told_with_the_line_to_add() {
    let lab = Lab::start_without_include().await;
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
    let expected = format!(
        "{} does not load {1}: add the line `include {1};` to its http block",
        lab.main().display(),
        lab.config().display()
    );
    assert!(
        matches!(&error, ApplyError::Unchanged { message, .. } if *message == expected),
        "{error}"
    );
    assert!(!lab.config().exists());
    assert!(matches!(
        nginx.observe().await.served,
        Served::Foreign { .. }
    ));
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

const AS_NOBODY: &str =
    "nginx::without_root_the_check_uses_a_copy_or_works_in_place_and_says_what_is_not_permitted";
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

#[tokio::test]
async fn two_thousand_services_pass_and_render_in_linear_time() {
    let lab = Lab::start().await;
    let nginx = lab.nginx();
    let table = lab.many(1, 2_000);
    let started = std::time::Instant::now();
    let rendered = nginx.render(&table).unwrap();
    eprintln!(
        "rendered {} bytes in {:?}",
        rendered.files[0].text.len(),
        started.elapsed()
    );
    let started = std::time::Instant::now();
    let warnings = nginx.check(&table, &rendered).await.unwrap();
    eprintln!("checked in {:?}", started.elapsed());
    assert_eq!(warnings, Vec::<String>::new());
    let started = std::time::Instant::now();
    let tell = |step: Step, detail: &str| {
        if step != Step::Prove {
            eprintln!("{:?} {step:?} {detail}", started.elapsed());
        }
    };
    let change = Change {
        desired: &table,
        rendered: &rendered,
        previous: None,
        front_door: FrontDoor::Ask,
        unseen: &BTreeSet::new(),
        foreign: Foreign::Refuse,
        progress: Progress::new(&tell),
    };
    let applied = nginx.apply(change).await.unwrap();
    eprintln!("applied in {:?}", started.elapsed());
    assert_eq!(applied.generation(), Generation(1));
    let Served::Generation { splits, .. } = nginx.observe().await.served else {
        panic!()
    };
    assert_eq!(splits.len(), 2_000);
}
