//! CONNECT and upgrades: once the origin has agreed, bytes flow both ways, each direction closed on its
//! own, until both have ended, the link breaks, or access is taken away. A client's HTTP/1.1 connection
//! then ends with a reset. An HTTP/2 stream ends like any other, because hyper gives no way to reset
//! it; what runs inside a tunnel, TLS or WebSocket, says its own goodbye and so notices that it is
//! missing.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use link::{
    LinkError, MAX_UPGRADE_BODY, Opened,
    relay::{Break, End, Limits, Way, relay},
};
use protocol::{
    framing,
    head::Protocol,
    refusal::{Code, Refusal},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::timeout,
};

use crate::{
    gateway::{
        Gateway, Refused, Terms,
        answer::{Account, Answer},
        client::Client,
        exchange::{Exchange, Tries, finish},
    },
    metrics::Outcome,
    registry::InFlight,
    streams::Live,
};

/// What is copied at once, in bytes, each way: TLS records have 16 KiB.
const BUFFER: usize = 16 * 1024;
/// A request that asks for an upgrade has a short body, if any, which is there at once.
const BODY_WITHIN: Duration = Duration::from_secs(30);

/// Opens a tunnel to the head's authority, or an upgrade to `protocol`.
pub(crate) async fn open(
    gateway: &Gateway,
    mut exchange: Box<Exchange>,
    protocol: Option<HeaderValue>,
) -> Result<Response<Answer>, Refused> {
    let head = &mut exchange.head;
    let is_extended = protocol.is_some() && head.method == Method::CONNECT;
    if is_extended {
        make_http1_handshake(head);
    }
    if let Some(protocol) = protocol.clone() {
        head.extensions.insert(Protocol(protocol));
    }
    // Connectors take an upgrade by GET without a body; newer ones take any.
    let needs_any_upgrade =
        protocol.is_some() && (exchange.head.method != Method::GET || !exchange.source.is_empty());
    let mut body = None;
    let mut tries = Tries::default();
    loop {
        let in_flight = match tries.next(&exchange, false).await {
            Ok(in_flight) => in_flight,
            Err(refusal) => return Err((refusal, exchange.account)),
        };
        if needs_any_upgrade && body.is_none() && !in_flight.link().session.abilities().any_upgrade
        {
            // An older connector: HTTP lets a proxy pass the request on without the offer (RFC 9110 §7.8).
            exchange.head.extensions.remove::<Protocol>();
            drop(in_flight);
            return exchange.send().await;
        }
        let body = match &body {
            Some(body) => Bytes::clone(body),
            None => match read_body(&mut exchange).await {
                Ok(read) => body.insert(read).clone(),
                Err(refusal) => return Err((refusal, exchange.account)),
            },
        };
        // A link would take a length for that of the tunnel.
        framing::drop_content(&mut exchange.head.headers);
        let sent_at = Instant::now();
        let opened = tokio::select! {
            biased;
            opened = in_flight.link().session.open(&exchange.head, body) => opened,
            () = exchange.live.cut() => return Err((Code::AccessRevoked.into(), exchange.account)),
            late = exchange.late() => return Err((late, exchange.account)),
        };
        match opened {
            Ok(Opened::Response(response)) => {
                return Ok(exchange.answer(response, in_flight, sent_at));
            }
            Ok(Opened::Tunnel(response, origin)) => {
                let Exchange { upgrade, live, client, mut account, clock, .. } = *exchange;
                in_flight.link().answers();
                let mut response = response.map(|()| Answer::Whole(None));
                let headers = response.headers_mut();
                finish(headers, clock, sent_at, &mut account);
                switch(&mut response, protocol, is_extended);
                let tunnel = Tunnel { origin, upgrade, live, client, in_flight, account };
                let Terms { tunnel_idle, tunnel_unread_end, .. } = gateway.terms;
                gateway.tasks.spawn(tunnel.run(tunnel_idle, tunnel_unread_end));
                return Ok(response);
            }
            Err(error) => {
                tries.failed(&in_flight, &error, true, false);
                if tries.is_over() {
                    return Err((tries.refusal(), exchange.account));
                }
                exchange.account.core().metrics.retries.increment(1);
            }
        }
    }
}

/// All of the body of a request that asks for an upgrade: the connector must have it before the tunnel's bytes.
async fn read_body(exchange: &mut Exchange) -> Result<Bytes, Refusal> {
    if exchange.source.is_empty() {
        return Ok(Bytes::new());
    }
    let body = exchange.source.lend(0);
    let read = tokio::select! {
        biased;
        read = timeout(BODY_WITHIN, Limited::new(body, MAX_UPGRADE_BODY).collect()) => read,
        () = exchange.live.cut() => return Err(Code::AccessRevoked.into()),
    };
    match read {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let detail = format!(
                "a request that asks for an upgrade may have a body of {MAX_UPGRADE_BODY} bytes"
            );
            Err(Refusal::new(Code::BodyTooLarge, detail))
        }
        Ok(Err(_)) => Err(Refusal::new(Code::BadRequest, "the request's body broke off")),
        Err(_) => {
            let seconds = BODY_WITHIN.as_secs();
            let detail = format!("the body of an upgrade did not come within {seconds} s");
            Err(Refusal::new(Code::BadRequest, detail))
        }
    }
}

