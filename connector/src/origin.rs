//! The private server's side of a request: connect, send, stream the answer back.
//!
//! ```text
//!  Exchange ─┬─ CONNECT ──► TCP to the origin ───────────────► bytes both ways   (tunnel)
//!            ├─ upgrade ──► HTTP/1.1 upgrade ── 101 ─────────► bytes both ways   (tunnel)
//!            └─ request ──► pooled or new connection ─► head ► body, trailers    (here)
//! ```
//!
//! HTTP/1.1 is spoken, but for gRPC and for origins that a file says so of, which are spoken to over
//! HTTP/2 ([`settings`]). Nothing is held back or collected: bodies stream both ways at the speed of the
//! slower end. Whatever goes wrong becomes a [`Refusal`] that says whose fault it is. A request is sent a
//! second time only if a pooled connection turned out to be closed before any of it was written, or if an
//! HTTP/2 origin says that it has not begun with it ([`again`]).

mod again;
mod body;
mod connect;
mod failure;
mod http2;
mod interim;
mod pool;
pub(crate) mod settings;
mod tls;
mod tunnel;
mod whole;

use std::{sync::Arc, time::Duration};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header,
};
use http_body::Body as _;
use hyper::{body::Incoming, client::conn::TrySendError};
use link::{Exchange, LinkError, Reply};
use protocol::{
    fields,
    head::Protocol,
    phases::{Phase, Phases},
    refusal::{Code, Refusal},
};
use rustls::pki_types::CertificateDer;
use tokio::time::Instant;

use self::{
    again::{Again, Spare},
    body::{Metered, RequestEnd},
    connect::Connector,
    interim::Interim,
    pool::{Connection, Lent, Pool},
    settings::{Http2, Terms},
    whole::Whole,
};
pub(crate) use self::{connect::Destination, settings::Origins};
use crate::{
    files::InForce,
    metrics::{Meter, Outcome},
};

/// Longest silence between a request's last byte and its answer's first: a long poll ends sooner, and
/// what takes longer is not coming.
pub(crate) const RESPONSE_HEAD: Duration = Duration::from_secs(300);
/// Largest head of an origin's answer, in bytes, within what a head on the link may have.
const MAX_RESPONSE_HEAD: usize = 64 * 1024;

/// Most connections of others that one request may find closed before it dials one of its own.
const MAX_CLOSED: usize = 8;

/// The request's body on its way to the origin.
type RequestBody = Metered<Again<link::Body>>;

/// Serves exchanges from origins. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Origin {
    connector: Arc<Connector>,
    pool: Pool,
    meter: Arc<Meter>,
}

/// An origin's answer, with what it took.
struct Answer {
    response: Response<Incoming>,
    phases: Phases,
    /// To be given back once the response has been read.
    lent: Option<Lent>,
}

