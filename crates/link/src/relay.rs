//! Bytes both ways between two ends that have left HTTP: a client or an origin, and a link. Each direction
//! closes on its own, and an end that has gone is noticed although nothing is read from it.
//!
//! A relay that waits for a write to one end does not read the other, so a reset there would wait as long as
//! the write. While that is so, and after an end's half-close, the relay looks at both ends twice a second
//! ([`End::poll_gone`]). What TCP does not tell, the [`Limits`] end. The near end may have closed behind bytes
//! that the far end does not take: so the relay reads a little further, and asks the near end
//! ([`End::has_ended`]).

use std::{
    io,
    pin::{Pin, pin},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, Sleep},
};

/// How often ends are looked at that are not being read: one that has gone is noticed within a second.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often a relay whose ends are both being read looks whether it is idle.
const REST_EVERY: Duration = Duration::from_secs(60);
/// How far a relay reads ahead of a far end that takes nothing, in bytes: somewhat more than a link's stream
/// holds while nobody reads it, so that an end behind all that is found.
const AHEAD: usize = 576 * 1024;
/// So many relays of a process may do so at once: 18 MiB. The others wait for the limit of idleness.
static READERS_AHEAD: Semaphore = Semaphore::const_new(32);

/// One end of a relay.
pub trait End: AsyncRead + AsyncWrite + Unpin {
    /// Ready if the end has broken off. Whoever asks will ask again soon, so nobody need be woken.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Error>;

    /// True if the end is known to say nothing more, although it may not have been read up to there.
    fn has_ended(&self) -> bool {
        false
    }
}

impl End for TcpStream {
    fn poll_gone(&mut self, _cx: &mut Context<'_>) -> Poll<io::Error> {
        if is_broken(self) {
            Poll::Ready(io::ErrorKind::ConnectionReset.into())
        } else {
            Poll::Pending
        }
    }
}

/// True if a TCP connection has been reset or has timed out, as far as its events have told.
pub fn is_broken(socket: &TcpStream) -> bool {
    // The future ends here, so nobody is to be woken.
    let mut cx = Context::from_waker(Waker::noop());
    pin!(broken(socket)).poll(&mut cx).is_ready()
}

/// Resolves when a TCP connection has been reset or has timed out, although nobody reads it.
pub async fn broken(socket: &TcpStream) {
    // An error means that the runtime is gone.
    let _ = socket.ready(Interest::ERROR).await;
}

/// True if the peer has closed its end of a TCP connection, perhaps behind bytes that nobody has read yet.
pub fn has_ended(socket: &TcpStream) -> bool {
    // The future ends here, so nobody is to be woken.
    let mut cx = Context::from_waker(Waker::noop());
    let ready = pin!(socket.ready(Interest::READABLE)).poll(&mut cx);
    matches!(ready, Poll::Ready(Ok(ready)) if ready.is_read_closed())
}

/// How long a relay may stand still.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Without a byte in either direction.
    pub idle: Duration,
    /// Without a byte from the far end, once it has been handed all that the near end had to say, and its end.
    pub half_closed: Duration,
    /// Without a byte in either direction, while the near end's own end waits behind bytes that the far end does
    /// not take.
    pub unread_end: Duration,
}

/// The direction of bytes through a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the near end to the far one.
    Out,
    /// From the far end to the near one.
    Back,
}

/// Why a relay has ended before both directions did.
#[derive(Debug)]
pub enum Break {
    /// The near end broke off.
    Near(io::Error),
    /// The far end broke off.
    Far(io::Error),
    /// Nothing moved for too long.
    Idle,
}

/// A relay that has broken.
#[derive(Debug)]
pub struct Broken {
    /// Who broke it, and why.
    pub by: Break,
    /// All that the near end had to say has been handed to the far one, and its end, too.
    pub is_out_whole: bool,
    /// The same for the far end.
    pub is_back_whole: bool,
}

