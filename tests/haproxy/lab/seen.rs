//! What can be seen from outside: answers, the runtime socket, and whether state, disk and served color agree.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use turnout::domain::Color;

use super::Lab;
use crate::support::{Answer, Connection, get};

impl Lab {
    /// A line to the runtime socket, and its answer.
    pub(crate) fn socket(&self, line: &str) -> String {
        let mut stream = UnixStream::connect(self.path("admin.sock")).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        stream.write_all(format!("{line}\n").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Blue's share by the running worker, in basis points.
    pub(crate) fn blue_share(&self) -> u16 {
        let answer = self.socket(&format!("get map {} shop", self.map().display()));
        let value = answer
            .split("val=\"")
            .nth(1)
            .or(answer.split("value=\"").nth(1));
        value
            .and_then(|value| value.split('"').next()?.parse().ok())
            .unwrap_or_else(|| panic!("no share in {answer}"))
    }

    #[track_caller]
    pub(crate) fn ask(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let lines: Vec<String> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}"))
            .collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        get(self.front, path, &lines).unwrap_or_else(|failure| {
            panic!("GET {path} on {}: {failure:?}\n{}", self.front, self.log())
        })
    }

    /// The color that answers.
    #[track_caller]
    pub(crate) fn served(&self) -> Color {
        let answer = self.ask("/", &[]);
        assert_eq!(answer.backend(), answer.color("x-routed-to"), "{answer:?}");
        answer
            .backend()
            .unwrap_or_else(|| panic!("no backend answered: {}", answer.text()))
    }

    /// The active color that `state.json` says, which `active/shop` must say too.
    #[track_caller]
    pub(crate) fn recorded(&self) -> Color {
        let text = std::fs::read_to_string(self.path("state/state.json")).unwrap();
        let state: serde_json::Value = serde_json::from_str(&text).unwrap();
        let shop = &state["services"]["shop"];
        let active = [&shop["active"], &shop["position"]["active"]]
            .into_iter()
            .find_map(serde_json::Value::as_str)
            .unwrap_or_else(|| panic!("no active color in {state}"));
        let file = std::fs::read_to_string(self.path("state/active/shop")).unwrap();
        assert_eq!(file, active);
        active.parse().unwrap()
    }

    /// State, disk and served agree, and HAProxy started from its files alone serves the same.
    #[track_caller]
    pub(crate) fn agreed(&mut self, context: &str) -> Color {
        let served = self.served();
        assert_eq!(self.recorded(), served, "state and served color, {context}");
        self.turnout().ok(&["verify"]);
        let map = std::fs::read_to_string(self.map()).unwrap();
        let share = if served == Color::Blue { 10_000 } else { 0 };
        assert!(
            map.contains(&format!("\nshop {share}\n")),
            "{context}: {map}"
        );
        served
    }

    /// The colors of keys, over one connection.
    pub(crate) fn colors_of(&self, keys: &[String], host: &str) -> Vec<Color> {
        let mut connection = Connection::open(self.front, Duration::from_secs(10)).unwrap();
        keys.iter()
            .map(|key| {
                let request =
                    format!("GET / HTTP/1.1\r\nHost: {host}\r\nX-Session-Key: {key}\r\n\r\n");
                let answer = connection.send(request.as_bytes()).unwrap();
                if !answer.keeps {
                    connection = Connection::open(self.front, Duration::from_secs(10)).unwrap();
                }
                assert_eq!(answer.backend(), answer.color("x-routed-to"));
                answer.backend().unwrap()
            })
            .collect()
    }
}
