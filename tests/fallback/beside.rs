//! A balancer that is neither gone nor back: one that was started without turnout's file, one whose leftovers hold its private
//! listener, and one that takes its time to start.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use turnout::domain::Color;

use super::{LOOKS, wait_for_duty, wait_for_none};
use crate::support::{NginxSetup, Site, Turnout, shared, wait_for};

/// Well behind the time in which it would be taken over without a release, and well before the end of the grace (10 s).
const LONG: Duration = Duration::from_secs(3);

fn site() -> Site {
    let mut site = Site::nginx_with("blue_green", NginxSetup::default());
    site.use_fallback("true");
    site.turnout().ok(&["apply"]);
    site
}

fn problems(turnout: &Turnout) -> String {
    let status = turnout.ok(&["status", "-o", "json"]).json();
    status["problems"].to_string()
}

#[track_caller]
fn wait_for_problem(turnout: &Turnout, text: &str) {
    wait_for(text, Duration::from_secs(20), || {
        problems(turnout).contains(text).then_some(())
    });
}

#[test]
fn an_nginx_that_came_back_without_turnout_s_file_is_told_and_not_given_the_clients() {
    let _turn = shared();
    let mut site = site();
    let turnout = site.turnout();
    let daemon = site.serve();
    site.balancer_mut().crash();
    wait_for_duty(&turnout, "serving");

    // with its include it could not start: turnout holds the address
    let main = site.balancer().main();
    let text = std::fs::read_to_string(&main).unwrap();
    let line = text.lines().find(|line| line.contains("include ")).unwrap();
    std::fs::write(&main, text.replace(line, "")).unwrap();
    site.balancer_mut().restart();
    wait_for_problem(&turnout, "nginx is neither gone nor back");
    std::thread::sleep(LOOKS * 2);
    assert_eq!(wait_for_duty(&turnout, "serving")["balancer"], "nginx");
    assert_eq!(site.served(), Color::Blue);

    std::fs::write(&main, text).unwrap();
    site.balancer_mut().crash();
    wait_for("the end of the problem", Duration::from_secs(20), || {
        (!problems(&turnout).contains("neither gone nor back")).then_some(())
    });
    turnout.ok(&["switch", "green"]);
    assert_eq!(site.served(), Color::Green);
    turnout.ok(&["fallback", "release"]);
    site.balancer_mut().restart();
    wait_for_none(&turnout);
    assert_eq!(site.served(), Color::Green);
    turnout.ok(&["verify"]);
    drop(daemon);
}

#[test]
fn an_nginx_that_was_given_its_listeners_has_time_to_start() {
    let _turn = shared();
    let mut site = site();
    let turnout = site.turnout();
    let daemon = site.serve();
    let none = || {
        let told = turnout.ok(&["fallback", "status", "-o", "json"]);
        told.json().is_null()
    };

    // what the drop-in does at a restart, before turnout has taken over
    site.balancer_mut().crash();
    let told = turnout.ok(&["fallback", "release", "-o", "json"]).json();
    assert_eq!(told["outcome"], "not_in_force");
    std::thread::sleep(LONG);
    assert!(none(), "a starting nginx was taken over");
    site.balancer_mut().restart();
    assert_eq!(site.served(), Color::Blue);
    std::thread::sleep(LOOKS);
    assert!(none());

    // and after it has
    site.balancer_mut().crash();
    wait_for_duty(&turnout, "serving");
    turnout.ok(&["fallback", "release"]).says("within 10000 ms");
    std::thread::sleep(LONG);
    drop(TcpListener::bind(site.front).unwrap());
    wait_for_duty(&turnout, "released");
    site.balancer_mut().restart();
    wait_for_none(&turnout);
    assert_eq!(site.served(), Color::Blue);

    // a grace is used up by the start that it was for
    let begin = Instant::now();
    site.balancer_mut().crash();
    wait_for_duty(&turnout, "serving");
    assert!(begin.elapsed() < LONG, "{:?}", begin.elapsed());
    drop(daemon);
}

#[test]
fn leftovers_of_an_nginx_that_was_given_its_listeners_are_told_and_looked_at_rarely() {
    let _turn = shared();
    let mut site = site();
    let turnout = site.turnout();
    let daemon = site.serve();
    site.balancer_mut().crash();
    wait_for_duty(&turnout, "serving");

    // somebody who accepts on the private listener and says nothing: a worker without a master, say
    let listener = TcpListener::bind(site.prove).unwrap();
    let (looks, stop) = (
        Arc::new(AtomicU32::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let accepting = {
        let (looks, stop) = (Arc::clone(&looks), Arc::clone(&stop));
        std::thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                drop(listener.accept().unwrap());
                looks.fetch_add(1, Ordering::SeqCst);
            }
        })
    };
    turnout.ok(&["fallback", "release"]);
    wait_for_problem(&turnout, "nginx is neither gone nor there");
    turnout.run(&["status"]).says("nobody may be serving");
    let before = looks.load(Ordering::SeqCst);
    std::thread::sleep(Duration::from_secs(2));
    let after = looks.load(Ordering::SeqCst) - before;
    println!("{after} looks in 2 s");
    // one each 200 ms, and two of the controller's own looks for drift, of some questions each
    assert!((1..40).contains(&after), "{after} looks in 2 s");

    stop.store(true, Ordering::SeqCst);
    drop(std::net::TcpStream::connect(site.prove));
    accepting.join().unwrap();
    site.balancer_mut().restart();
    wait_for_none(&turnout);
    assert_eq!(site.served(), Color::Blue);
    wait_for("the end of the problem", Duration::from_secs(20), || {
        (!problems(&turnout).contains("neither gone nor there")).then_some(())
    });
    drop(daemon.allow("could not be put into force"));
}
