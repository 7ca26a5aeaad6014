//! Real sockets against the connection loop and the guard, with a handler of the tests' own behind them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use axum::Json;
use axum::extract::FromRequest;
use axum::routing::{get, post};
use tokio::sync::oneshot;

use super::*;
use crate::api::guard::Caller;
use crate::config::Token;

struct Running {
    address: ServerAddress,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<io::Result<()>>,
}

fn control(listen: ControlListen) -> Control {
    Control {
        listen,
        hosts: Vec::new(),
        tokens: Vec::<Token>::new(),
    }
}

async fn whoami(axum::Extension(caller): axum::Extension<Caller>) -> String {
    format!("{caller:?}")
}

async fn breaks() -> String {
    panic!("a handler of the test panics")
}

/// Reads a body as the write endpoints do.
async fn take(request: axum::extract::Request) -> Result<Json<String>, axum::response::Response> {
    crate::api::request::Body::<crate::api::wire::Activate>::from_request(request, &())
        .await
        .map(|body| Json(format!("{:?}", body.0.active)))
        .map_err(axum::response::IntoResponse::into_response)
}

fn start(listen: ControlListen) -> Running {
    let server = Server::bind(&control(listen)).unwrap();
    let paths = Router::new()
        .route("/whoami", get(whoami))
        .route("/take", post(take))
        .route("/panic", get(breaks));
    let app = routes::guarded(paths, Arc::new(server.guard));
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(serve(server.listener, app, async move {
        stopped.await.unwrap();
    }));
    Running {
        address: server.address,
        stop,
        task,
    }
}

fn start_tcp() -> (Running, String) {
    let running = start(ControlListen::Tcp("127.0.0.1:0".parse().unwrap()));
    let ServerAddress::Http(url) = &running.address else {
        panic!("a TCP listener has an HTTP address")
    };
    let authority = url.strip_prefix("http://").unwrap().to_owned();
    (running, authority)
}

/// Sends bytes and reads until the other end closes.
async fn exchange(authority: &str, bytes: impl Into<Vec<u8>>) -> String {
    let (authority, bytes) = (authority.to_owned(), bytes.into());
    tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(authority).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream.write_all(&bytes).unwrap();
        let mut answer = Vec::new();
        // a reset after the answer is as good as a close
        drop(stream.read_to_end(&mut answer));
        String::from_utf8(answer).unwrap()
    })
    .await
    .unwrap()
}

fn post_text(headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST /take HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    )
}

fn status_of(answer: &str) -> &str {
    answer.get(9..12).unwrap_or(answer)
}

