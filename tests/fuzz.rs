//! What reads words of others, fed with words that nobody would write: configuration, state file, journal, bodies of the API,
//! heads of requests. Mutations of real ones, by chance, for a second each; `TURNOUT_FUZZ_SECONDS=600` for a real run. An input that
//! fails is printed; it belongs then, as a case of its own, to the tests of what it broke.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use turnout::config::{Config, Env, Source};
use turnout::domain::Color;
use turnout::store::Store;

use crate::support::{Site, shared};

/// An input that takes longer hangs; on a busy machine, at the lowest priority, any takes seconds.
const AT_ONCE: Duration = Duration::from_mins(1);

/// Runs `case` on mutations of `seeds` until the time is over.
fn fuzz(name: &str, seeds: &[Vec<u8>], words: &[&str], mut case: impl FnMut(&[u8])) {
    let seconds = std::env::var("TURNOUT_FUZZ_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut runs = 0_u64;
    while Instant::now() < end {
        let mut input = seeds[rand::random_range(0..seeds.len())].clone();
        for _ in 0..rand::random_range(1..6) {
            mutate(&mut input, seeds, words);
        }
        let shown = Shown(&input);
        let begin = Instant::now();
        case(&input);
        assert!(
            begin.elapsed() < AT_ONCE,
            "{name} took {:?}",
            begin.elapsed()
        );
        std::mem::forget(shown);
        runs += 1;
    }
    println!("{name}: {runs} inputs");
}

/// Prints the input if the case panics.
struct Shown<'a>(&'a [u8]);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        println!("--- failed on\n{}\n---", self.0.escape_ascii());
    }
}

