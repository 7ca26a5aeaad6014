//! What is known, as metrics: positions, servers, versions, drift, the last apply.

use std::fmt::Error;
use std::sync::Arc;

use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::gauges::{gauges, infos, one};
use crate::controller::{
    AliasStatus, DriftKind, LastApply, NO_COLOR, ServiceStatus, Sight, Status,
};
use crate::domain::{Color, Health, TrafficMode, Weight};

/// At one moment.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) status: Arc<Status>,
    pub(super) sight: Arc<Sight>,
    pub(super) last: Option<LastApply>,
    /// Seconds; 0: nobody holds it.
    pub(super) lock_held: f64,
}

impl Collector for Known {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let to = &mut encoder;
        self.services(to)?;
        self.servers(to)?;
        self.behind(to)?;
        self.machinery(to)?;
        self.drift(to)
    }
}

impl Known {
    fn shown(&self) -> impl Iterator<Item = &ServiceStatus> + Clone {
        let services = self.status.services.iter();
        services.filter(|service| !self.sight.hidden.contains(&service.service))
    }

    fn aliases(&self) -> impl Iterator<Item = &AliasStatus> + Clone {
        let aliases = self.status.aliases.iter();
        aliases.filter(|alias| !self.sight.hidden.contains(&alias.service))
    }

    /// What only a service behind an alias has.
    fn behind(&self, to: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let label = |alias: &AliasStatus| [("service", alias.service.to_string())];
        infos(
            to,
            ("alias", "The alias that a service is behind"),
            self.aliases().map(|alias| {
                let [service] = label(alias);
                [service, ("target", alias.target.clone())]
            }),
        )?;
        gauges(
            to,
            (
                "alias_addresses",
                "How many addresses an alias resolves to, as of the last answer",
            ),
            self.aliases()
                .map(|alias| (label(alias), alias.addresses.len() as u64)),
        )?;
        gauges(
            to,
            (
                "alias_resolved",
                "1 if the last lookup of an alias was answered, 0 while it goes by an older answer",
            ),
            self.aliases()
                .map(|alias| (label(alias), u32::from(alias.problem.is_none()))),
        )?;
        gauges(
            to,
            (
                "alias_open",
                "1 while requests go on to an alias, 0 while they are answered with 503 because it is unhealthy",
            ),
            self.aliases()
                .map(|alias| (label(alias), u32::from(alias.admission.is_open()))),
        )
    }

    fn services(&self, to: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let colors = || {
            self.shown()
                .flat_map(|service| Color::BOTH.map(|color| (service, color)))
        };
        let label = |service: &ServiceStatus, color: Color| {
            [
                ("service", service.service.to_string()),
                ("color", color.to_string()),
            ]
        };
        infos(
            to,
            ("service", "The label and strategy of a service"),
            self.shown()
                .map(|service| {
                    [
                        ("service", service.service.to_string()),
                        ("project", service.project.clone().unwrap_or_default()),
                        ("strategy", service.strategy.to_string()),
                    ]
                })
                .chain(self.aliases().map(|alias| {
                    [
                        ("service", alias.service.to_string()),
                        ("project", alias.project.clone().unwrap_or_default()),
                        ("strategy", "alias".to_owned()),
                    ]
                })),
        )?;
        gauges(
            to,
            (
                "weight_ratio",
                "The part of the traffic that a color is to get, by the position",
            ),
            colors().map(|(service, color)| (label(service, color), ratio(service.weights[color]))),
        )?;
        gauges(
            to,
            (
                "observed_weight_ratio",
                "The part of the traffic that a color was seen to get at the last look at the balancer",
            ),
            colors().filter_map(|(service, color)| {
                let split = self.sight.splits.get(&service.service)?;
                Some((label(service, color), ratio(split.weight(color))))
            }),
        )?;
        gauges(
            to,
            ("active", "1 for the active color, else 0"),
            colors().map(|(service, color)| {
                (label(service, color), u32::from(service.active == color))
            }),
        )?;
        infos(
            to,
            ("version", "The version that a color runs"),
            colors()
                .filter_map(|(service, color)| {
                    let [name, color_label] = label(service, color);
                    let version = service.versions[color].clone()?;
                    Some([name, color_label, ("version", version)])
                })
                .chain(self.aliases().filter_map(|alias| {
                    let version = alias.version.clone()?;
                    Some([
                        ("service", alias.service.to_string()),
                        ("color", NO_COLOR.to_owned()),
                        ("version", version),
                    ])
                })),
        )?;
        infos(
            to,
            (
                "rollout",
                "The rollout that runs on a service, or brought its traffic where it is, by its status and candidate",
            ),
            self.shown().filter_map(|service| {
                let rollout = service.rollout.as_deref()?;
                let [name, color] = label(service, rollout.candidate);
                Some([name, color, ("status", rollout.status.to_string())])
            }),
        )?;
        gauges(
            to,
            (
                "failover",
                "1 while the other color stands in for an unhealthy one, else 0",
            ),
            self.shown()
                .map(|service| (named(service), u32::from(service.overlay.is_some()))),
        )?;
        gauges(
            to,
            (
                "traffic_open",
                "1 while requests go on, 0 while an operator holds them or has put the service into maintenance",
            ),
            self.shown().map(|service| {
                let is_open = service.traffic == TrafficMode::Open;
                (named(service), u32::from(is_open))
            }),
        )?;
        gauges(
            to,
            (
                "position_changed_timestamp_seconds",
                "When the position of a service was last moved",
            ),
            self.shown()
                .filter_map(|service| Some((named(service), seconds(service.since?)))),
        )
    }

