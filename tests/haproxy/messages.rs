//! What can be in the way, each with its message; and what somebody else did, seen and never overwritten in silence.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use turnout::domain::Color;

use super::lab::{Lab, Layout};
use crate::support::{Ports, Run, as_user, is_root, shared, wait_for};

#[test]
fn a_haproxy_that_does_not_run_is_named_with_the_way_to_start_it() {
    let _turn = shared();
    let mut lab = Lab::new(Layout::Whole);
    lab.turnout()
        .run(&["apply"])
        .exits(69)
        .says("HAProxy does not run")
        .says("turnout render --to");
    lab.begin();
    lab.turnout().ok(&["apply"]);
    lab.stop();
    lab.turnout()
        .run(&["switch", "green"])
        .exits(69)
        .says("HAProxy does not run");
    assert_eq!(lab.recorded(), Color::Blue);
    lab.start();
    assert_eq!(lab.agreed("after a refused switch"), Color::Blue);
}

#[test]
fn a_socket_that_is_missing_or_somebody_else_s_is_told_apart_from_haproxy_being_gone() {
    let _turn = shared();
    let lab = Lab::on_blue(Layout::Whole);
    std::fs::rename(lab.path("admin.sock"), lab.path("moved.sock")).unwrap();
    lab.turnout()
        .run(&["switch", "green"])
        .exits(69)
        .says("HAProxy runs")
        .says("does not exist")
        .says("stats socket");
    // nobody listens on a socket that is left over
    drop(UnixListener::bind(lab.path("admin.sock")).unwrap());
    lab.turnout()
        .run(&["switch", "green"])
        .exits(69)
        .says("nobody listens on");
    std::fs::remove_file(lab.path("admin.sock")).unwrap();
    std::fs::rename(lab.path("moved.sock"), lab.path("admin.sock")).unwrap();
    lab.turnout().ok(&["switch", "green"]);
}

#[test]
fn a_socket_without_the_level_admin_is_refused_before_anything_is_written() {
    let _turn = shared();
    let mut lab = Lab::on_blue(Layout::Beside);
    lab.level = "operator";
    lab.write();
    lab.start();
    let map = std::fs::read(lab.map()).unwrap();
    lab.turnout()
        .run(&["switch", "green"])
        .exits(77)
        .says("level operator")
        .says("level admin");
    assert_eq!(std::fs::read(lab.map()).unwrap(), map);
    assert_eq!(lab.served(), Color::Blue);
    lab.turnout().run(&["doctor"]).exits(1).says("level admin");
}

#[test]
fn a_user_who_may_not_open_the_socket_is_told_so() {
    let _turn = shared();
    if !is_root("another user tries the socket") {
        return;
    }
    let lab = Lab::on_blue(Layout::Whole);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(lab.folder(), mode).unwrap();
    Run::new("chown")
        .args(["-R", "nobody"])
        .arg(lab.path("state"))
        .run()
        .exits(0);
    lab.turnout()
        .command(&["switch", "green"])
        .under(as_user("nobody"))
        .run()
        .exits(77)
        .says("may not use HAProxy's socket");
    assert_eq!(lab.served(), Color::Blue);
}

#[test]
fn a_socket_that_answers_with_an_error_text_is_believed() {
    let _turn = shared();
    let lab = Lab::on_blue(Layout::Whole);
    let map = std::fs::read(lab.map()).unwrap();
    // a socket that looks right and refuses the change
    let real = lab.path("real.sock");
    std::fs::rename(lab.path("admin.sock"), &real).unwrap();
    let listener = UnixListener::bind(lab.path("admin.sock")).unwrap();
    let proxied = real.clone();
    std::thread::spawn(move || {
        use std::io::{BufRead, BufReader, Read, Write};
        for stream in listener.incoming().flatten() {
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            if stream.read_line(&mut line).is_err() {
                continue;
            }
            let mut answer = String::from("out of memory\n\n");
            if !line.starts_with("set map") {
                let mut upstream = std::os::unix::net::UnixStream::connect(&proxied).unwrap();
                upstream.write_all(line.as_bytes()).unwrap();
                answer.clear();
                upstream.read_to_string(&mut answer).unwrap();
            }
            stream.get_mut().write_all(answer.as_bytes()).ok();
        }
    });
    let ran = lab.turnout().run(&["switch", "green"]);
    ran.exits_with_one_of(&[3, 4]).says("out of memory");
    assert_eq!(lab.served(), Color::Blue);
    assert_eq!(std::fs::read(lab.map()).unwrap(), map);
}

