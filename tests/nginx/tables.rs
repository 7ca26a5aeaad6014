//! The tables that the tests apply: one service or thousands, whole on a color or parted between both.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use turnout::domain::{
    AccessLog, Color, Colors, Expectation, Generation, HealthPolicy, Limits, OnUnhealthy, Position,
    Route, RoutingTable, Server, Service, Split, StatusRange, Sticky, Strategy, Timeouts, Upstream,
};

use super::lab::Lab;

pub(super) fn whole(color: Color) -> Position {
    Position::all(Strategy::BlueGreen, color)
}

pub(super) fn canary(blue: f64) -> Position {
    Position::canary(
        Color::Blue,
        Split::from_percents(blue, 100.0 - blue).unwrap(),
    )
}

impl Lab {
    pub(super) fn table(&self, generation: u64, position: Position) -> RoutingTable {
        self.table_with(generation, position, |_| ())
    }

    pub(super) fn table_with(
        &self,
        generation: u64,
        position: Position,
        change: impl FnOnce(&mut Service),
    ) -> RoutingTable {
        let mut shape = self.service("shop");
        change(&mut shape);
        RoutingTable {
            generation: Generation(generation),
            routes: BTreeMap::from([(shape.name.clone(), Route::new(Arc::new(shape), position))]),
            aliases: BTreeMap::new(),
        }
    }

    pub(super) fn many(&self, generation: u64, count: usize) -> RoutingTable {
        RoutingTable {
            generation: Generation(generation),
            aliases: BTreeMap::new(),
            routes: (0..count)
                .map(|number| {
                    let shape = self.service(&format!("service-{number}"));
                    (
                        shape.name.clone(),
                        Route::new(Arc::new(shape), canary(90.0)),
                    )
                })
                .collect(),
        }
    }

    fn service(&self, name: &str) -> Service {
        Service {
            name: name.parse().unwrap(),
            project: None,
            hosts: vec![format!("{name}.example.com").parse().unwrap()],
            listen: Some(self.front()),
            public: None,
            tls: None,
            proxy_protocol: false,
            upstream: Upstream::Colors(Colors {
                blue: vec![self.server(Color::Blue).clone()],
                green: vec![self.server(Color::Green).clone()],
            }),
            sticky: Some(Sticky {
                header: "X-Session-Key".into(),
                cookie: "session_id".into(),
                set_cookie: false,
            }),
            preview: None,
            on_unhealthy: OnUnhealthy::Failover,
            health: HealthPolicy {
                path: "/health".into(),
                interval: Duration::from_secs(5),
                timeout: Duration::from_secs(2),
                unhealthy_after: 3,
                healthy_after: 1,
                expect: Expectation {
                    status: StatusRange {
                        low: 200,
                        high: 299,
                    },
                    json: BTreeMap::new(),
                },
            },
            timeouts: Timeouts {
                connect: Duration::from_secs(1),
                response: Duration::from_secs(5),
                drain: Duration::from_secs(5),
                head: Duration::from_secs(5),
                idle: Duration::from_secs(75),
            },
            limits: Limits {
                head: 32_768,
                headers: 100,
                body: None,
                connections: 10_000,
                hold: Duration::from_secs(30),
                rate: Vec::new(),
            },
            access_log: AccessLog::Off,
            metrics: true,
            router_endpoints: true,
        }
    }
}

/// The servers of both colors.
pub(super) fn colors(shape: &mut Service) -> &mut Colors<Vec<Server>> {
    match &mut shape.upstream {
        Upstream::Colors(servers) => servers,
        Upstream::Alias(target) => panic!("{target} has no colors"),
    }
}
