//! When the proxy takes over from a balancer that is gone, gives back, and waits for it, over a fake that comes and goes.

use super::daemon::{SOON, until};
use super::*;
use crate::balancer::{Absent, Backed, Duty, Presence, StandIn};

/// One service that is looked at each 100 ms, on a port of its own, and a balancer that can be stood in for.
struct Site {
    dir: tempfile::TempDir,
    fake: Fake,
    handle: Handle,
    _task: tokio::task::JoinHandle<()>,
}

impl Site {
    /// `start`: the shell's words for `fallback.start`.
    async fn serving(start: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("turnout.yaml");
        let front = dead_server();
        let text = format!(
            "version: 1\nstate: {{ dir: state }}\nbalancer: {{ kind: nginx, fallback: {{ start: [sh, -c, \"cd {}; {start}\"] }} }}\nservices:\n  shop:\n    listen: {front}\n    blue: {{ servers: [\"http://127.0.0.1:9\"] }}\n    green: {{ servers: [\"http://127.0.0.1:10\"] }}\n    health: {{ interval: 100ms, timeout: 50ms }}\n",
            dir.path().display()
        );
        std::fs::write(&path, text).unwrap();
        let env = Env::new(dir.path().to_owned(), |_| None);
        let config = Arc::new(Config::load(&Source::file(&path, &env), &env).unwrap());
        let fake = Fake::new();
        let absent = Absent::of(&fake);
        let stand_in = StandIn::of(&absent, Vec::new());
        let backed = Backed::new(absent, Some(stand_in));
        let store = Store::new(dir.path().join("state"));
        let controller = Controller::new(config, store, backed, "test");
        let (handle, task) = spawn(controller).await.unwrap();
        let mut proof = handle.proof();
        let seen = proof.wait_for(|proof| *proof == Proof::Seen);
        tokio::time::timeout(SOON, seen).await.unwrap().unwrap();
        Self {
            dir,
            fake,
            handle,
            _task: task,
        }
    }

    fn die(&self) {
        self.fake.appear(Presence::Gone("killed".to_owned()));
    }

    fn duty(&self) -> Option<Duty> {
        let fallback = self.handle.status().fallback.clone();
        fallback.map(|fallback| fallback.duty)
    }

    async fn until_duty(&self, duty: Option<Duty>) {
        let is = |status: &Status| status.fallback.as_ref().map(|told| told.duty) == duty;
        until(&self.handle, is).await;
    }
}

#[tokio::test]
async fn one_without_turnouts_configuration_is_not_given_the_clients_by_a_start_of_turnouts() {
    let site = Site::serving("touch started").await;
    site.die();
    site.until_duty(Some(Duty::Serving)).await;
    site.fake.serve(Served::Foreign {
        reason: "its file is not included".to_owned(),
    });
    site.fake.appear(Presence::Here);
    let told = |status: &Status| {
        let mut problems = status.problems.iter();
        problems.any(|problem| problem.contains("neither gone nor back"))
    };
    until(&site.handle, told).await;
    // well behind the first start
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert_eq!(site.duty(), Some(Duty::Serving));
    assert!(!site.dir.path().join("started").exists());
}

#[tokio::test]
async fn a_unit_that_is_restarted_again_and_again_does_not_put_off_the_fallback() {
    let site = Site::serving("true").await;
    site.die();
    let handle = site.handle.clone();
    let restarts = tokio::spawn(async move {
        // more often than it is looked at
        let mut tick = tokio::time::interval(Duration::from_millis(70));
        loop {
            tick.tick().await;
            if handle.status().fallback.is_none() {
                drop(handle.release("systemd".to_owned()).await);
            }
        }
    });
    let begin = std::time::Instant::now();
    // a release that was on its way may have ended it already
    until(&site.handle, |status| status.fallback.is_some()).await;
    restarts.abort();
    let took = begin.elapsed();
    // one grace of 10 s
    assert!(took > Duration::from_secs(9), "{took:?}");
    assert!(took < Duration::from_secs(20), "{took:?}");
}

#[tokio::test]
async fn what_a_start_command_said_before_the_balancer_was_back_does_not_end_a_later_release() {
    let site = Site::serving("touch started; sleep 2; exit 1").await;
    site.die();
    site.until_duty(Some(Duty::Serving)).await;
    // turnout's own start, at which it comes; the command goes on
    site.until_duty(Some(Duty::Released)).await;
    site.fake.appear(Presence::Here);
    site.until_duty(None).await;
    // one look at it
    tokio::time::sleep(Duration::from_millis(300)).await;
    site.die();
    site.until_duty(Some(Duty::Serving)).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    site.handle.release("tester".to_owned()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(site.duty(), Some(Duty::Released));
}
