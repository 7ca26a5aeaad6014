//! HAProxy 2.6 for real, master and worker: each layout, every message, kills, strangers, keys, and a load.

mod crash;
mod lab;
mod load;
mod messages;
mod proposal;
mod routing;
mod way_back;

use std::time::{Duration, Instant};

use turnout::domain::{Bucket, Color, Hashing, ServiceName, Split};

pub(crate) use lab::{Lab, Layout};

use crate::support::{Backend, Connection, Ports, shared, wait_for};

#[test]
fn color_and_weights_need_no_reload_and_every_command_agrees() {
    let _turn = shared();
    let mut lab = Lab::on_blue(Layout::Whole);
    let workers = lab.workers();
    let begin = Instant::now();
    lab.turnout().ok(&["switch", "green"]).says("proved");
    println!("a switch took {:?}", begin.elapsed());
    assert_eq!(lab.agreed("after a switch"), Color::Green);
    lab.turnout().ok(&["rollback"]);
    assert_eq!(lab.agreed("after a rollback"), Color::Blue);
    lab.turnout().ok(&["strategy", "shop", "canary"]);
    lab.turnout()
        .ok(&["weights", "shop", "blue=70", "green=30"]);
    assert_eq!(lab.blue_share(), 7_000);
    lab.turnout()
        .ok(&["shift", "shop", "--by", "10.05", "--towards", "green"]);
    assert_eq!(lab.blue_share(), 5_995);
    lab.turnout().ok(&["verify"]);
    lab.turnout().ok(&["diff"]);
    lab.turnout().ok(&["status"]).says("59.95");
    lab.turnout().ok(&["doctor"]).says("level admin");
    lab.turnout().ok(&["switch", "green", "--dry-run"]);
    assert_eq!(lab.blue_share(), 5_995);
    lab.turnout().ok(&["switch", "green", "--wait-drained"]);
    assert_eq!(lab.served(), Color::Green);
    assert_eq!(lab.workers(), workers, "a reload was made");
}

#[test]
fn haproxy_started_from_its_files_alone_serves_what_was_answered_last() {
    let _turn = shared();
    let mut lab = Lab::on_blue(Layout::Whole);
    lab.turnout().ok(&["switch", "green"]);
    lab.start();
    assert_eq!(lab.agreed("after a restart"), Color::Green);
    lab.turnout().ok(&["strategy", "shop", "canary"]);
    lab.turnout()
        .ok(&["weights", "shop", "blue=25", "green=75"]);
    lab.master().kill();
    lab.start();
    assert_eq!(lab.blue_share(), 2_500);
    lab.turnout().ok(&["verify"]);
}

#[test]
fn a_new_shape_is_handed_over_and_the_old_worker_is_gone() {
    let _turn = shared();
    let mut lab = Lab::on_blue(Layout::Whole);
    lab.turnout().ok(&["switch", "green"]);
    let before = lab.workers();
    let (blue, green) = (Backend::start(Color::Blue), Backend::start(Color::Green));
    let listen = Ports::address();
    lab.services = format!(
        "  blog:\n    listen: {listen}\n    blue: {{ servers: [\"{}\"] }}\n    green: {{ servers: [\"{}\"] }}\n    health: {{ path: /health }}\n",
        blue.url(),
        green.url()
    );
    lab.write();
    lab.turnout()
        .run(&["diff"])
        .exits(1)
        .says("turnout_blog_blue");
    lab.turnout().ok(&["apply"]).says("SIGUSR2");
    assert_eq!(lab.agreed("after a new shape"), Color::Green);
    let answer = crate::support::get(listen, "/", &[]).unwrap();
    assert_eq!(answer.backend(), Some(Color::Blue));
    wait_for("the old worker's end", Duration::from_secs(5), || {
        let now = lab.workers();
        (now.len() == 1 && now != before).then_some(())
    });
    // and it is gone again with the service
    lab.services.clear();
    lab.write();
    lab.turnout().ok(&["apply"]);
    assert!(Connection::open(listen, Duration::from_secs(1)).is_err());
    assert_eq!(lab.agreed("after the old shape"), Color::Green);
}

