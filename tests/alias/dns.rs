//! A DNS server whose answers a test changes: questions over UDP, for any name, with a TTL of five minutes so that whoever
//! keeps to it is seen.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a name has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Says {
    Addresses(Vec<IpAddr>),
    /// The name is there and has no address.
    Empty,
    NxDomain,
    ServFail,
    /// Not a word.
    Silent,
}

impl Says {
    pub(super) fn of(addresses: &[SocketAddr]) -> Self {
        Self::Addresses(addresses.iter().map(SocketAddr::ip).collect())
    }
}

/// On port 53 of a loopback address of its own. Ends when dropped.
pub(super) struct Dns {
    pub(super) address: Ipv4Addr,
    says: Arc<Mutex<Says>>,
    asked: Arc<AtomicU64>,
    ends: Arc<AtomicBool>,
}

/// Tells the servers of one process apart; the process's id does the rest.
static NEXT: AtomicU16 = AtomicU16::new(1);

impl Dns {
    pub(super) fn start(says: Says) -> Self {
        let (socket, address) = (0..1_000)
            .find_map(|_| {
                let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
                let process = u8::try_from(std::process::id() % 250).unwrap() + 2;
                let address = Ipv4Addr::new(127, process, high, low);
                Some((UdpSocket::bind((address, 53)).ok()?, address))
            })
            .expect("a loopback address whose port 53 is free, which only root may bind");
        let dns = Self {
            address,
            says: Arc::new(Mutex::new(says)),
            asked: Arc::default(),
            ends: Arc::default(),
        };
        let (says, asked) = (Arc::clone(&dns.says), Arc::clone(&dns.asked));
        let ends = Arc::clone(&dns.ends);
        socket
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        std::thread::spawn(move || {
            let mut question = [0; 1500];
            while !ends.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut question) else {
                    continue;
                };
                asked.fetch_add(1, Ordering::Relaxed);
                let says = says.lock().unwrap().clone();
                if let Some(answer) = answer(&question[..length], &says) {
                    socket.send_to(&answer, from).unwrap();
                }
            }
        });
        dns
    }

    pub(super) fn say(&self, says: Says) {
        *self.says.lock().unwrap() = says;
    }

    /// Questions so far.
    pub(super) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
    }
}

/// RFC 1035, 4.1: the question's head and question again, then an answer for each address of the family that was asked for.
fn answer(question: &[u8], says: &Says) -> Option<Vec<u8>> {
    let mut end = 12;
    while *question.get(end)? != 0 {
        end += usize::from(question[end]) + 1;
    }
    let kind = u16::from_be_bytes([*question.get(end + 1)?, *question.get(end + 2)?]);
    let addresses: Vec<IpAddr> = match says {
        Says::Silent => return None,
        Says::Empty | Says::NxDomain | Says::ServFail => Vec::new(),
        Says::Addresses(addresses) => addresses
            .iter()
            .copied()
            .filter(|address| kind == if address.is_ipv4() { 1 } else { 28 })
            .collect(),
    };
    let code = match says {
        Says::NxDomain => 3,
        Says::ServFail => 2,
        Says::Silent | Says::Empty | Says::Addresses(_) => 0,
    };
    let mut answer = question[..end + 5].to_vec();
    // an answer; the recursion that was asked for was to be had
    answer[2] = 0x80 | (question[2] & 1);
    answer[3] = 0x80 | code;
    answer[6..12].copy_from_slice(&[0, u8::try_from(addresses.len()).ok()?, 0, 0, 0, 0]);
    for address in addresses {
        // the name of the question, its kind, IN, TTL 300
        answer.extend([0xc0, 12]);
        answer.extend(kind.to_be_bytes());
        answer.extend([0, 1, 0, 0, 1, 44]);
        match address {
            IpAddr::V4(address) => answer.extend([&[0, 4][..], &address.octets()].concat()),
            IpAddr::V6(address) => answer.extend([&[0, 16][..], &address.octets()].concat()),
        }
    }
    Some(answer)
}
