//! The sending direction of a QUIC stream: heads, bodies, trailers, and its end.
//!
//! A write that has to wait also listens for the peer's STOP_SENDING. quinn does not tell it: while the
//! connection's send window is full, a write on a stopped stream is answered with "blocked" once more, and
//! when there is room again, a stream whose own window is full as well is not woken. A stopped stream's
//! window never grows, so its writer would wait for ever (quinn-proto 0.11.19;
//! `docs/upstream/quinn-stopped-while-blocked.md`).

use std::{
    fmt,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use bytes::{BufMut as _, Bytes, BytesMut};
use http_body::{Body, Frame as BodyFrame};
use protocol::{
    frame::{self, Kind, Role},
    head,
};

use super::{code, stream_error};
use crate::error::{BoxError, LinkError};

/// A piece of a body up to this length, in bytes, is copied next to its frame header; a longer one is
/// handed to QUIC as it is.
const COPY: usize = 4 * 1024;
/// Room for a usual head, in bytes.
const HEAD: usize = 512;
/// Copied pieces are written once they reach this length together.
const FLUSH: usize = 16 * 1024;

/// A buffer for a head, and for the body behind it if that is known to be short.
pub(crate) fn buffer(body: &impl Body) -> BytesMut {
    let body = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    BytesMut::with_capacity(if body <= COPY { HEAD + body } else { HEAD })
}

/// Writes one direction of a stream. Dropped before it was finished, it is reset: the peer must never
/// take half a message for a whole one.
#[derive(Debug)]
pub(crate) struct Sending {
    stream: quinn::SendStream,
    is_over: bool,
    /// There from the first write on that had to wait.
    stop: Option<Stop>,
}

/// Resolves when the peer no longer wants what is sent.
struct Stop(Pin<Box<dyn Future<Output = LinkError> + Send + Sync>>);

impl fmt::Debug for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stop")
    }
}

impl Sending {
    pub(crate) fn new(stream: quinn::SendStream) -> Self {
        Self { stream, is_over: false, stop: None }
    }

    /// What it writes leaves before what other streams have.
    pub(crate) fn urgent(self) -> Self {
        // Fails only for a stream that is gone.
        let _ = self.stream.set_priority(1);
        self
    }

    pub(crate) async fn write(&mut self, bytes: Bytes) -> Result<(), LinkError> {
        self.write_all(&mut [bytes]).await
    }

    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize, LinkError>> {
        match Pin::new(&mut self.stream).poll_write(cx, bytes) {
            Poll::Ready(written) => Poll::Ready(written.map_err(write_error)),
            Poll::Pending => self.poll_stop(cx).map(Err),
        }
    }

    /// Ready if the peer has stopped this direction, even one that is finished, or if the link is gone.
    pub(crate) fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<LinkError> {
        match ready!(pin!(self.stream.stopped()).poll(cx)) {
            Ok(Some(code)) => Poll::Ready(stream_error(code)),
            // All of it has arrived, and nobody can stop it any more.
            Ok(None) => Poll::Pending,
            Err(_) => Poll::Ready(LinkError::Cancelled),
        }
    }

    /// Ends this direction properly.
    pub(crate) fn finish(&mut self) {
        if !self.is_over {
            self.is_over = true;
            // Fails only if the stream was stopped meanwhile, which is as good.
            let _ = self.stream.finish();
        }
    }

