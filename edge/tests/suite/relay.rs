//! A device between connector and edge that gives the connector's packets another source address, as a
//! NAT does when it forgets.

use std::net::SocketAddr;

use tokio::{
    net::UdpSocket,
    sync::{mpsc, oneshot},
    task::JoinSet,
};

use crate::world::patiently;

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

pub struct Relay {
    pub address: SocketAddr,
    moves: mpsc::Sender<oneshot::Sender<()>>,
    _relaying: JoinSet<()>,
}

impl Relay {
    /// Relays one connector's packets to `edge`.
    pub async fn to(edge: SocketAddr) -> Self {
        let front = UdpSocket::bind(ANY).await.unwrap();
        let address = front.local_addr().unwrap();
        // One: nobody asks for a second move before the first.
        let (moves, asked) = mpsc::channel(1);
        let mut relaying = JoinSet::new();
        relaying.spawn(relay(front, edge, asked));
        Self { address, moves, _relaying: relaying }
    }

    /// From now on packets come from another address.
    pub async fn change_address(&self) {
        let (done, moved) = oneshot::channel();
        self.moves.send(done).await.unwrap();
        patiently(moved).await.unwrap();
    }
}

async fn back(edge: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(ANY).await.unwrap();
    socket.connect(edge).await.unwrap();
    socket
}

async fn relay(front: UdpSocket, edge: SocketAddr, mut asked: mpsc::Receiver<oneshot::Sender<()>>) {
    let mut old = Vec::new();
    let mut current = back(edge).await;
    let mut connector = None;
    let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        tokio::select! {
            Some(done) = asked.recv() => {
                // The old socket stays: its port must not come back as a new one.
                old.push(std::mem::replace(&mut current, back(edge).await));
                let _ = done.send(());
            }
            Ok((length, from)) = front.recv_from(&mut up) => {
                connector = Some(from);
                let _ = current.send(&up[..length]).await;
            }
            Ok(length) = current.recv(&mut down) => {
                if let Some(connector) = connector {
                    let _ = front.send_to(&down[..length], connector).await;
                }
            }
        }
    }
}
