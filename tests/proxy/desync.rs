//! Request smuggling: the test cases of http-desync-guardian (159 requests, each with the tier that its authors gave it) sent
//! through the proxy, and what servers got of them read by three others: nginx's parser, HAProxy's, and httparse, which is hyper's as
//! well, with the framing of RFC 9112 to the letter.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::embedded::{SOON, Shop, Wire, nobody, server};
use crate::support::{Background, Nginx, NginxSetup, Ports, Run, wait_for};

#[derive(Debug, Deserialize)]
struct Corpus {
    cases: Vec<Case>,
}

#[derive(Debug, Deserialize)]
struct Case {
    method: String,
    uri: String,
    version: String,
    headers: Vec<(String, String)>,
    tier: Tier,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
enum Tier {
    Compliant,
    Acceptable,
    Ambiguous,
    Severe,
}

impl Case {
    /// Codings besides one `chunked` are refused, compliant or not: the proxy takes no body apart. And one case has no target,
    /// which makes no request line of HTTP/1.1.
    fn is_plain(&self) -> bool {
        let codings: Vec<&str> = self
            .headers
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case("transfer-encoding"))
            .map(|(_, value)| value.trim())
            .collect();
        !self.uri.is_empty() && (codings.is_empty() || codings == ["chunked"])
    }

    /// The request with a body as its framing announces it, as far as it announces one. The corpus leaves `Host` out; it is
    /// added, so that its absence is not what the proxy finds.
    fn bytes(&self) -> Vec<u8> {
        let named = |wanted: &str| {
            self.headers
                .iter()
                .find(|(name, _)| name.trim().eq_ignore_ascii_case(wanted))
                .map(|(_, value)| value.trim())
        };
        let mut text = format!("{} {} {}\r\n", self.method, self.uri, self.version);
        if named("host").is_none() {
            text.push_str("Host: a\r\n");
        }
        for (name, value) in &self.headers {
            text.extend([name, ": ", value, "\r\n"]);
        }
        text.push_str("\r\n");
        if named("transfer-encoding").is_some() {
            text.push_str("3\r\nabc\r\n0\r\n\r\n");
        } else if let Some(length) = named("content-length").and_then(|text| text.parse().ok()) {
            text.push_str(&"x".repeat(usize::min(length, 8 << 20)));
        }
        text.into_bytes()
    }
}

/// One request at the server, as a parser reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    method: String,
    target: String,
}

/// The first request in `bytes` and what stands behind it; `None` if it is not complete.
fn first(bytes: &[u8]) -> Result<Option<(Seen, &[u8])>, String> {
    let mut headers = [httparse::EMPTY_HEADER; 200];
    let mut request = httparse::Request::new(&mut headers);
    let head = match request.parse(bytes) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let text = &bytes[..head];
    let bare = |(place, byte): (usize, &u8)| *byte == b'\n' && text[place - 1] != b'\r';
    if text.iter().enumerate().any(bare) || text.windows(3).any(|end| end == b"\n\r\r") {
        return Err("a bare line end".to_owned());
    }
    let all = |wanted: &str| -> Vec<&[u8]> {
        let named = request.headers.iter().filter(|header| {
            let letters = header.name.replace(['-', '_'], "");
            letters.eq_ignore_ascii_case(&wanted.replace('-', ""))
        });
        named.map(|header| header.value).collect()
    };
    if all("host").len() != 1 {
        return Err("not one Host".to_owned());
    }
    let rest = &bytes[head..];
    let rest = match (&all("content-length")[..], &all("transfer-encoding")[..]) {
        ([], []) => Some(rest),
        ([length], []) => {
            let digits = length.iter().all(u8::is_ascii_digit);
            let length = std::str::from_utf8(length).ok().filter(|_| digits);
            let length: usize = length
                .and_then(|text| text.parse().ok())
                .ok_or("no length")?;
            rest.get(length..)
        }
        ([], [b"chunked"]) => chunked(rest)?,
        (lengths, codings) => return Err(format!("{} and {}", lengths.len(), codings.len())),
    };
    let seen = Seen {
        method: request.method.unwrap_or_default().to_owned(),
        target: request.path.unwrap_or_default().to_owned(),
    };
    Ok(rest.map(|rest| (seen, rest)))
}

