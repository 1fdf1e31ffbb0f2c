//! Bytes both ways between two ends that have left HTTP: a client or an origin, and a link. Each direction
//! closes on its own, and an end that has gone is noticed although nothing is read from it.
//!
//! A relay that waits for a write to one end does not read the other, so a reset there would wait as long as
//! the write. While that is so, and after an end's half-close, the relay looks at both ends twice a second
//! ([`End::poll_gone`]). What TCP does not tell, the [`Limits`] end.

use std::{
    io,
    pin::{Pin, pin},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep},
};

/// How often ends are looked at that are not being read: one that has gone is noticed within a second.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often a relay whose ends are both being read looks whether it is idle.
const REST_EVERY: Duration = Duration::from_secs(60);

/// One end of a relay.
pub trait End: AsyncRead + AsyncWrite + Unpin {
    /// Ready if the end has broken off. Whoever asks will ask again soon, so nobody need be woken.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Error>;
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

/// How long a relay may stand still.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Without a byte in either direction.
    pub idle: Duration,
    /// Without a byte from the far end, once it has been handed all that the near end had to say, and its end.
    pub half_closed: Duration,
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
            Ok(()) => ready!(watch.poll(cx, (&out, near), (&back, far))),
        };
        let (is_out_whole, is_back_whole) = (out.is_over(), back.is_over());
        Poll::Ready(Err(Broken { by, is_out_whole, is_back_whole }))
    })
    .await
}

/// One direction of a relay.
struct Half {
    buffer: Box<[u8]>,
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
            buffer: vec![0; buffer].into(),
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
        (out, near): (&Half, &mut impl End),
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
            let waits_for_answer = out.is_over() && back.is_reading;
            let limit = if waits_for_answer { self.limits.half_closed } else { self.limits.idle };
            if std::mem::take(&mut self.has_moved) {
                self.still_since = Instant::now();
            }
            let left = limit.saturating_sub(self.still_since.elapsed());
            if left.is_zero() {
                return Poll::Ready(Break::Idle);
            }
            self.look_in(left.min(if is_wary { LOOK_EVERY } else { REST_EVERY }));
        }
        Poll::Pending
    }

    fn look_in(&mut self, time: Duration) {
        self.is_soon = time <= LOOK_EVERY;
        self.next.as_mut().reset(Instant::now() + time);
    }
}
