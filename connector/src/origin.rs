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

use futures_util::future::Either;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header,
};
use http_body::Body as _;
use hyper::{body::Incoming, client::conn::TrySendError};
use link::{Exchange, LinkError, Reply, boxed};
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

/// Longest silence between a request's last byte and its answer's first, unless the origins' file says another
/// for this origin: a long poll ends sooner, and what takes longer is not coming.
const RESPONSE_HEAD: Duration = Duration::from_secs(300);
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

/// A request on its way to its origin, and all that this goes by.
struct Call {
    destination: Destination,
    terms: Terms,
    /// Not here while it is under way.
    request: Option<Request<RequestBody>>,
    request_end: RequestEnd,
    /// In a box, because most requests have none.
    spare: Option<Box<Spare<link::Body>>>,
    http2: Http2,
    wants_http2: bool,
    is_upgrade: bool,
    /// Proves who is at the end of the connection.
    is_personal: bool,
    /// Connections that turned out to be closed.
    met_closed: usize,
}

impl Call {
    /// May it go over a connection that others have used?
    fn may_share(&self) -> bool {
        self.met_closed < MAX_CLOSED
    }
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
    ///
    /// What takes much room and is not needed from first to last has a box of its own: many requests are under
    /// way together, and the less of a request's memory is touched, the more of them a core has at hand.
    pub(crate) async fn serve(&self, exchange: Box<Exchange>) {
        let _in_flight = self.meter.enter();
        let outcome = if exchange.request.method() == Method::CONNECT {
            boxed(|| self.connect(*exchange)).await
        } else if exchange.request.extensions().get::<Protocol>().is_some() {
            boxed(|| self.upgrade(*exchange)).await
        } else {
            self.request(exchange).await
        };
        self.meter.outcome(outcome);
    }

