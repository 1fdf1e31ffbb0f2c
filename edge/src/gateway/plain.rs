//! A client's connection around what hyper does by itself; over TLS, what is inside it.
//!
//! Before hyper reads a request, its first line is made one that hyper takes ([`RequestLine`]). That is done
//! only where a request certainly begins: at the connection's start, and behind a request without a body whose
//! answer has left. Anywhere else the bytes may be a body's, whose length must not change. There, hyper refuses the
//! line.
//!
//! What hyper refuses, it answers with a bare status. It is the only one that writes while no request is under way:
//! such a status is replaced by the refusal that says what is wrong.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use http::StatusCode;
use protocol::refusal::{Code, Refusal};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

use crate::{
    core::Core,
    gateway::{answer, client::Connection, request_line::RequestLine},
};

/// Until it is clear which version of HTTP a client speaks, hyper waits without a deadline: these are
/// the bytes that tell, and how long they may take. No request that a proxy could serve is shorter.
const FIRST_BYTES: usize = 24;
const FIRST_BYTES_WITHIN: Duration = Duration::from_secs(10);

/// Which requests of a connection have begun and ended, as far as hyper tells.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    begun: AtomicU64,
    ended: AtomicU64,
    last_has_body: AtomicBool,
    is_pathless: AtomicBool,
}

