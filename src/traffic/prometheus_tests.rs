//! Prometheus that is well, slow, gone, and talks nonsense.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::*;

/// How the fake answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    /// 100 requests, 3 errors, 7 slow of blue; twice that of green.
    Well,
    /// Nothing of green at all.
    GreenIsSilent,
    /// The query for this figure finds nothing of this color.
    Lacks(char, Color),
    /// An answer without an end.
    Endless,
    Value(&'static str),
    Empty,
    Refuses,
    Hangs,
    /// Closes what is accepted.
    Gone,
}

#[derive(Debug, Clone)]
struct Fake {
    address: SocketAddr,
    mood: Arc<Mutex<Mood>>,
}

impl Fake {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let fake = Self {
            address: listener.local_addr().unwrap(),
            mood: Arc::new(Mutex::new(Mood::Well)),
        };
        let mood = Arc::clone(&fake.mood);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mood = *mood.lock().unwrap();
                std::thread::spawn(move || answer(stream, mood));
            }
        });
        fake
    }

    fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn prometheus(&self, window: u64) -> Prometheus {
        self.with(window, Some(Duration::from_millis(250)))
    }

    fn with(&self, window: u64, slow_over: Option<Duration>) -> Prometheus {
        let queries = [("requests", "r"), ("errors", "e"), ("slow", "s")];
        let settings = PrometheusSettings {
            url: format!("http://{}", self.address),
            queries: queries
                .map(|(figure, name)| {
                    let text = format!(r#"{name}{{color="{{{{color}}}}"}}[{{{{window}}}}]"#);
                    (figure.to_owned(), text)
                })
                .into(),
            window: Duration::from_millis(window),
            lag: Duration::from_millis(20),
            timeout: Duration::from_millis(300),
            failures: 2,
        };
        let shop = "shop".parse().unwrap();
        Prometheus::new(settings, shop, slow_over).unwrap()
    }
}

fn answer(stream: std::net::TcpStream, mood: Mood) {
    if mood == Mood::Gone {
        return;
    }
    let mut stream = BufReader::new(stream);
    let (mut length, mut line) = (0, String::new());
    while line != "\r\n" {
        line.clear();
        stream.read_line(&mut line).unwrap();
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    let asked = String::from_utf8(body).unwrap();
    let name = asked.strip_prefix("query=").unwrap().chars().next();
    let name = name.unwrap();
    let figure = match name {
        'r' => 100,
        'e' => 3,
        's' => 7,
        other => panic!("{other}"),
    };
    let is_green = asked.contains("green");
    let value = if let Mood::Value(value) = mood {
        value.to_owned()
    } else {
        (figure * if is_green { 2 } else { 1 }).to_string()
    };
    let sample = format!(r#"{{"metric":{{}},"value":[1.5,"{value}"]}}"#);
    let (status, result) = match mood {
        Mood::Hangs => {
            std::thread::sleep(Duration::from_secs(1));
            return;
        }
        Mood::Refuses => (400, String::new()),
        Mood::Empty => (200, String::new()),
        Mood::GreenIsSilent if is_green => (200, String::new()),
        Mood::Lacks(of, color) if of == name && asked.contains(color.as_str()) => {
            (200, String::new())
        }
        Mood::Endless => (200, " ".repeat(LONGEST)),
        Mood::Well | Mood::Value(_) | Mood::GreenIsSilent | Mood::Lacks(..) | Mood::Gone => {
            (200, sample)
        }
    };
    let body = if status == 200 {
        format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{result}]}}}}"#)
    } else {
        r#"{"status":"error","errorType":"bad_data","error":"parse error"}"#.to_owned()
    };
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    // who asked may have given up
    stream.get_mut().write_all((head + &body).as_bytes()).ok();
}

async fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            begin.elapsed() < Duration::from_secs(30),
            "waited for {what}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn both_colors_are_told_for_the_same_stretches_without_a_gap() {
    let fake = Fake::start();
    let feed = fake.prometheus(100).watch();
    let shop: ServiceName = "shop".parse().unwrap();
    let begun = Timestamp::now();
    let over = Duration::from_millis(250);
    let pairs = wait_for("three stretches", || {
        let pairs = feed
            .pairs(&shop, Color::Green, over, Timestamp::UNIX_EPOCH)
            .ok()?;
        (pairs.len() >= 3).then_some(pairs)
    })
    .await;
    let arm = |times: u64| Arm {
        requests: 100 * times,
        errors: 3 * times,
        slow: 7 * times,
    };
    for (pair, next) in pairs.iter().zip(&pairs[1..]) {
        assert_eq!((pair.stable, pair.candidate), (arm(2), arm(1)));
        assert_eq!(pair.to, next.from);
        assert_eq!((pair.to - pair.from).get_milliseconds(), 100);
    }
    let later = feed.pairs(&shop, Color::Green, over, begun + Duration::from_hours(1));
    assert!(
        matches!(later, Err(Unavailable::NoData { .. })),
        "{later:?}"
    );
    fake.set(Mood::GreenIsSilent);
    wait_for("blue alone", || {
        let pairs = feed.pairs(&shop, Color::Blue, over, begun).ok()?;
        (pairs.last()?.candidate == Arm::default()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn whatever_is_wrong_is_a_reason_and_it_goes_on_without_a_gap() {
    let fake = Fake::start();
    let feed = fake.prometheus(100).watch();
    let shop: ServiceName = "shop".parse().unwrap();
    let pairs = || feed.pairs(&shop, Color::Blue, Duration::ZERO, Timestamp::UNIX_EPOCH);
    for (mood, reason) in [
        (
            Mood::Value("NaN"),
            "the query for requests gives NaN, which is no count",
        ),
        (Mood::Empty, "the query for requests finds no series"),
        // a label that only one color lacks: without the stable color nothing can be compared, and errors without a series are
        // unknown where there are requests
        (
            Mood::Lacks('r', Color::Blue),
            "the query for requests finds no series",
        ),
        (
            Mood::Lacks('e', Color::Blue),
            "the query for errors finds no series: look at its name and labels",
        ),
        (
            Mood::Lacks('e', Color::Green),
            r#"write `(…) or vector(0)` where a series begins with its first event (`e{color="green"}[100ms]`)"#,
        ),
        (
            Mood::Endless,
            "more than 1048576 bytes; write sum(…) around it",
        ),
        (
            Mood::Refuses,
            "Prometheus refused the query for requests with 400 Bad Request: parse error",
        ),
        (Mood::Hangs, "does not answer: "),
        (Mood::Gone, "does not answer: "),
    ] {
        fake.set(mood);
        let said = wait_for("a reason", || match pairs() {
            Err(Unavailable::Down(down)) => Some(down.to_string()),
            _ => None,
        })
        .await;
        assert!(said.contains(reason), "{mood:?}: {said}");
        fake.set(Mood::Well);
        wait_for("the return", || pairs().ok()).await;
    }
    // what was missed while it did not answer was asked for again
    let begun = Timestamp::now();
    fake.set(Mood::Gone);
    wait_for("its silence", || pairs().err()).await;
    fake.set(Mood::Well);
    wait_for("the return", || pairs().ok()).await;
    let all = wait_for("two stretches more", || {
        let all = feed.pairs(&shop, Color::Blue, Duration::ZERO, begun).ok()?;
        (all.len() > 3).then_some(all)
    })
    .await;
    for (pair, next) in all.iter().zip(&all[1..]) {
        assert_eq!(pair.to, next.from);
    }
}

#[tokio::test]
async fn one_failure_is_within_the_budget() {
    let fake = Fake::start();
    let feed = fake.prometheus(400).watch();
    let shop: ServiceName = "shop".parse().unwrap();
    let pairs = || feed.pairs(&shop, Color::Blue, Duration::ZERO, Timestamp::UNIX_EPOCH);
    let before = wait_for("a stretch", || pairs().ok()).await.len();
    fake.set(Mood::Refuses);
    tokio::time::sleep(Duration::from_millis(300)).await;
    fake.set(Mood::Well);
    wait_for("the next", || {
        let now = pairs().expect("it was down");
        (now.len() > before).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_preflight_names_the_query_and_lets_an_unused_candidate_pass() {
    let fake = Fake::start();
    let prometheus = fake.prometheus(10_000);
    prometheus.preflight(Color::Blue).await.unwrap();
    fake.set(Mood::GreenIsSilent);
    prometheus.preflight(Color::Blue).await.unwrap();
    let error = prometheus
        .preflight(Color::Green)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains(r#"(`r{color="green"}[10s]`)"#), "{error}");
    // one that has had requests has errors to tell of, or nobody knows how many
    for color in Color::BOTH {
        fake.set(Mood::Lacks('e', color));
        let error = prometheus.preflight(Color::Blue).await.unwrap_err();
        assert!(
            matches!(
                error,
                QueryError::Empty {
                    figure: Figure::Errors,
                    ..
                }
            ),
            "{color}: {error}"
        );
    }
}

#[tokio::test]
async fn without_a_limit_of_the_latency_nobody_is_asked_for_slow_requests() {
    let fake = Fake::start();
    // a bucket of no bound has no series, of either color
    fake.set(Mood::Lacks('s', Color::Blue));
    let prometheus = fake.with(100, None);
    prometheus.preflight(Color::Blue).await.unwrap();
    let feed = prometheus.watch();
    let shop: ServiceName = "shop".parse().unwrap();
    let pairs = wait_for("a stretch", || {
        let over = Duration::from_millis(250);
        feed.pairs(&shop, Color::Blue, over, Timestamp::UNIX_EPOCH)
            .ok()
    })
    .await;
    assert_eq!(pairs[0].stable.slow, 0);
}

#[tokio::test]
async fn nobody_is_asked_for_a_feed_that_nobody_reads() {
    let fake = Fake::start();
    let mut prometheus = fake.prometheus(100);
    prometheus.patience = Duration::from_millis(500);
    let feed = prometheus.watch();
    let shop: ServiceName = "shop".parse().unwrap();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(1) {
        feed.pairs(&shop, Color::Blue, Duration::ZERO, Timestamp::UNIX_EPOCH)
            .ok();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(!feed.has_ended());
    wait_for("the end", || feed.has_ended().then_some(())).await;
}
