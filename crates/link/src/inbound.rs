//! The connector's end of a link: it receives requests.

use std::{
    collections::VecDeque,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use http::{Method, Request, Response};
use http_body::Body as HttpBody;
use protocol::{
    abilities::Abilities,
    frame::Role,
    head::{self, Follows, Protocol},
    presence::Transport,
};
use tokio_rustls::client::TlsStream;

use crate::{
    body::Body,
    error::{BoxError, CloseReason, LinkError},
    http2,
    quic::{self, Message},
    upgrade,
    upgraded::Upgraded,
};

/// How long an edge may take to send a request's head, and then the short body of an upgrade. It sends each of
/// them whole, so only a broken path takes longer.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);

pub(crate) type Http2Connection =
    h2::server::Connection<http2::Corked<TlsStream<http2::Stream>>, Bytes>;

/// The requests of one link, at the connector. The link lives only while [`Inbound::accept`] is called.
pub struct Inbound {
    carrier: Carrier,
    /// Of the edge.
    abilities: Abilities,
}

enum Carrier {
    Quic(quinn::Connection),
    Http2 {
        connection: Box<Http2Connection>,
        pace: http2::Pace,
        /// Requests that came while the handshake was being finished.
        early: VecDeque<Stream>,
        is_closed: bool,
    },
}

/// A request that has begun to arrive.
pub struct Arrival {
    stream: Stream,
    abilities: Abilities,
}

enum Stream {
    // In a box, like an exchange: what becomes of it is moved several times.
    Quic(quic::Sending, Box<quic::Receiving>),
    Http2(Box<Request<h2::RecvStream>>, h2::server::SendResponse<Bytes>, http2::Pace),
}

/// A request, and the way to answer it.
pub struct Exchange {
    /// Its URI is absolute, or an authority for CONNECT. One that carries [`Protocol`] asks for an upgrade,
    /// and tells its method; its body is there, whole. The body of a CONNECT is empty.
    pub request: Request<Body>,
    /// The way to answer it.
    pub reply: Reply,
}

/// The way to answer one request. Dropped without an answer, it cancels the stream.
pub struct Reply {
    answer: Answer,
    abilities: Abilities,
}

enum Answer {
    // In a box, because most requests have none.
    Quic { sending: quic::Sending, tunnel: Option<Box<quic::Receiving>> },
    Http2 { respond: Responder, tunnel: Option<http2::Receiving>, pace: http2::Pace },
}

/// Resets the stream if it is dropped without an answer.
struct Responder {
    respond: h2::server::SendResponse<Bytes>,
    is_over: bool,
}

impl Drop for Responder {
    fn drop(&mut self) {
        if !self.is_over {
            self.respond.send_reset(h2::Reason::CANCEL);
        }
    }
}

impl Inbound {
    pub(crate) fn quic(connection: quinn::Connection) -> Self {
        Self { carrier: Carrier::Quic(connection), abilities: Abilities::default() }
    }

    pub(crate) fn http2(connection: Http2Connection, pace: http2::Pace) -> Self {
        let connection = Box::new(connection);
        let early = VecDeque::new();
        let carrier = Carrier::Http2 { connection, pace, early, is_closed: false };
        Self { carrier, abilities: Abilities::default() }
    }

    /// The edge has announced what it understands.
    pub(crate) fn set_abilities(&mut self, abilities: Abilities) {
        self.abilities = abilities;
    }

    /// How the link is carried.
    pub fn transport(&self) -> Transport {
        match &self.carrier {
            Carrier::Quic(_) => Transport::Quic,
            Carrier::Http2 { .. } => Transport::Http2,
        }
    }

    /// The next request; `None` when the link is over. Cancel-safe.
    pub async fn accept(&mut self) -> Option<Arrival> {
        match &mut self.carrier {
            Carrier::Quic(connection) => {
                let (sending, receiving) = connection.accept_bi().await.ok()?;
                let receiving = Box::new(quic::Receiving::new(receiving, Role::Request));
                let stream = Stream::Quic(quic::Sending::new(sending), receiving);
                Some(Arrival { stream, abilities: self.abilities })
            }
            Carrier::Http2 { is_closed: true, .. } => None,
            Carrier::Http2 { connection, pace, early, .. } => {
                let stream = match early.pop_front() {
                    Some(stream) => stream,
                    None => {
                        let (request, respond) = connection.accept().await?.ok()?;
                        Stream::Http2(Box::new(request), respond, pace.clone())
                    }
                };
                Some(Arrival { stream, abilities: self.abilities })
            }
        }
    }

    /// Ends the link at once, with all that is under way on it.
    pub fn close(&mut self, reason: CloseReason) {
        match &mut self.carrier {
            Carrier::Quic(connection) => quic::close(connection, reason),
            Carrier::Http2 { connection, is_closed, .. } => {
                connection.abrupt_shutdown(h2::Reason::CANCEL);
                // Says so, if there is room to; nobody moves the connection any more.
                let _ = connection.poll_closed(&mut Context::from_waker(Waker::noop()));
                *is_closed = true;
            }
        }
    }

    /// Runs `future` while the connection below it is being moved.
    pub(crate) async fn drive<F: Future>(&mut self, future: F) -> F::Output {
        let mut future = std::pin::pin!(future);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(output);
            }
            self.poll_early(cx);
            future.as_mut().poll(cx)
        })
        .await
    }

    fn poll_early(&mut self, cx: &mut Context<'_>) {
        let Carrier::Http2 { connection, pace, early, .. } = &mut self.carrier else { return };
        while let Poll::Ready(Some(Ok((request, respond)))) = connection.poll_accept(cx) {
            early.push_back(Stream::Http2(Box::new(request), respond, pace.clone()));
        }
    }
}