#[test]
fn a_busy_listen_address_is_refused_before_haproxy_is_told() {
    let _turn = shared();
    let mut lab = Lab::on_blue(Layout::Whole);
    let workers = lab.workers();
    let listen = Ports::address();
    let _holder = TcpListener::bind(listen).unwrap();
    lab.services = format!(
        "  blog:\n    listen: {listen}\n    blue: {{ servers: [\"{}\"] }}\n    green: {{ servers: [\"{}\"] }}\n",
        lab.blue.url(),
        lab.green.url()
    );
    lab.write();
    lab.turnout()
        .run(&["apply"])
        .exits(3)
        .says(&listen.to_string())
        .says("held by");
    assert_eq!(lab.workers(), workers);
    assert_eq!(lab.served(), Color::Blue);
}

#[test]
fn what_haproxy_s_check_refuses_is_told_with_its_template_line() {
    let _turn = shared();
    let mut lab = Lab::on_blue(Layout::Whole);
    let template = lab.path("own.cfg.j2");
    let built_in = include_str!("../../templates/haproxy.cfg.j2");
    let own = built_in.replace("    balance roundrobin\n", "    balance sideways\n");
    std::fs::write(&template, own).unwrap();
    lab.settings = format!("    template: {}\n", template.display());
    lab.write();
    lab.turnout()
        .run(&["apply"])
        .exits(65)
        .says("balance only supports")
        .says("own.cfg.j2:");
    assert_eq!(lab.served(), Color::Blue);
}

#[test]
fn a_file_that_haproxy_was_not_started_with_is_said() {
    let _turn = shared();
    let mut lab = Lab::on_blue(Layout::Whole);
    let config = std::fs::read_to_string(lab.path("turnout.yaml")).unwrap();
    let other = lab.path("other.cfg").display().to_string();
    let config = config.replace(&lab.config().display().to_string(), &other);
    std::fs::write(lab.path("turnout.yaml"), config).unwrap();
    lab.turnout()
        .run(&["apply"])
        .exits(3)
        .says("started without `-f");
    lab.write();
    assert_eq!(lab.agreed("after a refused apply"), Color::Blue);
}

#[test]
fn an_haproxy_without_a_master_is_never_signalled() {
    let _turn = shared();
    let mut lab = Lab::on_blue(Layout::Whole);
    let worker = lab.workers()[0];
    std::fs::write(lab.path("haproxy.pid"), worker.to_string()).unwrap();
    // color and weights need no master
    lab.turnout().ok(&["switch", "green"]);
    lab.shop = "    timeouts: { response: 7s }\n".to_owned();
    lab.write();
    lab.turnout()
        .run(&["apply"])
        .exits(69)
        .says("without a master");
    assert_eq!(lab.workers(), [worker]);
    std::fs::write(lab.path("haproxy.pid"), lab.master_pid().to_string()).unwrap();
    lab.turnout().ok(&["apply"]);
    assert_eq!(lab.agreed("after the master is known"), Color::Green);
}

#[test]
fn a_share_set_by_hand_on_the_socket_is_drift_and_never_overwritten_in_silence() {
    let _turn = shared();
    let mut lab = Lab::on_blue(Layout::Whole);
    let daemon = lab.serve();
    lab.socket(&format!("set map {} shop 5000", lab.map().display()));
    lab.turnout()
        .run(&["verify"])
        .exits(1)
        .says("blue 50% green 50%");
    // longer than the daemon's look
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(lab.blue_share(), 5_000, "a person's share was overwritten");
    lab.turnout()
        .ok(&["switch", "green"])
        .says("by hand on HAProxy's socket");
    assert_eq!(lab.agreed("after the switch"), Color::Green);
    drop(daemon);
}

#[test]
fn a_map_edited_by_hand_is_refused_without_force() {
    let _turn = shared();
    let mut lab = Lab::on_blue(Layout::Whole);
    let text = std::fs::read_to_string(lab.map()).unwrap();
    std::fs::write(lab.map(), text.replace("shop 10000", "shop 5000")).unwrap();
    lab.turnout()
        .run(&["switch", "green"])
        .exits(1)
        .says("position.map")
        .says("edited by hand");
    assert_eq!(lab.served(), Color::Blue);
    lab.turnout().ok(&["switch", "green", "--force"]);
    assert_eq!(lab.agreed("after the force"), Color::Green);
}

