//! The proxy as a balancer: an apply is proved by each thread, and a failed one changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::net::TcpStream;
use turnout::balancer::{
    ApplyError, Balancer, Change, Embedded, Foreign, FrontDoor, Progress, Served,
};
use turnout::domain::{Color, Generation, Route, RoutingTable, Split};
use turnout::proxy::Proxy;

use super::servers::{named, nobody};
use super::shop::{free_address, on, shape, table};
use super::wire::{Wire, get};

/// None that waits for an include.
static NO_SERVICE: BTreeSet<turnout::domain::ServiceName> = BTreeSet::new();

fn change<'a>(
    desired: &'a RoutingTable,
    rendered: &'a turnout::balancer::Rendered,
    previous: Option<&'a RoutingTable>,
) -> Change<'a> {
    Change {
        desired,
        rendered,
        previous,
        front_door: FrontDoor::Skip,
        unseen: &NO_SERVICE,
        foreign: Foreign::Refuse,
        progress: Progress::silent(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_apply_is_proved_by_every_thread_and_observed() {
    let balancer = Embedded::new(Proxy::start(3, vec![]).unwrap());
    let service = shape(free_address(), vec![named("blue").await], vec![nobody()]);
    let name = service.name.clone();
    let first = table(7, service, on(Color::Blue));
    let rendered = balancer.render(&first).unwrap();
    assert_eq!(
        (rendered.generation, rendered.files.len()),
        (Generation(7), 0)
    );
    let applied = balancer
        .apply(change(&first, &rendered, None))
        .await
        .unwrap();
    assert_eq!(applied.generation(), Generation(7));
    assert_eq!(
        applied.evidence(),
        ["all 3 proxy threads route by generation 7"]
    );
    let observed = balancer.observe().await;
    assert_eq!(observed.disk, None);
    assert_eq!(
        observed.served,
        Served::Generation {
            generation: Generation(7),
            splits: BTreeMap::from([(name, Split::all(Color::Blue))]),
        }
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_listen_address_changes_nothing_and_names_its_holder() {
    let proxy = Proxy::start(2, vec![]).unwrap();
    let balancer = Embedded::new(proxy.clone());
    let address = free_address();
    let blue = named("blue").await;
    let service = shape(address, vec![blue.clone()], vec![nobody()]);
    let first = table(1, service.clone(), on(Color::Blue));
    let rendered = balancer.render(&first).unwrap();
    let applied = balancer.apply(change(&first, &rendered, None)).await;
    assert_eq!(applied.unwrap().generation(), Generation(1));

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_address = taken.local_addr().unwrap();
    let mut second = table(2, service, on(Color::Blue));
    let free = free_address();
    for (name, listen) in [("other", free), ("zoo", taken_address)] {
        let mut service = shape(listen, vec![blue.clone()], vec![nobody()]);
        service.name = name.parse().unwrap();
        let route = Route::new(Arc::new(service), on(Color::Blue));
        second.routes.insert(name.parse().unwrap(), route);
    }
    let rendered = balancer.render(&second).unwrap();
    let error = balancer
        .apply(change(&second, &rendered, Some(&first)))
        .await
        .unwrap_err();
    let ApplyError::Unchanged { message, .. } = &error else {
        panic!("{error:?}");
    };
    let expected = format!("bind() to {taken_address} failed (98: Address already in use); ");
    assert!(message.starts_with(&expected), "{message}");
    assert!(
        message.contains(&format!("(pid {})", std::process::id())),
        "{message}"
    );
    assert_eq!(proxy.generation(), Generation(1));
    assert!(std::net::TcpStream::connect(free).is_err(), "all or none");

    // once it is free the same table goes in, and the next one without it gives the address back at once
    drop(taken);
    let applied = balancer
        .apply(change(&second, &rendered, Some(&first)))
        .await;
    assert_eq!(applied.unwrap().generation(), Generation(2));
    let mut client = Wire(TcpStream::connect(taken_address).await.unwrap());
    client.send(&get("/")).await;
    assert_eq!(client.answer().await.text(), "blue");
    let mut third = first.clone();
    third.generation = Generation(3);
    let rendered = balancer.render(&third).unwrap();
    let applied = balancer
        .apply(change(&third, &rendered, Some(&second)))
        .await;
    assert_eq!(applied.unwrap().generation(), Generation(3));
    assert!(std::net::TcpListener::bind(taken_address).is_ok());
}