impl Origin {
    /// Trusts the public authorities and `authorities`, and obeys `files`.
    pub(crate) fn new(
        authorities: &[CertificateDer<'static>],
        files: InForce,
        meter: Arc<Meter>,
    ) -> Result<Self, rustls::Error> {
        let connector = Arc::new(Connector::new(authorities, files)?);
        Ok(Self { connector, pool: Pool::new(), meter })
    }

    /// The same with connections of its own, for another worker.
    pub(crate) fn apart(&self) -> Self {
        Self { connector: self.connector.clone(), pool: Pool::new(), meter: self.meter.clone() }
    }

    /// Serves one exchange to its end and counts what became of it.
    pub(crate) async fn serve(&self, exchange: Exchange) {
        let _in_flight = self.meter.enter();
        let Exchange { request, reply } = exchange;
        let outcome = if request.method() == Method::CONNECT {
            Box::pin(self.connect(request, reply)).await
        } else if request.extensions().get::<Protocol>().is_some() {
            Box::pin(self.upgrade(request, reply)).await
        } else {
            self.request(request, reply).await
        };
        self.meter.outcome(outcome);
    }

    async fn request(&self, request: Request<link::Body>, mut reply: Reply) -> Outcome {
        let interim = Interim::default();
        let answer = {
            // Boxed, like all that is large and not always there: what serves a request is moved.
            let mut answer = Box::pin(self.send(request, None, interim.clone()));
            loop {
                tokio::select! {
                    biased;
                    head = interim.next() => {
                        if reply.inform(head).await.is_err() {
                            return Outcome::Cancelled;
                        }
                    }
                    answer = &mut answer => break answer,
                    () = reply.cancelled() => return Outcome::Cancelled,
                }
            }
        };
        match answer {
            Ok(answer) => self.respond(answer, reply).await,
            Err(refusal) => Box::pin(refuse(refusal, reply)).await,
        }
    }

    /// Streams an origin's answer back.
    async fn respond(&self, answer: Answer, reply: Reply) -> Outcome {
        let Answer { mut response, phases, lent } = answer;
        fields::strip(response.headers_mut());
        add_phases(&mut response, &phases);
        self.meter.phases(&phases);
        let began = Instant::now();
        let body = |body| Metered::new(body, self.meter.response_bytes.clone());
        match reply.send(Whole::of(response).map(body)).await {
            Ok(()) => {
                self.meter.phase(Phase::Body, began.elapsed());
                if let Some(lent) = lent {
                    self.pool.give_back(lent).await;
                }
                Outcome::Answered
            }
            Err(LinkError::Body(_)) => Outcome::BrokenOff,
            Err(_) => Outcome::Cancelled,
        }
    }

    /// Sends a request, and waits for the head of the answer. With a `protocol`, asks the origin to
    /// upgrade to it.
    async fn send(
        &self,
        request: Request<link::Body>,
        protocol: Option<Protocol>,
        interim: Interim,
    ) -> Result<Answer, Refusal> {
        let (destination, mut request) = prepare(request)?;
        let settings = self.connector.settings(&destination);
        let pass = self.connector.guard.judge(&destination, &request, protocol.as_ref())?;
        if let Some(settings) = &settings {
            settings.credit(&destination, request.headers_mut());
        }
        let terms = Terms { settings, pass };
        let is_upgrade = protocol.is_some();
        let is_personal = speaks_for_connection(request.headers(), &header::AUTHORIZATION);
        // Neither an upgrade nor a proof of who is at the end of a connection goes over a shared one.
        let http2 = if is_upgrade || is_personal { Http2::Never } else { terms.http2() };
        let wants_http2 = http2 == Http2::Always || (http2 == Http2::Auto && is_grpc(&request));
        let (parts, body) = request.into_parts();
        let (body, back) = if wants_http2 {
            let (body, back) = Again::once(body);
            (body, Some(back))
        } else {
            (Again::never(body), None)
        };
        let (mut request, mut request_end) = self.metered(Request::from_parts(parts, body));
        if let Some(protocol) = protocol {
            tunnel::ask_for(&mut request, protocol);
        }
        hyper::ext::on_informational(&mut request, move |head| {
            let mut response = Response::new(());
            *response.status_mut() = head.status();
            *response.headers_mut() = head.headers().clone();
            fields::strip(response.headers_mut());
            interim.put(response);
        });
        let mut spare = back.map(|back| Box::new(Spare::new(&request, back)));
        let mut met_closed = 0;
        loop {
            let may_share = met_closed < MAX_CLOSED;
            let shared = (wants_http2 && may_share)
                .then(|| self.pool.share_of(&destination, &terms))
                .flatten();
            let resting = shared.map(Sender::Http2).or_else(|| {
                let may_be_http1 = !wants_http2 || http2 == Http2::Always;
                let taken =
                    (may_be_http1 && may_share).then(|| self.pool.take(&destination, &terms));
                taken.flatten().map(Sender::Http1)
            });
            let (mut sender, mut phases) = match resting {
                Some(sender) => (sender, Phases::default()),
                None if wants_http2 && may_share => {
                    Box::pin(self.call_first(&destination, &terms)).await?
                }
                None => Box::pin(self.dial(&destination, &terms, wants_http2)).await?,
            };
            let is_pooled = phases == Phases::default();
            sender.fit(&mut request, &destination)?;
            let began = Instant::now();
            let response = tokio::select! {
                biased;
                response = sender.send(request) => response,
                () = request_end.silence(RESPONSE_HEAD) => {
                    sender.leave(&self.pool, &destination);
                    return Err(failure::late(&destination, "the response", RESPONSE_HEAD));
                }
            };
            match response {
                Ok(response) if is_uninvited(&response, is_upgrade) => {
                    let detail =
                        format!("{}: a 101 that nobody asked for", destination.authority());
                    return Err(Refusal::new(Code::OriginGarbage, detail));
                }
                Ok(response) => {
                    let since = request_end.at().unwrap_or(began);
                    phases.set(Phase::FirstByte, since.elapsed().as_micros() as u64);
                    let headers = response.headers();
                    let may_return =
                        !is_personal && !speaks_for_connection(headers, &header::WWW_AUTHENTICATE);
                    let lent = match sender {
                        Sender::Http1(connection) if may_return => {
                            Some(Lent { destination, connection })
                        }
                        Sender::Http1(_) | Sender::Http2(_) => None,
                    };
                    return Ok(Answer { response, phases, lent });
                }
                Err(mut error) => match error.take_message() {
                    // It never left: the pooled connection was closed already.
                    Some(again) if is_pooled => {
                        met_closed += 1;
                        sender.leave(&self.pool, &destination);
                        request = again;
                    }
                    Some(_) | None => {
                        let refusal = failure::http(&destination, error.error());
                        let spare = spare.take().filter(|_| http2::is_untouched(error.error()));
                        let Some(spare) = spare else { return Err(refusal) };
                        let Some(again) = Box::pin(spare.request()).await else {
                            return Err(refusal);
                        };
                        sender.leave(&self.pool, &destination);
                        (request, request_end) = self.metered(again);
                    }
                },
            }
        }
    }

    fn metered(&self, request: Request<Again<link::Body>>) -> (Request<RequestBody>, RequestEnd) {
        let (parts, body) = request.into_parts();
        let (body, end) = Metered::with_end(body, self.meter.request_bytes.clone());
        (Request::from_parts(parts, body), end)
    }

    async fn dial(
        &self,
        destination: &Destination,
        terms: &Terms,
        wants_http2: bool,
    ) -> Result<(Sender, Phases), Refusal> {
        let connected = self.connector.connect(destination, terms, wants_http2).await?;
        let phases = connected.phases;
        let settings = terms.settings.clone();
        if connected.is_http2 {
            let sender = self.pool.speak_http2(destination, connected, settings).await?;
            return Ok((Sender::Http2(sender), phases));
        }
        // hyper takes 100 fields; a head on the link has room for some more.
        let (sender, connection) = hyper::client::conn::http1::Builder::new()
            .max_header_size(MAX_RESPONSE_HEAD)
            // What is read ahead of a reader that stalls; hyper would take six times as much, and
            // the allocator twice that for pieces just above this.
            .max_buf_size(MAX_RESPONSE_HEAD)
            .handshake(connected.stream)
            .await
            .map_err(|error| failure::http(destination, &error))?;
        self.pool.drive(connection.with_upgrades());
        Ok((Sender::Http1(Connection { sender, peer: connected.peer, settings }), phases))
    }
}

/// Who takes a request.
enum Sender {
    Http1(Connection),
    Http2(http2::Sender),
}

impl Sender {
    /// Gives the request the form that this version of HTTP wants; [`prepare`] made it one of HTTP/1.1.
    fn fit(
        &self,
        request: &mut Request<RequestBody>,
        destination: &Destination,
    ) -> Result<(), Refusal> {
        match self {
            Self::Http2(_) => http2::fit(request, destination),
            // Its HTTP/2 connection was gone, and the origin wants HTTP/1.1 now.
            Self::Http1(_) if request.version() == Version::HTTP_2 => {
                http2::unfit(request, destination)
            }
            Self::Http1(_) => Ok(()),
        }
    }

