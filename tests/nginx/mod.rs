//! A real nginx with a prefix, ports and pid of its own: what turnout renders, how it applies and restores, and each of the
//! messages for what can be wrong with somebody else's nginx.

#![expect(clippy::unwrap_used, reason = "the helpers of tests fail like tests")]

mod answers;
mod instant;
mod lab;
mod master;
mod own_server;
mod refusals;
mod requests;
mod switch;
mod tables;
mod traffic;
mod undone;
mod unprivileged;
mod way_back;

use std::collections::BTreeSet;

use turnout::balancer::{
    Applied, ApplyError, Balancer as _, Change, Foreign, FrontDoor, Nginx, Progress,
};
use turnout::domain::RoutingTable;

async fn apply(
    nginx: &Nginx,
    table: &RoutingTable,
    previous: Option<&RoutingTable>,
    foreign: Foreign,
) -> Result<Applied, ApplyError> {
    let rendered = nginx.render(table).unwrap();
    nginx
        .apply(Change {
            desired: table,
            rendered: &rendered,
            previous,
            front_door: FrontDoor::Ask,
            unseen: &BTreeSet::new(),
            foreign,
            progress: Progress::silent(),
        })
        .await
}

async fn must_apply(
    nginx: &Nginx,
    table: &RoutingTable,
    previous: Option<&RoutingTable>,
    foreign: Foreign,
) {
    let applied = apply(nginx, table, previous, foreign).await.unwrap();
    assert_eq!(applied.generation(), table.generation);
}

fn refused(result: Result<Applied, ApplyError>) -> ApplyError {
    match result {
        Ok(applied) => panic!("it was applied: {applied:?}"),
        Err(error) => error,
    }
}