#[test]
fn a_stranger_s_reload_is_noticed_and_what_it_lost_is_put_right() {
    let _turn = shared();
    let mut lab = Lab::on_blue(Layout::Whole);
    let daemon = lab.serve();
    lab.turnout().ok(&["switch", "green"]);
    lab.reload_by_hand();
    assert_eq!(lab.served(), Color::Green);
    wait_for("the daemon's look", Duration::from_secs(10), || {
        daemon.log().contains("by somebody else").then_some(())
    });
    // a position that got lost: a reload of an older map than the one that stands there now
    let current = std::fs::read(lab.map()).unwrap();
    let older = String::from_utf8_lossy(&current).replace("\nshop 0\n", "\nshop 10000\n");
    std::fs::write(lab.map(), older).unwrap();
    lab.reload_by_hand();
    std::fs::write(lab.map(), current).unwrap();
    wait_for(
        "the position to be put right",
        Duration::from_secs(10),
        || (lab.blue_share() == 0).then_some(()),
    );
    assert_eq!(lab.agreed("after the stranger"), Color::Green);
    wait_for("its line in the log", Duration::from_secs(2), || {
        daemon.log().contains("was put right").then_some(())
    });
}

#[test]
fn switches_amid_a_stranger_s_reloads_are_true_when_answered() {
    let _turn = shared();
    let mut lab = Lab::on_blue(Layout::Whole);
    let mut color = Color::Blue;
    for round in 0..12_u64 {
        color = !color;
        let run = lab.turnout().command(&["switch", &color.to_string()]);
        let log = lab.path("switch.log");
        let mut switching = run.background(&log);
        std::thread::sleep(Duration::from_millis(20 * round));
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(lab.master_pid()),
            nix::sys::signal::Signal::SIGUSR2,
        )
        .unwrap();
        let status = switching.wait(Duration::from_secs(30));
        assert_eq!(status.code(), Some(0), "{}", switching.printed());
        wait_for("one worker", Duration::from_secs(10), || {
            (lab.workers().len() == 1).then_some(())
        });
        let context = format!("round {round}");
        assert_eq!(lab.agreed(&context), color, "{context}");
    }
}

#[test]
fn a_reload_that_haproxy_refuses_after_its_check_is_taken_back() {
    let _turn = shared();
    let mut lab = Lab::on_blue(Layout::Whole);
    lab.turnout().ok(&["switch", "green"]);
    let before = (
        std::fs::read(lab.config()).unwrap(),
        std::fs::read(lab.map()).unwrap(),
    );
    let template = lab.path("own.cfg.j2");
    let built_in = include_str!("../../templates/haproxy.cfg.j2");
    let own = built_in.replace("    balance roundrobin\n", "    balance sideways\n");
    std::fs::write(&template, own).unwrap();
    // a check that lies: another binary, or another environment
    lab.settings = format!(
        "    template: {}\n    binary: /bin/true\n",
        template.display()
    );
    lab.write();
    lab.turnout()
        .run(&["apply"])
        .exits(3)
        .says("did not take the new configuration")
        .says("the last good configuration is back");
    let after = (
        std::fs::read(lab.config()).unwrap(),
        std::fs::read(lab.map()).unwrap(),
    );
    assert_eq!(before, after);
    lab.settings.clear();
    lab.shop = "    timeouts: { response: 7s }\n".to_owned();
    lab.write();
    lab.turnout().ok(&["apply"]);
    assert_eq!(lab.agreed("after the next one"), Color::Green);
}

#[test]
fn a_front_door_that_is_not_turnout_s_takes_the_change_back() {
    let _turn = shared();
    let mut lab = Lab::on_blue(Layout::OwnFrontend);
    // the user points the frontend elsewhere
    let user = std::fs::read_to_string(lab.path("user.cfg")).unwrap();
    let mut own: Vec<&str> = user
        .lines()
        .filter(|line| !line.contains("use_backend"))
        .collect();
    own.push("    http-request return status 200\n");
    std::fs::write(lab.path("user.cfg"), own.join("\n")).unwrap();
    lab.reload_by_hand();
    let map = std::fs::read(lab.map()).unwrap();
    lab.turnout()
        .run(&["switch", "green"])
        .exits(3)
        .says("without X-Routed-To");
    assert_eq!(std::fs::read(lab.map()).unwrap(), map);
    assert_eq!(lab.blue_share(), 10_000);
    std::fs::write(lab.path("user.cfg"), user).unwrap();
    lab.reload_by_hand();
    assert_eq!(lab.agreed("after all"), Color::Blue);
}
