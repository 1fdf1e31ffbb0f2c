//! TCP to an edge where the network may drop long packets without a word: a tunnel on the way takes fewer
//! bytes than Ethernet, and a firewall drops the ICMP messages that say so (RFC 2923 §2.1). The connection is
//! made with short packets, and then nobody hears the other's certificate.
//!
//! A connection that announces a small segment size gets short packets alone. It is tried where the usual one
//! is made and stays silent, and remembered. QUIC needs none of it: it finds the path's MTU by itself.

use std::{io, net::SocketAddr, time::Duration};

use link::{
    DialError,
    dial::{Dialled, Identity},
};
use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};

use super::Outlet;

/// A handshake that has been silent for this long may be that of a narrow path. It takes two round trips.
const SILENT: Duration = Duration::from_millis(1_500);
/// What a TCP segment carries where long packets do not pass, in bytes: with 40 bytes of TCP and 40 of IPv6,
/// it fits 1280, the least that IPv6 asks of any network.
const SHORT_SEGMENT: u32 = 1_200;

impl Outlet {
    /// Dials an edge over HTTP/2 at one of its addresses.
    pub(super) async fn dial_tcp(
        &self,
        address: SocketAddr,
        server_name: &str,
        slot: u8,
        identity: &Identity,
    ) -> Result<Dialled, DialError> {
        let short = async {
            let stream = connect_short(address, SHORT_SEGMENT).await;
            let stream = stream.map_err(DialError::Connect)?;
            self.dialer.dial_on(stream, server_name, slot, identity).await
        };
        if self.memory.is_narrow(address.ip()) {
            return short.await;
        }
        let stream = TcpStream::connect(address).await.map_err(DialError::Connect)?;
        let usual = self.dialer.dial_on(stream, server_name, slot, identity);
        let mut usual = std::pin::pin!(usual);
        tokio::select! {
            dialled = &mut usual => return dialled,
            () = tokio::time::sleep(SILENT) => {}
        }
        let mut short = std::pin::pin!(short);
        tokio::select! {
            biased;
            dialled = &mut usual => match dialled {
                Ok(dialled) => Ok(dialled),
                Err(_) => short.await,
            },
            dialled = &mut short => match dialled {
                Ok(dialled) => {
                    self.note_narrow(address);
                    Ok(dialled)
                }
                Err(_) => usual.await,
            },
        }
    }

    fn note_narrow(&self, address: SocketAddr) {
        if self.memory.note_narrow(address.ip()) {
            tracing::warn!(
                %address,
                segment = SHORT_SEGMENT,
                "the network drops long packets to this edge without saying so, short ones are used; \
                 postern-connector doctor tells how long they may be"
            );
        }
    }
}

/// Connects, and tells the other end to send segments of at most so many bytes; none that leave from here
/// are longer.
pub(crate) async fn connect_short(address: SocketAddr, segment: u32) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    SockRef::from(&socket).set_tcp_mss(segment)?;
    socket.connect(address).await
}