impl Turns {
    pub(crate) fn begin(&self, has_body: bool) {
        self.last_has_body.store(has_body, Ordering::Relaxed);
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn end(&self) {
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    /// Was the target of the request that has just begun a URL without a path?
    pub(crate) fn take_pathless(&self) -> bool {
        self.is_pathless.load(Ordering::Relaxed) && self.is_pathless.swap(false, Ordering::Relaxed)
    }

    /// How many have begun, if all of them have ended.
    fn at_rest(&self) -> Option<u64> {
        let begun = self.begun.load(Ordering::Relaxed);
        (self.ended.load(Ordering::Relaxed) == begun).then_some(begun)
    }
}

/// See the module.
pub(crate) struct Plain<S> {
    stream: S,
    shared: Arc<Connection>,
    core: Arc<Core>,
    first: Option<FirstBytes>,
    reading: Reading,
    /// What hyper reads instead of what came; most often there is nothing.
    ahead: Vec<u8>,
    /// The last bytes that hyper has read.
    tail: [u8; 4],
    has_odd_version: bool,
    /// How many requests had begun, and ended, when all that hyper had to say was written.
    settled: Option<u64>,
    /// A refusal that is written instead of hyper's.
    reply: Vec<u8>,
}

struct FirstBytes {
    missing: usize,
    deadline: Pin<Box<Sleep>>,
}

enum Reading {
    /// In the first line of a request.
    Line(RequestLine),
    /// Somewhere behind it.
    Behind,
    /// HTTP/2 has no lines.
    Http2,
}

impl<S> Plain<S> {
    pub(crate) fn new(stream: S, shared: Arc<Connection>, core: Arc<Core>) -> Self {
        let deadline = Box::pin(tokio::time::sleep(FIRST_BYTES_WITHIN));
        Self {
            stream,
            shared,
            core,
            first: Some(FirstBytes { missing: FIRST_BYTES, deadline }),
            reading: Reading::Line(RequestLine::new()),
            ahead: Vec::new(),
            tail: [0; 4],
            has_odd_version: false,
            settled: Some(0),
            reply: Vec::new(),
        }
    }

    /// Are the next bytes the first ones of a request, for certain? The last request had no body, so hyper has
    /// read it up to its empty line; if anything of another one had come behind it, that would not end so, or hyper
    /// would have begun with it.
    fn is_at_start(&self) -> bool {
        let turns = &self.shared.turns;
        turns.at_rest().is_some()
            && !turns.last_has_body.load(Ordering::Relaxed)
            && self.tail == *b"\r\n\r\n"
    }

    /// Looks at what came behind `before`, and puts what hyper is to read in its place.
    fn look(&mut self, buffer: &mut ReadBuf<'_>, before: usize) {
        if matches!(self.reading, Reading::Behind) && self.is_at_start() {
            self.reading = Reading::Line(RequestLine::new());
        }
        let Reading::Line(line) = &mut self.reading else { return };
        let instead = line.read(&buffer.filled()[before..]);
        if line.is_done() {
            self.has_odd_version = line.has_odd_version();
            self.shared.turns.is_pathless.store(line.is_pathless_options(), Ordering::Relaxed);
            let is_http2 = line.is_http2_preface();
            self.reading = if is_http2 { Reading::Http2 } else { Reading::Behind };
        }
        if let Some(instead) = instead {
            buffer.set_filled(before);
            self.ahead = instead;
            self.hand_over(buffer);
        }
    }

    fn hand_over(&mut self, buffer: &mut ReadBuf<'_>) {
        let count = self.ahead.len().min(buffer.remaining());
        buffer.put_slice(&self.ahead[..count]);
        self.ahead.drain(..count);
    }

    fn remember(&mut self, read: &[u8]) {
        match read.last_chunk::<4>() {
            Some(tail) => self.tail = *tail,
            None => {
                self.tail.rotate_left(read.len());
                let start = self.tail.len() - read.len();
                self.tail[start..].copy_from_slice(read);
            }
        }
    }

    /// The status of a refusal of hyper's own: nobody else writes while no request is under way, and after all
    /// answers have left.
    fn bare_status(&self, bytes: &[u8]) -> Option<StatusCode> {
        let is_own = self.settled.is_some() && self.shared.turns.at_rest() == self.settled;
        let status = bytes.strip_prefix(b"HTTP/1.1 ").filter(|_| is_own)?.get(..3)?;
        let status = StatusCode::from_bytes(status).ok()?;
        (status.is_client_error() && !bytes.windows(8).any(|part| part == b"postern-"))
            .then_some(status)
    }

    fn refuse(&self, status: StatusCode) -> Vec<u8> {
        let refusal = match status {
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => Code::HeadersTooLarge.into(),
            StatusCode::URI_TOO_LONG => Code::UriTooLong.into(),
            _ if self.has_odd_version => Refusal::new(
                Code::BadRequest,
                "the request line does not end in HTTP/1.1 or HTTP/1.0",
            ),
            _ => Refusal::new(
                Code::BadRequest,
                "the request's head is not valid HTTP/1.1: see its target, the names and values of its \
                 fields, and its length",
            ),
        };
        answer::to_bytes(&refusal, self.core.clone())
    }
}

impl<S: AsyncRead + Unpin> Plain<S> {
    fn poll_inner(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if let Some(first) = &mut self.first {
            first.missing = first.missing.saturating_sub(buffer.filled().len() - before);
            if first.missing == 0 {
                self.first = None;
            } else if read.is_pending() && first.deadline.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> Plain<S> {
    /// Writes a refusal instead of hyper's; `None` if these bytes are none.
    fn poll_refuse(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Option<Poll<io::Result<usize>>> {
        if self.reply.is_empty() {
            self.reply = self.refuse(self.bare_status(bytes)?);
        }
        while !self.reply.is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.reply) {
                Poll::Pending => return Some(Poll::Pending),
                Poll::Ready(Err(error)) => return Some(Poll::Ready(Err(error))),
                Poll::Ready(Ok(0)) => {
                    return Some(Poll::Ready(Err(io::ErrorKind::WriteZero.into())));
                }
                Poll::Ready(Ok(count)) => drop(self.reply.drain(..count)),
            }
        }
        self.settled = None;
        Some(Poll::Ready(Ok(bytes.len())))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Plain<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        if this.ahead.is_empty() {
            ready!(this.poll_inner(cx, buffer))?;
            if buffer.filled().len() == before {
                return Poll::Ready(Ok(()));
            }
            this.shared.standing.hears(buffer.filled().len() - before)?;
            this.look(buffer, before);
        } else {
            this.hand_over(buffer);
        }
        this.remember(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Plain<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(refused) = self.poll_refuse(cx, bytes) {
            return refused;
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // hyper writes a head alone, in one slice.
        if let [bytes] = slices
            && let Some(refused) = self.poll_refuse(cx, bytes)
        {
            return refused;
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        // hyper flushes when it has nothing left to write.
        if let Some(begun) = self.shared.turns.at_rest() {
            self.settled = self.settled.map(|_| begun);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Not even TLS may say that this is the end.
        if self.shared.is_broken() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