/// HTTP/2 asks for a WebSocket with an extended CONNECT (RFC 8441); origins speak HTTP/1.1, where the
/// same is a GET with a key.
fn make_http1_handshake(head: &mut Parts) {
    head.method = Method::GET;
    let key = STANDARD.encode(rand::random::<[u8; 16]>());
    let key = HeaderValue::try_from(key).expect("base64 is visible ASCII");
    head.headers.entry(header::SEC_WEBSOCKET_KEY).or_insert(key);
}

/// Says "switched" in the client's own version of HTTP.
fn switch(response: &mut Response<Answer>, protocol: Option<HeaderValue>, is_extended: bool) {
    // Bytes follow, and no content (RFC 9110 §9.3.6, §15.2.2).
    framing::drop_content(response.headers_mut());
    *response.version_mut() = http::Version::HTTP_11;
    match protocol {
        Some(_) if is_extended => {
            *response.version_mut() = http::Version::HTTP_2;
            *response.status_mut() = StatusCode::OK;
            response.headers_mut().remove(header::SEC_WEBSOCKET_ACCEPT);
        }
        Some(offered) => {
            // The origin's choice; an older connector does not tell it.
            let chosen = response.extensions_mut().remove::<Protocol>();
            let protocol = chosen.map_or(offered, |Protocol(chosen)| chosen);
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            let headers = response.headers_mut();
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::UPGRADE, protocol);
        }
        None => *response.status_mut() = StatusCode::OK,
    }
}

/// Bytes both ways, and all that must live as long.
struct Tunnel {
    origin: link::Upgraded,
    upgrade: OnUpgrade,
    live: Live,
    client: Client,
    in_flight: InFlight,
    account: Account,
}

impl Tunnel {
    async fn run(self, idle: Duration, unread_end: Duration) {
        let Self { mut origin, upgrade, live, client, in_flight, mut account } = self;
        let metrics = &account.core().metrics;
        let (up, down) = (metrics.bytes_up.clone(), metrics.bytes_down.clone());
        let counters = account.counters().cloned();
        live.stream().moves();
        let moved = |way, bytes| {
            if bytes > 0 {
                live.stream().moves();
            }
            match way {
                Way::Out => {
                    up.increment(bytes as u64);
                    counters.iter().for_each(|counters| counters.up(bytes as u64));
                }
                Way::Back => {
                    down.increment(bytes as u64);
                    counters.iter().for_each(|counters| counters.down(bytes as u64));
                }
            }
        };
        // How long a client that has closed its end may wait, is for the connector to say: there it is known
        // when the origin has got everything.
        let limits = Limits { idle, half_closed: idle, unread_end: unread_end.min(idle) };
        let copy = async {
            let mut end = ClientEnd { stream: TokioIo::new(upgrade.await?), client: &client };
            let broken = tokio::select! {
                relayed = relay(&mut end, &mut origin, BUFFER, limits, moved) => {
                    relayed.err().map(|broken| blame(&broken.by))
                }
                () = live.cut() => Some(Outcome::Refused(Code::AccessRevoked)),
            };
            if broken.is_some() {
                // Before the stream is dropped, so that it ends with a reset.
                client.break_off();
            }
            Ok::<_, hyper::Error>(broken)
        };
        match copy.await {
            Ok(None) => {}
            Ok(Some(outcome)) => account.outcome = outcome,
            Err(_) => account.outcome = Outcome::ClientGone,
        }
        drop(in_flight);
    }
}

/// The client's end of a tunnel.
struct ClientEnd<'a> {
    stream: TokioIo<Upgraded>,
    client: &'a Client,
}

impl End for ClientEnd<'_> {
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if self.client.connection().is_gone() {
            return Poll::Ready(io::ErrorKind::ConnectionReset.into());
        }
        // Over HTTP/2 this is how hyper tells of a stream that was reset.
        match Pin::new(&mut self.stream).poll_flush(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(error),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
        }
    }

    fn has_ended(&self) -> bool {
        // Over HTTP/2 the connection's end breaks all its streams.
        !self.client.is_http2() && self.client.connection().has_ended()
    }
}

impl AsyncRead for ClientEnd<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for ClientEnd<'_> {
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

/// Which end broke a tunnel off. The connector resets a single stream when its origin does.
fn blame(by: &Break) -> Outcome {
    match by {
        Break::Near(_) | Break::Idle => Outcome::ClientGone,
        Break::Far(error) => match error.get_ref().and_then(|cause| cause.downcast_ref()) {
            Some(LinkError::Cancelled | LinkError::Incomplete) => {
                Outcome::Refused(Code::OriginReset)
            }
            Some(_) | None => Outcome::Refused(Code::LinkLost),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tunnel_that_breaks_is_blamed_on_the_end_that_broke_it() {
        let client = io::Error::from(io::ErrorKind::ConnectionReset);
        assert_eq!(blame(&Break::Near(client)), Outcome::ClientGone);
        let by = |error: LinkError| blame(&Break::Far(error.into()));
        assert_eq!(by(LinkError::Cancelled), Outcome::Refused(Code::OriginReset));
        assert_eq!(by(LinkError::TimedOut), Outcome::Refused(Code::LinkLost));
    }
}
