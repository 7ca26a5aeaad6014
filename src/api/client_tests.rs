//! The client against small servers that answer one thing each.

use std::io::{Read, Write};

use super::*;
use crate::controller::Verb;

/// A server that answers its first request with `answer` and keeps what it was asked.
fn once(answer: String) -> (ServerAddress, std::thread::JoinHandle<String>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = ServerAddress::of_socket(listener.local_addr().unwrap());
    let asked = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut buffer = [0; 4096];
        let length = stream.read(&mut buffer).unwrap();
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    });
    (address, asked)
}

fn answer(status: &str, kind: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

#[tokio::test]
async fn the_token_goes_along_and_the_answer_is_read() {
    let (address, asked) = once(answer(
        "200 OK",
        "application/json",
        r#"{"state_dir":"/var/lib/turnout","pid":7,"version":"0.1.0"}"#,
    ));
    let client = Client::new(&address, Some("s3cret".to_owned())).unwrap();
    let identity = client.identity().await.unwrap();
    assert_eq!(identity.state_dir, std::path::Path::new("/var/lib/turnout"));
    let asked = asked.join().unwrap().to_ascii_lowercase();
    assert!(
        asked.starts_with("get /v1/identity http/1.1\r\n"),
        "{asked}"
    );
    assert!(
        asked.contains("authorization: bearer s3cret\r\n"),
        "{asked}"
    );
    assert!(!format!("{client:?}").contains("s3cret"));
}

#[tokio::test]
async fn a_problem_keeps_its_exit_code() {
    let (address, _asked) = once(answer(
        "423 Locked",
        "application/problem+json",
        r#"{"type":"about:blank","title":"Locked","status":423,"detail":"held by anna","exit":75}"#,
    ));
    let client = Client::new(&address, None).unwrap();
    let request = Request::new(Verb::Apply, "");
    let error = client.change(&request).await.unwrap_err();
    assert!(
        matches!(
            &error,
            ClientError::Refused { status: 423, detail, exit: Some(75), .. } if detail == "held by anna"
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_daemon_that_ends_before_its_answer_is_not_called_a_stranger() {
    let whole = answer("200 OK", "application/json", "{}");
    for text in ["", "HTTP/1.1 200 OK\r\nConte", &whole[..whole.len() - 1]] {
        let (address, _asked) = once(text.to_owned());
        let client = Client::new(&address, None).unwrap();
        let error = client.status().await.unwrap_err();
        assert!(
            matches!(error, ClientError::Ended { .. }),
            "{text}: {error:?}"
        );
        let said = error.to_string();
        assert!(said.ends_with("look with `turnout status`"), "{said}");
        assert_eq!(ExitCode::from(&error), ExitCode::Unreachable);
    }
}

#[tokio::test]
async fn who_is_not_turnout_is_told_apart_from_nobody() {
    for text in [
        answer("200 OK", "text/html", "<html>"),
        answer("404 Not Found", "text/html", "<html>"),
        "SSH-2.0-OpenSSH_9.2\r\n".to_owned(),
    ] {
        let (address, _asked) = once(text.clone());
        let error = Client::new(&address, None)
            .unwrap()
            .status()
            .await
            .unwrap_err();
        assert!(
            matches!(error, ClientError::Protocol { .. }),
            "{text}: {error:?}"
        );
    }
    let (address, _asked) = once(answer(
        "403 Forbidden",
        "application/problem+json",
        r#"{"type":"about:blank","title":"Forbidden","status":403,"detail":"no","exit":77}"#,
    ));
    let error = Client::new(&address, None)
        .unwrap()
        .verify()
        .await
        .unwrap_err();
    assert!(
        matches!(error, ClientError::NotPermitted { .. }),
        "{error:?}"
    );

    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let nobody = ServerAddress::of_socket(free);
    let error = Client::new(&nobody, None)
        .unwrap()
        .status()
        .await
        .unwrap_err();
    assert!(
        matches!(error, ClientError::Unreachable { .. }),
        "{error:?}"
    );
    let nobody = ServerAddress::Unix("/nonexistent/turnout.sock".into());
    let error = Client::new(&nobody, None)
        .unwrap()
        .status()
        .await
        .unwrap_err();
    assert!(
        matches!(error, ClientError::Unreachable { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_unix_socket_is_spoken_to_like_a_port() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let asked = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut buffer = [0; 4096];
        let length = stream.read(&mut buffer).unwrap();
        let body = r#"{"state_dir":"/s","pid":1,"version":"0"}"#;
        stream
            .write_all(answer("200 OK", "application/json", body).as_bytes())
            .unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    });
    let client = Client::new(&ServerAddress::Unix(path), None).unwrap();
    assert_eq!(client.identity().await.unwrap().pid, 1);
    assert!(asked.join().unwrap().contains("localhost"));
}

#[test]
fn the_code_that_the_daemon_says_wins_over_its_status() {
    let refused = |status, exit| ClientError::Refused {
        status,
        title: String::new(),
        detail: String::new(),
        exit,
    };
    assert_eq!(
        ExitCode::from(&refused(500, Some(4))),
        ExitCode::NeedsPerson
    );
    assert_eq!(ExitCode::from(&refused(423, None)), ExitCode::Locked);
    assert_eq!(ExitCode::from(&refused(500, Some(200))), ExitCode::Failed);
}
