//! The exit codes of CONTRACT 4, which failure ends in which of them, and the one way a chain of errors is printed.
//!
//! CI retries on 69 and 75 and wakes a person on 4, so the mapping is exhaustive: a new failure breaks a match here until
//! somebody has said what a script should make of it. It is the only such mapping: a command that acts by itself ends with
//! it, and the daemon's API sends the same number along with its status, so that a failure means the same both ways.
//! Prints nothing itself.

use std::error::Error;
use std::fmt;
use std::io;

use crate::balancer::{ApplyError, RenderError};
use crate::controller::{ChangeError, Passes, RolloutError};
use crate::domain::PositionError;
use crate::store::{LockError, StoreError};

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Done, or nothing to do.
    Done = 0,
    /// A "no": differences, drift, unhealthy, refused by the position.
    No = 1,
    /// Wrong usage.
    Usage = 2,
    /// Failed, and everything is as before (or rolled back).
    Failed = 3,
    /// Failed and could not restore: a person is needed, and the message says what to do.
    NeedsPerson = 4,
    /// Stopped at a manual gate.
    Gate = 5,
    /// The rendered configuration was refused, by the template or by the balancer's own check.
    Refused = 65,
    /// Daemon, balancer, database or metrics source not reachable.
    Unreachable = 69,
    /// The lock is held; the message says by whom and since when.
    Locked = 75,
    /// Not permitted.
    NotPermitted = 77,
    /// The configuration is invalid.
    Config = 78,
    /// Timed out waiting.
    TimedOut = 124,
}

impl ExitCode {
    /// Every code there is.
    pub const ALL: [Self; 12] = [
        Self::Done,
        Self::No,
        Self::Usage,
        Self::Failed,
        Self::NeedsPerson,
        Self::Gate,
        Self::Refused,
        Self::Unreachable,
        Self::Locked,
        Self::NotPermitted,
        Self::Config,
        Self::TimedOut,
    ];

    /// The number that the shell sees.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The code with this number; `None` if the table has none.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.code() == code)
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code.code())
    }
}

impl From<&ChangeError> for ExitCode {
    fn from(error: &ChangeError) -> Self {
        match error {
            ChangeError::UnknownService { .. }
            | ChangeError::WhichService { .. }
            | ChangeError::Position {
                source: PositionError::Split(_),
                ..
            } => Self::Usage,
            ChangeError::Position {
                source: PositionError::NoWeights,
                ..
            }
            | ChangeError::NothingToRollBack { .. }
            | ChangeError::Unhealthy { .. }
            | ChangeError::BehindAlias { .. }
            | ChangeError::Followed { .. }
            | ChangeError::NotHere { .. }
            | ChangeError::RolloutRuns { .. }
            | ChangeError::NoRollout { .. }
            | ChangeError::NothingStaged
            | ChangeError::StagedOutdated { .. } => Self::No,
            ChangeError::NotDrained { .. } => Self::TimedOut,
            ChangeError::Lock(error) => error.into(),
            ChangeError::Render(error) => error.into(),
            ChangeError::Apply(error) => error.into(),
            ChangeError::Store(error) => error.into(),
            ChangeError::NeedsPerson { .. } => Self::NeedsPerson,
            ChangeError::ShuttingDown => Self::Unreachable,
        }
    }
}

impl From<&RolloutError> for ExitCode {
    fn from(error: &RolloutError) -> Self {
        match error {
            RolloutError::Unknown { .. }
            | RolloutError::Terms(_)
            | RolloutError::NoPrometheus { .. }
            | RolloutError::NoTraffic { .. } => Self::Usage,
            RolloutError::Over { .. }
            | RolloutError::Returning { .. }
            | RolloutError::NotBegun { .. }
            | RolloutError::NotBackYet { .. }
            | RolloutError::NotAtRest { .. }
            | RolloutError::NotPushed { .. }
            | RolloutError::Otherwise { .. }
            | RolloutError::Superseded { .. } => Self::No,
            // waiting does not help where a query is wrong, and CI tries again on the first
            RolloutError::NoFigures { passes, .. } => match passes {
                Passes::Later => Self::Unreachable,
                Passes::Never => Self::Config,
            },
            RolloutError::GoesOn { source, .. } => match source.as_deref().map(Self::from) {
                Some(code @ (Self::Locked | Self::NeedsPerson)) => code,
                Some(_) | None => Self::TimedOut,
            },
            RolloutError::Change(error) => error.into(),
            RolloutError::Store(error) => error.into(),
        }
    }
}

impl From<&ApplyError> for ExitCode {
    fn from(error: &ApplyError) -> Self {
        match error {
            ApplyError::Refused { .. } => Self::Refused,
            ApplyError::Unreachable { .. } => Self::Unreachable,
            ApplyError::NotPermitted { .. } => Self::NotPermitted,
            ApplyError::Edited { .. } => Self::No,
            ApplyError::Unchanged {
                source: Some(source),
                ..
            } if is_denied(source) => Self::NotPermitted,
            ApplyError::Unchanged { .. } | ApplyError::Restored { .. } => Self::Failed,
            ApplyError::NotRestored { .. } => Self::NeedsPerson,
        }
    }
}

impl From<&RenderError> for ExitCode {
    fn from(error: &RenderError) -> Self {
        match error {
            RenderError::Read { source, .. } if is_denied(source) => Self::NotPermitted,
            RenderError::Template { .. } | RenderError::Read { .. } => Self::Refused,
            RenderError::Value { .. } => Self::Config,
            RenderError::NothingToRender => Self::No,
        }
    }
}

