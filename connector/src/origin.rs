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
//! second time only in three cases: a pooled connection turned out to be closed before any of the request was
//! written; a pooled connection ended without an answer, and the request is safe and has no body (RFC 9110
//! §9.2.2); an HTTP/2 origin says that it has not begun with the request ([`again`]).
//!
//! hyper takes more than a link does. So an answer is made canonical here, before it is sent, or refused:
//! [`settle`] says how long its content is, [`Reply::abilities`] what the edge takes.

mod again;
mod body;
mod connect;
mod diagnosis;
mod failure;
mod http2;
mod interim;
mod pool;
mod recorder;
pub(crate) mod settings;
mod socket;
mod tls;
mod tunnel;
mod whole;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::Either;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header, request::Parts,
};
use http_body::Body as _;
use http_body_util::Empty;
use hyper::{body::Incoming, client::conn::TrySendError};
use hyper_util::rt::TokioIo;
use link::{Exchange, LinkError, Reply, boxed};
use protocol::{
    fields, framing,
    head::{self, PROBE_AUTHORITY, Protocol},
    phases::{Phase, Phases},
    refusal::{Code, Refusal},
};
use rustls::pki_types::CertificateDer;
use tokio::time::Instant;

use self::{
    again::{Again, Spare},
    body::{Late, Metered, RequestEnd},
    connect::Connector,
    interim::Interim,
    pool::{Connection, Lent, Pool, rest},
    recorder::{Recorded, Recorder},
    settings::{Http2, Terms},
    whole::Whole,
};
pub(crate) use self::{connect::Destination, settings::Origins};
use crate::{
    files::InForce,
    metrics::{Mark, Meter, Outcome, Table},
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
    /// Of this worker.
    table: Arc<Table>,
    limits: Limits,
}

/// How long what is under way with an origin may stand still.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// A tunnel without a byte in either direction.
    pub tunnel: Duration,
    /// A tunnel whose client has closed its end, and whose origin says nothing, and takes nothing of what is left.
    pub half_closed: Duration,
    /// An upload of which the origin takes nothing.
    pub upload: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            tunnel: Duration::from_secs(3600),
            // Less than the ten seconds within which what a client leaves behind should be gone.
            half_closed: Duration::from_secs(8),
            upload: Duration::from_secs(120),
        }
    }
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
    /// It is safe and has no body: it may be sent once more if a pooled connection ends without an answer.
    is_repeatable: bool,
    interim: Interim,
    mark: Mark,
    /// Proves who is at the end of the connection.
    is_personal: bool,
    /// Connections that turned out to be closed.
    met_closed: usize,
}

impl Call {
    /// Its head once more, if it may be repeated over HTTP/1.1. In a box, because most are never needed.
    fn copy(&self) -> Option<Box<Parts>> {
        let request =
            self.request.as_ref().filter(|_| self.is_repeatable && self.spare.is_none())?;
        let (mut head, ()) = Request::new(()).into_parts();
        head.method = request.method().clone();
        head.uri = request.uri().clone();
        head.headers = request.headers().clone();
        Some(Box::new(head))
    }

    /// May it go over a connection that others have used?
    fn may_share(&self) -> bool {
        self.met_closed < MAX_CLOSED
    }
}

/// An origin's answer, with what it took.
struct Answer {
    response: Response<Incoming>,
    phases: Phases,
    /// What it comes over, if that carries nothing else.
    lent: Option<Lent>,
}

