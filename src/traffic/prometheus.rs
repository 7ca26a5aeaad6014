//! Prometheus as a source: for each stretch of time one instant query for each figure of each color.
//!
//! A stretch is asked for `lag` after its end, since what Prometheus knows of the last seconds is not whole. What is unreachable,
//! slow, empty, NaN, or more than one series is no figure: after a few failures in a row the source is down and the rollout holds.
//! What was missed while it did not answer is asked for again, because Prometheus still knows it. Never rolls anything back by itself.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use tokio::time::Instant;

use super::feed::{Down, Feed, Unavailable};
use super::query::{Figure, Query, QueryError, number};
use crate::config::PrometheusSettings;
use crate::domain::{Arm, Color, Colors, Paired, ServiceName};

/// Stretches that are kept, and that are asked for again after a silence.
const KEPT: usize = 1_080;
/// Of those, what is asked for again after a silence: Prometheus is not to pay for its own recovery.
const MISSED: i64 = 30;
/// Windows without a reader, and the shortest time, after which nobody is asked any more.
const UNREAD: u32 = 10;
const UNREAD_LEAST: Duration = Duration::from_mins(1);
/// Bytes of an answer, which has one series and needs 200.
const LONGEST: usize = 1024 * 1024;

/// One stretch as Prometheus tells it.
#[derive(Debug, Clone)]
struct Stretch {
    from: Timestamp,
    to: Timestamp,
    colors: Colors<Arm>,
    /// The color that has no series, and what its query finds. None of a fault for a candidate that nobody has asked for
    /// anything yet; without the stable color there is nothing to compare with.
    silent: Option<(Color, Arc<Down>)>,
}

impl Stretch {
    fn silence_of(&self, color: Color) -> Option<&Down> {
        let (silent, why) = self.silent.as_ref()?;
        (*silent == color).then_some(&**why)
    }
}

/// What was asked for so far.
#[derive(Debug)]
pub(super) struct Series {
    known: Mutex<Known>,
    down: ArcSwapOption<Down>,
    ended: AtomicBool,
}

#[derive(Debug)]
struct Known {
    stretches: VecDeque<Stretch>,
    read: Instant,
}

impl Series {
    fn new() -> Self {
        Self {
            known: Mutex::new(Known {
                stretches: VecDeque::new(),
                read: Instant::now(),
            }),
            down: ArcSwapOption::empty(),
            ended: AtomicBool::new(false),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // nothing in here can be left half done
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn pairs(
        &self,
        stable: Color,
        since: Timestamp,
    ) -> Result<Vec<Paired>, Unavailable> {
        let mut known = self.known();
        known.read = Instant::now();
        if let Some(down) = self.down.load_full() {
            return Err(Unavailable::Down((*down).clone()));
        }
        let silence = known.stretches.back();
        if let Some(down) = silence.and_then(|last| last.silence_of(stable)) {
            return Err(Unavailable::Down(down.clone()));
        }
        let asked = known.stretches.iter().filter(|stretch| {
            let seen = Color::BOTH.map(|color| stretch.colors[color].requests);
            stretch.from >= since
                && seen.iter().sum::<u64>() > 0
                && stretch.silence_of(stable).is_none()
        });
        Ok(asked
            .map(|stretch| Paired {
                from: stretch.from,
                to: stretch.to,
                stable: stretch.colors[stable],
                candidate: stretch.colors[!stable],
            })
            .collect())
    }

    /// Nothing is added any more, because nobody looked.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    fn put(&self, mut stretch: Stretch) {
        let stretches = &mut self.known().stretches;
        let before = stretches.back().and_then(|last| last.silent.as_ref());
        if let (Some((color, why)), Some((silent, since))) = (&mut stretch.silent, before)
            && color == silent
        {
            // since it fell silent
            *why = Arc::clone(since);
        }
        if stretches.len() == KEPT {
            stretches.pop_front();
        }
        stretches.push_back(stretch);
    }
}

/// A Prometheus, as it is asked about one service.
#[derive(Debug, Clone)]
pub struct Prometheus {
    settings: PrometheusSettings,
    service: ServiceName,
    /// A request is slow above it; `None`: none is, and nobody is asked for slow ones.
    slow_over: Option<Duration>,
    /// After so long without a reader nobody is asked any more.
    patience: Duration,
    http: reqwest::Client,
}

impl Prometheus {
    /// Asks nothing yet.
    pub fn new(
        settings: PrometheusSettings,
        service: ServiceName,
        slow_over: Option<Duration>,
    ) -> Result<Self, QueryError> {
        // fails where a provider was installed before, which is as good
        drop(rustls::crypto::ring::default_provider().install_default());
        let http = reqwest::Client::builder()
            .timeout(settings.timeout)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|source| QueryError::Unreachable {
                url: settings.url.clone(),
                source,
            })?;
        Ok(Self {
            patience: settings.window.saturating_mul(UNREAD).max(UNREAD_LEAST),
            settings,
            service,
            slow_over,
            http,
        })
    }

