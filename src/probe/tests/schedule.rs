//! When probes are due: at once, each interval, sooner while a server starts, and across a new configuration.

use super::*;

fn services(
    policy: &HealthPolicy,
    blue: &Server,
    green: &Server,
) -> BTreeMap<ServiceName, Arc<Service>> {
    let service = service(policy.clone(), blue, green);
    BTreeMap::from([(service.name.clone(), Arc::new(service))])
}

#[tokio::test]
async fn each_server_is_probed_at_once_and_then_each_interval() {
    let up = says(answering("200 OK", "")).await;
    let down: Server = "http://127.0.0.1:1".parse().unwrap();
    let mut policy = policy(&[]);
    policy.interval = Duration::from_millis(200);
    let (sender, mut reports) = mpsc::channel(8);
    let mut probes = Probes::new(sender);
    let begun = std::time::Instant::now();
    probes.set(&services(&policy, &up, &down));
    let mut first = [reports.recv().await.unwrap(), reports.recv().await.unwrap()];
    assert!(begun.elapsed() < policy.interval, "{:?}", begun.elapsed());
    first.sort_by_key(|report| report.color);
    assert_eq!(first[0].outcome, ProbeOutcome::Pass { version: None });
    assert_eq!(first[1].outcome, ProbeOutcome::Fail(ProbeFailure::Refused));
    for _ in 0..4 {
        reports.recv().await.unwrap();
    }
    let took = begun.elapsed();
    assert!(
        took >= policy.interval * 2 && took < policy.interval * 4,
        "{took:?}"
    );
}

#[tokio::test]
async fn a_server_that_is_starting_is_seen_before_the_next_interval() {
    let up = says(answering("200 OK", "")).await;
    // taken and given back: free for whoever comes next
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let starting: Server = format!("http://{address}").parse().unwrap();
    let mut policy = policy(&[]);
    policy.interval = Duration::from_mins(1);
    let (sender, mut reports) = mpsc::channel(8);
    let mut probes = Probes::new(sender);
    probes.set(&services(&policy, &up, &starting));
    let mut first = [reports.recv().await.unwrap(), reports.recv().await.unwrap()];
    first.sort_by_key(|report| report.color);
    assert_eq!(first[1].outcome, ProbeOutcome::Fail(ProbeFailure::Refused));
    // further refusals are looked at and not reported
    let quiet = tokio::time::timeout(3 * Duration::from_millis(100), reports.recv()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    stream
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .await
        .unwrap();
    let report = reports.recv().await.unwrap();
    assert_eq!(
        (report.color, report.outcome),
        (Color::Green, ProbeOutcome::Pass { version: None })
    );
    drop(listener);
    let quiet = tokio::time::timeout(3 * Duration::from_millis(100), reports.recv()).await;
    assert!(quiet.is_err(), "{quiet:?}");
}

#[tokio::test]
async fn a_new_configuration_keeps_the_probes_that_did_not_change() {
    let up = says(answering("200 OK", "")).await;
    let other = says(answering("200 OK", "")).await;
    let mut policy = policy(&[]);
    policy.interval = Duration::from_mins(1);
    let (sender, mut reports) = mpsc::channel(8);
    let mut probes = Probes::new(sender);
    let down: Server = "http://127.0.0.1:1".parse().unwrap();
    probes.set(&services(&policy, &up, &down));
    for _ in 0..2 {
        reports.recv().await.unwrap();
    }
    let ids = |probes: &Probes| -> Vec<_> {
        probes
            .tasks
            .iter()
            .map(|(place, probing)| (place.1, probing.task.id()))
            .collect()
    };
    let before = ids(&probes);
    probes.set(&services(&policy, &up, &other));
    let report = reports.recv().await.unwrap();
    assert_eq!((report.color, &report.server), (Color::Green, &other));
    let after = ids(&probes);
    assert_eq!(after[0], before[0]);
    assert_ne!(after[1], before[1]);
    probes.set(&BTreeMap::new());
    drop(probes);
    assert_eq!(reports.recv().await, None);
}
