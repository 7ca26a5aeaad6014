//! The API while the proxy has all the work that a few clients can make. `cargo bench --bench api` has the figures of the
//! optimized program, for which 5 ms are promised; here a machine that does ten other things runs the unoptimized one.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::{Connection, SOON, Site, alone};

const READS: usize = 200;
/// Ten times the promise, for an unoptimized program that shares two cores with its own load.
const MEDIAN: Duration = Duration::from_millis(50);

#[test]
fn reads_are_answered_while_the_proxy_is_saturated() {
    let _turn = alone();
    let site = Site::embedded("blue_green");
    let _daemon = site.serve();
    let (over, served) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut took: Vec<Duration> = std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut connection = Connection::open(site.front, SOON).unwrap();
                let request = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", site.front);
                while !over.load(Ordering::Relaxed) {
                    assert_eq!(connection.send(request.as_bytes()).unwrap().status, 200);
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut reader = Connection::open(site.control, SOON).unwrap();
        let took = (0..READS).map(|number| {
            let path = ["/orchestration/status", "/v1/services", "/health"][number % 3];
            let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", site.control);
            let begun = Instant::now();
            let answer = reader.send(request.as_bytes()).unwrap();
            let took = begun.elapsed();
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
            took
        });
        let took = took.collect();
        over.store(true, Ordering::Relaxed);
        took
    });
    took.sort();
    let (median, last) = (took[READS / 2], took[READS - 1]);
    println!(
        "{READS} reads beside {} requests: median {median:?}, longest {last:?}",
        served.load(Ordering::Relaxed)
    );
    assert!(median < MEDIAN, "{median:?}");
}
