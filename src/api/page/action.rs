//! The buttons of one service: what each does, in words, as a form, and as the command that does the same.
//!
//! Only what the position permits is offered; whether the caller may press it is the viewer's matter, and whether it is done
//! the controller's alone.

use serde::Serialize;

use crate::controller::ServiceStatus;
use crate::domain::{Color, Health, Strategy, TrafficMode};

/// How a button looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Tone {
    /// What most come for.
    Main,
    /// The others.
    Plain,
    /// What keeps clients from being answered.
    Danger,
}

/// One field that a person fills in.
#[derive(Debug, Serialize)]
pub(super) struct Number {
    name: &'static str,
    label: String,
    min: u8,
    max: u8,
    value: String,
}

/// One button.
#[derive(Debug, Serialize)]
pub(super) struct Action {
    /// The last part of the form's address.
    verb: &'static str,
    /// Unique on the page.
    key: String,
    label: String,
    tone: Tone,
    /// What will happen, before it does.
    question: String,
    confirm: String,
    command: String,
    /// `command` with `{n}` where the number goes and `{rest}` for what it leaves of 100, for the script.
    pattern: Option<String>,
    hidden: Vec<(&'static str, String)>,
    number: Option<Number>,
    /// Whether an unhealthy target can be insisted on.
    force: bool,
}

impl Action {
    fn new(service: &ServiceStatus, verb: &'static str, label: impl Into<String>) -> Self {
        let label = label.into();
        Self {
            verb,
            key: format!("{}-{verb}", service.service),
            confirm: label.clone(),
            label,
            tone: Tone::Plain,
            question: String::new(),
            command: String::new(),
            pattern: None,
            hidden: Vec::new(),
            number: None,
            force: false,
        }
    }
}

/// Where a change would lead, as far as it is known: its version, and that nobody there is healthy.
fn outlook(service: &ServiceStatus, color: Color) -> String {
    let mut text = match &service.versions[color] {
        Some(version) => format!("{color} (version {version})"),
        None => color.to_string(),
    };
    let servers = &service.servers[color];
    if !servers.is_empty()
        && servers
            .iter()
            .all(|server| server.health == Health::Unhealthy)
    {
        text += ", which is unhealthy";
    }
    text
}

/// The buttons of a service, in the order of how often they are needed. `stops`: whether the balancer can hold traffic.
pub(super) fn of(service: &ServiceStatus, stops: bool) -> Vec<Action> {
    let mut actions = vec![switch(service, !service.active, Tone::Main)];
    if service.split().whole() != Some(service.active) {
        actions.push(switch(service, service.active, Tone::Plain));
    }
    actions.extend(service.previous.map(|color| rollback(service, color)));
    match service.strategy {
        Strategy::BlueGreen => {}
        Strategy::Canary => actions.extend([shift(service), weights(service)]),
    }
    actions.push(strategy(service));
    if stops {
        actions.extend(traffic(service));
    }
    actions
}

fn switch(service: &ServiceStatus, to: Color, tone: Tone) -> Action {
    let name = &service.service;
    Action {
        key: format!("{name}-switch-{to}"),
        tone,
        question: format!("All traffic of {name} goes to {}.", outlook(service, to)),
        command: format!("turnout switch {name} {to}"),
        hidden: vec![("to", to.to_string())],
        force: true,
        ..Action::new(service, "switch", format!("Switch to {to}"))
    }
}

fn rollback(service: &ServiceStatus, to: Color) -> Action {
    let name = &service.service;
    Action {
        question: format!(
            "All traffic of {name} goes back to {}, which was active before the last switch.",
            outlook(service, to)
        ),
        command: format!("turnout rollback {name}"),
        force: true,
        ..Action::new(service, "rollback", "Roll back")
    }
}

fn shift(service: &ServiceStatus) -> Action {
    let (name, towards) = (&service.service, !service.active);
    let now = service.weights[towards];
    Action {
        question: format!(
            "{towards} has {now} % of the traffic of {name}, and gets this many percent points more."
        ),
        command: format!("turnout shift {name} --by 10 --towards {towards}"),
        pattern: Some(format!(
            "turnout shift {name} --by {{n}} --towards {towards}"
        )),
        hidden: vec![("towards", towards.to_string())],
        number: Some(Number {
            name: "by",
            label: "Percent points".to_owned(),
            min: 1,
            max: 100,
            value: "10".to_owned(),
        }),
        force: true,
        ..Action::new(service, "shift", format!("Shift towards {towards}"))
    }
}

fn weights(service: &ServiceStatus) -> Action {
    let (name, now) = (&service.service, service.weights);
    Action {
        question: format!(
            "The traffic of {name} is divided anew; blue gets what green leaves of 100."
        ),
        command: format!(
            "turnout weights {name} blue={} green={}",
            now.blue, now.green
        ),
        pattern: Some(format!("turnout weights {name} blue={{rest}} green={{n}}")),
        number: Some(Number {
            name: "green",
            label: "Percent for green".to_owned(),
            min: 0,
            max: 100,
            value: now.green.to_string(),
        }),
        force: true,
        ..Action::new(service, "weights", "Set weights")
    }
}

fn strategy(service: &ServiceStatus) -> Action {
    let name = &service.service;
    let (to, label, question) = match service.strategy {
        Strategy::BlueGreen => (
            Strategy::Canary,
            "Use canary",
            format!(
                "From then on the traffic of {name} can be divided by weights. Nothing moves now."
            ),
        ),
        Strategy::Canary => (
            Strategy::BlueGreen,
            "Use blue/green",
            format!(
                "All traffic of {name} goes to {}.",
                outlook(service, service.active)
            ),
        ),
    };
    Action {
        question,
        command: format!("turnout strategy {name} {to}"),
        hidden: vec![("strategy", to.to_string())],
        ..Action::new(service, "strategy", label)
    }
}

fn traffic(service: &ServiceStatus) -> Vec<Action> {
    let name = &service.service;
    let set = |mode: TrafficMode, label: &str, tone, question: String| Action {
        key: format!("{name}-traffic-{}", mode.as_str()),
        tone,
        question,
        command: format!("turnout traffic {} {name}", mode.as_str()),
        hidden: vec![("mode", mode.as_str().to_owned())],
        ..Action::new(service, "traffic", label)
    };
    let hold = || {
        let question = format!(
            "Requests of {name} wait, and are answered once it is opened; those that wait too long get 503."
        );
        set(TrafficMode::Hold, "Hold traffic", Tone::Danger, question)
    };
    let maintenance = || {
        let question = format!("Requests of {name} are answered with 503 and a page that says so.");
        set(
            TrafficMode::Maintenance,
            "Maintenance page",
            Tone::Danger,
            question,
        )
    };
    let open = || {
        let question = format!("Requests of {name} go on, those that wait first.");
        set(TrafficMode::Open, "Open traffic", Tone::Main, question)
    };
    match service.traffic {
        TrafficMode::Open => vec![hold(), maintenance()],
        TrafficMode::Hold => vec![open(), maintenance()],
        TrafficMode::Maintenance => vec![open(), hold()],
    }
}
