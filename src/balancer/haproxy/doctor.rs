//! What a person should know about this HAProxy before the first change. Looks, and never changes anything.

use super::super::Finding;
use super::process::Master;
use super::{Haproxy, counts};
use crate::domain::RoutingTable;
use crate::exec::Program;

pub(super) async fn examine(haproxy: &Haproxy, table: &RoutingTable) -> Vec<Finding> {
    let settings = &haproxy.settings;
    let mut findings = Vec::new();
    match Program::new([settings.binary.as_str(), "-v"]).run().await {
        Ok(output) => {
            let version = output.stdout.lines().next().unwrap_or_default().to_owned();
            findings.push(Finding::Fine(version));
        }
        Err(error) => findings.push(Finding::Problem(error.to_string())),
    }
    match Master::find(&settings.pid).await {
        Ok(master) => {
            findings.push(Finding::Fine(format!(
                "the master is process {}",
                master.pid
            )));
            findings.push(if haproxy.is_loaded_by(&master) {
                Finding::Fine(format!("it loads {}", settings.config.display()))
            } else {
                Finding::Problem(format!(
                    "it was started without `-f {}`: add that to its command line (EXTRAOPTS in /etc/default/haproxy) and \
                     restart it",
                    settings.config.display()
                ))
            });
            if let Err(error) = master.may_signal()
                && settings.master_socket.is_none()
            {
                findings.push(Finding::Problem(error.to_string()));
            }
        }
        Err(error) => findings.push(Finding::Problem(error.to_string())),
    }
    let map = haproxy.map();
    let socket = haproxy.socket(&map);
    match socket.look().await {
        Ok(said) => findings.push(match socket.admin(&said) {
            Ok(()) => Finding::Fine(format!(
                "{} answers, level admin",
                settings.socket.display()
            )),
            Err(error) => Finding::Problem(error.to_string()),
        }),
        Err(error) => findings.push(Finding::Problem(
            haproxy.unreachable(error).await.to_string(),
        )),
    }
    findings.extend(frontends(haproxy, table));
    let users = haproxy.files();
    let bounded = users.iter().any(|file| {
        std::fs::read_to_string(file).is_ok_and(|text| text.contains("hard-stop-after"))
    });
    if settings.config.exists() && !bounded {
        findings.push(Finding::Advice(
            "hard-stop-after is not set in your global section: a WebSocket keeps an old worker alive for ever after a reload. \
             Set it longer than the longest request"
                .to_owned(),
        ));
    }
    findings
}

/// The lines that the user's frontends lack, for services without `listen`.
fn frontends(haproxy: &Haproxy, table: &RoutingTable) -> Option<Finding> {
    let mut lines = match haproxy.frontend_lines(table) {
        Ok(lines) => lines?,
        Err(error) => return Some(Finding::Problem(error.to_string())),
    };
    // for the counts of `status` and of rollouts
    if let Some(line) = counts::line(haproxy) {
        lines.push_str(&line);
        lines.push('\n');
    }
    let users = haproxy.files().into_iter();
    let written: String = users
        .filter(|file| *file != haproxy.settings.config)
        .filter_map(|file| std::fs::read_to_string(file).ok())
        .collect();
    let has = |line: &str| written.lines().any(|other| other.trim() == line.trim());
    if lines.lines().all(has) {
        return Some(Finding::Fine(
            "a frontend of yours has the lines for the services without `listen`".to_owned(),
        ));
    }
    Some(Finding::Advice(format!(
        "put these lines into the frontend of yours that takes the services without `listen`:\n{}",
        lines.trim_end()
    )))
}
