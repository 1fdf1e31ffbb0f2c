//! Several sockets at one address: one for each worker, so that none waits for another. The kernel shares
//! new connections out among them.
//!
//! Sockets can only share an address that was given to all of them with `SO_REUSEPORT`, and then every
//! program of the same user can join in, silently. So an address is taken without it first, which fails
//! where anybody else has it, and opened to the other workers afterwards.

use std::{
    io, iter,
    net::{SocketAddr, TcpListener, UdpSocket},
};

use link::listen::Shard;
use socket2::{Domain, Socket, Type};

/// Connections that the kernel holds until they are accepted; it may hold fewer.
const BACKLOG: i32 = 1024;

/// A UDP socket, and what comes to it.
pub(super) type Sharded = (UdpSocket, Shard);

/// Takes a TCP address for `count` listeners.
///
/// # Errors
/// When somebody else has it, or it is not this machine's.
pub(super) fn tcp(address: SocketAddr, count: u8) -> io::Result<Vec<TcpListener>> {
    share(address, count, |address, is_shared| {
        let socket = socket(Type::STREAM, address)?;
        // Connections of an earlier process that linger keep nobody out.
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(is_shared)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket)
    })
}

/// Takes a port for links, with TCP and UDP sockets for `count` workers. Port 0 stands for any that is
/// free for both.
///
/// # Errors
/// As [`tcp`].
pub(super) fn links(
    wanted: SocketAddr,
    count: u8,
) -> io::Result<(SocketAddr, Vec<TcpListener>, Vec<Sharded>)> {
    /// A port that is free for TCP is seldom taken for UDP.
    const TRIES: usize = 16;
    let attempt = || {
        let tcp = tcp(wanted, count)?;
        let address = tcp[0].local_addr()?;
        let udp = udp(address, count)?;
        Ok((address, tcp, udp))
    };
    let tries = if wanted.port() == 0 { TRIES } else { 1 };
    let mut taken = attempt();
    for _ in 1..tries {
        taken = taken.or_else(|_: io::Error| attempt());
    }
    taken
}

/// UDP sockets that were another edge's, with what the system brings to each.
pub(super) fn inherited(sockets: Vec<UdpSocket>) -> Vec<Sharded> {
    let of = u8::try_from(sockets.len()).unwrap_or(u8::MAX);
    sockets.into_iter().zip(Shard::of(of)).collect()
}

/// UDP sockets for `count` workers; just one where the system cannot share packets out among them.
fn udp(address: SocketAddr, count: u8) -> io::Result<Vec<Sharded>> {
    let sockets: Vec<UdpSocket> = share(address, count, |address, is_shared| {
        let socket = socket(Type::DGRAM, address)?;
        socket.set_reuse_port(is_shared)?;
        socket.bind(&address.into())?;
        Ok(socket)
    })?;
    let shards = Shard::split(&sockets).unwrap_or_else(|error| {
        tracing::warn!(%error, "this system cannot spread QUIC packets: one worker reads them all");
        vec![Shard::WHOLE]
    });
    Ok(sockets.into_iter().zip(shards).collect())
}

fn socket(kind: Type, address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, None)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Opens `count` sockets at one address; `open` is told whether the address is to be shared.
fn share<S: From<Socket>>(
    address: SocketAddr,
    count: u8,
    open: impl Fn(SocketAddr, bool) -> io::Result<Socket>,
) -> io::Result<Vec<S>> {
    let first = open(address, false)?;
    first.set_reuse_port(count > 1)?;
    let bound = first.local_addr()?.as_socket().expect("it was bound to such an address");
    let others = (1..count).map(|_| open(bound, true));
    iter::once(Ok(first)).chain(others).map(|socket| Ok(socket?.into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    #[test]
    fn an_address_that_somebody_has_is_not_shared_with_him() {
        for (his, ours) in [(1, 1), (1, 3), (3, 1), (3, 3)] {
            let (address, tcp_held, udp_held) = links(ANY, his).unwrap();
            assert_eq!(tcp_held.len(), usize::from(his));
            let in_use = |error: io::Error| assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
            in_use(tcp(address, ours).unwrap_err());
            drop(tcp_held);
            in_use(udp(address, ours).unwrap_err());
            in_use(links(address, ours).unwrap_err());
            drop(udp_held);
            links(address, ours).unwrap();
        }
    }

    #[test]
    fn every_listener_of_an_address_gets_connections() {
        let listeners = tcp(ANY, 3).unwrap();
        let address = listeners[0].local_addr().unwrap();
        let clients: Vec<_> =
            (0..64).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        let accepted =
            |listener: &TcpListener| std::iter::from_fn(|| listener.accept().ok()).count();
        let counts: Vec<usize> = listeners.iter().map(accepted).collect();
        assert_eq!(counts.iter().sum::<usize>(), clients.len());
        assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    }
}
