//! The same promise as [`super::switches`]'s thousand switches, whole: through the control API of a daemon, with journal, state file
//! and status, as a release tool makes them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use turnout::domain::Color;

use super::Shop;
use super::server::App;
use super::switches::{event_streams, join, web_sockets};
use crate::load::{assert_none, stale};
use crate::support::{Event, Load, alone};

/// As many as half a minute has room for on a busy machine.
const SWITCHES: usize = 200;

#[test]
fn two_hundred_switches_through_the_api_at_saturation_lose_nothing_and_none_is_stale() {
    let _turn = alone();
    let (blue, green) = (App::start(Color::Blue), App::start(Color::Green));
    let shop = Shop::start(&[&blue], &[&green], &["timeouts: { drain: 10m }"]);
    shop.ask("/");
    let stop = Arc::new(AtomicBool::new(false));
    let load = Load::start(shop.front);
    let mut streams = event_streams(shop.front, 8, &stop);
    streams.extend(web_sockets(shop.front, 8, &stop));
    let begun = Instant::now();
    let mut color = Color::Blue;
    let mut events = Vec::with_capacity(SWITCHES);
    for _ in 0..SWITCHES {
        color = !color;
        let asked = Instant::now();
        shop.daemon().api().activate(color);
        events.push(Event {
            to: Some(color),
            asked,
            answered: Instant::now(),
        });
    }
    let took = begun.elapsed();
    std::thread::sleep(Duration::from_millis(200));
    stop.store(true, Ordering::Relaxed);
    let report = load.finish();
    println!(
        "{SWITCHES} switches through the API in {took:.1?}, {} requests at {:.0} a second",
        report.requests(),
        report.rate()
    );
    assert_eq!(
        report.failures().len(),
        0,
        "{:?}",
        report.failures().first()
    );
    assert_none("answers other than 2xx", &report.not_2xx());
    assert_none("mislabelled", &report.mislabelled());
    assert_none(
        "answers of the old color after the switch was answered",
        &stale(&report, &events, |sample| sample.start),
    );
    let streams = join(streams);
    assert!(
        streams.iter().all(|stream| stream.ended.is_none()),
        "closed before the drain deadline: {streams:?}"
    );
}
