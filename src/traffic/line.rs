//! One request as a balancer tells of it, read strictly and without an allocation.
//!
//! ```text
//! <190>Nov 21 16:30:56 turnout: shop green 200 0.012 5120                                                        nginx
//! 127.0.0.1:40022 [21/Nov/2026:16:30:56.123] front turnout_shop_green/s1 0/0/0/11/12 200 5120 - - ---- …         HAProxy
//! ```
//!
//! All that is read stands before the first word that a client could have written. What does not fit is nothing.
//!
//! What is not seen: nginx says 200 of an answer that its server broke off. And a client that gave up before the answer (499,
//! HAProxy's -1) may have had reasons of its own, so a candidate that hangs until its clients leave is seen by a limit of the
//! latency alone.

use crate::domain::Color;

/// How nginx's lines are marked (`tag=`).
const TAG: &str = " turnout: ";

/// A request that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// Whose, not yet known to be one.
    pub(super) service: &'a str,
    pub(super) color: Color,
    pub(super) status: u16,
    pub(super) ending: Ending,
    /// How long it took; `None`: it was not timed, as a tunnel is not.
    pub(super) microseconds: Option<u64>,
    pub(super) bytes: u64,
}

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// Whole, or broken off by its client, or the balancer does not say.
    Otherwise,
    /// In the middle, by its server.
    BrokenOff,
}

impl<'a> Line<'a> {
    /// Reads a datagram.
    pub(super) fn of(datagram: &'a [u8]) -> Option<Self> {
        // clients' words may be cut anywhere, behind what is read
        let text = match std::str::from_utf8(datagram) {
            Ok(text) => text,
            Err(error) => std::str::from_utf8(&datagram[..error.valid_up_to()]).ok()?,
        };
        match text.strip_prefix('<') {
            Some(rest) => Self::of_nginx(rest),
            None => Self::of_haproxy(text),
        }
    }

    fn of_nginx(text: &'a str) -> Option<Self> {
        let (_, told) = text.split_once(TAG)?;
        let mut words = told.split(' ');
        let line = Self {
            service: words.next()?,
            color: words.next()?.parse().ok()?,
            status: status(words.next()?)?,
            ending: Ending::Otherwise,
            microseconds: Some(seconds(words.next()?)?),
            bytes: number(words.next()?.trim_end())?,
        };
        words.next().is_none().then_some(line.untimed())
    }

    fn of_haproxy(text: &'a str) -> Option<Self> {
        let mut words = text.split(' ');
        let (_client, _accepted, _frontend) = (words.next()?, words.next()?, words.next()?);
        let (backend, _server) = words.next()?.split_once('/')?;
        let (service, color) = backend.strip_prefix("turnout_")?.rsplit_once('_')?;
        // of five times the last is the whole one; `+` before it where the log came early
        let total = words.next()?.rsplit_once('/')?.1;
        let milliseconds = number(total.trim_start_matches('+'))?;
        let status = status(words.next()?)?;
        let bytes = number(words.next()?.trim_start_matches('+'))?;
        let line = Self {
            service,
            color: color.parse().ok()?,
            status,
            ending: ending(status, words),
            microseconds: Some(milliseconds.saturating_mul(1_000)),
            bytes,
        };
        Some(line.untimed())
    }

    /// A tunnel lasts as long as its ends want.
    fn untimed(self) -> Self {
        if self.status == 101 {
            Self {
                microseconds: None,
                ..self
            }
        } else {
            self
        }
    }

    /// 5xx, by whomever, or an answer that its server broke off.
    pub(super) fn is_error(&self) -> bool {
        self.status >= 500 || self.ending == Ending::BrokenOff
    }
}

/// By HAProxy's termination state (its manual, 8.5): `S`, by the server. It stands behind two cookies that are captured where the
/// user says so; with one of them the client's words have begun. A tunnel (101) may end like that, and so may a pause that was too
/// long (`s`), as in a stream of events.
fn ending<'a>(status: u16, mut words: impl Iterator<Item = &'a str>) -> Ending {
    let nobody_s = words.next() == Some("-") && words.next() == Some("-");
    let state = words.next().filter(|_| nobody_s && status != 101);
    match state {
        Some(state) if state.len() == 4 && state.starts_with('S') => Ending::BrokenOff,
        Some(_) | None => Ending::Otherwise,
    }
}

