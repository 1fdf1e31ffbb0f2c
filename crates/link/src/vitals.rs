//! Signs of life of a link's other end. They are counted where the carrier counts anyway, and read by
//! whoever wants to know on a tick of their own: a request pays nothing for them.
//!
//! An answer to a ping is not the only sign. On a slow line a ping waits behind everything that was sent
//! before it, and the answer may take longer than any patience; but as long as something arrives, or what
//! was sent is acknowledged, the other end is there.
//!
//! | carrier | life | asked |
//! |---|---|---|
//! | QUIC | a datagram has arrived, such as an acknowledgement | a frame has left that must be acknowledged |
//! | HTTP/2 | bytes were read; a full socket takes bytes again, since some were acknowledged | bytes were written |
//!
//! TCP acknowledges on behalf of a process that has stopped. So over HTTP/2 silence proves nothing until
//! the process itself was asked: [`Session::probe`](crate::Session::probe).

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// How long what a full socket holds may take to be sent and acknowledged, without a sign of it: on a line of
/// 256 kbit/s with a queue of 2 s, what the system has not sent yet takes another second.
const LINGER: Duration = Duration::from_secs(3);

/// Looks at one link from time to time. It keeps a QUIC connection from being closed implicitly, and so
/// must go when the link does.
#[derive(Debug)]
pub struct Vitals {
    source: Source,
    life: u64,
    /// Over QUIC: what had been asked when the last sign of life was seen. Over HTTP/2: how often the socket
    /// had been full.
    mark: u64,
    full_at: Option<Instant>,
}

#[derive(Debug)]
enum Source {
    Quic(quinn::Connection),
    Http2(Arc<Traffic>),
}

/// What a look has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// The other end has shown life since the look before.
    pub lives: bool,
    /// Something was sent after the last sign of life, and the other end is to answer or acknowledge it.
    pub waits: bool,
    /// The socket was full a moment ago: what it held may be on its way still, and silence means little.
    pub lingers: bool,
}

impl Vitals {
    pub(crate) fn quic(connection: quinn::Connection) -> Self {
        Self::new(Source::Quic(connection))
    }

    pub(crate) fn http2(traffic: Arc<Traffic>) -> Self {
        Self::new(Source::Http2(traffic))
    }

    fn new(source: Source) -> Self {
        Self { source, life: 0, mark: 0, full_at: None }
    }

    /// Looks, and remembers what was seen. Over QUIC this locks the connection for a moment.
    pub fn look(&mut self) -> Look {
        match &self.source {
            Source::Quic(connection) => {
                let stats = connection.stats();
                let asked = eliciting(&stats.frame_tx);
                let lives = stats.udp_rx.datagrams != self.life;
                if lives {
                    // What was asked in the same moment is asked again soon if no answer comes.
                    self.life = stats.udp_rx.datagrams;
                    self.mark = asked;
                }
                Look { lives, waits: asked != self.mark, lingers: false }
            }
            Source::Http2(traffic) => {
                let life = traffic.life.load(Ordering::Relaxed);
                let fulls = traffic.fulls.load(Ordering::Relaxed);
                if fulls != self.mark {
                    self.full_at = Some(Instant::now());
                }
                let lives = life != self.life;
                (self.life, self.mark) = (life, fulls);
                let waits = traffic.waits.load(Ordering::Relaxed);
                let lingers = self.full_at.is_some_and(|at| at.elapsed() < LINGER);
                Look { lives, waits, lingers }
            }
        }
    }
}

/// Frames that the other end must acknowledge, of those that a link sends: all but acknowledgements.
fn eliciting(sent: &quinn::FrameStats) -> u64 {
    sent.stream
        + sent.ping
        // What quinn sends again after a timeout may be no more than this.
        + sent.immediate_ack
        + sent.ack_frequency
        + sent.crypto
        + sent.reset_stream
        + sent.stop_sending
        + sent.max_data
        + sent.max_stream_data
        + sent.max_streams_bidi
        + sent.data_blocked
        + sent.stream_data_blocked
        + sent.streams_blocked_bidi
        + sent.new_connection_id
        + sent.retire_connection_id
        + sent.path_challenge
        + sent.path_response
        + u64::from(sent.handshake_done)
}

/// What one TCP connection has seen. Written by the one task that moves its bytes.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    life: AtomicU64,
    fulls: AtomicU64,
    waits: AtomicBool,
}

impl Traffic {
    pub(crate) fn lives(&self) {
        grow(&self.life);
        self.waits.store(false, Ordering::Relaxed);
    }

    pub(crate) fn asks(&self) {
        self.waits.store(true, Ordering::Relaxed);
    }

    pub(crate) fn fills(&self) {
        grow(&self.fulls);
    }
}

/// There is one writer, so that this needs no locked instruction.
fn grow(count: &AtomicU64) {
    count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}
