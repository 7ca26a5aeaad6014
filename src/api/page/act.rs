//! What a button does: the same change as the command beside it, asked of the controller and answered once it is proved.
//!
//! The script gets JSON; without one the answer is a redirect to the page, or a page with the problem's words.

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Redirect, Response};
use serde::{Deserialize, Serialize};

use super::super::error::Problem;
use super::super::request::read;
use super::super::wire::check_message;
use super::Desk;
use super::card::words;
use super::show::refused;
use super::viewer::{Viewer, own_page};
use crate::controller::{Request as Change, Verb};
use crate::domain::{Color, Maintenance, ServiceName, Split, Strategy, Traffic, TrafficMode};

/// The last parts of the forms' addresses.
pub(super) const VERBS: [&str; 6] = [
    "switch", "rollback", "strategy", "weights", "shift", "traffic",
];

/// Sent by the script, to be answered with JSON.
const SCRIPT: &str = "x-turnout-page";

/// The fields of all forms; each form has some of them. A field that does not fit its verb is refused like an unknown one.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    to: Option<Color>,
    strategy: Option<Strategy>,
    green: Option<f64>,
    by: Option<f64>,
    towards: Option<Color>,
    mode: Option<TrafficMode>,
    force: Option<Ticked>,
    message: Option<String>,
}

/// A box that is ticked; one that is not is not sent.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Ticked {
    On,
}

#[derive(Serialize)]
struct Done {
    title: String,
    detail: String,
}

impl Form {
    fn verb(&self, name: &str, service: ServiceName) -> Result<Verb, Problem> {
        let service = Some(service);
        let fields = (
            self.to,
            self.strategy,
            self.green,
            (self.by, self.towards),
            self.mode,
        );
        Ok(match (name, fields) {
            ("switch", (Some(to), None, None, (None, None), None)) => Verb::Switch {
                service,
                to: Some(to),
            },
            ("rollback", (None, None, None, (None, None), None)) => Verb::Rollback { service },
            ("strategy", (None, Some(strategy), None, (None, None), None)) => {
                Verb::Strategy { service, strategy }
            }
            ("weights", (None, None, Some(green), (None, None), None)) => {
                let weights = Split::from_percents(100.0 - green, green)
                    .map_err(|error| Problem::unfitting(error.to_string()))?;
                Verb::Weights { service, weights }
            }
            ("shift", (None, None, None, (Some(by), Some(towards)), None)) => Verb::Shift {
                service,
                by,
                towards,
            },
            ("traffic", (None, None, None, (None, None), Some(mode))) => Verb::Traffic {
                service,
                to: match mode {
                    TrafficMode::Open => Traffic::Open,
                    TrafficMode::Hold => Traffic::Hold,
                    TrafficMode::Maintenance => Traffic::Maintenance(Maintenance::default()),
                },
            },
            (known, _) if VERBS.contains(&known) => {
                return Err(Problem::unfitting(format!(
                    "these are not the fields of the form for {known}"
                )));
            }
            _ => return Err(Problem::not_found("there is no such button")),
        })
    }
}

pub(super) async fn act(
    State(desk): State<Desk>,
    viewer: Viewer,
    Path((service, verb)): Path<(String, String)>,
    request: Request,
) -> Response {
    let is_script = request.headers().contains_key(SCRIPT);
    match change(&desk, viewer, &service, &verb, request).await {
        Ok(done) if is_script => Json(done).into_response(),
        Ok(_) => {
            // both were parsed above, and have no character that means something in an address
            let to = format!("/?done={verb}&service={service}#service-{service}");
            Redirect::to(&to).into_response()
        }
        Err(problem) if is_script => problem.into_response(),
        Err(problem) => refused(&problem),
    }
}

async fn change(
    desk: &Desk,
    viewer: Viewer,
    service: &str,
    verb: &str,
    request: Request,
) -> Result<Done, Problem> {
    own_page(request.headers())?;
    let actor = match viewer.name {
        Some(name) if viewer.may_write => actor(&name),
        Some(name) => {
            return Err(Problem::forbidden(format!(
                "`{name}` may look and not change anything"
            )));
        }
        None => {
            return Err(Problem::forbidden(
                "without a token only loopback may change anything, and not through another proxy (X-Forwarded-For); configure a token to let others in",
            ));
        }
    };
    let service: ServiceName = service
        .parse()
        .map_err(|error: crate::domain::InvalidName| Problem::not_found(error.to_string()))?;
    let bytes = read(request).await?;
    let form: Form = serde_urlencoded::from_bytes(&bytes)
        .map_err(|error| Problem::unfitting(format!("the form: {error}")))?;
    let mut change = Change::new(form.verb(verb, service)?, actor);
    change.force = form.force.is_some();
    change.message = form.message.filter(|text| !text.trim().is_empty());
    check_message(change.message.as_ref())?;
    let outcome = desk.api.handle.change(change).await?;
    let now = outcome.service.as_ref();
    Ok(Done {
        title: if outcome.changed {
            "Done and proved".to_owned()
        } else {
            "It was so already".to_owned()
        },
        detail: now.map_or_else(String::new, |now| {
            let mut text = format!("{} serves {} now.", now.service, words(now.split()));
            for warning in &outcome.warnings {
                text += " ";
                text += warning;
            }
            text
        }),
    })
}

/// Who the audit log names: the token or user, and that it was on the page.
fn actor(name: &str) -> String {
    format!("{name} (page)")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verb(name: &str, form: &str) -> Result<Verb, u16> {
        let form: Form = serde_urlencoded::from_str(form).map_err(|_unknown| 0_u16)?;
        form.verb(name, "shop".parse().unwrap())
            .map_err(|problem| problem.status())
    }

    #[test]
    fn a_form_is_the_verb_it_says_and_no_other() {
        let service = || Some("shop".parse().unwrap());
        assert_eq!(
            verb("switch", "to=green&message="),
            Ok(Verb::Switch {
                service: service(),
                to: Some(Color::Green)
            })
        );
        assert_eq!(
            verb("weights", "green=20"),
            Ok(Verb::Weights {
                service: service(),
                weights: Split::from_percents(80.0, 20.0).unwrap()
            })
        );
        assert_eq!(
            verb("rollback", "force=on"),
            Ok(Verb::Rollback { service: service() })
        );
        for (name, form, status) in [
            ("switch", "", 422),
            ("switch", "to=green&by=10", 422),
            ("weights", "green=NaN", 422),
            ("weights", "green=101", 422),
            ("promote", "", 404),
            ("switch", "to=red", 0),
            ("switch", "to=green&actor=root", 0),
        ] {
            assert_eq!(verb(name, form), Err(status), "{name} {form}");
        }
    }
}
