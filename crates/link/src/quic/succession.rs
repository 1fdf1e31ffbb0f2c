//! An edge that is started beside the one before it takes over the UDP sockets, and with them the packets of
//! links that the older process still has. Each process gives out connection ids that bear its generation.
//! The newer one passes packets of other generations on, through a pair of Unix sockets; the older one reads
//! those instead of its UDP socket, and goes on to send through that.
//!
//! ```text
//!                      ┌──► its own links
//!  UDP ──► newer edge ─┤
//!                      └──► pipe ──► older edge ──► its own links, or a pipe to one that is older still
//! ```
//!
//! The system cannot do this by itself as it does for workers (`shard.rs`): a connector's links to both may
//! share a socket, whose packets it joins before anything looks at their ids.

use std::{
    io::{self, IoSliceMut},
    net::{IpAddr, SocketAddr},
    os::unix::net::UnixDatagram,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker, ready},
};

use quinn::udp::{EcnCodepoint, RecvMeta};
use serde::{Deserialize, Serialize};
use socket2::SockRef;
use tokio::io::{Interest, unix::AsyncFd};

use super::{
    shard::{GENERATION_AT, ID},
    socket::watch,
};

/// What may wait for the older process, in bytes; Linux gives `net.core.wmem_max` at most.
const PIPE: usize = 4 * 1024 * 1024;
/// Most that the system joins into one read.
const LONGEST: usize = 64 * 1024;
/// Longest header in a pipe.
const HEADER: usize = 64;

/// Which of the processes that share an edge's sockets, one after the other, gave out an id.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation(u8);

impl Generation {
    /// That of the process that takes over.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }

    /// Marks an id.
    pub(super) fn mark(self, id: &mut [u8]) {
        id[GENERATION_AT] = self.0;
    }

    /// Is a packet sent to an id that another generation gave out? Where a link begins, the id is the
    /// connector's, and of another length.
    fn is_foreign(self, packet: &[u8]) -> bool {
        const LONG_HEADER: u8 = 0x80;
        let id = match packet.first() {
            // RFC 9000 §17.2: flags, version, the id's length, the id.
            Some(first) if first & LONG_HEADER != 0 => {
                packet.get(5..).and_then(|rest| match rest.split_first() {
                    Some((length, id)) if usize::from(*length) == ID => id.get(..ID),
                    _ => None,
                })
            }
            Some(_) => packet.get(1..1 + ID),
            None => None,
        };
        id.is_some_and(|id| id[GENERATION_AT] != self.0)
    }
}

/// Both ends of a way for packets: where the newer process puts them in, and where the older one takes them
/// out.
///
/// # Errors
/// When the system gives no sockets.
pub fn pipe() -> io::Result<(UnixDatagram, UnixDatagram)> {
    let (outlet, inlet) = UnixDatagram::pair()?;
    for end in [&outlet, &inlet] {
        end.set_nonblocking(true)?;
        // A pipe that is given less room loses packets sooner, as a network would.
        let _ = SockRef::from(end).set_send_buffer_size(PIPE);
    }
    Ok((outlet, inlet))
}

/// What one socket has to do with the processes before and after this one.
#[derive(Debug)]
pub(super) struct Succession {
    generation: Generation,
    older: Option<Outlet>,
    has_newer: AtomicBool,
    newer: Mutex<Option<Arc<Inlet>>>,
    /// The one task that reads the socket.
    reader: OnceLock<Waker>,
}

impl Succession {
    pub(super) fn new(generation: Generation, older: Option<UnixDatagram>) -> Self {
        let older = older.map(|pipe| Outlet { pipe, is_gone: AtomicBool::new(false) });
        Self {
            generation,
            older,
            has_newer: AtomicBool::new(false),
            newer: Mutex::new(None),
            reader: OnceLock::new(),
        }
    }

    /// From now on packets come from `pipe`, which the current runtime watches.
    pub(super) fn hand_over(&self, pipe: UnixDatagram) -> io::Result<()> {
        pipe.set_nonblocking(true)?;
        let pipe = watch(pipe, Interest::READABLE)?;
        let inlet = Inlet { pipe, buffer: Mutex::new(vec![0; HEADER + LONGEST]) };
        self.read_from(Some(Arc::new(inlet)));
        Ok(())
    }

    /// The newer process is gone without one after it: packets come from the socket again.
    pub(super) fn take_back(&self) {
        self.read_from(None);
    }

    fn read_from(&self, inlet: Option<Arc<Inlet>>) {
        let has_newer = inlet.is_some();
        *self.newer.lock().unwrap_or_else(PoisonError::into_inner) = inlet;
        self.has_newer.store(has_newer, Ordering::Release);
        if let Some(reader) = self.reader.get() {
            reader.wake_by_ref();
        }
    }

