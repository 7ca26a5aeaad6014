//! Clients that ask for much and take little: what they keep the proxy from letting go of.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use turnout::domain::Color;

use super::Shop;
use super::proof::resident;
use super::server::App;
use crate::support::{Run, alone, get};

/// KiB that may be added to what a daemon has at rest.
const BOUND: u64 = 64 * 1024;

/// An answer that is read at once gives its connection back at once, while the client has taken next to nothing of it.
#[test]
fn slow_readers_of_answers_that_one_read_takes_in_hold_less_than_all_of_them() {
    let _turn = alone();
    let (blue, green) = (App::start(Color::Blue), App::start(Color::Green));
    for bytes in [64 * 1024, 128 * 1024] {
        let mut shop = Shop::start(&[&blue], &[&green], &[]);
        let path = format!("/big/{bytes}");
        // what one connection after another needs at work
        for _ in 0..20 {
            assert_eq!(get(shop.front, &path, &[]).unwrap().status, 200);
        }
        let pid = shop.daemon.as_mut().unwrap().process().pid();
        let rest = resident(pid);
        let (most, stop) = (
            Arc::new(AtomicU64::new(rest)),
            Arc::new(AtomicBool::new(false)),
        );
        let watching = std::thread::spawn({
            let (most, stop) = (Arc::clone(&most), Arc::clone(&stop));
            move || {
                while !stop.load(Ordering::Relaxed) {
                    most.fetch_max(resident(pid), Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        });
        Run::new("slowhttptest")
            .args(["-X", "-c", "600", "-r", "200", "-p", "2", "-l", "8"])
            .args(["-w", "512", "-y", "1024", "-n", "1", "-z", "32", "-k", "1"])
            .arg("-u")
            .arg(format!("http://{}{path}", shop.front))
            .deadline(Duration::from_mins(2))
            .run();
        stop.store(true, Ordering::Relaxed);
        watching.join().unwrap();
        let grown = most.load(Ordering::Relaxed) - rest;
        println!("600 slow readers of {bytes} bytes: {grown} KiB above rest");
        assert!(grown < BOUND, "{bytes}: {grown} KiB");
    }
}