impl From<&LockError> for ExitCode {
    fn from(error: &LockError) -> Self {
        match error {
            LockError::Held { .. } => Self::Locked,
            LockError::Store(error) => error.into(),
        }
    }
}

impl From<&StoreError> for ExitCode {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::Io { source, .. } if is_denied(source) => Self::NotPermitted,
            StoreError::Io { .. }
            | StoreError::Newer { .. }
            | StoreError::OutOfOrder { .. }
            | StoreError::Unsafe { .. } => Self::Failed,
            StoreError::Corrupt { .. } => Self::NeedsPerson,
        }
    }
}

/// True where the operating system does not let this user do it (EACCES, EPERM), whatever it was that was to be done.
fn is_denied(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

/// An error with its causes. `{}` gives a line for each, for people:
///
/// ```text
/// error: failed to apply
///   caused by: nginx refused the rendered configuration: …
/// ```
///
/// `{:#}` gives all of them on one line, joined by `: `, for a log field or an API body. A cause whose text already
/// stands in the line before it (as with a transparent error) is left out.
#[derive(Debug, Clone, Copy)]
pub struct Chain<'a>(pub &'a (dyn Error + 'static));

impl Chain<'_> {
    fn texts(&self) -> Vec<String> {
        let mut texts = vec![self.0.to_string()];
        let mut next = self.0.source();
        while let Some(cause) = next {
            let text = cause.to_string();
            if texts.last().is_none_or(|last| !last.contains(&text)) {
                texts.push(text);
            }
            next = cause.source();
        }
        texts
    }
}

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts = self.texts();
        if f.alternate() {
            return f.write_str(&texts.join(": "));
        }
        for (depth, text) in texts.iter().enumerate() {
            if depth == 0 {
                // what has a source snippet below it comes with its own head
                let head = if text.starts_with("error: ") {
                    ""
                } else {
                    "error: "
                };
                write!(f, "{head}{text}")?;
            } else {
                // what a program said keeps its lines, set in below the word
                write!(f, "\n  caused by: {}", text.replace('\n', "\n    "))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::domain::Generation;

    #[test]
    fn every_code_has_the_number_of_the_contract() {
        let numbers: Vec<u8> = ExitCode::ALL.iter().map(|code| code.code()).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 65, 69, 75, 77, 78, 124]);
        assert_eq!(ExitCode::from_code(75), Some(ExitCode::Locked));
        assert_eq!(ExitCode::from_code(70), None);
    }

    #[test]
    fn a_source_that_waiting_does_not_help_is_not_called_unreachable() {
        let code = |passes| {
            ExitCode::from(&RolloutError::NoFigures {
                service: "shop".parse().unwrap(),
                why: "the query for errors finds no series".to_owned(),
                passes,
            })
        };
        assert_eq!(code(Passes::Later), ExitCode::Unreachable);
        assert_eq!(code(Passes::Never), ExitCode::Config);
    }

    #[test]
    fn what_is_still_being_done_is_not_called_failed() {
        let code = |source: Option<ChangeError>| {
            ExitCode::from(&RolloutError::GoesOn {
                id: crate::controller::RolloutId::from_random(7),
                source: source.map(Box::new),
            })
        };
        let restored = ApplyError::Restored {
            message: String::new(),
            serves: Generation(1),
        };
        let held = LockError::Held {
            path: PathBuf::from("change.lock"),
            holder: None,
        };
        assert_eq!(code(None), ExitCode::TimedOut);
        assert_eq!(code(Some(restored.into())), ExitCode::TimedOut);
        assert_eq!(code(Some(held.into())), ExitCode::Locked);
    }

    #[test]
    fn a_chain_says_each_cause_once() {
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let error = ChangeError::from(StoreError::Io {
            action: "write",
            path: PathBuf::from("/var/lib/turnout/state.json"),
            source: denied,
        });
        assert_eq!(
            Chain(&error).to_string(),
            "error: failed to use the state directory; traffic is as before\n  \
             caused by: failed to write /var/lib/turnout/state.json\n  \
             caused by: permission denied"
        );
        assert_eq!(
            format!("{:#}", Chain(&error)),
            "failed to use the state directory; traffic is as before: failed to write \
             /var/lib/turnout/state.json: permission denied"
        );
    }

    #[test]
    fn a_transparent_error_is_not_said_twice() {
        let error = LockError::Store(StoreError::Corrupt {
            path: PathBuf::from("state.json"),
            reason: "end of file".to_owned(),
        });
        assert_eq!(Chain(&error).to_string().lines().count(), 1);
    }

    #[test]
    fn what_a_program_said_keeps_its_lines() {
        let error = ChangeError::Apply(ApplyError::Unreachable {
            message: "first\nsecond".to_owned(),
        });
        assert_eq!(
            Chain(&error).to_string(),
            "error: failed to apply\n  caused by: first\n    second"
        );
    }

    #[test]
    fn a_failure_below_decides_the_code_of_the_change() {
        for (error, code) in [
            (
                ApplyError::Restored {
                    message: String::new(),
                    serves: Generation(1),
                },
                ExitCode::Failed,
            ),
            (
                ApplyError::NotRestored {
                    message: String::new(),
                    undo: String::new(),
                    advice: String::new(),
                },
                ExitCode::NeedsPerson,
            ),
            (
                ApplyError::Refused {
                    balancer: "nginx",
                    message: String::new(),
                },
                ExitCode::Refused,
            ),
        ] {
            assert_eq!(ExitCode::from(&ChangeError::Apply(error)), code);
        }
        let held = LockError::Held {
            path: PathBuf::from("change.lock"),
            holder: None,
        };
        assert_eq!(ExitCode::from(&ChangeError::Lock(held)), ExitCode::Locked);
    }
}
