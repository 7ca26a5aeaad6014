//! A rollout on a Prometheus that could only ever hold is refused before any traffic moves: nobody answers, or nobody is asked for
//! what the policy limits.

use serde_json::json;

use super::hosts::{Host, Kind};
use super::*;
use crate::support::{Ports, shared};

#[test]
fn what_a_prometheus_cannot_tell_is_refused_and_nothing_begins() {
    let _turn = shared();
    let host = Host::start(Kind::Embedded);
    let address = Ports::address();
    host.edit(
        "    strategy: blue_green\n",
        &format!(
            "    strategy: blue_green\n    canary: {{ source: {{ prometheus: {{ url: \"http://{address}\", queries: {{ requests: 'r{{c=\"{{{{color}}}}\"}}', errors: 'e{{c=\"{{{{color}}}}\"}}' }} }} }} }}\n",
        ),
    );
    let daemon = host.healthy();
    let api = daemon.api();
    for (policy, status, word) in [
        // there is nobody at that address
        (json!({}), 503, "does not answer"),
        (
            json!({ "max_latency_p95_ms": 350 }),
            422,
            "has no query for slow",
        ),
        // by the defaults, a figure is of 60 s and 30 s late
        (
            json!({ "sample_window_sec": 60 }),
            422,
            "min_samples (3) need 270 s",
        ),
    ] {
        let body = json!({ "new_version": "v2", "source": "prometheus", "policy": policy });
        let answer = api.post("/deployments", &body);
        assert_eq!(answer.status, status, "{policy}: {}", answer.text());
        println!("{policy}: {}", answer.text());
        let said = answer.text();
        assert!(said.contains(word), "{policy}: {said}");
    }
    assert_eq!(api.get("/deployments").json(), json!([]));
    host.all_on(Color::Blue);
}
