//! Stub of the control API's client, to be replaced at the merge: no daemon is ever reached.

use serde::{Deserialize, Serialize};

use super::ServerAddress;
use crate::controller::{Outcome, Request, Status, Verification};

/// A client of one daemon.
#[derive(Debug)]
pub struct Client {
    address: ServerAddress,
}

/// Who answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The state directory, absolute.
    pub state_dir: std::path::PathBuf,
    /// The daemon's process id.
    pub pid: u32,
    /// Its version.
    pub version: String,
}

/// Why the daemon did not do it.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers there. Exit 69.
    #[error("failed to reach turnout at {address}")]
    Unreachable {
        /// Where.
        address: ServerAddress,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It answered with a problem.
    #[error("{detail}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The problem in a word.
        title: String,
        /// What, where, what to do.
        detail: String,
        /// The exit code that it means.
        exit: Option<u8>,
    },
    /// The token does not fit. Exit 77.
    #[error("{detail} ({address})")]
    NotPermitted {
        /// Where.
        address: ServerAddress,
        /// What the daemon says.
        detail: String,
    },
    /// No answer in time. Exit 124.
    #[error("{address} did not answer within {} s; look with `turnout status`", after.as_secs())]
    TimedOut {
        /// Where.
        address: ServerAddress,
        /// How long it was waited for.
        after: std::time::Duration,
    },
    /// What answered is not turnout. Exit 69.
    #[error("what answers at {address} is not this turnout's control API: {what}")]
    Protocol {
        /// Where.
        address: ServerAddress,
        /// What was seen.
        what: String,
    },
}

impl Client {
    /// A client that speaks to `address`.
    pub fn new(address: &ServerAddress, _token: Option<String>) -> Result<Self, ClientError> {
        Ok(Self {
            address: address.clone(),
        })
    }

    fn unreachable(&self) -> ClientError {
        ClientError::Unreachable {
            address: self.address.clone(),
            source: std::io::Error::from(std::io::ErrorKind::ConnectionRefused),
        }
    }

    /// Asks for a change.
    pub async fn change(&self, _request: &Request) -> Result<Outcome, ClientError> {
        Err(self.unreachable())
    }

    /// Everything at a glance.
    pub async fn status(&self) -> Result<Status, ClientError> {
        Err(self.unreachable())
    }

    /// State, disk and served side by side.
    pub async fn verify(&self) -> Result<Verification, ClientError> {
        Err(self.unreachable())
    }

    /// Who answers.
    pub async fn identity(&self) -> Result<Identity, ClientError> {
        Err(self.unreachable())
    }
}