#[test]
fn beside_the_user_s_global_and_defaults_all_is_as_alone() {
    let _turn = shared();
    let mut lab = Lab::on_blue(Layout::Beside);
    lab.turnout().ok(&["switch", "green"]);
    assert_eq!(lab.agreed("beside"), Color::Green);
    lab.green.refuse();
    let answer = lab.ask("/", &[]);
    assert!(
        [502, 503].contains(&answer.status),
        "{} {}",
        answer.status,
        answer.text()
    );
    let expected = if answer.status == 502 {
        "Bad gateway"
    } else {
        "No active backend available"
    };
    assert_eq!(answer.text(), expected, "the user's errorfile won");
    lab.turnout().ok(&["switch", "blue"]);
    assert_eq!(lab.served(), Color::Blue);
}

#[test]
fn in_a_frontend_of_the_user_s_own_turnout_owns_backends_and_map() {
    let _turn = shared();
    let mut lab = Lab::on_blue(Layout::OwnFrontend);
    let workers = lab.workers();
    lab.turnout()
        .ok(&["switch", "green"])
        .says("front door http://");
    assert_eq!(lab.agreed("own frontend"), Color::Green);
    assert_eq!(lab.workers(), workers);
    lab.turnout().ok(&["doctor"]).says("has the lines");
    let config = std::fs::read_to_string(lab.config()).unwrap();
    assert!(!config.contains("frontend"), "{config}");
}

#[test]
fn auto_finds_a_haproxy_that_loads_the_file() {
    let _turn = shared();
    let mut lab = Lab::on_blue(Layout::Whole);
    std::fs::remove_dir_all(lab.path("state")).unwrap();
    lab.kind = "auto";
    // no nginx of this host is meant
    lab.top = String::new();
    lab.write();
    let text = std::fs::read_to_string(lab.path("turnout.yaml")).unwrap();
    let text = text.replace(
        "  haproxy:\n",
        "  nginx: { pid: /nonexistent/nginx.pid }\n  haproxy:\n",
    );
    std::fs::write(lab.path("turnout.yaml"), text).unwrap();
    lab.turnout().ok(&["apply"]);
    lab.turnout()
        .ok(&["status", "-o", "json"])
        .says("\"haproxy\"");
    lab.turnout().ok(&["switch", "green"]);
    assert_eq!(lab.served(), Color::Green);
}

#[test]
fn keys_get_the_bucket_s_color_and_nobody_moves_back() {
    let _turn = shared();
    let mut lab = Lab::new(Layout::Whole);
    lab.shop = "    strategy: canary\n".to_owned();
    lab.begin();
    lab.turnout().ok(&["apply"]);
    let service: ServiceName = "shop".parse().unwrap();
    let keys: Vec<String> = (0..20_000).map(|number| format!("user-{number}")).collect();
    let mut before: Option<Vec<Color>> = None;
    for green in [0.0, 10.0, 25.0, 50.0] {
        let weights = [format!("blue={}", 100.0 - green), format!("green={green}")];
        lab.turnout()
            .ok(&["weights", "shop", &weights[0], &weights[1]]);
        let colors = lab.colors_of(&keys, "shop.example.com");
        let split = Split::from_percents(100.0 - green, green).unwrap();
        for (key, color) in keys.iter().zip(&colors) {
            let bucket = Bucket::hashed(Hashing::Xxh32, &service, key.as_bytes());
            assert_eq!(bucket.color(split), *color, "{key} at {green} %");
        }
        let count = colors
            .iter()
            .filter(|color| **color == Color::Green)
            .count();
        let share = 100.0 * f64::from(u32::try_from(count).unwrap()) / 20_000.0;
        println!("haproxy: {green} % asked, {share:.2} % got green");
        assert!((share - green).abs() < 1.0, "{share} instead of {green}");
        if let Some(before) = &before {
            let back = before
                .iter()
                .zip(&colors)
                .filter(|(was, is)| **was == Color::Green && **is == Color::Blue)
                .count();
            assert_eq!(back, 0, "{back} users moved back at {green} %");
        }
        before = Some(colors);
    }
    // odd keys, and the cookie
    for number in 0..200 {
        let key = format!("k{}-{number}", "x".repeat(number % 40));
        let expected = Bucket::hashed(Hashing::Xxh32, &service, key.as_bytes())
            .color(Split::from_percents(50.0, 50.0).unwrap());
        let cookie = format!("a=b; session_id={key}; c=d");
        let answer = lab.ask("/", &[("Cookie", &cookie)]);
        assert_eq!(answer.backend(), Some(expected), "{key}");
        let answer = lab.ask(
            "/",
            &[("X-Session-Key", &key), ("Cookie", "session_id=other")],
        );
        assert_eq!(answer.backend(), Some(expected), "{key}");
    }
    // without a key at random
    let blue = (0..400)
        .filter(|_| lab.ask("/", &[]).backend() == Some(Color::Blue))
        .count();
    assert!((120..280).contains(&blue), "{blue} of 400 at 50 %");
}

