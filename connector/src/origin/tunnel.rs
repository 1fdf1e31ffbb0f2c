//! Requests that leave HTTP: CONNECT and Upgrade. Afterwards bytes go both ways, each direction closed
//! on its own, and an end that breaks off breaks the other off, too.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body;
use hyper::upgrade::Parts;
use hyper_util::rt::TokioIo;
use link::{
    Exchange,
    relay::{self, Break, End, Way},
};
use protocol::{fields, head::Protocol, refusal::Refusal};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    Answer, Interim, Limits, Origin, add_phases,
    connect::{Destination, Io},
    recorder::Recorded,
    refuse,
    socket::Socket,
};
use crate::metrics::{Mark, Outcome};

/// The one protocol whose ends close one direction long before the other: the attached input of a command in a
/// container ends so, and its output may come minutes later.
const HALF_CLOSES: &[u8] = b"tcp";
/// Bytes that may be under way in each direction of a tunnel, besides what the sockets hold.
const BUFFER: usize = 32 * 1024;

impl Origin {
    pub(super) async fn connect(&self, exchange: Exchange, mark: &Mark) -> Outcome {
        let Exchange { request, mut reply } = exchange;
        let connected = async {
            let destination = Destination::of(request.uri())?;
            let pass = self.connector.guard.judge(&destination, &request, None)?;
            self.connector.tcp(&destination, &pass).await
        };
        let connected = tokio::select! {
            connected = connected => connected,
            () = reply.cancelled() => return Outcome::Cancelled,
        };
        let (mut origin, phases) = match connected {
            Ok(connected) => connected,
            Err(refusal) => return refuse(refusal, reply).await,
        };
        self.meter.phases(&phases);
        let mut response = Response::new(());
        add_phases(&mut response, &phases);
        let Ok(edge) = reply.tunnel(response).await else { return Outcome::Cancelled };
        origin.leave_http();
        self.relay(edge, origin, self.limits.half_closed, mark).await
    }

    pub(super) async fn upgrade(&self, exchange: Exchange, mark: &Mark) -> Outcome {
        let Exchange { request, mut reply } = exchange;
        let answer = tokio::select! {
            answer = self.ask_to_upgrade(request, mark) => answer,
            () = reply.cancelled() => return Outcome::Cancelled,
        };
        let Answer { mut response, phases, lent } = match answer {
            Ok(answer) => answer,
            Err(refusal) => return refuse(refusal, reply).await,
        };
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return self.respond(Answer { response, phases, lent }, reply, mark).await;
        }
        self.meter.phases(&phases);
        let Ok(upgraded) = hyper::upgrade::on(&mut response).await else {
            return Outcome::BrokenOff;
        };
        let Ok(Parts { io, read_buf, .. }) = upgraded.downcast::<TokioIo<Recorded<Box<dyn Io>>>>()
        else {
            unreachable!("every connection to an origin is made of one")
        };
        // hyper has let go of the connection.
        drop(lent);
        let mut origin = Upgraded { ahead: read_buf, stream: io.into_inner().into_inner() };
        origin.socket().leave_http();
        let mut head = response.map(|_| ());
        let choice = fields::join(head.headers_mut(), &header::UPGRADE, b", ");
        fields::strip(head.headers_mut());
        let may_half_close = choice.as_ref().is_some_and(|choice| choice.as_bytes() == HALF_CLOSES);
        if let Some(choice) = choice {
            head.extensions_mut().insert(Protocol(choice));
        }
        add_phases(&mut head, &phases);
        let Ok(edge) = reply.tunnel(head).await else { return Outcome::Cancelled };
        let Limits { tunnel, half_closed, .. } = self.limits;
        let half_closed = if may_half_close { tunnel } else { half_closed };
        self.relay(edge, origin, half_closed, mark).await
    }

    async fn ask_to_upgrade(
        &self,
        mut request: Request<link::Body>,
        mark: &Mark,
    ) -> Result<Answer, Refusal> {
        let protocol = request.extensions_mut().remove::<Protocol>();
        self.send(self.prepare(request, protocol, Interim::default(), mark)?).await
    }

    async fn relay(
        &self,
        mut edge: link::Upgraded,
        mut origin: impl Io + End,
        half_closed: Duration,
        mark: &Mark,
    ) -> Outcome {
        let limits =
            relay::Limits { idle: self.limits.tunnel, half_closed, unread_end: half_closed };
        mark.moves();
        let moved = |way, bytes| {
            if bytes > 0 {
                mark.moves();
            }
            match way {
                Way::Out => self.meter.request_bytes.increment(bytes as u64),
                Way::Back => self.meter.response_bytes.increment(bytes as u64),
            }
        };
        let Err(broken) = relay::relay(&mut edge, &mut origin, BUFFER, limits, moved).await else {
            return Outcome::Answered;
        };
        // An origin that has got everything, and its end, keeps what it has not read yet. If it answers, it
        // hears that nobody is there.
        if !broken.is_out_whole {
            origin.socket().reset();
        }
        match broken.by {
            Break::Near(_) | Break::Far(_) => Outcome::BrokenOff,
            Break::Idle => Outcome::Cancelled,
        }
    }
}

/// An origin's connection that has left HTTP, with what came behind the head.
struct Upgraded {
    ahead: Bytes,
    stream: Box<dyn Io>,
}

impl Io for Upgraded {
    fn socket(&mut self) -> &mut Socket {
        self.stream.socket()
    }
}

impl End for Upgraded {
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.socket().poll_gone(cx)
    }
}

impl AsyncRead for Upgraded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let length = self.ahead.len().min(buffer.remaining());
        buffer.put_slice(&self.ahead.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Upgraded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Adds what asks an HTTP/1.1 origin to leave HTTP.
pub(super) fn ask_for<B: Body>(request: &mut Request<B>, protocol: Protocol) {
    // What the client said of its content did not come over the link (RFC 9110 §8.6).
    let has_content = matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH);
    let length = request.body().size_hint().exact().filter(|length| has_content || *length > 0);
    let headers = request.headers_mut();
    let options = if headers.contains_key(header::TE) { "upgrade, te" } else { "upgrade" };
    headers.insert(header::CONNECTION, HeaderValue::from_static(options));
    headers.insert(header::UPGRADE, protocol.0);
    if let Some(length) = length {
        headers.remove(header::TRANSFER_ENCODING);
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
}
