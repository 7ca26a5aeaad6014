//! TLS at the front door: the certificate by the name that is asked for, files that change under a running proxy, and a bad
//! pair that touches nobody else.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use turnout::domain::{Color, Generation, Position, Route, RoutingTable, Service, TlsFiles};
use turnout::proxy::{Proxy, check_certificate};

use crate::embedded::{OK, Shop, Wire, named, nobody, recording, shape};
use crate::support::Ports;

/// Makes a certificate for `name` and puts it, with its key, into `folder`; what stood there is replaced.
pub(crate) fn pair(folder: &Path, file: &str, name: &str) -> (TlsFiles, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let files = TlsFiles {
        cert: folder.join(format!("{file}.crt")),
        key: folder.join(format!("{file}.key")),
    };
    std::fs::write(&files.cert, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    (files, made.cert.der().clone())
}

/// A client that trusts these and no other.
pub(crate) fn trusting(roots: &[&CertificateDer<'static>], protocols: &[&[u8]]) -> TlsConnector {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add((*root).clone()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(store)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

pub(crate) async fn connect(
    connector: &TlsConnector,
    address: std::net::SocketAddr,
    name: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    connector.connect(name, stream).await
}

fn leaf(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0]
        .clone()
        .into_owned()
}

async fn ask(stream: &mut TlsStream<TcpStream>, host: &str) -> String {
    let text = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Two services on one listener, each with a name and a certificate of its own.
async fn two(edit: impl Fn(&mut Service)) -> (Proxy, RoutingTable, std::net::SocketAddr) {
    let address = Ports::address();
    let mut table = RoutingTable {
        generation: Generation(1),
        ..RoutingTable::default()
    };
    for name in ["alpha", "beta"] {
        let mut service = shape(address, vec![named(name).await], vec![nobody()]);
        service.name = name.parse().unwrap();
        service.hosts = vec![format!("{name}.test").parse().unwrap()];
        edit(&mut service);
        let position = Position::BlueGreen {
            active: Color::Blue,
        };
        let route = Route::new(Arc::new(service), position);
        table.routes.insert(name.parse().unwrap(), route);
    }
    let proxy = Proxy::start(2, vec![]).unwrap();
    proxy
        .install(proxy.snapshot(&table, turnout::domain::Hashing::SplitClients))
        .await
        .unwrap();
    (proxy, table, address)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_name_gets_its_certificate_and_the_server_hears_of_https() {
    let folder = tempfile::tempdir().unwrap();
    let (files, certificate) = pair(folder.path(), "shop", "shop.test");
    let (server, mut requests) = recording(OK).await;
    let shop = Shop::with(vec![server], vec![nobody()], |service| {
        service.tls = Some(files);
    })
    .await;
    let connector = trusting(&[&certificate], &[b"http/1.1"]);
    let mut stream = connect(&connector, shop.address, "shop.test")
        .await
        .unwrap();
    assert!(ask(&mut stream, "shop.test").await.ends_with("\r\n\r\nok"));
    let request = requests.recv().await.unwrap();
    assert_eq!(request.header("x-forwarded-proto"), Some("https"));
    // a second one resumes the session
    let mut stream = connect(&connector, shop.address, "shop.test")
        .await
        .unwrap();
    assert!(ask(&mut stream, "shop.test").await.ends_with("\r\n\r\nok"));
    let kind = stream.get_ref().1.handshake_kind();
    assert_eq!(kind, Some(rustls::HandshakeKind::Resumed));

    let mut plain = Wire(TcpStream::connect(shop.address).await.unwrap());
    plain.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let answer = plain.answer().await;
    assert_eq!(answer.status(), 400);
    assert!(answer.text().contains("https://"), "{}", answer.text());
    assert!(shop.proxy.refused().contains(&("plain_on_tls", 1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_pair_keeps_the_last_good_one_and_never_touches_another_service() {
    let folder = tempfile::tempdir().unwrap();
    let (alpha, first) = pair(folder.path(), "alpha", "alpha.test");
    let (beta, other) = pair(folder.path(), "beta", "beta.test");
    let (proxy, table, address) = two(|service| {
        let files = if service.name.to_string() == "alpha" {
            &alpha
        } else {
            &beta
        };
        service.tls = Some(files.clone());
    })
    .await;
    let both = trusting(&[&first, &other], &[]);
    let stream = connect(&both, address, "alpha.test").await.unwrap();
    assert_eq!(leaf(&stream), first);
    let stream = connect(&both, address, "beta.test").await.unwrap();
    assert_eq!(leaf(&stream), other);

    // alpha's key becomes beta's: nothing changes, and the reason is told
    std::fs::copy(&beta.key, &alpha.key).unwrap();
    let problems = proxy.reload_certificates();
    assert_eq!(problems.len(), 1);
    assert!(problems[0].starts_with("alpha: the key"), "{problems:?}");
    assert!(
        problems[0].ends_with("the last good one is served"),
        "{problems:?}"
    );
    assert!(check_certificate(&alpha).is_err());
    for (name, certificate) in [("alpha.test", &first), ("beta.test", &other)] {
        let fresh = trusting(&[&first, &other], &[]);
        let mut stream = connect(&fresh, address, name).await.unwrap();
        assert_eq!(leaf(&stream), *certificate);
        assert!(ask(&mut stream, name).await.starts_with("HTTP/1.1 200"));
    }

    // a good one takes over, without a new table and without the old connections' end
    let mut kept = connect(&both, address, "alpha.test").await.unwrap();
    let (_, second) = pair(folder.path(), "alpha", "alpha.test");
    assert_eq!(proxy.reload_certificates(), Vec::<String>::new());
    let fresh = trusting(&[&second], &[]);
    let stream = connect(&fresh, address, "alpha.test").await.unwrap();
    assert_eq!(leaf(&stream), second);
    assert!(ask(&mut kept, "alpha.test").await.ends_with("alpha"));

    // a proxy that starts with a bad pair serves the other service all the same
    std::fs::write(&alpha.cert, "nothing").unwrap();
    proxy.drain(tokio::time::Instant::now()).await;
    let proxy = Proxy::start(1, vec![]).unwrap();
    proxy
        .install(proxy.snapshot(&table, turnout::domain::Hashing::SplitClients))
        .await
        .unwrap();
    let stream = connect(&trusting(&[&other], &[]), address, "beta.test")
        .await
        .unwrap();
    assert_eq!(leaf(&stream), other);
    assert!(connect(&fresh, address, "alpha.test").await.is_err());
}