impl Arrival {
    /// Reads the request's head, for ten seconds at most. To be called in the request's own task, so
    /// that one slow stream delays no other.
    ///
    /// # Errors
    /// When the edge gives up, or breaks the protocol.
    pub async fn exchange(self) -> Result<Box<Exchange>, LinkError> {
        let abilities = self.abilities;
        let (request, answer) = match self.stream {
            Stream::Quic(sending, mut receiving) => {
                // It is there already, or about to be: most need no timer.
                let message = match receiving.message().now_or_never() {
                    Some(message) => message?,
                    None => in_time(receiving.message()).await?,
                };
                let Message::Request(mut request, follows) = message else {
                    return Err(LinkError::Unexpected("no request"));
                };
                if leaves_http(&request) {
                    let length = upgrade::take_body_length(request.headers_mut())?;
                    let body = in_time(receiving.read_raw(length)).await?;
                    let request = request.map(|()| Body::whole(body));
                    (request, Answer::Quic { sending, tunnel: Some(receiving) })
                } else {
                    let body = receiving.into_body(follows);
                    (request.map(|()| body), Answer::Quic { sending, tunnel: None })
                }
            }
            Stream::Http2(request, respond, pace) => {
                let respond = Responder { respond, is_over: false };
                let (mut request, leaves_http) = http2::restore(*request)?;
                if leaves_http {
                    let length = upgrade::take_body_length(request.headers_mut())?;
                    let (parts, stream) = request.into_parts();
                    let mut receiving = http2::Receiving::new(stream);
                    let body = in_time(receiving.read_raw(length)).await?;
                    let request = Request::from_parts(parts, Body::whole(body));
                    (request, Answer::Http2 { respond, tunnel: Some(receiving), pace })
                } else {
                    (request.map(http2::into_body), Answer::Http2 { respond, tunnel: None, pace })
                }
            }
        };
        Ok(Box::new(Exchange { request, reply: Reply { answer, abilities } }))
    }

    /// Tells the edge that the request was not begun.
    pub fn reject(self) {
        match self.stream {
            Stream::Quic(sending, receiving) => {
                sending.reject();
                receiving.reject();
            }
            Stream::Http2(_, mut respond, _) => respond.send_reset(h2::Reason::REFUSED_STREAM),
        }
    }
}

impl Reply {
    /// What the edge understands. Nothing else may be sent to it.
    pub fn abilities(&self) -> Abilities {
        self.abilities
    }

