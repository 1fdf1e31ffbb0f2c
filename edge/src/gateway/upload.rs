//! A request's body on its way to a link: limited, counted, and given back if the link delivered none
//! of it. What has been read by then is kept, up to a bound, and comes first the next time.

use std::{
    error::Error as _,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use link::{BoxError, SendError};
use protocol::{
    fields,
    refusal::{Code, Refusal},
};
use tokio::{sync::oneshot, time::timeout};

use crate::{
    core::Core,
    gateway::client::{Client, Connection},
    streams::Stream,
    traffic::Counters,
};

/// Most that is kept of what a link has read, in bytes. A link that does not begin with a request says
/// so within a round trip; most bodies are shorter than what leaves until then.
const KEPT: usize = 64 * 1024;
/// Most that is read of a body whose request is refused, in bytes, so that the connection may be kept.
const FORGOTTEN: usize = 64 * 1024;
/// What a piece counts at least, in bytes: a thousand tiny ones are not free.
const PIECE: usize = 256;
/// A link that has failed drops what it has borrowed as soon as its task runs.
const BACK_WITHIN: Duration = Duration::from_secs(1);

/// A request's body, until it is known which link takes it.
#[derive(Debug)]
pub(crate) struct Source {
    is_empty: bool,
    content: Option<Box<Content>>,
    lent: Option<oneshot::Receiver<Box<Content>>>,
}

/// The body, whole: what has been read of it, and where the rest comes from.
#[derive(Debug)]
struct Content {
    read: Vec<Bytes>,
    room: usize,
    rest: Incoming,
    /// None over HTTP/2, where streams are told apart.
    connection: Option<Arc<Connection>>,
    has_ended: bool,
    /// Bytes that the rest may have.
    left: u64,
    core: Arc<Core>,
    /// Those of the tunnel, once it is known.
    counters: Option<Arc<Counters>>,
    /// Once the request has one.
    stream: Option<Arc<Stream>>,
}

/// Why a body is refused in its middle.
#[derive(Debug, thiserror::Error)]
enum Excess {
    /// It is over the edge's limit.
    #[error("the request's body is too large")]
    Body,
    /// There are more trailers than pass.
    #[error("the request has {count} trailers; {most} pass")]
    Trailers { count: usize, most: usize },
}

/// The refusal of a request whose body has failed.
pub(crate) fn refusal(error: &SendError) -> Refusal {
    match error.source().and_then(|cause| cause.downcast_ref()) {
        Some(Excess::Body) => Code::BodyTooLarge.into(),
        Some(excess @ Excess::Trailers { .. }) => {
            Refusal::new(Code::HeadersTooLarge, excess.to_string())
        }
        None => Refusal::new(Code::BadRequest, "the request's body broke off"),
    }
}

/// The client has reset the stream with NO_ERROR, which hyper takes for an end.
#[derive(Debug, thiserror::Error)]
#[error("the request's body broke off")]
struct BrokenOff;

impl Source {
    pub(crate) fn new(body: Incoming, client: &Client, limit: u64, core: &Arc<Core>) -> Self {
        if body.is_end_stream() {
            return Self { is_empty: true, content: None, lent: None };
        }
        let connection = (!client.is_http2()).then(|| client.connection().clone());
        if let Some(connection) = &connection {
            connection.upload.begin();
        }
        let content = Box::new(Content {
            read: Vec::new(),
            room: KEPT,
            rest: body,
            connection,
            has_ended: false,
            left: limit,
            core: core.clone(),
            counters: None,
            stream: None,
        });
        Self { is_empty: false, content: Some(content), lent: None }
    }

    /// What is sent from now on counts as the tunnel's.
    pub(crate) fn count_for(&mut self, counters: &Arc<Counters>) {
        if let Some(content) = &mut self.content {
            content.counters = Some(counters.clone());
        }
    }

    /// What is sent from now on shows that this stream moves.
    pub(crate) fn moves(&mut self, stream: &Arc<Stream>) {
        if let Some(content) = &mut self.content {
            content.stream = Some(stream.clone());
        }
    }

    /// True if no body follows the head.
    pub(crate) fn is_empty(&self) -> bool {
        self.is_empty
    }

    /// Reads and forgets what has come of the body; true if that was all of it, so that the connection is of
    /// further use. A client that waits for a 100 sends no body once it has got another answer.
    pub(crate) async fn forget(&mut self) -> bool {
        let Some(content) = &mut self.content else { return self.is_empty };
        let mut room = FORGOTTEN;
        let mut is_new = true;
        loop {
            let next = poll_fn(|cx| Poll::Ready(Pin::new(&mut content.rest).poll_frame(cx)));
            match next.await {
                Poll::Ready(None) => break,
                Poll::Ready(Some(Ok(frame))) => {
                    let length = frame.data_ref().map_or(0, Bytes::len).max(PIECE);
                    let Some(left) = room.checked_sub(length) else { return false };
                    (room, is_new) = (left, true);
                }
                Poll::Ready(Some(Err(_))) => return false,
                // hyper looks for more as soon as it is asked, which is now.
                Poll::Pending if std::mem::take(&mut is_new) => tokio::task::yield_now().await,
                Poll::Pending => return false,
            }
        }
        content.end(true);
        true
    }

    /// The body for one attempt, on a link that takes so many trailers.
    pub(crate) fn lend(&mut self, most_trailers: usize) -> Upload {
        if self.is_empty {
            return Upload { content: None, owner: None, sent: 0, most_trailers };
        }
        let (owner, lent) = oneshot::channel();
        self.lent = Some(lent);
        Upload { content: self.content.take(), owner: Some(owner), sent: 0, most_trailers }
    }

    /// Takes the body back from an attempt that has failed; true if another one can begin, because
    /// nothing of it is gone.
    pub(crate) async fn take_back(&mut self) -> bool {
        if let Some(lent) = self.lent.take() {
            self.content = timeout(BACK_WITHIN, lent).await.ok().and_then(Result::ok);
        }
        self.is_empty || self.content.is_some()
    }
}

impl Content {
    fn end(&mut self, is_whole: bool) {
        // What has ended is not left.
        self.has_ended |= is_whole;
        if let Some(connection) = &self.connection {
            connection.upload.end(is_whole);
        }
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        if !self.has_ended {
            self.end(false);
        }
    }
}

/// The body that a link reads.
#[derive(Debug)]
pub(crate) struct Upload {
    content: Option<Box<Content>>,
    /// Gone once there is nothing whole to give back.
    owner: Option<oneshot::Sender<Box<Content>>>,
    /// How many of the pieces that were read before have been sent this time.
    sent: usize,
    most_trailers: usize,
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let Some(content) = &mut this.content else { return Poll::Ready(None) };
        if let Some(piece) = content.read.get(this.sent) {
            this.sent += 1;
            return Poll::Ready(Some(Ok(Frame::data(piece.clone()))));
        }
        let Some(frame) = std::task::ready!(Pin::new(&mut content.rest).poll_frame(cx)) else {
            // Only over HTTP/2 does this always tell whether the end has come.
            let is_whole = content.connection.is_some() || content.rest.is_end_stream();
            content.end(is_whole);
            return Poll::Ready((!is_whole).then(|| Err(BrokenOff.into())));
        };
        // Once the request has got its answer, nobody waits for the body's return.
        let is_lent = this.owner.as_ref().is_some_and(|owner| !owner.is_closed());
        let data = frame.as_ref().ok().and_then(Frame::data_ref).filter(|_| is_lent);
        let room = data.and_then(|data| content.room.checked_sub(data.len().max(PIECE)));
        match data.zip(room) {
            Some((data, room)) => {
                content.room = room;
                content.read.push(data.clone());
                this.sent += 1;
            }
            None => {
                this.owner = None;
                content.read = Vec::new();
                this.sent = 0;
            }
        }
        let mut frame = frame?;
        if let Some(trailers) = frame.trailers_mut() {
            fields::strip_trailers(trailers);
            let (count, most) = (trailers.len(), this.most_trailers);
            if count > most {
                return Poll::Ready(Some(Err(Excess::Trailers { count, most }.into())));
            }
        }
        let length = frame.data_ref().map_or(0, Bytes::len) as u64;
        let Some(left) = content.left.checked_sub(length) else {
            return Poll::Ready(Some(Err(Excess::Body.into())));
        };
        content.left = left;
        content.stream.iter().for_each(|stream| stream.moves());
        content.core.metrics.bytes_up.increment(length);
        if let Some(counters) = &content.counters {
            counters.up(length);
        }
        if content.rest.is_end_stream() {
            content.end(true);
        } else if let Some(connection) = &content.connection {
            connection.upload.moves();
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        let is_over =
            |content: &Content| self.sent == content.read.len() && content.rest.is_end_stream();
        self.content.as_deref().is_none_or(is_over)
    }

    fn size_hint(&self) -> SizeHint {
        let Some(content) = &self.content else { return SizeHint::with_exact(0) };
        let again: usize = content.read[self.sent..].iter().map(Bytes::len).sum();
        let rest = content.rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(again as u64));
        if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(again as u64)) {
            hint.set_upper(upper);
        }
        hint
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let (Some(owner), Some(content)) = (self.owner.take(), self.content.take()) {
            // Nobody waits for it if the attempt has led somewhere.
            let _ = owner.send(content);
        }
    }
}
