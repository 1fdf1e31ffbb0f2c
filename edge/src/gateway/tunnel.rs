//! CONNECT and upgrades: once the origin has agreed, bytes flow both ways, each direction closed on its
//! own, until both have ended, the link breaks, or access is taken away. A client's HTTP/1.1 connection
//! then ends with a reset. An HTTP/2 stream ends like any other, because hyper gives no way to reset
//! it; what runs inside a tunnel, TLS or WebSocket, says its own goodbye and so notices that it is
//! missing.

use std::{io, time::Instant};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderValue, Method, Response, StatusCode, header, request::Parts};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use link::{LinkError, Opened, Upgraded};
use protocol::{head::Protocol, refusal::Code};
use tokio_util::io::InspectReader;

use crate::{
    gateway::{
        Gateway, Refused,
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
    let mut tries = Tries::default();
    loop {
        let in_flight = match tries.next(&exchange).await {
            Ok(in_flight) => in_flight,
            Err(refusal) => return Err((refusal, exchange.account)),
        };
        let sent_at = Instant::now();
        let opened = tokio::select! {
            biased;
            opened = in_flight.link().session.open(&exchange.head) => opened,
            () = exchange.live.cut() => return Err((Code::AccessRevoked.into(), exchange.account)),
            late = exchange.late() => return Err((late, exchange.account)),
        };
        match opened {
            Ok(Opened::Response(response)) => {
                return Ok(exchange.answer(response, in_flight, sent_at));
            }
            Ok(Opened::Tunnel(response, origin)) => {
                let Exchange { upgrade, live, client, mut account, clock, .. } = *exchange;
                let mut response = response.map(|()| Answer::Whole(None));
                let headers = response.headers_mut();
                account.outcome = finish(headers, clock, sent_at, &account);
                switch(&mut response, protocol, is_extended);
                let tunnel = Tunnel { origin, upgrade, live, client, in_flight, account };
                gateway.tasks.spawn(tunnel.run());
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
    *response.version_mut() = http::Version::HTTP_11;
    match protocol {
        Some(_) if is_extended => {
            *response.version_mut() = http::Version::HTTP_2;
            *response.status_mut() = StatusCode::OK;
            response.headers_mut().remove(header::SEC_WEBSOCKET_ACCEPT);
        }
        Some(protocol) => {
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            let headers = response.headers_mut();
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::UPGRADE, protocol);
        }
        None => {
            *response.status_mut() = StatusCode::OK;
            // A 2xx to CONNECT has neither (RFC 9110 §9.3.6).
            response.headers_mut().remove(header::CONTENT_LENGTH);
        }
    }
}

/// Bytes both ways, and all that must live as long.
struct Tunnel {
    origin: Upgraded,
    upgrade: OnUpgrade,
    live: Live,
    client: Client,
    in_flight: InFlight,
    account: Account,
}

impl Tunnel {
    async fn run(self) {
        let Self { origin, upgrade, live, client, in_flight, mut account } = self;
        let metrics = &account.core().metrics;
        let (up, down) = (metrics.bytes_up.clone(), metrics.bytes_down.clone());
        let copy = async {
            let stream = TokioIo::new(upgrade.await?);
            let mut stream = InspectReader::new(stream, |b: &[u8]| up.increment(b.len() as u64));
            let mut origin = InspectReader::new(origin, |b: &[u8]| down.increment(b.len() as u64));
            let both =
                tokio::io::copy_bidirectional_with_sizes(&mut stream, &mut origin, BUFFER, BUFFER);
            let broken = tokio::select! {
                copied = both => copied.err().map(|error| blame(&error)),
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

/// Which end broke a tunnel off. The connector resets a single stream when its origin does.
fn blame(error: &io::Error) -> Outcome {
    match error.get_ref().and_then(|cause| cause.downcast_ref()) {
        None => Outcome::ClientGone,
        Some(LinkError::Cancelled | LinkError::Incomplete) => Outcome::Refused(Code::OriginReset),
        Some(_) => Outcome::Refused(Code::LinkLost),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tunnel_that_breaks_is_blamed_on_the_end_that_broke_it() {
        let client = io::Error::from(io::ErrorKind::ConnectionReset);
        assert_eq!(blame(&client), Outcome::ClientGone);
        assert_eq!(blame(&LinkError::Cancelled.into()), Outcome::Refused(Code::OriginReset));
        assert_eq!(blame(&LinkError::TimedOut.into()), Outcome::Refused(Code::LinkLost));
    }
}
