//! SIGKILL at random moments of 200 switches, for turnout, the balancer's worker, its master, and all of them at once, behind
//! each balancer: after the restart, state, files and what a client gets agree, each time.
//!
//! What was killed is started again as systemd would, from its files alone and while whoever lives is still at work. Then
//! comes the next command or the next daemon, and from then on there is one color. An answered switch is never lost, and a
//! refused one never made. `crash` goes through the steps of a change one by one; here it is all of them at work on one host.

mod embedded;
mod haproxy;
mod moment;
mod nginx;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Instant;

use turnout::domain::Color;

use crate::support::{Background, Daemon, SOON, Turnout, get};
use moment::{Dice, Journal, Parts};

/// As many as were promised.
const SWITCHES: u32 = 200;

/// Of these, so many kills at least have to come in the middle of a change. Two of three do.
const HITS: u32 = 90;

/// Whom it hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Victim {
    /// The daemon, or where there is none the command.
    Turnout,
    /// One process that serves.
    Worker,
    /// The process that starts those.
    Master,
    /// A host that loses its power, but for its disk.
    Everything,
}

/// One host with a balancer and a service called `shop`.
trait Host {
    const NAME: &'static str;
    const VICTIMS: &'static [Victim];
    /// Whether nothing is served without a daemon.
    const NEEDS_DAEMON: bool;

    fn turnout(&self) -> Turnout;

    fn front(&self) -> SocketAddr;

    fn state_dir(&self) -> PathBuf;

    /// What `state.json` and `active/shop` say.
    fn recorded(&self) -> Color;

    /// What the balancer's files say, which have to agree among themselves; `None` where it has none.
    fn on_disk(&self) -> Option<Color>;

    /// SIGKILL, and what systemd then does, up to its being there again. Nothing of a victim that is turnout's.
    fn strike(&mut self, victim: Victim);

    /// Started anew from its files, without a fault.
    fn restart(&mut self);
}

/// What came of it all.
#[derive(Debug, Default)]
struct Tally {
    /// Kills, and how many of them in the middle of a change.
    kills: BTreeMap<Victim, (u32, u32)>,
    /// Exits of the command; -1: it was killed.
    codes: BTreeMap<i32, u32>,
    /// Of the switches that were hit in their middle: those that were made in the end.
    made: u32,
    undone: u32,
}

fn ask(front: SocketAddr) -> Option<Color> {
    let answer = get(front, "/", &[]).ok()?;
    assert_eq!(answer.backend(), answer.color("x-routed-to"), "{answer:?}");
    answer.backend()
}

/// State, files and what clients get are one.
#[track_caller]
fn agreed(host: &impl Host, journal: &Journal, context: &str) -> Color {
    let recorded = host.recorded();
    for _ in 0..4 {
        let served = ask(host.front());
        assert_eq!(served, Some(recorded), "served and recorded, {context}");
    }
    if let Some(on_disk) = host.on_disk() {
        assert_eq!(on_disk, recorded, "on disk and recorded, {context}");
    }
    assert!(!journal.is_open(), "a change is still open, {context}");
    let verified = host.turnout().run(&["verify"]);
    assert_eq!(verified.code(), Some(0), "{context}\n{verified}");
    recorded
}

/// 200 switches of one host, and a killer.
struct Trial<H> {
    host: H,
    dice: Dice,
    journal: Journal,
    log: PathBuf,
    parts: Parts,
    daemon: Option<Daemon>,
    /// As everything says.
    color: Color,
    tally: Tally,
}