#[test]
fn a_color_that_fails_is_left_and_taken_again_by_the_daemon() {
    let _turn = shared();
    let mut lab = Lab::on_blue(Layout::Whole);
    let workers = lab.workers();
    let daemon = lab.serve();
    lab.blue.refuse();
    wait_for("the failover", Duration::from_secs(10), || {
        (lab.ask("/", &[]).backend() == Some(Color::Green)).then_some(())
    });
    lab.turnout().ok(&["verify"]);
    assert_eq!(lab.recorded(), Color::Blue);
    lab.blue.listen();
    wait_for("the way back", Duration::from_secs(10), || {
        (lab.ask("/", &[]).backend() == Some(Color::Blue)).then_some(())
    });
    assert_eq!(lab.workers(), workers);
    drop(daemon);
}

/// A connection that asked once and is kept.
fn kept(lab: &Lab) -> Connection {
    let mut connection = Connection::open(lab.front, Duration::from_secs(10)).unwrap();
    let answer = connection.send(KEPT).unwrap();
    assert!(answer.keeps);
    connection
}

const KEPT: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

#[test]
fn a_kept_connection_of_an_old_worker_follows_a_switch_through_the_master() {
    let _turn = shared();
    let mut lab = Lab::on_blue(Layout::Whole);
    lab.settings = format!("    master_socket: {}\n", lab.path("master.sock").display());
    lab.shop = "    timeouts: { response: 7s }\n".to_owned();
    let mut connection = kept(&lab);
    lab.write();
    lab.turnout().ok(&["apply"]).says("`reload` to");
    assert_eq!(
        lab.workers().len(),
        2,
        "the old worker keeps its connection"
    );
    lab.turnout().ok(&["switch", "green"]);
    let answer = connection.send(KEPT).unwrap();
    assert_eq!(answer.backend(), Some(Color::Green));
    assert!(!answer.keeps, "the old worker goes on");
    wait_for("the old worker's end", Duration::from_secs(10), || {
        (lab.workers().len() == 1).then_some(())
    });
    assert_eq!(lab.agreed("after all"), Color::Green);
}

#[test]
fn a_kept_connection_of_an_old_worker_that_cannot_be_told_is_said() {
    let _turn = shared();
    let mut lab = Lab::on_blue(Layout::Whole);
    lab.shop = "    timeouts: { response: 7s }\n".to_owned();
    let mut connection = kept(&lab);
    lab.write();
    lab.turnout().ok(&["apply"]).says("SIGUSR2");
    lab.turnout()
        .ok(&["switch", "green"])
        .says("from before a reload")
        .says("master_socket");
    assert_eq!(lab.served(), Color::Green);
    let answer = connection.send(KEPT).unwrap();
    assert!(!answer.keeps);
}

#[test]
fn waiting_for_the_drain_waits_for_the_request_in_flight() {
    let _turn = shared();
    let lab = Lab::on_blue(Layout::Whole);
    let front = lab.front;
    let slow = std::thread::spawn(move || crate::support::get(front, "/slow/1500", &[]).unwrap());
    wait_for("the slow request", Duration::from_secs(5), || {
        (lab.blue.requests() > 1).then_some(())
    });
    let begin = Instant::now();
    lab.turnout().ok(&["switch", "green", "--wait-drained"]);
    println!("drained after {:?}", begin.elapsed());
    assert!(slow.is_finished(), "it did not wait");
    assert_eq!(slow.join().unwrap().backend(), Some(Color::Blue));
}
