//! Cases, what they expect, and the run of all of them against all balancers with every difference told at once.

use std::time::{Duration, Instant};

use turnout::domain::Color;

use super::fleet::{Front, Kind};
use crate::support::{Answer, SOON};

/// What an answer must show.
#[derive(Debug, Clone)]
pub(super) enum Expect {
    Status(u16),
    /// 200 from a server of this color, and `X-Routed-To` says so, once.
    Color(Color),
    Has(&'static str),
    HasNot(&'static str),
    Header(&'static str, String),
    /// The body, whole.
    Body(&'static str),
    /// What the server saw as path and query.
    Target(String),
    /// The server saw a line that begins like this, in any case.
    Seen(&'static str),
    /// The server saw this nowhere, in any case.
    NotSeen(&'static str),
}

impl Expect {
    /// `None`: as expected.
    fn misses(&self, answer: &Answer) -> Option<String> {
        let body = answer.text();
        let low = body.to_ascii_lowercase();
        let is_met = match self {
            Self::Status(status) => answer.status == *status,
            Self::Color(color) => {
                (answer.status, answer.backend(), answer.color("x-routed-to"))
                    == (200, Some(*color), Some(*color))
                    && answer.count("x-routed-to") == 1
            }
            Self::Has(name) => answer.header(name).is_some(),
            Self::HasNot(name) => answer.header(name).is_none(),
            Self::Header(name, value) => {
                answer.header(name) == Some(value) && answer.count(name) == 1
            }
            Self::Body(text) => body.trim_end() == *text,
            Self::Target(target) => body.split(' ').nth(1) == Some(target),
            Self::Seen(line) => low
                .lines()
                .any(|seen| seen.starts_with(&line.to_ascii_lowercase())),
            Self::NotSeen(text) => !low.contains(&text.to_ascii_lowercase()),
        };
        (!is_met).then(|| {
            format!(
                "{self:?}, but {} {:?} {:?} {body:?}",
                answer.status,
                answer.header("x-routed-to"),
                answer.header("x-upstream-url")
            )
        })
    }
}

/// A request and what it must give.
#[derive(Debug, Clone)]
pub(super) struct Case {
    about: String,
    request: String,
    is_narrow: bool,
    expects: Vec<Expect>,
    cannot: Vec<(Kind, &'static str)>,
}

impl Case {
    pub(super) fn new(about: impl Into<String>, request: String) -> Self {
        Self {
            about: about.into(),
            request,
            is_narrow: false,
            expects: Vec::new(),
            cannot: Vec::new(),
        }
    }

    pub(super) fn expect(mut self, expect: Expect) -> Self {
        self.expects.push(expect);
        self
    }

    pub(super) fn color(self, color: Color) -> Self {
        self.expect(Expect::Color(color))
    }

    /// Asked at the listener that has one service alone.
    pub(super) fn narrow(mut self) -> Self {
        self.is_narrow = true;
        self
    }

    /// This balancer cannot, and why. If it can, the run fails, so that nothing is excused for longer than it is so.
    pub(super) fn cannot(mut self, kind: Kind, why: &'static str) -> Self {
        self.cannot.push((kind, why));
        self
    }

    fn misses(&self, front: &Front) -> Vec<String> {
        let to = if self.is_narrow {
            front.narrow
        } else {
            front.main
        };
        let answer = front.send(to, &self.request);
        self.expects
            .iter()
            .filter_map(|expect| expect.misses(&answer))
            .collect()
    }

    /// The cell of the printed table, and what is wrong with it.
    fn judged(&self, front: &Front, wait: Duration) -> (&'static str, Vec<String>) {
        let cannot = self.cannot.iter().find(|(kind, _)| *kind == front.kind);
        let begin = Instant::now();
        loop {
            let misses = self.misses(front);
            match (misses.is_empty(), cannot) {
                (true, None) => return ("yes", misses),
                (true, Some((_, why))) => {
                    return ("?", vec![format!("it can, although: {why}")]);
                }
                (false, Some((_, why))) => return (why, Vec::new()),
                (false, None) if begin.elapsed() >= wait => return ("NO", misses),
                (false, None) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }
}

/// All cases.
#[derive(Debug, Default)]
pub(super) struct Table {
    cases: Vec<Case>,
}

impl Table {
    pub(super) fn add(&mut self, case: Case) {
        self.cases.push(case);
    }

    /// Every case against every balancer, at once.
    #[track_caller]
    pub(super) fn run(&self, fronts: &[Front]) {
        self.judge(fronts, Duration::ZERO);
    }

    /// The same; what is not so yet may become so.
    #[track_caller]
    pub(super) fn eventually(&self, fronts: &[Front]) {
        self.judge(fronts, SOON);
    }

    #[track_caller]
    fn judge(&self, fronts: &[Front], wait: Duration) {
        let mut wrong = Vec::new();
        for case in &self.cases {
            let mut row = format!("{:<56}", case.about);
            for front in fronts {
                let (cell, misses) = case.judged(front, wait);
                let name = front.kind.name();
                row.extend([" ", name, ": ", cell, ";"]);
                wrong.extend(
                    misses
                        .iter()
                        .map(|miss| format!("{}, {name}: {miss}", case.about)),
                );
            }
            println!("{row}");
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

/// A GET on a connection that ends with it.
pub(super) fn ask(host: &str, target: &str, headers: &[(&str, &str)]) -> String {
    let closes = headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("connection"));
    let mut request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n");
    for (name, value) in headers {
        request.extend([*name, ": ", *value, "\r\n"]);
    }
    if !closes {
        request.push_str("Connection: close\r\n");
    }
    request.push_str("\r\n");
    request
}