fn mutate(input: &mut Vec<u8>, seeds: &[Vec<u8>], words: &[&str]) {
    let place = |length: usize| rand::random_range(0..=length);
    let at = place(input.len());
    match rand::random_range(0..8) {
        0 => input.insert(at, rand::random()),
        1 => {
            if let Some(byte) = input.get_mut(at) {
                *byte = rand::random();
            }
        }
        2 => {
            let end = (at + place(16)).min(input.len());
            input.drain(at..end);
        }
        3 => {
            let end = (at + place(32)).min(input.len());
            let part = input[at..end].to_vec();
            let to = place(input.len());
            input.splice(to..to, part);
        }
        4 => input.truncate(at),
        5 => {
            let other = &seeds[rand::random_range(0..seeds.len())];
            let from = place(other.len());
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        6 => {
            let lines: Vec<&[u8]> = input.split_inclusive(|byte| *byte == b'\n').collect();
            let (one, two) = (
                rand::random_range(0..lines.len().max(1)),
                place(lines.len()),
            );
            let line = lines.get(one).map_or(Vec::new(), |line| line.to_vec());
            let to: usize = lines[..two].iter().map(|line| line.len()).sum();
            input.splice(to..to, line);
        }
        _ => {
            let word = words[rand::random_range(0..words.len())];
            let end = (at + place(8)).min(input.len());
            input.splice(at..end, word.bytes());
        }
    }
}

#[test]
fn a_configuration_is_taken_or_refused_with_its_problems() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("turnout.yaml");
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let seeds: Vec<Vec<u8>> = std::fs::read_dir(examples)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        // an example that another test runs keeps its state beside it
        .filter(|path| path.extension().is_some_and(|end| end == "yaml"))
        .map(|path| std::fs::read(path).unwrap())
        .collect();
    let words = [
        "${",
        "${A:-",
        "}",
        "\"",
        "'",
        "|",
        ">",
        "&a ",
        "*a",
        "<<: ",
        "!!",
        "null",
        "~",
        "[",
        "]",
        "{",
        ": ",
        "- ",
        "\n  ",
        "1e999",
        "-1",
        "0",
        "99999999999999999999",
        "0x10",
        "on",
        "300%",
        "5s",
        "1m 30s",
        "1y",
        "32KiB",
        "127.0.0.1:0",
        "[::1]:80",
        "unix:",
        "http://",
        "blue",
        "green",
        "all",
        "*.a",
        "..",
        "target: ",
        "listen: ",
        "hosts: ",
        "\u{feff}",
        "\0",
        "%YAML",
        "---\n",
    ];
    fuzz("configuration", &seeds, &words, |input| {
        std::fs::write(&path, input).unwrap();
        let source = Source::File {
            path: path.clone(),
            shown: "turnout.yaml".into(),
        };
        match Config::load(&source, &Env::of_process()) {
            Ok(config) => {
                for service in config.services.values() {
                    let servers = |color| service.shape.servers(color);
                    assert!(
                        servers(Color::Blue)
                            .iter()
                            .all(|server| !servers(Color::Green).contains(server))
                    );
                }
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    });
}

/// A state directory that a daemon has written.
fn lived_in() -> Site {
    let site = Site::embedded("canary");
    let daemon = site.serve();
    site.turnout()
        .ok(&["weights", "shop", "blue=80", "green=20"]);
    site.turnout()
        .ok(&["switch", "green", "-m", "ünïcode \"quoted\""]);
    assert_eq!(daemon.stop().code(), Some(0));
    site
}

#[test]
fn a_broken_state_or_journal_is_told_and_never_written_to() {
    let _turn = shared();
    let site = lived_in();
    let words = [
        "null",
        "{}",
        "[]",
        "\"\"",
        "-1",
        "18446744073709551616",
        "1e400",
        "NaN",
        "\\u0000",
        "\\ud800",
        "blue",
        "green",
        "red",
        "\n",
        "{\"",
        "}",
        "\"generation\":",
        "\"version\":",
        "\"kind\":",
        "\"done\"",
        "\"intent\"",
        "\"id\":",
    ];
    for file in ["state.json", "journal.jsonl"] {
        let good = std::fs::read(site.state_dir().join(file)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        for other in ["state.json", "state.json.bak", "journal.jsonl"] {
            if let Ok(text) = std::fs::read(site.state_dir().join(other)) {
                std::fs::write(folder.path().join(other), text).unwrap();
            }
        }
        let store = Store::new(folder.path().to_owned());
        fuzz(file, &[good], &words, |input| {
            let path = folder.path().join(file);
            std::fs::write(&path, input).unwrap();
            match store.load() {
                Ok(loaded) => assert!(loaded.state.services.len() <= 8),
                Err(error) => assert!(!error.to_string().is_empty()),
            }
            assert_eq!(std::fs::read(&path).unwrap(), input, "reading wrote");
        });
    }
}

#[test]
fn a_body_that_does_not_fit_is_the_clients_fault_and_changes_nothing() {
    let _turn = shared();
    let site = Site::embedded("canary");
    let daemon = site.serve();
    let paths = [
        "/orchestration/strategy",
        "/orchestration/canary/weights",
        "/orchestration/canary/shift",
        "/orchestration/rollback",
        "/orchestration/bluegreen/activate",
    ];
    let seeds: Vec<Vec<u8>> = [
        r#"{"strategy":"canary"}"#,
        r#"{"blue":80,"green":20,"normalize":true}"#,
        r#"{"delta":10,"towards":"green"}"#,
        r#"{"active":"green","force":true}"#,
        "{}",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec();
    let words = [
        "null",
        "[",
        "]",
        "{",
        "}",
        "\"",
        ":",
        ",",
        "1e999",
        "-0",
        "0.001",
        "true",
        "\\ud800",
        "blue",
        "green",
        "\"blue\":",
        "\"active\":",
    ];
    let position = || daemon.api().get("/orchestration/status").json()["weights"].clone();
    let mut before = position();
    fuzz("API bodies", &seeds, &words, |input| {
        let path = paths[rand::random_range(0..paths.len())];
        let mut request = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            site.control,
            input.len()
        )
        .into_bytes();
        request.extend_from_slice(input);
        let answer = crate::support::Connection::open(site.control, AT_ONCE)
            .and_then(|mut connection| connection.send(&request))
            .unwrap();
        assert!(
            answer.status < 500,
            "{path}: {} {}",
            answer.status,
            answer.text()
        );
        let now = position();
        assert!(
            answer.status < 300 || now == before,
            "{path}: {} moved {before} to {now}",
            answer.status
        );
        before = now;
    });
}

/// A server that looks at what it gets, and what it found wrong.
fn inspector() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let found: Arc<Mutex<Vec<String>>> = Arc::default();
    let wrong = Arc::clone(&found);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let wrong = Arc::clone(&wrong);
            std::thread::spawn(move || inspect(&stream, &wrong));
        }
    });
    (address, found)
}

fn inspect(stream: &TcpStream, wrong: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if !matches!(reader.read_until(b'\n', &mut head), Ok(1..)) {
                return;
            }
        }
        let complaints = complaints(&head);
        if !complaints.is_empty() {
            let text = format!("{complaints:?} in {}", head.escape_ascii());
            wrong.lock().unwrap().push(text);
        }
        // bodies are not read: one answer, and the end
        let bodyless =
            value(&head, "content-length").is_none() && value(&head, "transfer-encoding").is_none();
        let answer = if bodyless {
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
        } else {
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
        };
        let mut writer = stream;
        if writer.write_all(answer.as_bytes()).is_err() || !bodyless {
            return;
        }
    }
}

