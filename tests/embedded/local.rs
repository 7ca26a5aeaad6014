//! Paths that the process answers itself, on the same listeners and connections as the servers' ones.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use turnout::domain::Generation;
use turnout::proxy::{LocalAnswer, LocalService};

use super::servers::named;
use super::shop::Shop;
use super::wire::{SOON, get};

struct Api;

impl LocalService for Api {
    fn wants(&self, path: &str) -> bool {
        path.starts_with("/orchestration/")
    }

    fn call(
        &self,
        request: http::Request<hyper::body::Incoming>,
        peer: SocketAddr,
    ) -> Pin<Box<dyn Future<Output = http::Response<LocalAnswer>> + Send>> {
        Box::pin(async move {
            assert_ne!(request.uri().path(), "/orchestration/panic", "as asked for");
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let text = format!("{} bytes from {}", body.len(), peer.ip());
            let body = Full::new(Bytes::from(text)).map_err(|never| match never {});
            http::Response::new(body.boxed())
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_answers_its_own_paths_and_a_panic_ends_one_connection_only() {
    let shop = Shop::new(named("blue").await).await;
    shop.proxy.set_local(Arc::new(Api)).await;
    let text = "POST /orchestration/x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    // commands are taken in their order, so an answer to a later one means that this one was taken
    shop.proxy.acknowledged(Generation(1), SOON).await.unwrap();
    let mut client = shop.client().await;
    client.send(text).await;
    let answer = client.answer().await;
    assert_eq!(answer.text(), "3 bytes from 127.0.0.1");
    assert_eq!(answer.header("x-routed-to"), None);
    client.send(&get("/orchestration")).await;
    assert_eq!(client.answer().await.text(), "blue");
    for _ in 0..4 {
        let mut other = shop.client().await;
        other.send(&get("/orchestration/panic")).await;
        assert!(other.ended().await);
    }
    client.send(text).await;
    assert_eq!(client.answer().await.status(), 200);
    assert_eq!(shop.ask(&get("/")).await.text(), "blue");
}
