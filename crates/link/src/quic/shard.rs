//! One UDP address with several sockets, each polled by a thread of its own: every packet of a link must
//! come to the socket that has the link, also after the connector's address has changed.
//!
//! A packet goes by the first byte of the connection id that it is sent to, modulo the number of sockets:
//! a filter in the kernel reads it ([`Shard::split`]). The id that a link begins with is the connector's
//! ([`beginning`]), so it is the connector that has its links come to different sockets; a listener then
//! hands out only ids that lead to itself ([`Ids`]).
//!
//! The kernel joins packets that arrive together from one address (GRO), and the filter sees the first one
//! alone. So links to one edge that share a connector's socket must share the edge's: they begin with one
//! and the same byte.

use std::{io, net::UdpSocket};

use quinn_proto::{ConnectionId, ConnectionIdGenerator, InvalidCid, RandomConnectionIdGenerator};

use super::succession::Generation;

/// Length of the ids that edges give out, in bytes.
pub(super) const ID: usize = 8;
/// Which byte of them tells the generation; the first one tells the shard.
pub(super) const GENERATION_AT: usize = 1;
/// Longest connection id of QUIC version 1, in bytes.
const LONGEST_ID: usize = 20;

/// Which of the sockets of one UDP address a listener has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    nth: u8,
    of: u8,
}

impl Shard {
    /// The only one.
    pub const WHOLE: Self = Self { nth: 0, of: 1 };

    /// Has the system share an address's packets out among its sockets: all that are bound to it, in the
    /// order in which they were bound, 255 at most.
    ///
    /// # Errors
    /// Where the system cannot. Then the first socket must be the only one that stays open.
    pub fn split(sockets: &[UdpSocket]) -> io::Result<Vec<Self>> {
        let of = u8::try_from(sockets.len()).map_err(io::Error::other)?;
        if let [first, _, ..] = sockets {
            attach_filter(first, of)?;
        }
        Ok(Self::of(of))
    }

    /// The shards of sockets that [`split`](Self::split) has split before, in another process.
    pub fn of(sockets: u8) -> Vec<Self> {
        (0..sockets).map(|nth| Self { nth, of: sockets }).collect()
    }

    /// Does a packet with this connection id come here?
    fn holds(self, id: &[u8]) -> bool {
        id.first().is_some_and(|first| first % self.of == self.nth)
    }
}

/// Draws connection ids that lead to one shard of one generation: 8 bytes, all of them random but for that.
/// Ids that begin a link are not compared with those in use, so they must be too many to be drawn twice.
pub(super) struct Ids {
    ids: RandomConnectionIdGenerator,
    shard: Shard,
    generation: Generation,
}

impl Ids {
    pub(super) fn new(shard: Shard, generation: Generation) -> Self {
        Self { ids: RandomConnectionIdGenerator::new(ID), shard, generation }
    }
}

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        loop {
            let mut id = self.ids.generate_cid();
            if self.shard.holds(&id) {
                self.generation.mark(&mut id);
                return id;
            }
        }
    }

    /// A packet that is another shard's is none of ours: answering it with a reset would end a live link.
    /// Those of an older generation come here once its process is gone; then a reset is right.
    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        if self.shard.holds(id) { self.ids.validate(id) } else { Err(InvalidCid) }
    }

    fn cid_len(&self) -> usize {
        self.ids.cid_len()
    }

    fn cid_lifetime(&self) -> Option<std::time::Duration> {
        self.ids.cid_lifetime()
    }
}

/// The id that a link begins with, at the connector: `lane`, and random bytes.
pub(super) fn beginning(lane: u8) -> ConnectionId {
    let mut id = RandomConnectionIdGenerator::new(LONGEST_ID).generate_cid();
    id[0] = lane;
    id
}

/// Attaches the filter to the group of sockets that `socket` is in (`SO_ATTACH_REUSEPORT_CBPF`, Linux
/// 4.5). Its result is the index of a socket, in the order of binding.
#[cfg(target_os = "linux")]
fn attach_filter(socket: &UdpSocket, of: u8) -> io::Result<()> {
    use nix::{
        libc::{self, sock_filter, sock_fprog},
        sys::socket::{setsockopt, sockopt::AttachReusePortCbpf},
    };

    /// The packet's first bit tells the headers apart (RFC 9000 §17).
    const LONG_HEADER: u32 = 0x80;
    /// Where the connection id is that a packet is sent to. Beyond the end of one that is too short for
    /// it, the filter ends with 0: the first socket.
    const LONG_ID: u32 = 6;
    const SHORT_ID: u32 = 1;
    let op = |code: u32, k: u32| sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let load_byte = |at| op(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, at);
    let mut program = [
        load_byte(0),
        sock_filter { jf: 2, ..op(libc::BPF_JMP | libc::BPF_JSET, LONG_HEADER) },
        load_byte(LONG_ID),
        op(libc::BPF_JMP | libc::BPF_JA, 1),
        load_byte(SHORT_ID),
        op(libc::BPF_ALU | libc::BPF_MOD, of.into()),
        op(libc::BPF_RET | libc::BPF_A, 0),
    ];
    let program = sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    Ok(setsockopt(socket, AttachReusePortCbpf, &program)?)
}

#[cfg(not(target_os = "linux"))]
fn attach_filter(_: &UdpSocket, _: u8) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests;
