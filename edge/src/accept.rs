//! Accept loops outlive errors such as too many open files: they rest a moment, say so once, and say
//! when it is over. Before a socket is closed it takes no more connections for a while: those that wait in it to
//! be accepted would be reset.

use std::{io, time::Duration};

#[cfg(target_os = "linux")]
use socket2::SockRef;
use tokio::net::TcpListener;

/// Long enough not to spin, short enough that nobody notices once the cause is gone.
const REST: Duration = Duration::from_millis(100);

/// What an accept loop has gone through.
#[derive(Debug, Default)]
pub(crate) struct AcceptTrouble {
    failures: u64,
}

impl AcceptTrouble {
    /// What was accepted; `None`, after a rest, where nothing was.
    pub(crate) async fn pass<T>(&mut self, accepted: io::Result<T>) -> Option<T> {
        match accepted {
            Ok(accepted) => {
                if self.failures > 0 {
                    tracing::info!(failures = self.failures, "connections are accepted again");
                    self.failures = 0;
                }
                Some(accepted)
            }
            Err(error) => {
                if self.failures == 0 {
                    tracing::warn!(%error, "cannot accept connections");
                }
                self.failures += 1;
                tokio::time::sleep(REST).await;
                None
            }
        }
    }
}

/// From now on nobody begins a connection to this socket; those that have begun can still be accepted. Whoever comes
/// is not answered, so that a client asks again after a second, when the socket is closed. Where this cannot be
/// done, everything goes on.
#[cfg(target_os = "linux")]
pub(crate) fn take_no_more(listener: &TcpListener) {
    use socket2::SockFilter;

    /// Where TCP's flags are in a packet, and the one that begins a connection (RFC 9293 §3.1).
    const FLAGS: u32 = 13;
    const SYN: u32 = 0x02;
    // Classic BPF: load a byte, jump if a bit is set, return how much of the packet to keep.
    let filter = [
        SockFilter::new(0x30, 0, 0, FLAGS),
        SockFilter::new(0x45, 0, 1, SYN),
        SockFilter::new(0x06, 0, 0, 0),
        SockFilter::new(0x06, 0, 0, u32::MAX),
    ];
    if let Err(error) = SockRef::from(listener).attach_filter(&filter) {
        tracing::debug!(%error, "clients that come now may be reset");
    }
}

/// Undoes [`take_no_more`], whoever has done that.
#[cfg(target_os = "linux")]
pub(crate) fn take_again(listener: &TcpListener) {
    // There may be none.
    let _ = SockRef::from(listener).detach_filter();
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn take_no_more(_: &TcpListener) {}

#[cfg(not(target_os = "linux"))]
pub(crate) fn take_again(_: &TcpListener) {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::pin::pin;

    use tokio::{net::TcpStream, time::timeout};

    use super::*;

    #[tokio::test]
    async fn a_socket_that_takes_no_more_gives_out_those_who_wait_in_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let waits = TcpStream::connect(address).await.unwrap();
        take_no_more(&listener);
        let mut late = pin!(TcpStream::connect(address));
        timeout(REST, &mut late).await.expect_err("nobody answers");
        let accept = async || listener.accept().await.unwrap().0.peer_addr().unwrap();
        assert_eq!(accept().await, waits.local_addr().unwrap());
        take_again(&listener);
        let late = late.await.unwrap();
        assert_eq!(accept().await, late.local_addr().unwrap());
    }
}