    /// Where packets come from, if not from the socket any more. Only the socket's one reader may ask.
    pub(super) fn inlet(&self, cx: &Context<'_>) -> Option<Arc<Inlet>> {
        // Before the look, so that whoever hands over in between wakes the reader.
        self.reader.get_or_init(|| cx.waker().clone());
        if !self.has_newer.load(Ordering::Acquire) {
            return None;
        }
        self.newer.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Passes on what is not ours; tells how many buffers still hold something.
    pub(super) fn divert(
        &self,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
        count: usize,
    ) -> usize {
        let older = self.older.as_ref().filter(|older| !older.is_gone.load(Ordering::Relaxed));
        let Some(older) = older else { return count };
        let mut kept = 0;
        for n in 0..count {
            self.divert_one(older, &mut buffers[n], &mut meta[n]);
            if meta[n].len > 0 {
                buffers.swap(kept, n);
                meta.swap(kept, n);
                kept += 1;
            }
        }
        kept
    }

    fn divert_one(&self, older: &Outlet, buffer: &mut [u8], meta: &mut RecvMeta) {
        let stride = meta.stride.max(1);
        let mut kept = 0;
        for from in (0..meta.len).step_by(stride) {
            let to = (from + stride).min(meta.len);
            let packet = &buffer[from..to];
            if !(self.generation.is_foreign(packet) && older.takes(meta, packet)) {
                buffer.copy_within(from..to, kept);
                kept += to - from;
            }
        }
        meta.len = kept;
    }
}

/// The way to the older process.
#[derive(Debug)]
struct Outlet {
    pipe: UnixDatagram,
    /// The older process has left. Connectors that do not know it yet get a reset from this one.
    is_gone: AtomicBool,
}

impl Outlet {
    /// False when the older process is gone.
    fn takes(&self, meta: &RecvMeta, packet: &[u8]) -> bool {
        let mut message = Vec::with_capacity(HEADER + packet.len());
        encode(meta, packet, &mut message);
        let is_gone = self.pipe.send(&message).is_err_and(|error| {
            // Where there is no room the packet is lost, as packets may always be.
            error.kind() != io::ErrorKind::WouldBlock
        });
        if is_gone {
            self.is_gone.store(true, Ordering::Relaxed);
        }
        !is_gone
    }
}

/// The way from the newer process.
#[derive(Debug)]
pub(super) struct Inlet {
    pipe: AsyncFd<UnixDatagram>,
    /// One message; for the one reader.
    buffer: Mutex<Vec<u8>>,
}

impl Inlet {
    pub(super) fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut message = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut count = 0;
        while count < buffers.len().min(meta.len()) {
            let mut ready = match self.pipe.poll_read_ready(cx) {
                Poll::Pending if count > 0 => break,
                ready => ready!(ready)?,
            };
            match self.pipe.get_ref().recv(&mut message) {
                Ok(length) => {
                    let Some((of, packet)) = decode(&message[..length]) else { continue };
                    let Some(buffer) = buffers[count].get_mut(..packet.len()) else { continue };
                    buffer.copy_from_slice(packet);
                    meta[count] = of;
                    count += 1;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                // The newer process is gone: nothing comes any more.
                Err(_) => ready.clear_ready(),
            }
        }
        Poll::Ready(Ok(count))
    }
}

/// The ends of a packet's way, and the packet.
fn encode(meta: &RecvMeta, packet: &[u8], out: &mut Vec<u8>) {
    out.push(meta.ecn.map_or(0, |ecn| ecn as u8));
    out.extend_from_slice(&meta.addr.port().to_be_bytes());
    encode_ip(Some(meta.addr.ip()), out);
    encode_ip(meta.dst_ip, out);
    out.extend_from_slice(packet);
}

fn encode_ip(ip: Option<IpAddr>, out: &mut Vec<u8>) {
    match ip {
        None => out.push(0),
        Some(IpAddr::V4(ip)) => {
            out.push(4);
            out.extend_from_slice(&ip.octets());
        }
        Some(IpAddr::V6(ip)) => {
            out.push(16);
            out.extend_from_slice(&ip.octets());
        }
    }
}

fn decode(message: &[u8]) -> Option<(RecvMeta, &[u8])> {
    let (&ecn, rest) = message.split_first()?;
    let (port, rest) = rest.split_first_chunk()?;
    let (ip, rest) = decode_ip(rest)?;
    let (dst_ip, packet) = decode_ip(rest)?;
    let addr = SocketAddr::new(ip?, u16::from_be_bytes(*port));
    let (len, stride, ecn) = (packet.len(), packet.len(), EcnCodepoint::from_bits(ecn));
    Some((RecvMeta { addr, len, stride, ecn, dst_ip }, packet))
}

fn decode_ip(message: &[u8]) -> Option<(Option<IpAddr>, &[u8])> {
    let (&length, rest) = message.split_first()?;
    match length {
        0 => Some((None, rest)),
        4 => rest.split_first_chunk::<4>().map(|(ip, rest)| (Some(IpAddr::from(*ip)), rest)),
        16 => rest.split_first_chunk::<16>().map(|(ip, rest)| (Some(IpAddr::from(*ip)), rest)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
