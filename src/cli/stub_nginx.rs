//! Stub of `balancer::Nginx`, to be replaced at the merge: never reachable.

use std::path::PathBuf;

use ipnet::IpNet;

use crate::balancer::{
    Applied, ApplyError, Balancer, Change, Observed, RenderError, Rendered, Served,
};
use crate::config::NginxSettings;
use crate::domain::RoutingTable;

#[derive(Debug)]
pub(super) struct Nginx;

impl Nginx {
    pub(super) fn new(_settings: NginxSettings, _state_dir: PathBuf, _trusted: Vec<IpNet>) -> Self {
        Self
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