    /// Sends a 1xx response other than 101.
    ///
    /// # Errors
    /// When the edge has given up on the request.
    pub async fn inform(&mut self, response: Response<()>) -> Result<(), LinkError> {
        match &mut self.answer {
            Answer::Quic { sending, .. } => {
                let mut bytes = BytesMut::new();
                head::encode_response(&response, Follows::More, &mut bytes);
                sending.write(bytes.freeze()).await
            }
            Answer::Http2 { respond, .. } => {
                respond.respond.send_informational(response).map_err(http2::stream_error)
            }
        }
    }

    /// Sends the final response: head, body, trailers. Returns when all of it is handed to the
    /// transport.
    ///
    /// # Errors
    /// When the edge gives up on it, or when the body fails; the edge then sees the message break off.
    pub async fn send<B>(self, response: Response<B>) -> Result<(), LinkError>
    where
        B: HttpBody<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        let (parts, body) = response.into_parts();
        let response = Response::from_parts(parts, ());
        let is_complete = body.is_end_stream();
        match self.answer {
            Answer::Quic { mut sending, .. } => {
                let mut head = quic::buffer(&body);
                if is_complete {
                    head::encode_response(&response, Follows::Nothing, &mut head);
                    sending.write(head.freeze()).await?;
                    sending.finish();
                    return Ok(());
                }
                head::encode_response(&response, Follows::More, &mut head);
                sending.message(Role::Response, head, body).await
            }
            Answer::Http2 { mut respond, pace, .. } => {
                respond.is_over = true;
                let stream = respond.respond.send_response(response, is_complete);
                let stream = stream.map_err(http2::stream_error)?;
                if is_complete {
                    return Ok(());
                }
                http2::Sending::new(stream, pace).body(Role::Response, body).await
            }
        }
    }

    /// Leaves HTTP: 2xx to a CONNECT, 101 to an upgrade. The 101 carries [`Protocol`], the origin's choice.
    /// Neither head tells of content.
    ///
    /// # Errors
    /// When the request asked for neither, or the edge has given up on it.
    pub async fn tunnel(self, mut response: Response<()>) -> Result<Upgraded, LinkError> {
        const NOT_ASKED: LinkError = LinkError::Unexpected("a tunnel that nobody asked for");
        match self.answer {
            Answer::Quic { mut sending, tunnel } => {
                let receiving = tunnel.ok_or(NOT_ASKED)?;
                upgrade::put_choice(&mut response);
                let mut bytes = BytesMut::new();
                head::encode_response(&response, Follows::More, &mut bytes);
                sending.write(bytes.freeze()).await?;
                Ok(Upgraded::quic(sending, receiving))
            }
            Answer::Http2 { mut respond, tunnel, pace } => {
                let receiving = tunnel.ok_or(NOT_ASKED)?;
                respond.is_over = true;
                let sending = respond.respond.send_response(http2::leave_http(response), false);
                let sending = http2::Sending::new(sending.map_err(http2::stream_error)?, pace);
                Ok(Upgraded::http2(sending, receiving))
            }
        }
    }

    /// Tells the edge that the request was not begun.
    pub fn reject(self) {
        match self.answer {
            Answer::Quic { sending, tunnel } => {
                sending.reject();
                if let Some(receiving) = tunnel {
                    receiving.reject();
                }
            }
            Answer::Http2 { mut respond, .. } => {
                respond.is_over = true;
                respond.respond.send_reset(h2::Reason::REFUSED_STREAM);
            }
        }
    }

    /// Resolves when the edge has given up on the request. Cancel-safe.
    pub async fn cancelled(&mut self) {
        match &mut self.answer {
            Answer::Quic { sending, .. } => {
                sending.stopped().await;
            }
            Answer::Http2 { respond, .. } => {
                // An error is a connection that is gone, which is the same.
                let _ = std::future::poll_fn(|cx| respond.respond.poll_reset(cx)).await;
            }
        }
    }
}

async fn in_time<T>(what: impl Future<Output = Result<T, LinkError>>) -> Result<T, LinkError> {
    tokio::time::timeout(HEAD_DEADLINE, what).await.unwrap_or(Err(LinkError::TimedOut))
}

fn leaves_http(request: &Request<()>) -> bool {
    request.method() == Method::CONNECT || request.extensions().get::<Protocol>().is_some()
}