impl<H: Host> Trial<H> {
    fn run(host: H) {
        let mut trial = Self {
            dice: Dice::new(H::NAME),
            journal: Journal::of(&host.state_dir()),
            log: host.state_dir().with_file_name("switch.log"),
            parts: Parts::default(),
            daemon: None,
            color: host.recorded(),
            tally: Tally::default(),
            host,
        };
        let begin = Instant::now();
        trial.settle_on_a_daemon();
        for _ in 0..6 {
            let start = trial.switch(!trial.color);
            trial.parts.measure(&trial.journal, start);
            trial.color = !trial.color;
        }
        for round in 0..SWITCHES {
            trial.settle_on_a_daemon();
            trial.round(round);
        }
        println!(
            "{}: {SWITCHES} switches in {:?}, {:?}: {:?}",
            H::NAME,
            begin.elapsed(),
            trial.parts,
            trial.tally
        );
        let hits: u32 = trial.tally.kills.values().map(|(_, hits)| hits).sum();
        assert!(hits >= HITS, "too few in the middle: {:?}", trial.tally);
        for victim in H::VICTIMS {
            let (_, hits) = trial.tally.kills[victim];
            assert!(hits >= 5, "too few of {victim:?}: {:?}", trial.tally);
        }
    }

    /// A quarter of the switches that find none are made with a daemon, until that is killed.
    fn settle_on_a_daemon(&mut self) {
        if self.daemon.is_none() && (H::NEEDS_DAEMON || self.dice.one_in(4)) {
            self.serve();
        }
    }

    fn serve(&mut self) {
        let daemon = self.host.turnout().serve();
        // a balancer that was killed is that
        self.daemon = Some(daemon.allow("could not be put into force"));
    }

    fn switch(&self, to: Color) -> impl FnOnce() -> Background + use<H> {
        let run = self.host.turnout().command(&["switch", &to.to_string()]);
        let log = self.log.clone();
        move || run.background(&log)
    }

    fn round(&mut self, round: u32) {
        let (from, to) = (self.color, !self.color);
        let victim = self.dice.one_of(H::VICTIMS);
        std::fs::write(&self.log, "").unwrap();
        let start = self.switch(to);
        let (mut switching, aim) = self.parts.pass(&mut self.dice, &self.journal, start);

        let with_daemon = self.daemon.is_some();
        let mut is_hit = self.journal.is_open();
        if matches!(victim, Victim::Turnout | Victim::Everything) {
            match self.daemon.take() {
                Some(daemon) => daemon.kill(),
                None => switching.kill(),
            }
            // now for certain
            is_hit = self.journal.is_open();
        }
        self.parts.learn(aim, is_hit);
        if victim != Victim::Turnout {
            self.host.strike(victim);
        }
        let code = switching.wait(SOON).code();
        let said = switching.printed();
        let context = format!(
            "round {round}: {victim:?} killed, with a daemon: {with_daemon}, in the middle: {is_hit}, {from} to {to}, exit {code:?}\n{said}"
        );
        assert!(!said.contains("panicked"), "{context}");
        if code == Some(0) && !H::NEEDS_DAEMON {
            assert_eq!(ask(self.host.front()), Some(to), "answered, {context}");
        }

        let is_daemon_gone = with_daemon && self.daemon.is_none();
        if H::NEEDS_DAEMON || (is_daemon_gone && self.dice.one_in(2)) {
            if self.daemon.is_none() {
                self.serve();
            }
        } else {
            let applied = self.host.turnout().run(&["apply"]);
            assert_eq!(applied.code(), Some(0), "{context}\n{applied}");
        }
        self.color = agreed(&self.host, &self.journal, &context);
        match code {
            Some(0) => assert_eq!(self.color, to, "an answered switch was lost, {context}"),
            // killed, a person is needed, or the one who knew was killed: anything but two colors
            None | Some(4) => {}
            Some(_) if is_daemon_gone => {}
            Some(_) => assert_eq!(self.color, from, "a refused switch was made, {context}"),
        }
        self.count(victim, is_hit, code, to);
        if round % 10 == 9 && !H::NEEDS_DAEMON {
            self.host.restart();
            assert_eq!(
                ask(self.host.front()),
                Some(self.color),
                "restarted, {context}"
            );
        }
    }

    fn count(&mut self, victim: Victim, is_hit: bool, code: Option<i32>, to: Color) {
        let (kills, hits) = self.tally.kills.entry(victim).or_default();
        *kills += 1;
        if is_hit {
            *hits += 1;
            if self.color == to {
                self.tally.made += 1;
            } else {
                self.tally.undone += 1;
            }
        }
        *self.tally.codes.entry(code.unwrap_or(-1)).or_default() += 1;
    }
}
