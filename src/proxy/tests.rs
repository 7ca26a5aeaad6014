//! What the tests of the data plane share: a service shape with everything filled in, a waker that counts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;
use std::time::Duration;

use crate::domain::{
    AccessLog, Colors, Expectation, HealthPolicy, Limits, OnUnhealthy, Service, StatusRange,
    Timeouts, Upstream,
};

/// A service on `listen` with one server in each color that nobody listens on.
pub(crate) fn shape(name: &str, listen: SocketAddr) -> Service {
    Service {
        name: name.parse().unwrap(),
        project: None,
        hosts: Vec::new(),
        listen: Some(listen),
        public: None,
        tls: None,
        proxy_protocol: false,
        upstream: Upstream::Colors(Colors {
            blue: vec!["http://127.0.0.1:1".parse().unwrap()],
            green: vec!["http://127.0.0.1:2".parse().unwrap()],
        }),
        sticky: None,
        preview: None,
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
                json: std::collections::BTreeMap::new(),
            },
        },
        timeouts: Timeouts {
            connect: Duration::from_secs(1),
            response: Duration::from_secs(2),
            drain: Duration::from_secs(5),
            head: Duration::from_secs(10),
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

/// A waker that counts how often it was woken.
#[derive(Debug, Default)]
pub(super) struct Bell(AtomicUsize);

impl Bell {
    pub(super) fn rung(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}