    fn servers(&self, to: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let servers = self.shown().flat_map(|service| {
            let colors = service.servers.iter();
            colors.flat_map(move |(color, servers)| {
                servers.iter().map(move |server| {
                    let name = &service.service;
                    (name, color.as_str(), server.url.clone(), server.health)
                })
            })
        });
        let aliases = self.aliases().map(|alias| {
            let url = format!("http://{}", alias.target);
            (&alias.service, NO_COLOR, url, alias.health)
        });
        gauges(
            to,
            (
                "server_up",
                "1 for a healthy server or alias, 0 for an unhealthy one",
            ),
            servers
                .chain(aliases)
                .filter_map(|(service, color, server, health)| {
                    let is_up = match health {
                        Health::Healthy => true,
                        Health::Unhealthy => false,
                        Health::Unknown => return None,
                    };
                    let label = [
                        ("service", service.to_string()),
                        ("color", color.to_owned()),
                        ("server", server),
                    ];
                    Some((label, u32::from(is_up)))
                }),
        )
    }

    fn machinery(&self, to: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let kind = self.status.balancer.as_str();
        infos(
            to,
            ("balancer", "What carries the traffic"),
            [[("balancer", kind)]].into_iter(),
        )?;
        one(
            to,
            ("config_generation", "The generation that was proved last"),
            Some(self.status.generation.0),
        )?;
        one(
            to,
            (
                "config_served_generation",
                "The generation that was seen served at the last look",
            ),
            self.sight.generation.map(|generation| generation.0),
        )?;
        one(
            to,
            (
                "config_last_reload_successful",
                "1 if the last apply was proved, 0 if it was not",
            ),
            self.last.map(|last| u32::from(last.was_proved)),
        )?;
        one(
            to,
            (
                "config_last_reload_success_timestamp_seconds",
                "When this daemon last proved an apply",
            ),
            self.last.and_then(|last| last.proved_at).map(seconds),
        )?;
        one(
            to,
            (
                "config_problems",
                "What a person should know, as `turnout status` shows it: a bad configuration that was not taken, a state read from its backup",
            ),
            Some(self.status.problems.len() as u64),
        )?;
        one(
            to,
            (
                "lock_held_seconds",
                "For how long the change lock has been held; 0: it is free",
            ),
            Some(self.lock_held),
        )?;
        let fallback = u32::from(self.status.fallback.is_some());
        one(
            to,
            (
                "fallback_active",
                "1 while the embedded proxy stands in for the balancer, which is gone, else 0",
            ),
            (kind != "embedded").then_some(fallback),
        )
    }

    fn drift(&self, to: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        const KINDS: [(DriftKind, &str); 3] = [
            (DriftKind::Disk, "disk"),
            (DriftKind::Served, "served"),
            (DriftKind::Config, "config"),
        ];
        let drift = &self.status.drift;
        let whole = KINDS.map(|(kind, word)| {
            let mut all = drift.iter().filter(|drift| drift.service.is_none());
            let is_there = all.any(|drift| drift.kind == kind);
            (
                [("service", String::new()), ("kind", word.to_owned())],
                u32::from(is_there),
            )
        });
        let each = self.shown().flat_map(|service| {
            let kinds = KINDS.iter().filter(|(kind, _)| *kind != DriftKind::Config);
            kinds.map(move |(kind, word)| {
                let is_there = drift.iter().any(|drift| {
                    drift.kind == *kind && drift.service.as_ref() == Some(&service.service)
                });
                (
                    [
                        ("service", service.service.to_string()),
                        ("kind", (*word).to_owned()),
                    ],
                    u32::from(is_there),
                )
            })
        });
        gauges(
            to,
            (
                "drift",
                "1 where state, disk and what is served do not agree, else 0; without a service: the configuration as a whole",
            ),
            whole.into_iter().chain(each),
        )
    }
}

fn named(service: &ServiceStatus) -> [(&'static str, String); 1] {
    [("service", service.service.to_string())]
}

fn ratio(weight: Weight) -> f64 {
    f64::from(weight.basis_points()) / 10_000.0
}

/// Since 1970, with milliseconds.
fn seconds(time: Timestamp) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "below 2^53 for 285,000 years")]
    let milliseconds = time.as_millisecond() as f64;
    milliseconds / 1e3
}