    async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, TrySendError<Request<RequestBody>>> {
        match self {
            Self::Http1(connection) => connection.sender.try_send_request(request).await,
            Self::Http2(sender) => sender.send(request).await,
        }
    }

    /// The connection has failed: nobody else is to use it.
    fn leave(&self, pool: &Pool, destination: &Destination) {
        if let Self::Http2(sender) = self {
            pool.abandon(destination, sender);
        }
    }
}

/// Where a request goes, and the request as the origin is to see it: in origin form, without what is
/// not the origin's business.
fn prepare(request: Request<link::Body>) -> Result<(Destination, Request<link::Body>), Refusal> {
    let destination = Destination::of(request.uri())?;
    let (mut parts, body) = request.into_parts();
    fields::strip(&mut parts.headers);
    let host = destination.authority();
    fields::set_host(&mut parts.headers, &host).map_err(|_| Code::BadTarget)?;
    let path = parts.uri.into_parts().path_and_query;
    parts.uri = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    parts.version = Version::HTTP_11;
    let length = content_length(&parts.headers)?;
    // Without a length, hyper would not send the body of a method that rarely has one.
    if !body.is_end_stream() && length.is_none() {
        let chunked = HeaderValue::from_static("chunked");
        parts.headers.insert(header::TRANSFER_ENCODING, chunked);
    }
    Ok((destination, Request::from_parts(parts, body)))
}

/// NTLM, and Negotiate as most servers take it, prove who is at the other end of the connection, once
/// and for all its requests (RFC 4559 §6). Such a connection is never used again: the next request on it
/// may be somebody else's.
fn speaks_for_connection(headers: &HeaderMap, name: &HeaderName) -> bool {
    let is_scheme = |text: &str| {
        let scheme = text.trim_start().split([' ', '\t']).next().unwrap_or_default();
        scheme.eq_ignore_ascii_case("ntlm") || scheme.eq_ignore_ascii_case("negotiate")
    };
    let values = headers.get_all(name).iter();
    values.filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(',')).any(is_scheme)
}

