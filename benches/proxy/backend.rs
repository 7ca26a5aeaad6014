//! The servers behind every proxy: one process, a port for each color, answers of fixed size. As lean as it gets, since it shares a
//! cpu with the load. Runs in a process of its own, which is this program once more.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The two colors' servers.
#[derive(Debug)]
pub(crate) struct Servers {
    pub(crate) blue: SocketAddr,
    pub(crate) green: SocketAddr,
    child: Child,
}

impl Servers {
    pub(crate) fn start() -> Self {
        let [blue, green] = [crate::peers::free_port(), crate::peers::free_port()];
        let child = crate::load::on_load_cpu()
            .arg(std::env::current_exe().expect("this program's path"))
            .args(["as-backend", &blue.to_string(), &green.to_string()])
            .stdin(Stdio::null())
            .spawn()
            .expect("the servers start");
        let servers = Self { blue, green, child };
        for address in [blue, green] {
            assert!(
                accepts(address, Duration::from_secs(10)),
                "the servers do not start"
            );
        }
        servers
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Waits until somebody accepts there.
fn accepts(address: SocketAddr, within: Duration) -> bool {
    let deadline = Instant::now() + within;
    while std::net::TcpStream::connect(address).is_err() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

/// Ends a process that was started here.
pub(crate) fn end(child: &mut Child) {
    // one that is gone already is what is wanted
    child.kill().ok();
    child.wait().ok();
}

/// Serves on the ports of the arguments, for ever.
pub(crate) fn run(ports: impl Iterator<Item = String>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&runtime, async {
        let answers: &'static Answers = Box::leak(Box::new(Answers::new()));
        for port in ports {
            let listener = TcpListener::bind(port).await.expect("the port is free");
            tokio::task::spawn_local(async move {
                loop {
                    let Ok((stream, _)) = listener.accept().await else {
                        continue;
                    };
                    stream.set_nodelay(true).ok();
                    tokio::task::spawn_local(serve(stream, answers));
                }
            });
        }
        std::future::pending::<()>().await;
    });
}

struct Answers {
    small: Vec<u8>,
    medium: Vec<u8>,
    large: Vec<u8>,
}

impl Answers {
    fn new() -> Self {
        let of = |size: usize| {
            let mut answer = format!(
                "HTTP/1.1 200 OK\r\nServer: app\r\nDate: Sat, 21 Nov 2026 06:00:00 GMT\r\nContent-Type: application/json\r\nCache-Control: no-store\r\nContent-Length: {size}\r\n\r\n"
            )
            .into_bytes();
            answer.resize(answer.len() + size, b'x');
            answer
        };
        Self {
            small: of(128),
            medium: of(64 << 10),
            large: of(1 << 20),
        }
    }

    fn to(&self, head: &[u8]) -> &[u8] {
        let path = head.split(|byte| *byte == b' ').nth(1);
        match path {
            Some(b"/64k") => &self.medium,
            Some(b"/1m") => &self.large,
            _ => &self.small,
        }
    }
}

async fn serve(mut stream: TcpStream, answers: &'static Answers) {
    let mut buffer = Vec::with_capacity(4096);
    loop {
        let end = loop {
            if let Some(end) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
            if !matches!(stream.read_buf(&mut buffer).await, Ok(1..)) {
                return;
            }
        };
        let total = end + length(&buffer[..end]);
        while buffer.len() < total {
            if !matches!(stream.read_buf(&mut buffer).await, Ok(1..)) {
                return;
            }
        }
        if stream.write_all(answers.to(&buffer)).await.is_err() {
            return;
        }
        buffer.drain(..total);
    }
}

/// `Content-Length` of a head; 0 for a GET.
pub(crate) fn length(head: &[u8]) -> usize {
    if head.starts_with(b"GET") {
        return 0;
    }
    head.split(|byte| *byte == b'\n')
        .find_map(|line| {
            let (name, value) = line.split_at_checked(b"content-length:".len())?;
            name.eq_ignore_ascii_case(b"content-length:")
                .then(|| std::str::from_utf8(value).ok()?.trim().parse().ok())?
        })
        .unwrap_or(0)
}

/// For programs that this one starts.
pub(crate) fn command(program: impl AsRef<std::ffi::OsStr>, cpu: usize) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", &cpu.to_string()]).arg(program);
    command
}
