//! The proxy that stands in when nginx or HAProxy is gone: whether it does now, and what would keep it from that.

use super::finding::Finding;
use crate::balancer::Fallback;
use crate::cli::chosen::Chosen;
use crate::config::Config;
use crate::store::Store;

/// The capability that binds ports below 1024 (`CAP_NET_BIND_SERVICE`), as its bit in `/proc/PID/status`.
const BIND_LOW: u64 = 1 << 10;

pub(super) fn findings(config: &Config, store: &Store, chosen: Option<&Chosen>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let kind = match chosen {
        Some(Chosen::Nginx(_)) => "nginx",
        Some(Chosen::Haproxy(_)) => "haproxy",
        Some(Chosen::Embedded | Chosen::Exec(_)) | None => return findings,
    };
    if config.balancer.fallback.is_none() {
        return findings;
    }
    let daemon = store.lock_status().ok().and_then(|locks| locks.serve);
    if let Some(fallback) = Fallback::remembered(store.dir()) {
        findings.push(match &daemon {
            Some(_) => Finding::wrong(
                "fallback",
                fallback.sentence(),
                &format!("turnout fallback release && systemctl start {kind}"),
            ),
            None => Finding::wrong(
                "fallback",
                format_args!("{kind} is gone, and the turnout that stood in for it has ended: nothing is served"),
                &format!("turnout fallback release && systemctl start {kind}, or turnout serve"),
            ),
        });
    }
    let services = config.services.iter();
    let (taken, left): (Vec<_>, Vec<_>) =
        services.partition(|(_, service)| service.shape.listen.is_some());
    if !left.is_empty() {
        let names: Vec<_> = left.iter().map(|(name, _)| name.as_str()).collect();
        findings.push(Finding::note(
            "fallback",
            format_args!(
                "{} {} not be served while {kind} is gone: without `listen` only {kind}'s own configuration knows where it listens and \
                 with which certificate",
                names.join(", "),
                if names.len() == 1 { "would" } else { "would all" }
            ),
            "let turnout listen (services.NAME.listen), or do without a fallback there",
        ));
    }
    let low = taken.iter().filter_map(|(_, service)| service.shape.listen);
    let low = low.filter(|address| address.port() < 1024).min();
    if let (Some(low), Some(daemon)) = (low, &daemon) {
        findings.push(match capabilities(daemon.pid) {
            Some(bits) if bits & BIND_LOW != 0 => Finding::fine(
                "fallback",
                format_args!("the daemon may listen on {low}: it has CAP_NET_BIND_SERVICE"),
            ),
            Some(_) => Finding::wrong(
                "fallback",
                format_args!("the daemon could not take over {low}: ports below 1024 need CAP_NET_BIND_SERVICE, which it lacks"),
                "run it by deploy/turnout.service, or give its unit AmbientCapabilities=CAP_NET_BIND_SERVICE",
            ),
            None => Finding::note(
                "fallback",
                format_args!("whether the daemon may listen on {low} cannot be seen from here"),
                "run turnout doctor as root",
            ),
        });
    }
    if !taken.is_empty() {
        findings.push(Finding::fine(
            "fallback",
            format_args!(
                "turnout serve stands in when {kind} is gone for three probe intervals; services: {}",
                taken.len()
            ),
        ));
    }
    findings
}

/// The effective capabilities of a process.
fn capabilities(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let bits = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(bits.trim(), 16).ok()
}
