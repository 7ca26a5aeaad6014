//! Load at a fixed rate, open loop: latency counts from when a request was meant to go out, so that a proxy that stalls cannot slow
//! the questions down. Times itself by timerfd, because tokio's timers are a millisecond coarse.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::process::Stdio;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

const CONNECTIONS: usize = 64;

pub(crate) struct Seen {
    pub(crate) requests: u64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) failed: u64,
}

/// Runs in a process of its own on the cpu of the load.
pub(crate) fn measure(address: SocketAddr, rate: u64, seconds: u64) -> Seen {
    let output = crate::load::on_load_cpu()
        .arg(std::env::current_exe().expect("this program's path"))
        .args([
            "as-rate",
            &address.to_string(),
            &rate.to_string(),
            &seconds.to_string(),
        ])
        .stderr(Stdio::inherit())
        .output()
        .expect("this program starts again");
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<f64> = text
        .split_whitespace()
        .map(|number| number.parse().expect("a number"))
        .collect();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "they are counts"
    )]
    Seen {
        requests: numbers[0] as u64,
        p50_us: numbers[1],
        p99_us: numbers[2],
        failed: numbers[3] as u64,
    }
}

/// The process behind [`measure`].
pub(crate) fn run(mut args: impl Iterator<Item = String>) {
    let mut number = || args.next().expect("an argument");
    let address: SocketAddr = number().parse().expect("an address");
    let rate: u64 = number().parse().expect("a rate");
    let seconds: u64 = number().parse().expect("seconds");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let tasks = tokio::task::LocalSet::new();
    let (mut taken, failed) = tasks.block_on(&runtime, all(address, rate, seconds));
    taken.sort_unstable();
    let at = |part: f64| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a place in the list"
        )]
        let place = (taken.len() as f64 * part) as usize;
        taken
            .get(place)
            .map_or(0.0, |taken| taken.as_secs_f64() * 1e6)
    };
    println!("{} {} {} {failed}", taken.len(), at(0.5), at(0.99));
}

type Taken = Rc<RefCell<Vec<Duration>>>;

async fn all(address: SocketAddr, rate: u64, seconds: u64) -> (Vec<Duration>, u64) {
    let taken: Taken = Rc::default();
    let failed = Rc::new(RefCell::new(0));
    let mut clients = VecDeque::new();
    let mut tasks = Vec::new();
    for number in 0..CONNECTIONS {
        let (send, due) = mpsc::unbounded_channel();
        clients.push_back(send);
        let (taken, failed) = (Rc::clone(&taken), Rc::clone(&failed));
        tasks.push(tokio::task::spawn_local(async move {
            if client(address, number, due, taken).await.is_err() {
                *failed.borrow_mut() += 1;
            }
        }));
    }
    // the connections stand before the first request is due
    tokio::time::sleep(Duration::from_millis(200)).await;
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK).expect("a timer");
    let every = Duration::from_secs(1) / u32::try_from(rate).expect("a small number");
    let spec = Timespec {
        tv_sec: 0,
        tv_nsec: i64::from(every.subsec_nanos()),
    };
    let spec = Itimerspec {
        it_interval: spec,
        it_value: spec,
    };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &spec).expect("it runs");
    #[expect(
        deprecated,
        reason = "its successor is unsafe for types that change their descriptor; OwnedFd never does"
    )]
    let timer = AsyncFd::new(timer).expect("it can be waited for");
    let start = Instant::now();
    let mut sent = 0;
    while sent < rate * seconds {
        let mut ready = timer.readable().await.expect("it can be waited for");
        let mut count = [0; 8];
        if rustix::io::read(timer.get_ref(), &mut count).is_err() {
            ready.clear_ready();
            continue;
        }
        for _ in 0..u64::from_ne_bytes(count) {
            let intended = start + every * u32::try_from(sent).expect("a small number");
            let client = clients.pop_front().expect("there are clients");
            // one that has failed is counted
            client.send(intended).ok();
            clients.push_back(client);
            sent += 1;
        }
    }
    drop(clients);
    for task in tasks {
        task.await.expect("a client ends well");
    }
    (taken.take(), failed.take())
}

async fn client(
    address: SocketAddr,
    number: usize,
    mut due: mpsc::UnboundedReceiver<Instant>,
    taken: Taken,
) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let request = crate::load::request("/", number, 0, 0, false).replace('\n', "\r\n");
    let mut answer = Vec::with_capacity(4096);
    while let Some(intended) = due.recv().await {
        stream.write_all(request.as_bytes()).await?;
        answer.clear();
        loop {
            if stream.read_buf(&mut answer).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(end) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")
                && answer.len() >= end + 4 + crate::backend::length(&answer[..end])
            {
                break;
            }
        }
        taken.borrow_mut().push(intended.elapsed());
    }
    Ok(())
}
