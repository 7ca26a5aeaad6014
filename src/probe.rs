//! Health probes (to be written).

use jiff::Timestamp;

use crate::domain::{Color, HealthPolicy, ProbeOutcome, Server, ServiceName};

/// One probe's outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Whose server.
    pub service: ServiceName,
    /// Of which color.
    pub color: Color,
    /// Which.
    pub server: Server,
    /// What came.
    pub outcome: ProbeOutcome,
    /// When it ended.
    pub at: Timestamp,
}

/// Probes one server once, on a new connection.
pub async fn probe(server: &Server, color: Color, policy: &HealthPolicy) -> ProbeOutcome {
    todo!()
}