    /// Asks for each figure of each color once, before a rollout rests on them. The stable color's answers must be figures. The
    /// candidate may have had no request yet: an empty answer to `requests` is none of a fault then, nor are those to the others.
    pub async fn preflight(&self, stable: Color) -> Result<(), QueryError> {
        let at = Timestamp::now() - self.settings.lag;
        let (of_stable, of_candidate) = tokio::join!(self.told(stable, at), self.told(!stable, at));
        for (color, told) in [(stable, of_stable), (!stable, of_candidate)] {
            let mut is_unused = false;
            for (figure, value) in told {
                match value {
                    Ok(value) => {
                        is_unused |= figure == Figure::Requests && count(value) == 0;
                    }
                    Err(QueryError::Empty { .. })
                        if color != stable && (is_unused || figure == Figure::Requests) =>
                    {
                        is_unused = true;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Begins to ask, until the last clone of the feed is gone or nobody has looked for ten windows ([`Feed::has_ended`]). Must
    /// be called within a runtime.
    pub fn watch(self) -> Feed {
        let series = Arc::new(Series::new());
        tokio::spawn(follow(self, Arc::downgrade(&series)));
        Feed::of_prometheus(series)
    }

    /// What both colors did in the window that ended at `to`. One color may have no series of requests; errors without a series are
    /// unknown wherever there are requests.
    async fn stretch(&self, from: Timestamp, to: Timestamp) -> Result<Stretch, QueryError> {
        let mut colors = Colors::default();
        let mut empty = None;
        let [one, other] = Color::BOTH;
        let (of_one, of_other) = tokio::join!(self.told(one, to), self.told(other, to));
        for (color, told) in [(one, of_one), (other, of_other)] {
            match arm(told) {
                Ok(arm) => colors[color] = arm,
                // where neither has figures it is the query that finds nothing
                Err(
                    error @ QueryError::Empty {
                        figure: Figure::Requests,
                        ..
                    },
                ) if empty.is_none() => empty = Some((color, error)),
                Err(error) => return Err(error),
            }
        }
        let nothing = |color: Color| colors[color] == Arm::default();
        match empty {
            // where neither has figures it is the query that finds nothing
            Some((_, error)) if Color::BOTH.into_iter().all(nothing) => Err(error),
            empty => Ok(Stretch {
                from,
                to,
                colors,
                silent: empty.map(|(color, error)| {
                    let why = Down::now(crate::domain::describe(&error));
                    (color, Arc::new(why))
                }),
            }),
        }
    }

    /// Each figure that there is a query for, requests first; all are asked for at once, so that a slow server takes as long as
    /// one answer.
    async fn told(&self, color: Color, at: Timestamp) -> Vec<Told> {
        let [requests, errors, slow] = Figure::ALL.map(|figure| self.told_of(figure, color, at));
        let (requests, errors, slow) = tokio::join!(requests, errors, slow);
        [requests, errors, slow].into_iter().flatten().collect()
    }

    async fn told_of(&self, figure: Figure, color: Color, at: Timestamp) -> Option<Told> {
        let settings = &self.settings;
        if figure == Figure::Slow && self.slow_over.is_none() {
            return None;
        }
        let template = settings.queries.get(figure.as_str())?;
        let (service, over) = (&self.service, self.slow_over.unwrap_or_default());
        let query = Query::of(figure, template, service, color, settings.window, over);
        Some((figure, self.ask(&query, at).await))
    }

    async fn ask(&self, query: &Query, at: Timestamp) -> Result<f64, QueryError> {
        let url = format!("{}/api/v1/query", self.settings.url.trim_end_matches('/'));
        let unreachable = |source| QueryError::Unreachable {
            url: self.settings.url.clone(),
            source,
        };
        let time = format!("{}.{:03}", at.as_second(), at.subsec_millisecond());
        let asked = self.http.post(url).header(
            http::header::CONTENT_TYPE,
            "application/x-www-form-urlencoded",
        );
        let form = serde_urlencoded::to_string([("query", query.text.as_str()), ("time", &time)]);
        let form = form.unwrap_or_default();
        let answer = asked.body(form).send().await.map_err(unreachable)?;
        let status = answer.status();
        match body(answer).await.map_err(unreachable)? {
            Some(text) => number(query, status, &text),
            None => Err(QueryError::Strange {
                said: format!("more than {LONGEST} bytes; write sum(…) around it"),
                query: query.text.clone(),
            }),
        }
    }
}

/// A figure and what was said of it.
type Told = (Figure, Result<f64, QueryError>);

/// What the figures of one color come to.
fn arm(told: Vec<Told>) -> Result<Arm, QueryError> {
    let mut arm = Arm::default();
    for (figure, value) in told {
        let value = match value {
            Ok(value) => value,
            // one that has no requests has no errors either; but errors without a series are unknown
            Err(QueryError::Empty { .. }) if figure != Figure::Requests && arm.requests == 0 => 0.0,
            Err(error) => return Err(error),
        };
        match figure {
            Figure::Requests => arm.requests = count(value),
            Figure::Errors => arm.errors = count(value),
            Figure::Slow => arm.slow = count(value),
        }
    }
    // what is worked out at the edges of a window may be more than there was
    arm.errors = arm.errors.min(arm.requests);
    arm.slow = arm.slow.min(arm.requests);
    Ok(arm)
}

/// The text of an answer; `None`: it is longer than any answer to one figure.
async fn body(mut answer: reqwest::Response) -> Result<Option<String>, reqwest::Error> {
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > LONGEST {
            return Ok(None);
        }
    }
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

fn count(value: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not negative, not NaN; what is beyond 2^64 stops there"
    )]
    let count = value.round() as u64;
    count
}

async fn follow(prometheus: Prometheus, series: Weak<Series>) {
    let settings = &prometheus.settings;
    let window = i64::try_from(settings.window.as_millis())
        .unwrap_or(i64::MAX)
        .max(1);
    let place = |now: Timestamp| (now - settings.lag).as_millisecond().div_euclid(window);
    let time = |at: i64| Timestamp::from_millisecond(at.saturating_mul(window)).unwrap_or_default();
    // the window that `settings.lag` ago was under way is the first
    let mut next = place(Timestamp::now());
    let mut failures = 0_u32;
    loop {
        let now = Timestamp::now();
        let past = (now - settings.lag).as_millisecond().rem_euclid(window);
        let rest = u64::try_from(window - past).unwrap_or(1);
        tokio::time::sleep(Duration::from_millis(rest)).await;
        let ended = place(Timestamp::now());
        next = next.max(ended - MISSED);
        while next < ended {
            let asked = prometheus.stretch(time(next), time(next + 1)).await;
            let Some(series) = series.upgrade() else {
                return;
            };
            match asked {
                Ok(stretch) => {
                    series.put(stretch);
                    failures = 0;
                    next += 1;
                    if series.down.swap(None).is_some() {
                        tracing::info!(service = %prometheus.service, "Prometheus answers again");
                    }
                }
                Err(error) => {
                    failures += 1;
                    let reason = crate::domain::describe(&error);
                    if failures >= settings.failures && series.down.load().is_none() {
                        tracing::warn!(service = %prometheus.service, reason, "Prometheus gives no figures");
                        series.down.store(Some(Arc::new(Down::now(reason))));
                    }
                    if error.may_pass() {
                        break;
                    }
                    // what it has answered of a stretch that is over it would answer again
                    next += 1;
                }
            }
        }
        let Some(series) = series.upgrade() else {
            return;
        };
        let unread = series.known().read.elapsed();
        if unread > prometheus.patience {
            series.ended.store(true, Ordering::Release);
            return;
        }
    }
}

#[cfg(test)]
#[path = "prometheus_tests.rs"]
mod tests;