fn value(head: &[u8], name: &str) -> Option<Vec<u8>> {
    head.split(|byte| *byte == b'\n').skip(1).find_map(|line| {
        let (is, value) = line.split_at_checked(name.len())?;
        (is.eq_ignore_ascii_case(name.as_bytes()) && value.first() == Some(&b':'))
            .then(|| value[1..].trim_ascii().to_vec())
    })
}

fn complaints(head: &[u8]) -> Vec<String> {
    let mut complaints = Vec::new();
    let names: Vec<String> = head
        .split(|byte| *byte == b'\n')
        .skip(1)
        .filter_map(|line| {
            line.iter()
                .position(|byte| *byte == b':')
                .map(|end| &line[..end])
        })
        .map(|name| String::from_utf8_lossy(name).to_ascii_lowercase())
        .collect();
    let count = |name: &str| names.iter().filter(|known| *known == name).count();
    for (name, most) in [
        ("host", 1),
        ("content-length", 1),
        ("transfer-encoding", 1),
        ("x-forwarded-for", 1),
        ("x-real-ip", 1),
    ] {
        if count(name) > most {
            complaints.push(format!("{} times {name}", count(name)));
        }
    }
    if count("host") != 1 {
        complaints.push("no host".to_owned());
    }
    if count("content-length") + count("transfer-encoding") > 1 {
        complaints.push("two framings".to_owned());
    }
    for name in [
        "forwarded",
        "keep-alive",
        "proxy-connection",
        "x-forwarded-port",
    ] {
        if count(name) > 0 {
            complaints.push(format!("{name} came through"));
        }
    }
    let health = head.starts_with(b"GET /health ");
    for name in ["x-forwarded-for", "x-real-ip"] {
        if !health && value(head, name).as_deref() != Some(b"127.0.0.1".as_slice()) {
            complaints.push(format!("{name} is forged"));
        }
    }
    let line_ends = head
        .windows(2)
        .any(|pair| (pair[1] == b'\n') != (pair[0] == b'\r'));
    if line_ends
        || names
            .iter()
            .any(|name| name.bytes().any(|byte| byte <= b' '))
    {
        complaints.push("a line that is no header".to_owned());
    }
    complaints
}

#[test]
fn a_request_reaches_the_server_in_one_form_or_not_at_all() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let (address, wrong) = inspector();
    let text = std::fs::read_to_string(site.config()).unwrap();
    let text = text.replace(&site.blue.url(), &format!("http://{address}"));
    std::fs::write(site.config(), text).unwrap();
    let _daemon = site.serve();
    let seeds: Vec<Vec<u8>> = [
        "GET /page HTTP/1.1\r\nHost: shop.example.com\r\nX-Forwarded-For: 1.1.1.1\r\nX-Real-IP: 2.2.2.2\r\nForwarded: for=3.3.3.3\r\n\r\n",
        "POST /order HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: 5\r\nConnection: X-Hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: 5\r\n\r\nhello",
        "POST /order HTTP/1.1\r\nHost: shop.example.com\r\nTransfer-Encoding: chunked\r\nX-Forwarded-Port: 1\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "GET http://shop.example.com/page HTTP/1.1\r\nHost: shop.example.com\r\nCookie: a=b; session_id=x\r\nTE: trailers\r\n\r\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec();
    let words = [
        "\r\n",
        "\n",
        "\r",
        " ",
        "\t",
        ":",
        "\0",
        "\r\n ",
        "Host: b\r\n",
        "Content-Length: 5\r\n",
        "Content-Length: 6\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Connection: host, content-length\r\n",
        "Connection: close\r\n",
        "HTTP/1.0",
        "HTTP/1.1",
        "chunked",
        ",",
        "x-hop",
        "Forwarded: for=1\r\n",
        "X-Forwarded-For: 9.9.9.9\r\n",
        "Expect: 100-continue\r\n",
        "Upgrade: websocket\r\n",
        "\u{e9}",
        "Proxy-Connection: x\r\n",
    ];
    fuzz("heads", &seeds, &words, |input| {
        let mut stream = TcpStream::connect(site.front).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(1)))
            .unwrap();
        // a proxy that has refused may have closed already
        drop(stream.write_all(input));
        drop(stream.shutdown(std::net::Shutdown::Write));
        let mut answer = [0; 512];
        if let Ok(1..) = stream.read(&mut answer) {
            assert!(answer.starts_with(b"HTTP/1."), "{}", answer.escape_ascii());
            assert!(
                !answer.starts_with(b"HTTP/1.1 500"),
                "{}",
                answer.escape_ascii()
            );
        }
        let mut wrong = wrong.lock().unwrap();
        let found = std::mem::take(&mut *wrong);
        drop(wrong);
        assert!(found.is_empty(), "{found:#?}");
    });
    assert_eq!(site.recorded(), Color::Blue);
}