#[tokio::test]
async fn known_paths_answer_and_all_else_is_a_problem() {
    let (running, authority) = start_tcp();
    for (line, status, word) in [
        ("GET /whoami", "200", "Known(\"loopback\")"),
        ("HEAD /whoami", "200", ""),
        ("GET /nowhere", "404", "about:blank"),
        ("POST /whoami", "405", "allow: GET,HEAD"),
        ("GET /take", "405", "allow: POST"),
        ("OPTIONS /take", "405", "allow: POST"),
        ("TRACE /whoami", "405", "allow: GET,HEAD"),
        ("BREW /whoami", "405", "allow: GET,HEAD"),
    ] {
        let request = format!("{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let answer = exchange(&authority, request).await;
        assert_eq!(status_of(&answer), status, "{line}: {answer}");
        assert!(answer.contains(word), "{line}: {answer}");
    }
    let answer = exchange(
        &authority,
        "GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert_eq!(status_of(&answer), "403");
    assert!(
        answer.contains("content-type: application/problem+json"),
        "{answer}"
    );
    let answer = exchange(&authority, "GET / HTTP/1.1\r\nConnection: close\r\n\r\n").await;
    assert_eq!(status_of(&answer), "400", "no Host");
    running.stop.send(()).unwrap();
    running.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn bodies_have_bounds_and_are_json_by_any_content_type() {
    let (running, authority) = start_tcp();
    let good = r#"{"active":"green"}"#;
    for (headers, status) in [
        ("", "200"),
        ("Content-Type: application/json\r\n", "200"),
        ("Content-Type: Application/JSON; charset=utf-8\r\n", "200"),
        ("Content-Type: text/plain\r\n", "200"),
        ("Content-Type: application/x-www-form-urlencoded\r\n", "200"),
    ] {
        let answer = exchange(&authority, post_text(headers, good)).await;
        assert_eq!(status_of(&answer), status, "{headers}{answer}");
    }
    let long = format!(r#"{{"active":"green","message":"{}"}}"#, "x".repeat(70_000));
    let answer = exchange(&authority, post_text("", &long)).await;
    assert_eq!(status_of(&answer), "413", "{answer}");
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let answer = exchange(&authority, post_text(form, &long)).await;
    assert_eq!(status_of(&answer), "413", "{answer}");
    let endless = format!(
        "POST /take HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        format!("1000\r\n{}\r\n", " ".repeat(0x1000)).repeat(17)
    );
    let answer = exchange(&authority, endless).await;
    assert_eq!(status_of(&answer), "413", "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    running.stop.send(()).unwrap();
    running.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_slow_body_ends_with_408_and_a_slow_head_with_a_close() {
    let (running, authority) = start_tcp();
    let lying = "POST /take HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{\"act";
    let stalled = "GET /whoami HTTP/1.1\r\nHost: loc";
    let before = std::time::Instant::now();
    let (lied, stalled, meanwhile) = tokio::join!(
        exchange(&authority, lying),
        exchange(&authority, stalled),
        exchange(
            &authority,
            "GET /whoami HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        ),
    );
    assert_eq!(status_of(&meanwhile), "200");
    assert_eq!(status_of(&lied), "408", "{lied}");
    assert!(lied.contains("connection: close"), "{lied}");
    assert!(
        stalled.is_empty() || status_of(&stalled) == "408",
        "{stalled}"
    );
    assert!(before.elapsed() < Duration::from_secs(15));
    running.stop.send(()).unwrap();
    running.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn ambiguous_framing_and_a_panic_leave_the_listener_alone() {
    let (running, authority) = start_tcp();
    for request in [
        "POST /take HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        "POST /take HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        "GET /whoami HTTP/1.1\nHost localhost\n\n",
        "NONSENSE\r\n\r\n",
    ] {
        let answer = exchange(&authority, request).await;
        assert_eq!(status_of(&answer), "400", "{request}: {answer}");
    }
    let panicked = exchange(&authority, "GET /panic HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(panicked, "");
    let after = exchange(
        &authority,
        "GET /whoami HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert_eq!(status_of(&after), "200");
    running.stop.send(()).unwrap();
    running.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_unix_socket_knows_its_user_and_goes_when_the_server_ends() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run/turnout.sock");
    let running = start(ControlListen::Unix(path.clone()));
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let asked = path.clone();
    let answer = tokio::task::spawn_blocking(move || {
        let mut stream = UnixStream::connect(asked).unwrap();
        stream
            .write_all(b"GET /whoami HTTP/1.1\r\nHost: any\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    })
    .await
    .unwrap();
    let me = nix::unistd::User::from_uid(nix::unistd::geteuid())
        .unwrap()
        .unwrap()
        .name;
    assert!(answer.contains(&format!("Known({me:?})")), "{answer}");
    let second = Server::bind(&control(ControlListen::Unix(path.clone()))).unwrap_err();
    assert!(matches!(second, ApiError::InUse { .. }), "{second}");
    running.stop.send(()).unwrap();
    running.task.await.unwrap().unwrap();
    assert!(!path.exists());
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_another_file_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let stale = folder.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    assert!(stale.exists());
    drop(Server::bind(&control(ControlListen::Unix(stale.clone()))).unwrap());
    assert!(!stale.exists());
    let file = folder.path().join("precious");
    std::fs::File::create(&file).unwrap();
    let refused = Server::bind(&control(ControlListen::Unix(file.clone()))).unwrap_err();
    assert!(matches!(refused, ApiError::NotASocket { .. }), "{refused}");
    assert!(file.exists());
}

#[test]
fn a_taken_port_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error = Server::bind(&control(ControlListen::Tcp(address))).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "the control API cannot listen on {address}: another process does; stop it, or set control.listen (TURNOUT_CONTROL) to another address"
        )
    );
}