impl Origin {
    /// Trusts the public authorities and `authorities`, and obeys `files`.
    pub(crate) fn new(
        authorities: &[CertificateDer<'static>],
        files: InForce,
        meter: Arc<Meter>,
        limits: Limits,
    ) -> Result<Self, rustls::Error> {
        let connector = Arc::new(Connector::new(authorities, files)?);
        let table = meter.table();
        Ok(Self { connector, pool: Pool::new(), meter, table, limits })
    }

    /// The same with connections of its own, for another worker.
    pub(crate) fn apart(&self) -> Self {
        let (connector, meter) = (self.connector.clone(), self.meter.clone());
        let table = meter.table();
        Self { connector, pool: Pool::new(), meter, table, limits: self.limits }
    }

    /// Serves one exchange to its end and counts what became of it.
    ///
    /// What takes much room and is not needed from first to last has a box of its own: many requests are under
    /// way together, and the less of a request's memory is touched, the more of them a core has at hand.
    pub(crate) async fn serve(&self, exchange: Box<Exchange>) {
        if exchange.request.uri().authority().is_some_and(|to| to.as_str() == PROBE_AUTHORITY) {
            return answer_probe(exchange.reply).await;
        }
        let in_flight = self.table.enter();
        let mark = &in_flight.mark;
        let outcome = if exchange.request.method() == Method::CONNECT {
            boxed(|| self.connect(*exchange, mark)).await
        } else if exchange.request.extensions().get::<Protocol>().is_some() {
            boxed(|| self.upgrade(*exchange, mark)).await
        } else {
            self.request(exchange, mark).await
        };
        self.meter.outcome(outcome);
    }

    async fn request(&self, exchange: Box<Exchange>, mark: &Mark) -> Outcome {
        let Exchange { request, mut reply } = *exchange;
        let interim = Interim::default();
        let answer = match self.prepare(request, None, interim.clone(), mark) {
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
            Ok(answer) => boxed(|| self.respond(answer, reply, mark)).await,
            Err(refusal) => boxed(|| refuse(refusal, reply)).await,
        }
    }

    /// Streams an origin's answer back.
    async fn respond(&self, answer: Answer, reply: Reply, mark: &Mark) -> Outcome {
        let Answer { mut response, phases, lent } = answer;
        fields::strip(response.headers_mut());
        let abilities = reply.abilities();
        if let Err(refusal) = abilities.judge_answer(&response) {
            return refuse(refusal, reply).await;
        }
        add_phases(&mut response, &phases);
        self.meter.phases(&phases);
        mark.moves();
        let began = Instant::now();
        let body = |body| Metered::new(body, self.meter.response_bytes.clone(), mark.clone());
        let response = Whole::of(response, abilities.message_fields());
        match reply.send(response.map(body)).await {
            Ok(()) => {
                self.meter.phase(Phase::Body, began.elapsed());
                if let Some(lent) = lent {
                    self.pool.give_back(lent).await;
                }
                Outcome::Answered
            }
            Err(LinkError::Body(error)) => {
                tracing::debug!(error, "an origin's answer broke off");
                Outcome::BrokenOff
            }
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
        mark: &Mark,
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
        let (mut request, request_end) = self.metered(Request::from_parts(parts, body), mark);
        if let Some(protocol) = protocol {
            tunnel::ask_for(&mut request, protocol);
        }
        let is_repeatable = request.method().is_safe() && request.body().is_end_stream();
        interim.listen(&mut request);
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
            is_repeatable,
            interim,
            mark: mark.clone(),
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
            let copy = if is_pooled { call.copy() } else { None };
            let response = sender.send(&mut call)?;
            let response = tokio::select! {
                biased;
                response = response => response,
                late = call.request_end.late(patience, self.limits.upload) => {
                    sender.leave(&self.pool, &call.destination);
                    return Err(match late {
                        Late::Response => {
                            failure::late(&call.destination, "the response", patience)
                        }
                        Late::Upload => failure::stuck(&call.destination, self.limits.upload),
                    });
                }
            };
            match response {
                Ok(mut response) => {
                    settle(&mut response, &call)?;
                    let since = call.request_end.at().unwrap_or(began);
                    phases.set(Phase::FirstByte, since.elapsed().as_micros() as u64);
                    let headers = response.headers();
                    let may_return = !call.is_personal
                        && !speaks_for_connection(headers, &header::WWW_AUTHENTICATE);
                    let lent = match sender {
                        Sender::Http1(mut connection) => {
                            connection.rest = rest(headers);
                            Some(Lent {
                                destination: call.destination,
                                connection,
                                request_end: call.request_end,
                                may_return,
                            })
                        }
                        Sender::Http2(_) => None,
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
                    None if !error.error().is_parse() && copy.is_some() => {
                        // The next one is to be new.
                        call.met_closed = MAX_CLOSED;
                        sender.leave(&self.pool, &call.destination);
                        call.request = copy.map(|copy| self.repeat(&mut call, *copy));
                    }
                    Some(_) | None => {
                        let refusal = sender.failure(&call.destination, error.error());
                        let spare = call.spare.take();
                        let spare = spare.filter(|_| http2::is_untouched(error.error()));
                        let Some(spare) = spare else { return Err(refusal) };
                        let Some(again) = boxed(|| spare.request()).await else {
                            return Err(refusal);
                        };
                        sender.leave(&self.pool, &call.destination);
                        let (request, request_end) = self.metered(again, &call.mark);
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

    /// A request once more, which has no body.
    fn repeat(&self, call: &mut Call, head: Parts) -> Request<RequestBody> {
        let request = Request::from_parts(head, Again::never(link::Body::default()));
        let (mut request, request_end) = self.metered(request, &call.mark);
        call.interim.listen(&mut request);
        call.request_end = request_end;
        request
    }

    fn metered(
        &self,
        request: Request<Again<link::Body>>,
        mark: &Mark,
    ) -> (Request<RequestBody>, RequestEnd) {
        let (parts, body) = request.into_parts();
        let (body, end) = Metered::with_end(body, self.meter.request_bytes.clone(), mark.clone());
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
        let (stream, recorder) = (connected.stream.into_inner(), Recorder::default());
        let (sender, connection) = hyper::client::conn::http1::Builder::new()
            .max_header_size(MAX_RESPONSE_HEAD)
            // What is read ahead of a reader that stalls; hyper would take six times as much.
            .max_buf_size(MAX_RESPONSE_HEAD)
            .max_headers(head::MESSAGE_FIELDS)
            // A proxy removes the one and makes the other a space (RFC 9112 §5.1, §5.2). Lines that are no
            // field are refused and never skipped: another parser may see in one what frames the message.
            .allow_spaces_after_header_name_in_responses(true)
            .allow_obsolete_multiline_headers_in_responses(true)
            .title_case_headers(terms.title_case())
            .handshake(TokioIo::new(Recorded::new(stream, recorder.clone())))
            .await
            .map_err(|error| failure::http(destination, &error, &[]))?;
        let _driver = self.pool.drive(connection.with_upgrades());
        let (peer, rest) = (connected.peer, Duration::ZERO);
        let connection = Connection { sender, _driver, peer, settings, recorder, rest };
        Ok((Sender::Http1(connection), phases))
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
                connection.recorder.begin();
                Ok(Either::Left(connection.sender.try_send_request(request)))
            }
            Self::Http2(sender) => {
                http2::fit(&mut request, &call.destination)?;
                Ok(Either::Right(sender.send(request)))
            }
        }
    }

    /// What the failure of a request means.
    fn failure(&self, destination: &Destination, error: &hyper::Error) -> Refusal {
        match self {
            Self::Http1(connection) => {
                connection.recorder.read(|seen| failure::http(destination, error, seen))
            }
            Self::Http2(_) => failure::http(destination, error, &[]),
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
    let length = framing::settle_length(&mut parts.headers);
    let length = length.map_err(|error| Refusal::new(Code::BadRequest, error.to_string()))?;
    name_te(&mut parts.headers);
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

/// `TE` is for one connection, and says so over HTTP/1.1 (RFC 9110 §10.1.4).
fn name_te(headers: &mut HeaderMap) {
    if headers.contains_key(header::TE) {
        headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
    }
}

/// gRPC is HTTP/2 by definition, and always a POST. Its type may have a suffix or parameters; gRPC-Web is
/// another type, and HTTP/1.1.
fn is_grpc<B>(request: &Request<B>) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    let is_grpc = |kind: &HeaderValue| {
        let Some((start, rest)) = kind.as_bytes().split_at_checked(GRPC.len()) else {
            return false;
        };
        start.eq_ignore_ascii_case(GRPC) && matches!(rest, [] | [b'+' | b';' | b' ' | b'\t', ..])
    };
    request.method() == Method::POST
        && request.headers().get(header::CONTENT_TYPE).is_some_and(is_grpc)
}

/// Makes an answer's head one that means the same to everybody behind it, or refuses it.
fn settle<B>(response: &mut Response<B>, call: &Call) -> Result<(), Refusal> {
    let status = response.status();
    let garbage = |detail: String| {
        Refusal::new(Code::OriginGarbage, format!("{}: {detail}", call.destination.authority()))
    };
    if status == StatusCode::SWITCHING_PROTOCOLS && !call.is_upgrade {
        return Err(garbage("a 101 that nobody asked for".into()));
    }
    framing::settle_answer(status, response.headers_mut())
        .map_err(|error| garbage(error.to_string()))
}

fn add_phases<B>(response: &mut Response<B>, phases: &Phases) {
    response.headers_mut().insert(fields::PHASES, phases.to_value());
}

/// Shows the edge that requests get through. Nobody has asked for anything, so nothing is counted.
async fn answer_probe(reply: Reply) {
    let mut response = Response::new(Empty::<Bytes>::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    // An edge that does not wait any more has what it wanted.
    let _ = reply.send(response).await;
}

async fn refuse(refusal: Refusal, reply: Reply) -> Outcome {
    let outcome = Outcome::Refused(refusal.code);
    tracing::debug!(code = refusal.code.as_str(), detail = refusal.detail, "request refused");
    match reply.send(failure::response(&refusal)).await {
        Ok(()) => outcome,
        Err(_) => Outcome::Cancelled,
    }
}
