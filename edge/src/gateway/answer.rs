//! What the client gets: a refusal that says whose fault it is, or the origin's response as it streams.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::SystemTime,
};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, Version, header, uri::Authority};
use http_body::{Body, Frame, SizeHint};
use link::LinkError;
use protocol::{
    fields,
    phases::Phases,
    refusal::{Code, Refusal},
    traffic::Failure,
};

use crate::{
    core::Core,
    gateway::client::{Client, Flushed},
    knowledge::Grant,
    metrics::Outcome,
    registry::InFlight,
    streams::{Broken, Live},
    traffic::Counters,
};

/// One request in the books: under way until this is dropped, then counted by its outcome.
#[derive(Debug)]
pub(crate) struct Account {
    core: Arc<Core>,
    pub(crate) outcome: Outcome,
    /// In a box: an account is handed on many times.
    used: Option<Box<Used>>,
}

/// Which tunnel is used, by whom, and what for.
#[derive(Debug)]
struct Used {
    grant: Grant,
    destination: Option<Authority>,
    counters: Arc<Counters>,
    /// What is particular about a refusal.
    detail: String,
    /// Of an answer that is a refusal.
    phases: Phases,
}

impl Account {
    pub(crate) fn open(core: Arc<Core>) -> Self {
        core.metrics.in_flight.increment(1.0);
        // Until there is an answer, only the client can end the request.
        Self { core, outcome: Outcome::ClientGone, used: None }
    }

    /// The request turns out to use a tunnel, or to be forbidden to.
    pub(crate) fn uses(
        &mut self,
        grant: Grant,
        destination: Option<Authority>,
        counters: Arc<Counters>,
    ) {
        let (detail, phases) = (String::new(), Phases::default());
        self.used = Some(Box::new(Used { grant, destination, counters, detail, phases }));
    }

    /// The tunnel's counters.
    pub(crate) fn counters(&self) -> Option<&Arc<Counters>> {
        self.used.as_ref().map(|used| &used.counters)
    }

    /// The answer has begun, after these phases.
    pub(crate) fn answered(&mut self, outcome: Outcome, phases: Phases) {
        self.outcome = outcome;
        let Some(used) = &mut self.used else { return };
        match outcome {
            Outcome::Refused(_) => used.phases = phases,
            Outcome::Ok | Outcome::ClientGone => used.counters.answered(phases.total()),
        }
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }
}

impl Used {
    /// What is told of a request that was refused.
    fn failure(&mut self, code: Code) -> Failure {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Failure {
            at_ms: now.map_or(0, |now| now.as_millis() as u64),
            code: code.as_str().to_owned(),
            detail: std::mem::take(&mut self.detail),
            destination: self.destination.as_ref().map(Authority::to_string).unwrap_or_default(),
            team: self.grant.caller.team,
            workflow: self.grant.caller.workflow,
            token: self.grant.token,
            phases: self.phases.to_string(),
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.core.metrics.in_flight.decrement(1.0);
        self.core.metrics.request(self.outcome);
        let Some(used) = &mut self.used else { return };
        used.counters.ended(self.outcome);
        if let Outcome::Refused(code) = self.outcome {
            let failure = used.failure(code);
            used.counters.failed(failure);
        }
    }
}

/// The body of an answer.
#[derive(Debug)]
pub(crate) enum Answer {
    /// A refusal's, or nothing.
    Whole(Option<Bytes>),
    /// An origin's, off a link.
    Stream(Box<Stream>),
}

/// An origin's body: streams until its end, until the link breaks, or until it is cut.
#[derive(Debug)]
pub(crate) struct Stream {
    live: Live,
    client: Client,
    /// Bytes that are still to come, where the head tells.
    left: Option<u64>,
    /// The client can tell the answer's end from the connection's.
    is_framed: bool,
    /// What had been flushed when something was handed to hyper last.
    handed_at: Flushed,
    /// Why no more comes, while what came before is being flushed.
    broken: Option<Broken>,
    // Dropped last, in this order: the link may close when nothing is under way on it.
    _in_flight: InFlight,
    account: Account,
}

impl Stream {
    pub(crate) fn new(
        live: Live,
        client: Client,
        length: Option<u64>,
        in_flight: InFlight,
        account: Account,
    ) -> Self {
        let is_framed = length.is_some() || client.version() != Version::HTTP_10;
        let handed_at = client.connection().flushes.now();
        Self {
            live,
            client,
            left: length,
            is_framed,
            handed_at,
            broken: None,
            _in_flight: in_flight,
            account,
        }
    }

