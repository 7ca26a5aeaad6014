//! A real Prometheus that scrapes turnout, as a source of figures: it tells what the clients did, and its silence is a reason.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::sys::signal::Signal;
use turnout::config::PrometheusSettings;
use turnout::domain::Color;
use turnout::traffic::{Feed, Prometheus, QueryError, Unavailable};

use crate::support::{Background, Ports, Run, SOON, Site, get, shared, wait_for};

fn start(site: &Site) -> (Background, String) {
    let listen = Ports::address();
    let folder = site.folder();
    let config = folder.join("prometheus.yml");
    let text = format!(
        "global: {{ scrape_interval: 500ms, scrape_timeout: 400ms }}\nscrape_configs:\n  - job_name: turnout\n    static_configs: [{{ targets: [\"{}\"] }}]\n",
        site.control
    );
    std::fs::write(&config, text).unwrap();
    let process = Run::new("prometheus")
        .arg(format!("--config.file={}", config.display()))
        .arg(format!(
            "--storage.tsdb.path={}",
            folder.join("tsdb").display()
        ))
        .arg(format!("--web.listen-address={listen}"))
        .background(&folder.join("prometheus.log"));
    wait_for("Prometheus", SOON, || {
        let ready = get(listen, "/-/ready", &[]);
        ready.is_ok_and(|answer| answer.status == 200).then_some(())
    });
    (process, format!("http://{listen}"))
}

fn settings(url: &str, errors: &str) -> PrometheusSettings {
    let of = |name: &str| {
        format!(
            "sum(increase({name}{{service=\"{{{{service}}}}\",color=\"{{{{color}}}}\"}}[{{{{window}}}}]))"
        )
    };
    PrometheusSettings {
        url: url.to_owned(),
        queries: [
            ("requests".to_owned(), of("turnout_http_requests_total")),
            ("errors".to_owned(), errors.to_owned()),
        ]
        .into(),
        window: Duration::from_secs(4),
        lag: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        failures: 2,
    }
}

fn watch(settings: PrometheusSettings) -> Feed {
    let shop = "shop".parse().unwrap();
    Prometheus::new(settings, shop, Some(Duration::from_millis(250)))
        .unwrap()
        .watch()
}

#[test]
fn a_real_prometheus_tells_both_colors_and_its_silence_is_a_reason() {
    let _turn = shared();
    let site = Site::embedded("canary");
    let _daemon = site.serve();
    site.turnout().ok(&["weights", "blue=50", "green=50"]);
    let (process, url) = start(&site);
    let errors = "sum(increase(turnout_http_requests_failed_total{service=\"{{service}}\",color=\"{{color}}\"}[{{window}}]))";
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let _inside = runtime.enter();
    let feed = watch(settings(&url, errors));
    let shop = "shop".parse().unwrap();
    let since = Timestamp::now();
    let pairs = || feed.pairs(&shop, Color::Blue, Duration::from_millis(250), since);
    let begun = Instant::now();
    let mut sent = 0_u64;
    let told = loop {
        assert!(begun.elapsed() < SOON, "{:?}", pairs());
        for _ in 0..20 {
            assert_eq!(get(site.front, "/", &[]).unwrap().status, 200);
            sent += 1;
        }
        std::thread::sleep(Duration::from_millis(100));
        match pairs() {
            Ok(pairs) if pairs.len() >= 3 => break pairs,
            _ => {}
        }
    };
    let of = |part: fn(&turnout::domain::Paired) -> u64| told.iter().map(part).sum::<u64>();
    let (blue, green) = (
        of(|pair| pair.stable.requests),
        of(|pair| pair.candidate.requests),
    );
    println!(
        "{sent} requests sent, Prometheus told {blue} blue and {green} green in {} stretches",
        told.len()
    );
    assert!(blue > 0 && green > 0, "{told:?}");
    assert!(
        blue + green <= sent * 11 / 10,
        "{blue} and {green} of {sent}"
    );
    assert_eq!(of(|pair| pair.stable.errors + pair.candidate.errors), 0);

    process.signal(Signal::SIGSTOP);
    let down = wait_for("its silence to be seen", SOON, || match pairs() {
        Err(Unavailable::Down(down)) => Some(down.to_string()),
        _ => None,
    });
    assert!(
        down.contains(&format!("Prometheus at {url} does not answer")),
        "{down}"
    );
    process.signal(Signal::SIGCONT);
    wait_for("its return", SOON, || pairs().ok());

    // what the preflight of a bad query says
    let preflight = |errors: &str| {
        let shop = "shop".parse().unwrap();
        let prometheus = Prometheus::new(settings(&url, errors), shop, None).unwrap();
        runtime.block_on(prometheus.preflight(Color::Blue))
    };
    assert!(preflight(errors).is_ok());
    let refused = preflight("sum(increase(x{color=\"{{color}}\"[{{window}}]))").unwrap_err();
    assert!(matches!(refused, QueryError::Refused { .. }), "{refused}");
    let empty = preflight(
        "sum(increase(turnout_http_requests_failed_total{colour=\"{{color}}\"}[{{window}}]))",
    )
    .unwrap_err();
    assert!(matches!(empty, QueryError::Empty { .. }), "{empty}");
    let several = preflight("turnout_http_requests_total or up{color!=\"{{color}}\"}").unwrap_err();
    assert!(matches!(several, QueryError::Several { .. }), "{several}");
    let ratio = preflight("0 * vector(0) / 0 or up{color=\"{{color}}\"}").unwrap_err();
    assert!(matches!(ratio, QueryError::NotACount { .. }), "{ratio}");
}
