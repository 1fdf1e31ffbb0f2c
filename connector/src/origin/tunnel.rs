//! Requests that leave HTTP: CONNECT and Upgrade. Afterwards bytes go both ways, each direction closed
//! on its own, and an end that breaks off breaks the other off, too.

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body;
use hyper_util::rt::TokioIo;
use link::{Exchange, Upgraded};
use protocol::{fields, head::Protocol, refusal::Refusal};
use tokio::{
    io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes},
    net::TcpStream,
};

use super::{Answer, Interim, Origin, add_phases, connect::Destination, refuse};
use crate::metrics::Outcome;

/// Bytes that may be under way in each direction of a tunnel, besides what the sockets hold.
const BUFFER: usize = 32 * 1024;

impl Origin {
    pub(super) async fn connect(&self, exchange: Exchange) -> Outcome {
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
        let outcome = self.relay(edge, &mut origin).await;
        if outcome == Outcome::BrokenOff {
            reset(&origin);
        }
        outcome
    }

    pub(super) async fn upgrade(&self, exchange: Exchange) -> Outcome {
        let Exchange { request, mut reply } = exchange;
        let answer = tokio::select! {
            answer = self.ask_to_upgrade(request) => answer,
            () = reply.cancelled() => return Outcome::Cancelled,
        };
        let Answer { mut response, phases, lent } = match answer {
            Ok(answer) => answer,
            Err(refusal) => return refuse(refusal, reply).await,
        };
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return self.respond(Answer { response, phases, lent }, reply).await;
        }
        self.meter.phases(&phases);
        let Ok(origin) = hyper::upgrade::on(&mut response).await else {
            return Outcome::BrokenOff;
        };
        let mut head = response.map(|_| ());
        let choice = fields::join(head.headers_mut(), &header::UPGRADE, b", ");
        fields::strip(head.headers_mut());
        if let Some(choice) = choice {
            head.extensions_mut().insert(Protocol(choice));
        }
        add_phases(&mut head, &phases);
        let Ok(edge) = reply.tunnel(head).await else { return Outcome::Cancelled };
        self.relay(edge, &mut TokioIo::new(origin)).await
    }

    async fn ask_to_upgrade(&self, mut request: Request<link::Body>) -> Result<Answer, Refusal> {
        let protocol = request.extensions_mut().remove::<Protocol>();
        self.send(self.prepare(request, protocol, Interim::default())?).await
    }

    async fn relay<O>(&self, mut edge: Upgraded, origin: &mut O) -> Outcome
    where
        O: AsyncRead + AsyncWrite + Unpin,
    {
        let relayed = copy_bidirectional_with_sizes(&mut edge, origin, BUFFER, BUFFER).await;
        let Ok((up, down)) = relayed else { return Outcome::BrokenOff };
        self.meter.request_bytes.increment(up);
        self.meter.response_bytes.increment(down);
        Outcome::Answered
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

/// Lets the origin see that the other end broke off: without this, it would be a clean end.
fn reset(origin: &TcpStream) {
    // A socket that is gone already needs no reset.
    let _ = origin.set_zero_linger();
}