fn chunked(mut bytes: &[u8]) -> Result<Option<&[u8]>, String> {
    loop {
        let Some(end) = bytes.windows(2).position(|end| end == b"\r\n") else {
            return Ok(None);
        };
        let size = std::str::from_utf8(&bytes[..end]).map_err(|error| error.to_string())?;
        let size = usize::from_str_radix(size, 16).map_err(|error| error.to_string())?;
        let Some(part) = bytes.get(end + 2..end + 2 + size + 2) else {
            return Ok(None);
        };
        if !part.ends_with(b"\r\n") {
            return Err("a chunk without its end".to_owned());
        }
        bytes = &bytes[end + 2 + size + 2..];
        if size == 0 {
            return Ok(Some(bytes));
        }
    }
}

/// Everything that servers got, a buffer for each connection.
type Got = Arc<Mutex<Vec<Vec<u8>>>>;

/// All requests that were got, by the first parser; an error if one of them is not plain.
fn all_seen(got: &[Vec<u8>]) -> Result<Vec<Vec<Seen>>, String> {
    got.iter()
        .map(|bytes| {
            let mut rest = &bytes[..];
            let mut seen = Vec::new();
            while !rest.is_empty() {
                let Some((request, behind)) = first(rest)? else {
                    return Err(format!("cut short: {:?}", String::from_utf8_lossy(rest)));
                };
                seen.push(request);
                rest = behind;
            }
            Ok(seen)
        })
        .collect()
}

/// A server that keeps the bytes it gets.
async fn keeping(got: Got) -> turnout::domain::Server {
    server(move |mut wire| {
        let got = Arc::clone(&got);
        async move {
            let place = {
                let mut got = got.lock().unwrap();
                got.push(Vec::new());
                got.len() - 1
            };
            let mut answered = 0;
            let mut part = vec![0; 64 * 1024];
            while let Ok(read) = wire.0.read(&mut part).await
                && read > 0
            {
                let whole = {
                    let mut got = got.lock().unwrap();
                    got[place].extend_from_slice(&part[..read]);
                    let mut rest = &got[place][..];
                    let mut whole = 0;
                    while let Ok(Some((_, behind))) = first(rest) {
                        (rest, whole) = (behind, whole + 1);
                    }
                    whole
                };
                for _ in answered..whole {
                    wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                        .await;
                }
                answered = whole;
            }
        }
    })
    .await
}

/// The statuses that a client gets for `bytes` and, if it may, for a harmless request behind them.
async fn sent(shop: &Shop, method: &str, bytes: &[u8]) -> Vec<u16> {
    let mut client: Wire = shop.client().await;
    // the proxy may refuse before it has read all
    drop(client.0.write_all(bytes).await);
    let mut statuses = Vec::new();
    for _ in 0..2 {
        let head = tokio::time::timeout(Duration::from_secs(4), client.head()).await;
        let Ok(head) = head else {
            statuses.push(0);
            break;
        };
        let Some(status) = head.get(9..12) else { break };
        statuses.push(status.parse().unwrap());
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let length = length.map_or(0, |text| text.parse().unwrap());
        if method != "HEAD" || statuses.len() > 1 {
            let mut body = vec![0; length];
            client.0.read_exact(&mut body).await.unwrap();
        }
        if statuses.len() > 1 {
            break;
        }
        let behind = b"GET /behind HTTP/1.1\r\nHost: a\r\n\r\n";
        if client.0.write_all(behind).await.is_err() {
            break;
        }
    }
    statuses
}

/// What a server that says so reads in the bytes of one connection.
async fn by(name: &str, address: SocketAddr, bytes: &[u8]) -> Vec<Seen> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let (mut reader, mut writer) = stream.split();
    let end = b"GET /end HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let all = [bytes, end].concat();
    let mut text = Vec::new();
    let (written, read) = tokio::join!(
        writer.write_all(&all),
        tokio::time::timeout(Duration::from_secs(20), reader.read_to_end(&mut text))
    );
    written.unwrap();
    read.unwrap().unwrap();
    let mut seen: Vec<Seen> = String::from_utf8_lossy(&text)
        .lines()
        .filter_map(|line| line.split_once(": "))
        .filter(|(header, _)| header.eq_ignore_ascii_case("x-saw"))
        .filter_map(|(_, saw)| saw.split_once(' '))
        .map(|(method, target)| Seen {
            method: method.to_owned(),
            target: target.to_owned(),
        })
        .collect();
    let last = seen.pop().map(|seen| seen.target);
    assert_eq!(
        last.as_deref(),
        Some("/end"),
        "{name} lost its way: {seen:?}"
    );
    seen
}