/// gRPC is HTTP/2 by definition, and always a POST.
fn is_grpc<B>(request: &Request<B>) -> bool {
    let is_grpc = |kind: &HeaderValue| kind.as_bytes().starts_with(b"application/grpc");
    request.method() == Method::POST
        && request.headers().get(header::CONTENT_TYPE).is_some_and(is_grpc)
}

fn is_uninvited<B>(response: &Response<B>, is_upgrade: bool) -> bool {
    response.status() == StatusCode::SWITCHING_PROTOCOLS && !is_upgrade
}

/// The length that a request declares. More than one, or one that is no number, could mean one thing
/// to us and another to the origin.
fn content_length(headers: &HeaderMap) -> Result<Option<u64>, Refusal> {
    let mut values = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let digits = value.to_str().ok().filter(|text| text.bytes().all(|c| c.is_ascii_digit()));
    match (digits.and_then(|digits| digits.parse().ok()), values.next()) {
        (Some(length), None) => Ok(Some(length)),
        (Some(_) | None, _) => {
            Err(Refusal::new(Code::BadRequest, "Content-Length is not one number"))
        }
    }
}

fn add_phases<B>(response: &mut Response<B>, phases: &Phases) {
    response.headers_mut().insert(fields::PHASES, phases.to_value());
}

async fn refuse(refusal: Refusal, reply: Reply) -> Outcome {
    let outcome = Outcome::Refused(refusal.code);
    tracing::debug!(code = refusal.code.as_str(), detail = refusal.detail, "request refused");
    match reply.send(failure::response(&refusal)).await {
        Ok(()) => outcome,
        Err(_) => Outcome::Cancelled,
    }
}
