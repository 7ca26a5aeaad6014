//! A change that goes through: proved, observed, repeated without a reload, and of two thousand services.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use turnout::balancer::{
    Balancer as _, Change, Disk, Drained, Foreign, FrontDoor, Progress, Served, Step,
};
use turnout::domain::{Color, Generation, Split};

use super::apply;
use super::lab::Lab;
use super::tables::whole;

#[tokio::test]
async fn a_switch_is_proved_observed_and_repeated_without_a_reload() {
    let lab = Lab::start().await;
    let nginx = lab.nginx();
    let blue = lab.table(1, whole(Color::Blue));
    let applied = apply(&nginx, &blue, None, Foreign::Refuse).await.unwrap();
    assert_eq!(applied.generation(), Generation(1));
    assert_eq!(lab.get("/", &[]).await.header("x-backend"), "blue");

    let green = lab.table(2, whole(Color::Green));
    let steps = Mutex::new(Vec::new());
    let listener = |step: Step, _: &str| steps.lock().unwrap().push(step);
    let rendered = nginx.render(&green).unwrap();
    let change = Change {
        desired: &green,
        rendered: &rendered,
        previous: Some(&blue),
        front_door: FrontDoor::Ask,
        unseen: &BTreeSet::new(),
        foreign: Foreign::Refuse,
        progress: Progress::new(&listener),
    };
    let applied = nginx.apply(change).await.unwrap();
    assert!(
        applied
            .evidence()
            .iter()
            .any(|line| line.starts_with("front door ") && line.ends_with(": green")),
        "{:?}",
        applied.evidence()
    );
    steps.lock().unwrap().dedup();
    assert_eq!(
        *steps.lock().unwrap(),
        [Step::Check, Step::Install, Step::Reload, Step::Prove]
    );
    for _ in 0..20 {
        let answer = lab.get("/", &[]).await;
        assert_eq!(
            (answer.header("x-routed-to"), answer.header("x-backend")),
            ("green", "green")
        );
        assert_eq!(
            answer.header("x-upstream-url"),
            lab.server(Color::Green).to_string()
        );
    }
    let splits = BTreeMap::from([("shop".parse().unwrap(), Split::all(Color::Green))]);
    let observed = nginx.observe().await;
    assert_eq!(
        observed.disk,
        Some(Disk::Intact {
            generation: Generation(2),
            splits: splits.clone()
        })
    );
    assert_eq!(
        observed.served,
        Served::Generation {
            generation: Generation(2),
            splits
        }
    );

    let workers = lab.workers();
    let again = apply(&nginx, &green, Some(&green), Foreign::Refuse)
        .await
        .unwrap();
    assert_eq!(again.evidence()[0], "already in force: no reload");
    assert_eq!(lab.workers(), workers);
    assert_eq!(
        nginx
            .drained(
                &"shop".parse().unwrap(),
                turnout::domain::Color::Blue,
                std::time::Duration::from_secs(5)
            )
            .await,
        Drained::Done
    );
    assert_eq!(lab.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn two_thousand_services_pass_and_render_in_linear_time() {
    let lab = Lab::start().await;
    let nginx = lab.nginx();
    let table = lab.many(1, 2_000);
    let started = std::time::Instant::now();
    let rendered = nginx.render(&table).unwrap();
    eprintln!(
        "rendered {} bytes in {:?}",
        rendered.files[0].text.len(),
        started.elapsed()
    );
    let started = std::time::Instant::now();
    let warnings = nginx.check(&table, &rendered).await.unwrap();
    eprintln!("checked in {:?}", started.elapsed());
    assert_eq!(warnings, Vec::<String>::new());
    let started = std::time::Instant::now();
    let tell = |step: Step, detail: &str| {
        if step != Step::Prove {
            eprintln!("{:?} {step:?} {detail}", started.elapsed());
        }
    };
    let change = Change {
        desired: &table,
        rendered: &rendered,
        previous: None,
        front_door: FrontDoor::Ask,
        unseen: &BTreeSet::new(),
        foreign: Foreign::Refuse,
        progress: Progress::new(&tell),
    };
    let applied = nginx.apply(change).await.unwrap();
    eprintln!("applied in {:?}", started.elapsed());
    assert_eq!(applied.generation(), Generation(1));
    let Served::Generation { splits, .. } = nginx.observe().await.served else {
        panic!()
    };
    assert_eq!(splits.len(), 2_000);
}
