//! A proxy with one service, whose tables the tests write themselves: no daemon, no file and no balancer is between.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use turnout::domain::{
    AccessLog, Color, Colors, Expectation, Generation, HealthPolicy, Limits, OnUnhealthy, Position,
    Route, RoutingTable, Server, Service, StatusRange, Sticky, Timeouts, Upstream,
};
use turnout::proxy::Proxy;

use super::servers::nobody;
use super::wire::{Answer, Wire};

pub(crate) fn free_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

pub(crate) fn shape(listen: SocketAddr, blue: Vec<Server>, green: Vec<Server>) -> Service {
    Service {
        name: "shop".parse().unwrap(),
        project: None,
        hosts: Vec::new(),
        listen: Some(listen),
        public: None,
        tls: None,
        proxy_protocol: false,
        upstream: Upstream::Colors(Colors { blue, green }),
        sticky: Some(Sticky {
            header: "X-Session-Key".to_owned(),
            cookie: "session_id".to_owned(),
            set_cookie: false,
        }),
        preview: Some("X-Turnout-Color".to_owned()),
        on_unhealthy: OnUnhealthy::Failover,
        health: HealthPolicy {
            path: "/health".to_owned(),
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
            connect: Duration::from_secs(2),
            response: Duration::from_secs(5),
            drain: Duration::from_secs(5),
            head: Duration::from_secs(5),
            idle: Duration::from_secs(75),
        },
        limits: Limits {
            head: 32 * 1024,
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

pub(crate) fn table(generation: u64, service: Service, position: Position) -> RoutingTable {
    let mut table = RoutingTable {
        generation: Generation(generation),
        ..RoutingTable::default()
    };
    let name = service.name.clone();
    table
        .routes
        .insert(name, Route::new(Arc::new(service), position));
    table
}

pub(crate) const fn on(active: Color) -> Position {
    Position::BlueGreen { active }
}

/// A proxy of two threads with one service `shop`, all on blue.
pub(crate) struct Shop {
    pub(crate) proxy: Proxy,
    pub(crate) address: SocketAddr,
    pub(crate) service: Service,
    pub(super) generation: u64,
}

impl Shop {
    pub(crate) async fn with(
        blue: Vec<Server>,
        green: Vec<Server>,
        edit: impl FnOnce(&mut Service),
    ) -> Self {
        Self::trusting(vec![], blue, green, edit).await
    }

    pub(crate) async fn trusting(
        trusted: Vec<ipnet::IpNet>,
        blue: Vec<Server>,
        green: Vec<Server>,
        edit: impl FnOnce(&mut Service),
    ) -> Self {
        let address = free_address();
        let mut service = shape(address, blue, green);
        edit(&mut service);
        let mut shop = Self {
            proxy: Proxy::start(2, trusted).unwrap(),
            address,
            service,
            generation: 0,
        };
        shop.install(on(Color::Blue)).await;
        shop
    }

    pub(crate) async fn new(blue: Server) -> Self {
        Self::with(vec![blue], vec![nobody()], |_| {}).await
    }

    pub(crate) async fn install(&mut self, position: Position) {
        self.generation += 1;
        let table = table(self.generation, self.service.clone(), position);
        let snapshot = self
            .proxy
            .snapshot(&table, turnout::domain::Hashing::SplitClients);
        self.proxy.install(snapshot).await.unwrap();
        assert_eq!(self.proxy.generation(), Generation(self.generation));
    }

    pub(crate) async fn client(&self) -> Wire {
        Wire(TcpStream::connect(self.address).await.unwrap())
    }

    /// One request on a connection of its own.
    pub(crate) async fn ask(&self, text: &str) -> Answer {
        let mut client = self.client().await;
        client.send(text).await;
        client.answer().await
    }
}