    /// Sends what `head` holds, then all of `body`, then the end. Pieces that are there together leave
    /// together; a body that fails leaves no end. Of a response, what came before the failure arrives all the
    /// same.
    pub(crate) async fn message<B>(
        &mut self,
        role: Role,
        head: BytesMut,
        body: B,
    ) -> Result<(), LinkError>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        let mut buffer = head;
        let mut body = pin!(body);
        loop {
            let ready = std::future::poll_fn(|cx| Poll::Ready(poll_frame(body.as_mut(), cx)));
            let frame = match ready.await {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    self.flush(&mut buffer).await?;
                    self.next_frame(body.as_mut()).await?
                }
            };
            match frame {
                None => break,
                Some(Ok(frame)) => self.frame(frame, &mut buffer).await?,
                Some(Err(error)) => {
                    match role {
                        Role::Request | Role::Control => self.reset(code::INCOMPLETE),
                        Role::Response => self.cut_off(buffer).await?,
                    }
                    return Err(LinkError::Body(error));
                }
            }
            if body.is_end_stream() {
                break;
            }
        }
        self.flush(&mut buffer).await?;
        self.finish();
        Ok(())
    }

    /// Resolves when the peer no longer wants what is sent.
    pub(crate) fn stopped(&self) -> impl Future<Output = LinkError> + Send + Sync + 'static {
        let stopped = self.stream.stopped();
        async move {
            match stopped.await {
                Ok(Some(code)) => stream_error(code),
                Err(quinn::StoppedError::ConnectionLost(error)) => error.into(),
                Ok(None) | Err(quinn::StoppedError::ZeroRttRejected) => LinkError::Cancelled,
            }
        }
    }

    /// Tells the peer that the request was not begun.
    pub(crate) fn reject(mut self) {
        self.reset(code::NOT_DELIVERED);
    }

    async fn next_frame<B>(
        &mut self,
        mut body: Pin<&mut B>,
    ) -> Result<Option<Result<BodyFrame<Bytes>, BoxError>>, LinkError>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        tokio::select! {
            biased;
            frame = std::future::poll_fn(|cx| poll_frame(body.as_mut(), cx)) => Ok(frame),
            error = self.stopped() => {
                self.is_over = true;
                Err(error)
            }
        }
    }

    async fn frame(
        &mut self,
        frame: BodyFrame<Bytes>,
        buffer: &mut BytesMut,
    ) -> Result<(), LinkError> {
        let frame = match frame.into_data() {
            Ok(data) if data.is_empty() => return Ok(()),
            Ok(data) if data.len() <= COPY => {
                frame::encode_header(Kind::Data, data.len(), buffer);
                buffer.put(data);
                return if buffer.len() < FLUSH { Ok(()) } else { self.flush(buffer).await };
            }
            Ok(data) => {
                frame::encode_header(Kind::Data, data.len(), buffer);
                let mut chunks = [buffer.split().freeze(), data];
                return self.write_all(&mut chunks).await;
            }
            Err(frame) => frame,
        };
        if let Ok(trailers) = frame.into_trailers() {
            head::encode_trailers(&trailers, buffer);
        }
        Ok(())
    }

    /// Sends what is left, and ends in the middle of a frame. A reset would say the same, but takes away what
    /// has not been read yet, and a client should see the status of an answer that breaks off.
    async fn cut_off(&mut self, mut buffer: BytesMut) -> Result<(), LinkError> {
        frame::encode_header(Kind::Data, 1, &mut buffer);
        self.flush(&mut buffer).await?;
        self.finish();
        Ok(())
    }

    async fn flush(&mut self, buffer: &mut BytesMut) -> Result<(), LinkError> {
        if buffer.is_empty() {
            return Ok(());
        }
        self.write(buffer.split().freeze()).await
    }

    async fn write_all(&mut self, mut chunks: &mut [Bytes]) -> Result<(), LinkError> {
        while !chunks.is_empty() {
            let written = std::future::poll_fn(|cx| self.poll_chunks(cx, chunks)).await?;
            chunks = &mut chunks[written..];
        }
        Ok(())
    }

    /// Writes as much as there is room for; returns how many of `chunks` have left whole.
    fn poll_chunks(
        &mut self,
        cx: &mut Context<'_>,
        chunks: &mut [Bytes],
    ) -> Poll<Result<usize, LinkError>> {
        // The future holds nothing but the borrow, so it may be made anew for each poll.
        let written = pin!(self.stream.write_chunks(chunks)).poll(cx);
        match written {
            Poll::Ready(written) => {
                Poll::Ready(written.map(|written| written.chunks).map_err(write_error))
            }
            Poll::Pending => self.poll_stop(cx).map(Err),
        }
    }

    fn poll_stop(&mut self, cx: &mut Context<'_>) -> Poll<LinkError> {
        if self.stop.is_none() {
            self.stop = Some(Stop(Box::pin(self.stopped())));
        }
        let Some(Stop(stop)) = &mut self.stop else { return Poll::Pending };
        let error = ready!(stop.as_mut().poll(cx));
        self.stop = None;
        Poll::Ready(error)
    }

    fn reset(&mut self, code: quinn::VarInt) {
        if !self.is_over {
            self.is_over = true;
            // Fails only if the stream has ended meanwhile, which is as good.
            let _ = self.stream.reset(code);
        }
    }
}

fn write_error(error: quinn::WriteError) -> LinkError {
    match error {
        quinn::WriteError::Stopped(code) => stream_error(code),
        quinn::WriteError::ConnectionLost(error) => error.into(),
        error => LinkError::Broken(error.into()),
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.reset(code::CANCELLED);
    }
}

fn poll_frame<B>(
    body: Pin<&mut B>,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<BodyFrame<Bytes>, BoxError>>>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    body.poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(Into::into)))
}
