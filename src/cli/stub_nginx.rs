//! Stub of `balancer::Nginx`, to be replaced at the merge: never reachable.

use std::path::PathBuf;

use ipnet::IpNet;

use crate::balancer::{
    Applied, ApplyError, Balancer, Change, Observed, RenderError, Rendered, Served,
};
use crate::config::NginxSettings;
use crate::domain::RoutingTable;

/// One thing that was looked at.
#[derive(Debug)]
#[expect(dead_code, reason = "the stub finds problems alone")]
pub(super) enum Finding {
    Fine(String),
    Advice(String),
    Problem(String),
}

#[derive(Debug)]
pub(super) struct Nginx;

impl Nginx {
    pub(super) fn new(_settings: NginxSettings, _state_dir: PathBuf, _trusted: Vec<IpNet>) -> Self {
        Self
    }

    pub(super) async fn doctor(&self) -> Vec<Finding> {
        vec![Finding::Problem("a stub".to_owned())]
    }
}

impl Balancer for Nginx {
    fn kind(&self) -> &'static str {
        "nginx"
    }

    fn render(&self, _table: &RoutingTable) -> Result<Rendered, RenderError> {
        Err(RenderError::NothingToRender)
    }

    async fn apply(&self, _change: Change<'_>) -> Result<Applied, ApplyError> {
        Err(ApplyError::Unreachable {
            message: "a stub".to_owned(),
        })
    }

    async fn observe(&self) -> Observed {
        Observed {
            disk: None,
            served: Served::Unreachable {
                reason: "a stub".to_owned(),
            },
        }
    }
}