    async fn request(&self, exchange: Box<Exchange>) -> Outcome {
        let Exchange { request, mut reply } = *exchange;
        let interim = Interim::default();
        let answer = match self.prepare(request, None, interim.clone()) {
            Err(refusal) => Err(refusal),
            Ok(call) => {
                let mut answer = boxed(|| self.send(call));
                loop {
                    tokio::select! {
                        biased;
                        head = interim.next() => {
                            if boxed(|| reply.inform(head)).await.is_err() {
                                return Outcome::Cancelled;
                            }
                        }
                        answer = &mut answer => break answer,
                        () = reply.cancelled() => return Outcome::Cancelled,
                    }
                }
            }
        };
        match answer {
            Ok(answer) => boxed(|| self.respond(answer, reply)).await,
            Err(refusal) => boxed(|| refuse(refusal, reply)).await,
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

    /// Makes a request what its origin is to see, and settles how it goes there. With a `protocol`, it asks
    /// the origin to upgrade to that.
    fn prepare(
        &self,
        request: Request<link::Body>,
        protocol: Option<Protocol>,
        interim: Interim,
    ) -> Result<Box<Call>, Refusal> {
        let (destination, mut request) = in_origin_form(request)?;
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
        let (mut request, request_end) = self.metered(Request::from_parts(parts, body));
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
        let spare = back.map(|back| Box::new(Spare::new(&request, back)));
        Ok(Box::new(Call {
            destination,
            terms,
            request: Some(request),
            request_end,
            spare,
            http2,
            wants_http2,
            is_upgrade,
            is_personal,
            met_closed: 0,
        }))
    }

    /// Sends a request, and waits for the head of the answer.
    async fn send(&self, mut call: Box<Call>) -> Result<Answer, Refusal> {
        loop {
            let (mut sender, mut phases) = match self.resting(&call) {
                Some(sender) => (sender, Phases::default()),
                None => boxed(|| self.open(&call)).await?,
            };
            let is_pooled = phases == Phases::default();
            let began = Instant::now();
            let patience = call.terms.response_timeout().unwrap_or(RESPONSE_HEAD);
            let response = sender.send(&mut call)?;
            let response = tokio::select! {
                biased;
                response = response => response,
                () = call.request_end.silence(patience) => {
                    sender.leave(&self.pool, &call.destination);
                    return Err(failure::late(&call.destination, "the response", patience));
                }
            };
            match response {
                Ok(response) if is_uninvited(&response, call.is_upgrade) => {
                    let authority = call.destination.authority();
                    let detail = format!("{authority}: a 101 that nobody asked for");
                    return Err(Refusal::new(Code::OriginGarbage, detail));
                }
                Ok(response) => {
                    let since = call.request_end.at().unwrap_or(began);
                    phases.set(Phase::FirstByte, since.elapsed().as_micros() as u64);
                    let headers = response.headers();
                    let may_return = !call.is_personal
                        && !speaks_for_connection(headers, &header::WWW_AUTHENTICATE);
                    let lent = match sender {
                        Sender::Http1(connection) if may_return => {
                            Some(Lent { destination: call.destination, connection })
                        }
                        Sender::Http1(_) | Sender::Http2(_) => None,
                    };
                    return Ok(Answer { response, phases, lent });
                }
                Err(mut error) => match error.take_message() {
                    // It never left: the pooled connection was closed already.
                    Some(again) if is_pooled => {
                        call.met_closed += 1;
                        sender.leave(&self.pool, &call.destination);
                        call.request = Some(again);
                    }
                    Some(_) | None => {
                        let refusal = failure::http(&call.destination, error.error());
                        let spare = call.spare.take();
                        let spare = spare.filter(|_| http2::is_untouched(error.error()));
                        let Some(spare) = spare else { return Err(refusal) };
                        let Some(again) = boxed(|| spare.request()).await else {
                            return Err(refusal);
                        };
                        sender.leave(&self.pool, &call.destination);
                        let (request, request_end) = self.metered(again);
                        (call.request, call.request_end) = (Some(request), request_end);
                    }
                },
            }
        }
    }

    /// A connection that is there already.
    fn resting(&self, call: &Call) -> Option<Sender> {
        let Call { destination, terms, .. } = call;
        if !call.may_share() {
            return None;
        }
        let shared = call.wants_http2.then(|| self.pool.share_of(destination, terms)).flatten();
        shared.map(Sender::Http2).or_else(|| {
            let may_be_http1 = !call.wants_http2 || call.http2 == Http2::Always;
            let taken = may_be_http1.then(|| self.pool.take(destination, terms)).flatten();
            taken.map(Sender::Http1)
        })
    }

    /// A new connection, perhaps one that others are waiting for, too; with what it took.
    async fn open(&self, call: &Call) -> Result<(Sender, Phases), Refusal> {
        let Call { destination, terms, wants_http2, .. } = call;
        if *wants_http2 && call.may_share() {
            return self.call_first(destination, terms).await;
        }
        self.dial(destination, terms, *wants_http2).await
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
            // What is read ahead of a reader that stalls; hyper would take six times as much.
            .max_buf_size(MAX_RESPONSE_HEAD)
            .handshake(connected.stream)
            .await
            .map_err(|error| failure::http(destination, &error))?;
        self.pool.drive(connection.with_upgrades());
        Ok((Sender::Http1(Connection { sender, peer: connected.peer, settings }), phases))
    }
}

/// What has come of sending a request; one that has not left comes back.
type Sent = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>;

/// Who takes a request.
enum Sender {
    Http1(Connection),
    Http2(http2::Sender),
}

impl Sender {
    /// Sends the call's request, which must be there, in the form that this version of HTTP wants.
    fn send(&mut self, call: &mut Call) -> Result<impl Future<Output = Sent> + use<>, Refusal> {
        let mut request = call.request.take().expect("it has not been sent, or came back");
        match self {
            Self::Http1(connection) => {
                // Its HTTP/2 connection was gone, and the origin wants HTTP/1.1 now.
                if request.version() == Version::HTTP_2 {
                    http2::unfit(&mut request, &call.destination)?;
                }
                Ok(Either::Left(connection.sender.try_send_request(request)))
            }
            Self::Http2(sender) => {
                http2::fit(&mut request, &call.destination)?;
                Ok(Either::Right(sender.send(request)))
            }
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
fn in_origin_form(
    request: Request<link::Body>,
) -> Result<(Destination, Request<link::Body>), Refusal> {
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
