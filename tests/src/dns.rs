//! A DNS server whose answers change as a test says: what rebinding is made of.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::Context as _;
use tokio::{net::UdpSocket, sync::watch, task::JoinSet};

/// Type A, class IN.
const A: [u8; 4] = [0, 1, 0, 1];
const HEADER: usize = 12;

/// Answers every question for an address with the same ones, until they are changed.
pub struct Dns {
    answers: watch::Sender<Vec<Ipv4Addr>>,
    address: SocketAddr,
    _serving: JoinSet<()>,
}

impl Dns {
    /// Starts one at port 53 of `host`, where resolvers look for it.
    ///
    /// # Errors
    /// If this is not root.
    pub async fn start(host: IpAddr) -> anyhow::Result<Self> {
        let socket = UdpSocket::bind((host, 53)).await.context("this test needs root")?;
        let address = socket.local_addr()?;
        let (answers, current) = watch::channel(Vec::new());
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut question = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut question).await {
                let Some(answer) = answer(&question[..length], &current.borrow()) else { continue };
                // Whoever asked may have gone.
                let _ = socket.try_send_to(&answer, from);
            }
        });
        Ok(Self { answers, address, _serving: serving })
    }

    /// What every name means from now on.
    pub fn answer(&self, addresses: &[Ipv4Addr]) {
        self.answers.send_replace(addresses.to_vec());
    }

    /// For `/etc/resolv.conf`.
    pub fn resolv_conf(&self) -> String {
        format!("nameserver {}\n", self.address.ip())
    }
}

/// The answer to a message with one question (RFC 1035 §4.1); `None` if it is something else.
fn answer(message: &[u8], addresses: &[Ipv4Addr]) -> Option<Vec<u8>> {
    let name = message.get(HEADER..)?.split_inclusive(|byte| *byte == 0).next()?;
    let kind = message.get(HEADER + name.len()..)?.get(..4)?;
    let addresses = if kind == A { addresses } else { &[] };
    let mut answer = message[..2].to_vec();
    // A response, recursion available, no error; one question, so many answers.
    answer.extend([0x81, 0x80, 0, 1, 0, u8::try_from(addresses.len()).ok()?, 0, 0, 0, 0]);
    answer.extend([name, kind].concat());
    for address in addresses {
        // The name stands behind the header; no time to live; four bytes.
        answer.extend([0xc0, HEADER as u8]);
        answer.extend(A);
        answer.extend([0, 0, 0, 0, 0, 4]);
        answer.extend(address.octets());
    }
    Some(answer)
}
