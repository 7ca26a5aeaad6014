//! The user's commands: which is run with which arguments, and what `get` prints. Nothing goes through a shell.
//!
//! `{service}`, `{blue}`, `{green}` and `{color}` in an argument are replaced; a command without any gets them behind its own
//! (service, blue, green; `get`: service; `promote` and `rollback`: service, color). The same stand in `TURNOUT_SERVICE`,
//! `TURNOUT_BLUE`, `TURNOUT_GREEN` and `TURNOUT_COLOR`. `get` prints `{"blue": 90, "green": 10}`, or the two numbers in this order.

use crate::config::ExecSettings;
use crate::domain::{Color, RoutingTable, ServiceName, Split};
use crate::exec::{CommandError, Program};
use serde::Deserialize;

/// Bytes of `get` that are read: two numbers, and room for what else a document holds.
const ANSWER: usize = 64 * 1024;
/// Characters of a strange answer that an error repeats.
const SAID: usize = 200;

#[derive(Debug, Clone)]
pub(super) struct Commands(pub(super) ExecSettings);

/// Which way a split is put into force.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wish<'a> {
    /// As it was asked for; the table that was proved last.
    Forward(Option<&'a RoutingTable>),
    /// As it was before.
    Back,
}

/// Why `get` does not tell.
#[derive(Debug, thiserror::Error)]
pub(super) enum GetError {
    #[error("the router cannot be asked about {service}")]
    Command {
        service: ServiceName,
        #[source]
        source: CommandError,
    },
    #[error(
        "`{argv}` has to print {{\"blue\": 90, \"green\": 10}} or `90 10` for {service}, and printed {said:?}"
    )]
    Strange {
        argv: String,
        service: ServiceName,
        said: String,
    },
}

#[derive(Debug, Deserialize)]
struct Answer {
    blue: f64,
    green: f64,
}

impl Commands {
    pub(super) async fn get(&self, service: &ServiceName) -> Result<Split, GetError> {
        let values = [("service", service.to_string())];
        let failed = |source| GetError::Command {
            service: service.clone(),
            source,
        };
        let output = self.program(&self.0.get, &values).cap(ANSWER).run().await;
        let output = output
            .and_then(crate::exec::Output::success)
            .map_err(failed)?;
        read(&output.stdout).ok_or_else(|| GetError::Strange {
            argv: output.argv.to_string(),
            service: service.clone(),
            said: output.stdout.trim().chars().take(SAID).collect(),
        })
    }

    /// Runs the command that brings `split` about; the command, as a person would type it.
    pub(super) async fn set(
        &self,
        service: &ServiceName,
        before: Option<Split>,
        split: Split,
        wish: Wish<'_>,
    ) -> Result<String, CommandError> {
        let percent = |color| split.weight(color).percent().to_string();
        let named = self.named(service, before, split, wish);
        let program = if let Some((argv, color)) = named {
            let values = [
                ("service", service.to_string()),
                ("color", color.to_string()),
            ];
            self.program(argv, &values)
        } else {
            let values = [
                ("service", service.to_string()),
                ("blue", percent(Color::Blue)),
                ("green", percent(Color::Green)),
            ];
            self.program(&self.0.set, &values)
        };
        Ok(program.run().await?.success()?.argv.to_string())
    }

    /// `promote`, where all goes to the color that was not the active one; `rollback`, where all goes back to the one that was.
    fn named(
        &self,
        service: &ServiceName,
        before: Option<Split>,
        split: Split,
        wish: Wish<'_>,
    ) -> Option<(&[String], Color)> {
        let Wish::Forward(Some(previous)) = wish else {
            return None;
        };
        let color = split.whole()?;
        let active = previous.routes.get(service)?.position.active();
        let was_split = before.is_some_and(|before| before.whole().is_none());
        let argv = if active != color {
            self.0.promote.as_ref()
        } else if was_split {
            self.0.rollback.as_ref()
        } else {
            None
        };
        Some((argv?, color))
    }

    fn program(&self, argv: &[String], values: &[(&str, String)]) -> Program {
        let mut named = false;
        let mut words: Vec<String> = argv
            .iter()
            .map(|word| {
                values.iter().fold(word.clone(), |word, (name, value)| {
                    let place = format!("{{{name}}}");
                    named |= word.contains(&place);
                    word.replace(&place, value)
                })
            })
            .collect();
        if !named {
            words.extend(values.iter().map(|(_, value)| value.clone()));
        }
        let program = Program::new(words).deadline(self.0.timeout);
        values.iter().fold(program, |program, (name, value)| {
            program.env(&format!("TURNOUT_{}", name.to_ascii_uppercase()), value)
        })
    }
}

/// Two percentages that add up to 100.
fn read(text: &str) -> Option<Split> {
    let text = text.trim();
    let (blue, green) = match serde_json::from_str(text) {
        Ok(Answer { blue, green }) => (blue, green),
        Err(_no_document) => {
            let mut words = text.split_whitespace();
            let (blue, green) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
            words.next().is_none().then_some((blue, green))?
        }
    };
    Split::from_percents(blue, green).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn get_prints_a_document_or_two_numbers_and_nothing_else() {
        let split = Split::from_percents(90.0, 10.0).unwrap();
        for text in [
            "90 10\n",
            "  90.0\t10 ",
            r#"{"blue": 90, "green": 10}"#,
            r#"{"green": 10.0, "blue": 90, "since": "noon"}"#,
        ] {
            assert_eq!(read(text), Some(split), "{text}");
        }
        for text in [
            "",
            "90",
            "90 10 0",
            "90 20",
            "-10 110",
            "NaN 10",
            "blue 100",
            r#"{"blue": 100}"#,
            r#"{"blue": "90", "green": "10"}"#,
            "90%\n10%",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