/// Three digits; `-1`, HAProxy's word for a client that went away before there was an answer, is nginx's 499.
fn status(word: &str) -> Option<u16> {
    if word == "-1" {
        return Some(crate::domain::CLIENT_GONE);
    }
    let plain = word.len() == 3 && word.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| word.parse().ok())?
}

/// `0.012` in microseconds.
fn seconds(word: &str) -> Option<u64> {
    let (whole, thousandths) = word.split_once('.')?;
    (thousandths.len() == 3).then_some(())?;
    let milliseconds = number(whole)?
        .checked_mul(1_000)?
        .checked_add(number(thousandths)?)?;
    milliseconds.checked_mul(1_000)
}

fn number(word: &str) -> Option<u64> {
    let digits = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| word.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Option<Line<'_>> {
        Line::of(text.as_bytes())
    }

    #[test]
    fn a_line_of_nginx_is_read() {
        assert_eq!(
            line("<190>Nov 21 16:30:56 turnout: my-shop green 502 1.012 5120"),
            Some(Line {
                service: "my-shop",
                color: Color::Green,
                status: 502,
                ending: Ending::Otherwise,
                microseconds: Some(1_012_000),
                bytes: 5120,
            })
        );
    }

    #[test]
    fn a_line_of_haproxy_is_read_up_to_what_a_client_wrote() {
        let text = "127.0.0.1:4 [21/Nov/2026:16:30:56.123] turnout_127.0.0.1:80 turnout_my_shop_blue/s1 0/0/1/2/13 200 97 - - ---- \
                    1/1/0/0/0 0/0 \"GET /turnout_x_green/s1 \u{e9}";
        let cut = &text.as_bytes()[..text.len() - 1];
        let read = Line::of(cut).unwrap();
        assert_eq!((read.service, read.color), ("my_shop", Color::Blue));
        assert_eq!(
            (read.status, read.microseconds, read.bytes),
            (200, Some(13_000), 97)
        );
        let gone = line("a [t] f turnout_shop_blue/s1 0/0/1/-1/13 -1 0 - - CD-- ").unwrap();
        assert_eq!((gone.status, gone.is_error()), (499, false));
        let tunnel = line("a [t] f turnout_shop_blue/s1 0/0/1/1/90000 101 7 - - ---- ").unwrap();
        assert_eq!(tunnel.microseconds, None);
    }

    #[test]
    fn an_answer_that_its_server_broke_off_is_an_error_whatever_its_status() {
        let failed = |behind: &str| {
            let text =
                format!("a [t] f turnout_shop_blue/s1 0/0/0/72/173 {behind} 1/1/0/0/0 0/0 \"GET /");
            line(&text).unwrap().is_error()
        };
        // as HAProxy 2.6 writes them: by a close, a reset, or a bad chunk in the middle of the body
        assert!(failed("200 53 - - SD--"));
        assert!(!failed("200 53 - - ----"));
        // the client went away; a pause was too long; the end of a tunnel
        assert!(!failed("200 4112639 - - CD--"));
        assert!(!failed("200 53 - - sD--"));
        assert!(!failed("101 53 - - SD--"));
        // words of clients
        assert!(!failed("200 53 a=b SD-- SD--"));
        assert!(!failed("200 53 - a=b SD--"));
        assert!(!failed("200 53 SD-- - -"));
    }

    #[test]
    fn what_does_not_fit_is_nothing() {
        for odd in [
            "",
            "<190>Nov 21 16:30:56 nginx: shop green 200 0.012 1",
            "<190>Nov 21 16:30:56 turnout: shop red 200 0.012 1",
            "<190>Nov 21 16:30:56 turnout: shop green 20 0.012 1",
            "<190>Nov 21 16:30:56 turnout: shop green 200 0.12 1",
            "<190>Nov 21 16:30:56 turnout: shop green 200 -.012 1",
            "<190>Nov 21 16:30:56 turnout: shop green 200 0.012 1 more",
            "<190>Nov 21 16:30:56 turnout: shop green 200 99999999999999999999.012 1",
            "a [t] f other_blue/s1 0/0/1/2/3 200 1",
            "a [t] f f/<NOSRV> -1/-1/-1/-1/0 400 0",
            "a [t] f turnout_shop_blue/s1 0/0/1/2/3",
        ] {
            assert_eq!(line(odd), None, "{odd}");
        }
    }
}