/// Copies both ways, `buffer` bytes at a time, and tells `moved` of all that has been written, until both
/// directions have ended.
///
/// # Errors
/// When one of the ends breaks off, or a limit is reached.
pub async fn relay(
    near: &mut impl End,
    far: &mut impl End,
    buffer: usize,
    limits: Limits,
    mut moved: impl FnMut(Way, usize),
) -> Result<(), Broken> {
    let (mut out, mut back) = (Half::new(buffer), Half::new(buffer));
    let mut watch = Watch::new(limits);
    std::future::poll_fn(|cx| {
        let polled = match (out.poll(cx, near, far), back.poll(cx, far, near)) {
            (Err(Side::Source(error)), _) | (_, Err(Side::Sink(error))) => Err(Break::Near(error)),
            (Err(Side::Sink(error)), _) | (_, Err(Side::Source(error))) => Err(Break::Far(error)),
            (Ok(sent), Ok(came)) => {
                moved(Way::Out, sent);
                moved(Way::Back, came);
                if out.is_over() && back.is_over() {
                    return Poll::Ready(Ok(()));
                }
                watch.has_moved |= sent + came > 0;
                Ok(())
            }
        };
        let by = match polled {
            Err(by) => by,
            Ok(()) => ready!(watch.poll(cx, (&mut out, near), (&back, far))),
        };
        let (is_out_whole, is_back_whole) = (out.is_over(), back.is_over());
        Poll::Ready(Err(Broken { by, is_out_whole, is_back_whole }))
    })
    .await
}

/// One direction of a relay.
struct Half {
    /// This long, unless the half reads ahead.
    size: usize,
    buffer: Vec<u8>,
    /// While it reads ahead.
    ahead: Option<SemaphorePermit<'static>>,
    from: usize,
    to: usize,
    state: State,
    /// It waits for bytes, and so hears when its source breaks off.
    is_reading: bool,
    must_flush: bool,
}

#[derive(PartialEq, Eq)]
enum State {
    Open,
    /// The source has ended; its end is to be passed on behind what is left.
    Ending,
    Over,
}

/// Which end of a direction has failed.
enum Side {
    Source(io::Error),
    Sink(io::Error),
}

impl Half {
    fn new(buffer: usize) -> Self {
        Self {
            size: buffer,
            buffer: vec![0; buffer],
            ahead: None,
            from: 0,
            to: 0,
            state: State::Open,
            is_reading: false,
            must_flush: false,
        }
    }

    fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// Moves what can be moved, and tells how many bytes that was.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut (impl AsyncRead + Unpin),
        sink: &mut (impl AsyncWrite + Unpin),
    ) -> Result<usize, Side> {
        let mut moved = 0;
        let polled = self.poll_move(cx, source, sink, &mut moved);
        self.is_reading = self.state == State::Open && self.from == self.to;
        match polled {
            Poll::Ready(Err(side)) => Err(side),
            Poll::Ready(Ok(())) | Poll::Pending => Ok(moved),
        }
    }

    fn poll_move(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut (impl AsyncRead + Unpin),
        sink: &mut (impl AsyncWrite + Unpin),
        moved: &mut usize,
    ) -> Poll<Result<(), Side>> {
        loop {
            while self.from < self.to {
                let bytes = &self.buffer[self.from..self.to];
                let written = ready!(Pin::new(&mut *sink).poll_write(cx, bytes));
                match written.map_err(Side::Sink)? {
                    0 => return Poll::Ready(Err(Side::Sink(io::ErrorKind::WriteZero.into()))),
                    written => {
                        self.from += written;
                        *moved += written;
                        self.must_flush = true;
                    }
                }
            }
            match self.state {
                State::Open => {}
                State::Ending => {
                    ready!(Pin::new(&mut *sink).poll_shutdown(cx)).map_err(Side::Sink)?;
                    self.state = State::Over;
                    return Poll::Ready(Ok(()));
                }
                State::Over => return Poll::Ready(Ok(())),
            }
            if self.ahead.take().is_some() {
                self.buffer = vec![0; self.size];
            }
            let mut buffer = ReadBuf::new(&mut self.buffer);
            match Pin::new(&mut *source).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) => {
                    (self.from, self.to) = (0, buffer.filled().len());
                    if self.to == 0 {
                        self.state = State::Ending;
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Side::Source(error))),
                Poll::Pending => {
                    // Only when there is nothing more to add, as few sinks keep anything back.
                    if self.must_flush {
                        ready!(Pin::new(&mut *sink).poll_flush(cx)).map_err(Side::Sink)?;
                        self.must_flush = false;
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    /// Reads on although the sink takes nothing, in search of the source's end.
    fn read_ahead(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut (impl AsyncRead + Unpin),
    ) -> io::Result<()> {
        if self.is_reading || self.state != State::Open {
            return Ok(());
        }
        if self.ahead.is_none() {
            let Ok(permit) = READERS_AHEAD.try_acquire() else { return Ok(()) };
            self.ahead = Some(permit);
            self.buffer.resize(self.size + AHEAD, 0);
        }
        while self.to < self.buffer.len() {
            let mut buffer = ReadBuf::new(&mut self.buffer[self.to..]);
            match Pin::new(&mut *source).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                    self.state = State::Ending;
                    break;
                }
                Poll::Ready(Ok(())) => self.to += buffer.filled().len(),
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => break,
            }
        }
        Ok(())
    }
}

/// Looks at the ends now and then, and knows how long nothing has moved.
struct Watch {
    limits: Limits,
    next: Pin<Box<Sleep>>,
    /// The next look is no further than [`LOOK_EVERY`].
    is_soon: bool,
    has_moved: bool,
    still_since: Instant,
}

impl Watch {
    fn new(limits: Limits) -> Self {
        let now = Instant::now();
        let next = Box::pin(tokio::time::sleep_until(now + limits.idle.min(REST_EVERY)));
        Self { limits, next, is_soon: false, has_moved: false, still_since: now }
    }

    /// Ready if the relay is to end.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        (out, near): (&mut Half, &mut impl End),
        (back, far): (&Half, &mut impl End),
    ) -> Poll<Break> {
        let is_wary = !out.is_reading || !back.is_reading;
        if is_wary && !self.is_soon {
            self.look_in(LOOK_EVERY);
        }
        while self.next.as_mut().poll(cx).is_ready() {
            if is_wary && let Poll::Ready(error) = near.poll_gone(cx) {
                return Poll::Ready(Break::Near(error));
            }
            if is_wary && let Poll::Ready(error) = far.poll_gone(cx) {
                return Poll::Ready(Break::Far(error));
            }
            if std::mem::take(&mut self.has_moved) {
                self.still_since = Instant::now();
            } else if self.limits.unread_end < self.limits.idle
                && let Err(error) = out.read_ahead(cx, near)
            {
                return Poll::Ready(Break::Near(error));
            }
            let limit = self.limit(out, near, back);
            let left = limit.saturating_sub(self.still_since.elapsed());
            if left.is_zero() {
                return Poll::Ready(Break::Idle);
            }
            self.look_in(left.min(if is_wary { LOOK_EVERY } else { REST_EVERY }));
        }
        Poll::Pending
    }

    fn limit(&self, out: &Half, near: &impl End, back: &Half) -> Duration {
        match out.state {
            State::Over if back.is_reading => self.limits.half_closed,
            State::Ending => self.limits.unread_end,
            State::Open if !out.is_reading && near.has_ended() => self.limits.unread_end,
            State::Open | State::Over => self.limits.idle,
        }
    }

    fn look_in(&mut self, time: Duration) {
        self.is_soon = time <= LOOK_EVERY;
        self.next.as_mut().reset(Instant::now() + time);
    }
}
