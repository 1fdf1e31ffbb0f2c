//! The UDP socket below an endpoint. quinn's own asks the system to tell of arrivals and of room for more to
//! send at once. The latter is told each time that a sent packet has left: the thread wakes for nothing,
//! once for almost every packet. Here room is asked for only where there was none, and what is read is
//! taken for all there was if there was room for more.

use std::{
    io::{self, IoSliceMut},
    net::{SocketAddr, UdpSocket},
    os::fd::{AsFd as _, AsRawFd, OwnedFd},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Instant,
};

use quinn::{
    AsyncTimer, AsyncUdpSocket, TokioRuntime, UdpPoller,
    udp::{RecvMeta, Transmit, UdpSocketState},
};
use tokio::io::{Interest, unix::AsyncFd};

use super::succession::Succession;

/// Tokio, with sockets of this kind.
#[derive(Debug)]
pub(super) struct Runtime;

impl quinn::Runtime for Runtime {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        TokioRuntime.new_timer(at)
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        TokioRuntime.spawn(future);
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Ok(Arc::new(Socket::new(socket, None)?))
    }

    fn now(&self) -> Instant {
        TokioRuntime.now()
    }
}

#[derive(Debug)]
pub(super) struct Socket {
    state: UdpSocketState,
    arrivals: AsyncFd<UdpSocket>,
    /// There was no room lately, and nobody has heard of any since.
    is_full: AtomicBool,
    /// An edge's: other processes may have had the socket before, or have it later.
    succession: Option<Succession>,
}

impl Socket {
    pub(super) fn new(socket: UdpSocket, succession: Option<Succession>) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        let arrivals = watch(socket, Interest::READABLE)?;
        Ok(Self { state, arrivals, is_full: AtomicBool::new(false), succession })
    }

    pub(super) fn succession(&self) -> Option<&Succession> {
        self.succession.as_ref()
    }

    /// The same socket for another process.
    pub(super) fn share(&self) -> io::Result<OwnedFd> {
        self.arrivals.as_fd().try_clone_to_owned()
    }

    fn poll_arrivals(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.arrivals.poll_read_ready(cx))?;
            match self.state.recv(self.arrivals.get_ref().into(), buffers, meta) {
                Ok(count) => {
                    // On Linux this is known to mean that there are no more.
                    if cfg!(target_os = "linux") && count < buffers.len() {
                        ready.clear_ready();
                    }
                    return Poll::Ready(Ok(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                // About one packet, or from a stranger: it ends nothing.
                Err(_) => {}
            }
        }
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Room { socket: self, wait: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        // It ends in no other error: packets may always be lost.
        self.state.send(self.arrivals.get_ref().into(), transmit).inspect_err(|_| {
            self.is_full.store(true, Ordering::Relaxed);
        })
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let Some(succession) = &self.succession else {
            return self.poll_arrivals(cx, buffers, meta);
        };
        loop {
            let count = ready!(match succession.inlet(cx) {
                Some(inlet) => inlet.poll_recv(cx, buffers, meta),
                None => self.poll_arrivals(cx, buffers, meta),
            })?;
            let count = succession.divert(buffers, meta, count);
            if count > 0 {
                return Poll::Ready(Ok(count));
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.arrivals.get_ref().local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.state.gro_segments()
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }
}

/// Waits until the socket takes more. One for each link, and a file for as long as it waits.
#[derive(Debug)]
struct Room {
    socket: Arc<Socket>,
    /// The same socket under another number, so that the system can be asked for something else.
    wait: Option<AsyncFd<OwnedFd>>,
}

impl Room {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let wait = match self.wait.take() {
            Some(wait) => wait,
            None => watch(self.socket.arrivals.as_fd().try_clone_to_owned()?, Interest::WRITABLE)?,
        };
        if wait.poll_write_ready(cx)?.is_ready() {
            self.socket.is_full.store(false, Ordering::Relaxed);
            return Poll::Ready(Ok(()));
        }
        self.wait = Some(wait);
        Poll::Pending
    }
}

impl UdpPoller for Room {
    /// quinn asks before each packet, and gives a link up where this fails.
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.wait.is_none() && !self.socket.is_full.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(()));
        }
        match self.poll(cx) {
            Poll::Ready(Err(_)) => {
                // Out of files: others have their turn, then it is tried once more.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            waited => waited,
        }
    }
}

/// Has the current runtime tell of this and nothing else.
#[expect(
    deprecated,
    reason = "its successor asks that the file is owned, which it is, in unsafe code"
)]
pub(super) fn watch<F: AsRawFd>(file: F, interest: Interest) -> io::Result<AsyncFd<F>> {
    AsyncFd::with_interest(file, interest)
}

#[cfg(test)]
mod tests;