    /// hyper forgets what it has not sent yet when a body fails. So the failure waits, and the client sees
    /// how the answer began.
    fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<Broken> {
        let flushes = &self.client.connection().flushes;
        match self.broken.take() {
            Some(Broken::Link(error)) if flushes.poll_since(self.handed_at, cx).is_pending() => {
                self.broken = Some(Broken::Link(error));
                Poll::Pending
            }
            broken => {
                let broken = broken.unwrap_or(Broken::Cut);
                // An end of the connection tells as much where the answer has an end of its own.
                if !self.is_framed || matches!(broken, Broken::Cut) {
                    self.client.break_off();
                }
                Poll::Ready(broken)
            }
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let stream = match &mut *self {
            Self::Whole(bytes) => return Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Self::Stream(stream) => stream,
        };
        if stream.broken.is_some() {
            if stream.live.is_cut(cx) {
                stream.broken = Some(Broken::Cut);
            }
            return stream.poll_broken(cx).map(|broken| Some(Err(broken)));
        }
        let mut frame = std::task::ready!(stream.live.poll_body(cx));
        match &mut frame {
            None => stream.left = Some(0),
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, Bytes::len) as u64;
                let left = stream.left.map(|left| left.saturating_sub(length));
                stream.left = if frame.is_trailers() { Some(0) } else { left };
                stream.account.core.metrics.bytes_down.increment(length);
                stream.account.counters().into_iter().for_each(|c| c.down(length));
                if let Some(trailers) = frame.trailers_mut() {
                    fields::strip_trailers(trailers);
                }
            }
            Some(Err(broken)) => {
                stream.left = Some(0);
                stream.account.outcome = Outcome::Refused(match broken {
                    // The link is well, and the answer broke off at its source.
                    Broken::Link(LinkError::Incomplete | LinkError::Cancelled) => Code::OriginReset,
                    Broken::Link(_) => Code::LinkLost,
                    Broken::Cut => Code::AccessRevoked,
                });
            }
        }
        match frame {
            Some(Err(broken)) => {
                stream.broken = Some(broken);
                stream.poll_broken(cx).map(|broken| Some(Err(broken)))
            }
            frame => {
                stream.handed_at = stream.client.connection().flushes.now();
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Stream(stream) => stream.broken.is_none() && stream.live.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Stream(stream) => stream.live.size_hint(),
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let is_over = self.left == Some(0) || self.live.is_end_stream();
        if !is_over && self.account.outcome == Outcome::Ok {
            self.account.outcome = Outcome::ClientGone;
        }
    }
}

/// The answer that is a refusal.
pub(crate) fn refuse(refusal: &Refusal, mut account: Account) -> Response<Answer> {
    let code = refusal.code;
    account.outcome = Outcome::Refused(code);
    if let Some(used) = &mut account.used {
        used.detail.clone_from(&refusal.detail);
    }
    let problem = Bytes::from(refusal.to_problem().to_string());
    let mut response = Response::new(Answer::Whole(Some(problem)));
    *response.status_mut() = code.status();
    let headers = response.headers_mut();
    let text = HeaderValue::from_static;
    headers.insert(header::CONTENT_TYPE, text("application/problem+json"));
    headers.insert(fields::ERROR, text(code.as_str()));
    headers.insert(fields::ERROR_SOURCE, text(code.source().as_str()));
    if code.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
        headers.insert(header::PROXY_AUTHENTICATE, text("Basic realm=\"postern\""));
    }
    if let Some(seconds) = retry_after(code) {
        headers.insert(header::RETRY_AFTER, text(seconds));
    }
    response
}

/// Tells an HTTP/1.1 client that its connection ends with this answer; what has left HTTP goes on.
pub(crate) fn announce_close(answer: &mut Response<Answer>) {
    let is_answer = match answer.body() {
        Answer::Stream(_) => true,
        Answer::Whole(problem) => problem.is_some(),
    };
    if is_answer {
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

/// The same over HTTP/1.1, as bytes: the last answer on its connection.
pub(crate) fn to_bytes(refusal: &Refusal, core: Arc<Core>) -> Vec<u8> {
    let (head, body) = refuse(refusal, Account::open(core)).into_parts();
    let body = match body {
        Answer::Whole(body) => body.unwrap_or_default(),
        Answer::Stream(_) => Bytes::new(),
    };
    let reason = head.status.canonical_reason().unwrap_or_default();
    let mut bytes = format!("HTTP/1.1 {} {reason}\r\n", head.status.as_str()).into_bytes();
    for (name, value) in &head.headers {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            bytes.extend_from_slice(part);
        }
    }
    let rest = format!("connection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    bytes.extend_from_slice(rest.as_bytes());
    bytes.extend_from_slice(&body);
    bytes
}

/// When to ask again, in seconds.
fn retry_after(code: Code) -> Option<&'static str> {
    match code.status() {
        StatusCode::TOO_MANY_REQUESTS => Some("1"),
        StatusCode::SERVICE_UNAVAILABLE => Some(match code {
            Code::FeedStale => "30",
            Code::NoLink => "5",
            _ => "1",
        }),
        _ => None,
    }
}
