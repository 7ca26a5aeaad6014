//! Load: Debian's wrk for saturation, because readers know it, and connections that are held idle. Requests look like a
//! browser's; some carry the sticky header, some the cookie, some none.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

/// The cpu of load and servers.
const CPU: usize = 1;
/// Requests that are prepared, and so services that are asked.
const DISTINCT: usize = 100;

/// A command that runs on the cpu of the load.
pub(crate) fn on_load_cpu() -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", &CPU.to_string()]);
    command
}

/// One kind of closed-loop load.
pub(crate) struct Wrk {
    connections: usize,
    path: &'static str,
    body: usize,
    closing: bool,
    /// The last service alone is asked.
    one: bool,
}

pub(crate) struct Seen {
    pub(crate) requests: u64,
    pub(crate) seconds: f64,
    pub(crate) failed: u64,
}

impl Wrk {
    pub(crate) const fn get(path: &'static str) -> Self {
        Self {
            connections: 64,
            path,
            body: 0,
            closing: false,
            one: false,
        }
    }

    pub(crate) const fn post(body: usize) -> Self {
        Self {
            body,
            ..Self::get("/order")
        }
    }

    pub(crate) const fn closing() -> Self {
        Self {
            closing: true,
            ..Self::get("/")
        }
    }

    /// The last service alone is asked, so that their number is all that differs from the measurement of one service.
    pub(crate) const fn of_one(self) -> Self {
        Self { one: true, ..self }
    }

    pub(crate) const fn connections(self, connections: usize) -> Self {
        Self {
            connections,
            ..self
        }
    }

    /// Runs against `address`.
    pub(crate) fn run(&self, address: SocketAddr, services: usize, seconds: u64) -> Seen {
        let mut script = tempfile::NamedTempFile::with_suffix(".lua").expect("a file");
        script
            .write_all(self.script(services).as_bytes())
            .expect("the script is written");
        // a second of new connections uses up the ports of one address
        let seconds = if self.closing { 1 } else { seconds };
        let output = on_load_cpu()
            .args([
                "wrk",
                "-t1",
                &format!("-c{}", self.connections),
                &format!("-d{seconds}s"),
                "-s",
            ])
            .arg(script.path())
            .arg(format!("http://{address}/"))
            .output()
            .expect("wrk is installed");
        let text = String::from_utf8_lossy(&output.stdout);
        let numbers: Vec<u64> = text
            .lines()
            .find_map(|line| line.strip_prefix("RESULT "))
            .unwrap_or_else(|| panic!("wrk said: {text}"))
            .split(' ')
            .map(|number| number.parse().expect("a number"))
            .collect();
        Seen {
            requests: numbers[0],
            seconds: numbers[1] as f64 / 1e6,
            failed: numbers[2],
        }
    }

    fn script(&self, services: usize) -> String {
        let mut script = String::from("local all = {\n");
        for number in 0..DISTINCT {
            let service = if self.one {
                services - 1
            } else {
                number * services.div_ceil(DISTINCT) % services
            };
            let request = request(self.path, number, service, self.body, self.closing);
            writeln!(script, "[=[\n{request}]=],").expect("a string takes it");
        }
        // Lua reads \r\n in a long string as \n, so the lines get their ends here
        script.push_str(
            "}\nfor i, text in ipairs(all) do all[i] = text:gsub('\\n', '\\r\\n') end\nlocal next = 0\n\
             function request() next = next % #all + 1; return all[next] end\n\
             function done(summary)\n  local e = summary.errors\n  \
             io.write(string.format('RESULT %d %d %d\\n', summary.requests, summary.duration, e.connect + e.read + e.write + e.status + e.timeout))\nend\n",
        );
        script
    }
}

/// The text of one request to a service, with `\n` for the ends of lines.
pub(crate) fn request(
    path: &str,
    number: usize,
    service: usize,
    body: usize,
    closing: bool,
) -> String {
    let method = if body == 0 { "GET" } else { "POST" };
    let mut text = format!(
        "{method} {path} HTTP/1.1\nHost: service-{service}.example.com\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\nAccept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\nAccept-Language: en-US,en;q=0.5\nAccept-Encoding: gzip, deflate\nReferer: http://service-{service}.example.com/\n"
    );
    match number % 5 {
        0 => writeln!(text, "X-Session-Key: user-{number}").expect("a string takes it"),
        1 | 2 => writeln!(
            text,
            "Cookie: theme=dark; session_id=visitor-{number}; lang=en"
        )
        .expect("a string takes it"),
        _ => {}
    }
    if body > 0 {
        write!(text, "Content-Type: text/plain\nContent-Length: {body}\n")
            .expect("a string takes it");
    }
    if closing {
        text.push_str("Connection: close\n");
    }
    text.push('\n');
    text.extend(std::iter::repeat_n('b', body));
    text
}

/// Connections that are held until this is dropped.
pub(crate) struct Held(Child);

impl Drop for Held {
    fn drop(&mut self) {
        crate::backend::end(&mut self.0);
    }
}

/// Opens connections, sends one request over each, and keeps them.
pub(crate) fn hold(address: SocketAddr, connections: usize) -> Held {
    let mut child = on_load_cpu()
        .arg(std::env::current_exe().expect("this program's path"))
        .args(["as-idle", &address.to_string(), &connections.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program starts again");
    let mut ready = [0];
    let mut stdout = child.stdout.take().expect("it is piped");
    stdout
        .read_exact(&mut ready)
        .expect("all connections are open");
    Held(child)
}

/// The process behind [`hold`].
pub(crate) fn idle(mut args: impl Iterator<Item = String>) {
    let address: SocketAddr = args
        .next()
        .and_then(|text| text.parse().ok())
        .expect("an address");
    let connections: usize = args
        .next()
        .and_then(|text| text.parse().ok())
        .expect("a number");
    let mut held = Vec::with_capacity(connections);
    let mut answer = vec![0; 16 * 1024];
    for number in 0..connections {
        let mut stream = TcpStream::connect(address).expect("the proxy accepts");
        let text = request("/", number % DISTINCT, 0, 0, false).replace('\n', "\r\n");
        stream
            .write_all(text.as_bytes())
            .expect("it takes a request");
        let mut got = 0;
        while !answer[..got].ends_with(&[b'x'; 128]) {
            got += match stream.read(&mut answer[got..]).expect("it answers") {
                0 => panic!("the proxy closed"),
                more => more,
            };
        }
        held.push(stream);
    }
    let mut stdout = std::io::stdout();
    stdout
        .write_all(b"r")
        .and_then(|()| stdout.flush())
        .expect("somebody waits");
    loop {
        std::thread::park();
    }
}
