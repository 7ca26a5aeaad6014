//! The balancers' own totals of requests, against which the lines are held.
//!
//! nginx has one for everything it serves, turnout's or not, so that a difference is an upper bound. HAProxy has one for each
//! backend, so that each service's can be told. Both count a request when it has ended, as the lines do, so that what is in
//! flight is in neither. What cannot be asked is unknown, and never zero.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// For an answer; it takes under a millisecond.
const ANSWER: Duration = Duration::from_secs(1);
/// `show stat` has about 500 bytes for each backend, of which there may be 4,000.
const LONGEST: u64 = 16 * 1024 * 1024;

/// Where a balancer says its total.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Totals {
    /// Nowhere.
    Unknown,
    /// `stub_status` on nginx's private listener: all that nginx serves.
    Nginx(SocketAddr),
    /// `show stat` on HAProxy's runtime socket: turnout's backends alone.
    Haproxy(PathBuf),
}

/// Requests that have ended since a balancer began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Total {
    /// Of everything that it serves.
    All(u64),
    /// Of each service, by name.
    Each(BTreeMap<String, u64>),
}

impl Totals {
    /// `None`: the balancer does not say.
    pub(super) async fn ask(&self) -> Option<Total> {
        match self {
            Self::Unknown => None,
            Self::Nginx(address) => timeout(ANSWER, nginx(*address)).await.ok()?,
            Self::Haproxy(socket) => timeout(ANSWER, haproxy(socket)).await.ok()?,
        }
    }
}

async fn nginx(address: SocketAddr) -> Option<Total> {
    let stream = TcpStream::connect(address).await.ok()?;
    let text = said(stream, "GET /total HTTP/1.0\r\nHost: turnout\r\n\r\n").await?;
    of_stub_status(&text).map(Total::All)
}

async fn haproxy(socket: &Path) -> Option<Total> {
    let stream = UnixStream::connect(socket).await.ok()?;
    of_show_stat(&said(stream, "show stat -1 2 -1\n").await?).map(Total::Each)
}

async fn said(mut stream: impl AsyncRead + AsyncWrite + Unpin, asked: &str) -> Option<String> {
    stream.write_all(asked.as_bytes()).await.ok()?;
    let mut text = String::new();
    stream.take(LONGEST).read_to_string(&mut text).await.ok()?;
    Some(text)
}

/// The third number of the line behind `server accepts handled requests`.
fn of_stub_status(text: &str) -> Option<u64> {
    let (_, behind) = text.split_once("server accepts handled requests")?;
    behind.split_whitespace().nth(2)?.parse().ok()
}

/// The answers of turnout's backends, of every status, by service.
fn of_show_stat(text: &str) -> Option<BTreeMap<String, u64>> {
    let mut lines = text.lines();
    let head: Vec<&str> = lines.next()?.trim_start_matches("# ").split(',').collect();
    let place = |name: &str| head.iter().position(|column| *column == name);
    let (name, total) = (place("pxname")?, place("req_tot")?);
    let mut each = BTreeMap::new();
    for line in lines {
        let columns: Vec<&str> = line.split(',').collect();
        let service = columns.get(name).and_then(|name| {
            let name = name.strip_prefix("turnout_")?;
            name.strip_suffix("_blue")
                .or_else(|| name.strip_suffix("_green"))
        });
        if let Some(service) = service {
            let sum: &mut u64 = each.entry(service.to_owned()).or_default();
            *sum = sum.checked_add(columns.get(total)?.parse().ok()?)?;
        }
    }
    Some(each)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_read_as_the_balancers_write_them() {
        let status = "Active connections: 1 \nserver accepts handled requests\n 20 20 42 \nReading: 0 Writing: 1 Waiting: 0 \n";
        assert_eq!(of_stub_status(status), Some(42));
        assert_eq!(of_stub_status("404"), None);
        let stat = "# pxname,svname,req_rate,req_tot,\nturnout_a_b_blue,BACKEND,1,7,\nturnout_a_b_green,BACKEND,1,5,\nother,BACKEND,1,900,\n\n";
        let each = BTreeMap::from([("a_b".to_owned(), 12)]);
        assert_eq!(of_show_stat(stat), Some(each));
        assert_eq!(of_show_stat("Unknown command\n"), None);
    }
}