/// A HAProxy that says what it reads, and where it listens. It has room for the largest body, and lets the one target pass that is not ASCII,
/// which it would refuse; neither has to do with where a request ends.
fn haproxy(folder: &Path) -> (Background, SocketAddr) {
    let address = Ports::address();
    let file = folder.join("haproxy.cfg");
    let text = format!(
        "global\n  tune.bufsize 16777216\n  maxconn 20\n\
         defaults\n  mode http\n  option http-buffer-request\n  option accept-invalid-http-request\n  timeout client 20s\n  timeout server 20s\n  timeout connect 5s\n\
         frontend judge\n  bind {address}\n  http-request return status 200 hdr X-Saw \"%[method] %[url]\"\n"
    );
    std::fs::write(&file, text).unwrap();
    let haproxy = Run::new("haproxy")
        .args(["-db", "-f"])
        .arg(&file)
        .background(&folder.join("haproxy.log"));
    wait_for("HAProxy to listen", SOON, || {
        std::net::TcpStream::connect(address).ok()
    });
    (haproxy, address)
}

#[test]
fn nothing_that_is_ambiguous_is_sent_on_and_parsers_agree_on_what_is() {
    super::in_turn(all_cases());
}

async fn all_cases() {
    let corpus: Corpus = serde_json::from_str(include_str!("desync.json")).unwrap();
    assert_eq!(corpus.cases.len(), 159);
    let got = Got::default();
    let shop = Shop::with(
        vec![keeping(Arc::clone(&got)).await],
        vec![nobody()],
        |_| {},
    )
    .await;
    let count =
        || -> usize { all_seen(&got.lock().unwrap()).map_or(0, |seen| seen.concat().len()) };
    let mut table: BTreeMap<(Tier, bool), u32> = BTreeMap::new();
    let mut wrong = Vec::new();
    for case in &corpus.cases {
        let before = count();
        let statuses = sent(&shop, &case.method, &case.bytes()).await;
        let parsed = all_seen(&got.lock().unwrap());
        if let Err(error) = parsed {
            panic!("{case:?}: {statuses:?}: the server got what is not plain: {error}");
        }
        let forwarded = count() - before;
        let served = statuses.iter().filter(|status| **status == 200).count();
        *table.entry((case.tier, forwarded > 0)).or_default() += 1;
        // what was refused closes the connection, so there is nothing behind it
        if forwarded != served || (statuses[0] != 200 && statuses.len() > 1) {
            wrong.push(format!(
                "smuggled: {case:?}: {statuses:?}, {forwarded} at the server"
            ));
        }
        match case.tier {
            Tier::Ambiguous | Tier::Severe if forwarded > 0 => {
                wrong.push(format!("sent on: {case:?}: {statuses:?}"));
            }
            Tier::Compliant if case.is_plain() && statuses.first() != Some(&200) => {
                wrong.push(format!("refused: {case:?}: {statuses:?}"));
            }
            Tier::Compliant | Tier::Acceptable | Tier::Ambiguous | Tier::Severe => {}
        }
    }
    for ((tier, forwarded), cases) in &table {
        let what = if *forwarded { "served" } else { "refused" };
        println!("| {tier:?} | {what} | {cases} |");
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );

    let folder = tempfile::tempdir().unwrap();
    let address = Ports::address();
    let nginx = Nginx::start(
        folder.path(),
        NginxSetup {
            http: format!(
                "server {{ listen {address}; client_max_body_size 0;
                 location / {{ add_header X-Saw \"$request_method $request_uri\" always; return 200; }} }}"
            ),
            ..NginxSetup::default()
        },
    );
    let (haproxy, other) = haproxy(folder.path());
    let got = got.lock().unwrap().clone();
    let seen = all_seen(&got).unwrap();
    for (bytes, seen) in got.iter().zip(seen) {
        assert_eq!(by("nginx", address, bytes).await, seen);
        assert_eq!(by("HAProxy", other, bytes).await, seen);
    }
    drop((nginx, haproxy));
}
