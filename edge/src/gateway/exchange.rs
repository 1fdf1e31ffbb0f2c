//! One request's way: it is judged, a link is picked, the request sent, the response streamed back.
//! Another link gets a second chance only if the first one provably delivered nothing, or if the request
//! is safe to repeat.

use std::{
    pin::pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant, SystemTime},
};

use http::{
    HeaderMap, Method, Request, Response, StatusCode, Uri, header, request::Parts,
    uri::PathAndQuery,
};
use hyper::{body::Incoming, ext::ReasonPhrase, upgrade::OnUpgrade};
use link::SendError;
use protocol::{
    abilities::Abilities,
    fields, framing,
    phases::{Phase, Phases},
    refusal::{Code, Refusal},
};

use crate::{
    gateway::{
        Gateway, Refused, admission,
        admission::Target,
        answer::{Account, Answer, Stream},
        client::Client,
        max_forwards, no_link, tunnel,
        upload::{self, Source},
    },
    metrics::Outcome,
    registry::{InFlight, Link, NoPick, Tunnel},
    streams::{Live, Sharers},
};

/// Links that one request may be tried on: those of two connectors, which may all have ended at once.
const MAX_TRIES: usize = 8;
/// Links that have ended by the time a request was tried on them.
const MAX_ENDED: usize = 16;
/// How long a request waits for a link to a tunnel that had one until lately: connectors are back within 2 s
/// where nothing but a restart keeps them.
const LINK_WITHIN: Duration = Duration::from_secs(2);
/// How long a request that must not be sent twice waits while all links of its tunnel are suspect. By then they are
/// well again or others are up, over another carrier if need be; if not, nothing better will come.
const WELL_WITHIN: Duration = Duration::from_secs(3);

/// A request on its way; at the connector, [`link::Exchange`] is its counterpart. It stays where it is until
/// its answer begins: what is handed on is a pointer to it.
pub(crate) struct Exchange {
    pub(crate) head: Parts,
    pub(crate) source: Source,
    target: Target,
    pub(crate) upgrade: OnUpgrade,
    tunnel: Arc<Tunnel>,
    pub(crate) live: Live,
    response_timeout: Option<Duration>,
    pub(crate) client: Client,
    pub(crate) account: Account,
    pub(crate) clock: Clock,
}

/// Measures the edge's own phases. Over HTTP/2 a request has a task of its own, and the wait for its first
/// turn counts as the edge's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    judged_us: u64,
    judged_at: Instant,
}

/// What is settled when a link may be asked.
struct Admitted {
    target: Target,
    tunnel: Arc<Tunnel>,
    live: Live,
    response_timeout: Option<Duration>,
}

/// Everything that must hold before a link is asked.
fn admit(
    gateway: &Gateway,
    head: &mut Parts,
    source: &mut Source,
    client: &Client,
    account: &mut Account,
    began_at: Instant,
) -> Result<Admitted, Refusal> {
    let length = admission::settle(head)?;
    let target = admission::admit(head, !source.is_empty())?;
    let knowledge = &gateway.core.knowledge;
    let (last, now) = (client.last_caller(), SystemTime::now());
    let grant = gateway.callers.judge(knowledge, &head.headers, last, now).map_err(|denied| {
        if let Some(grant) = denied.grant {
            let counters = gateway.core.registry.traffic.of(grant.tunnel);
            account.uses(*grant, head.uri.authority().cloned(), counters);
        }
        denied.refusal
    })?;
    client.connection().standing.prove();
    let tunnel = gateway.core.registry.get(grant.tunnel);
    let counters = match &tunnel {
        Some(tunnel) => tunnel.counters.clone(),
        None => gateway.core.registry.traffic.of(grant.tunnel),
    };
    source.count_for(&counters);
    account.uses(grant, head.uri.authority().cloned(), counters);
    if length.is_some_and(|length| length > gateway.terms.max_request_body) {
        return Err(Code::BodyTooLarge.into());
    }
    let tunnel = tunnel.ok_or_else(|| match gateway.core.registry.leaving().is_cancelled() {
        true => Code::EdgeUnavailable.into(),
        false => no_link(),
    })?;
    let live = tunnel.begin(grant, Sharers::new(&grant, &head.uri), began_at)?;
    source.moves(live.stream());
    // Access may have been taken away since it was judged; whoever takes it from now on finds the
    // stream among the live ones.
    knowledge.read().judge(&grant)?;
    Ok(Admitted { target, tunnel, live, response_timeout: grant.response_timeout })
}

/// The target is the server itself, `*` (RFC 9112 §3.2.4).
fn name_server(head: &mut Parts) {
    let mut target = head.uri.clone().into_parts();
    target.path_and_query = Some(PathAndQuery::from_static("*"));
    // The other parts are those of a target already.
    if let Ok(target) = Uri::from_parts(target) {
        head.uri = target;
    }
}

/// `Host` says what the target says (RFC 9112 §3.2.2).
fn name_host(head: &mut Parts) {
    let authority = head.uri.authority().map_or("", |authority| authority.as_str());
    // A part of a URI can stand in a field.
    let _ = fields::set_host(&mut head.headers, authority);
}

impl Exchange {
    /// Judges a request, which may then go its way; a refused one's body is given back.
    pub(crate) fn begin(
        gateway: &Gateway,
        mut request: Request<Incoming>,
        client: Client,
        mut account: Account,
    ) -> Result<Box<Self>, (Refused, Source)> {
        let began_at = Instant::now();
        let upgrade = hyper::upgrade::on(&mut request);
        let (mut head, body) = request.into_parts();
        if client.take_pathless() {
            name_server(&mut head);
        }
        let mut source = Source::new(body, &client, gateway.terms.max_request_body, &gateway.core);
        let admitted = admit(gateway, &mut head, &mut source, &client, &mut account, began_at);
        let admitted = match admitted {
            Ok(admitted) => admitted,
            Err(refusal) => return Err(((refusal, account), source)),
        };
        let Admitted { target, tunnel, live, response_timeout } = admitted;
        let judged_at = Instant::now();
        let judged_us = micros(began_at, judged_at);
        let clock = Clock { judged_us, judged_at };
        fields::strip(&mut head.headers);
        // hyper answers 100-continue as soon as the link asks for the body.
        head.headers.remove(header::EXPECT);
        if target != Target::Connect {
            name_host(&mut head);
        }
        Ok(Box::new(Self {
            head,
            source,
            target,
            upgrade,
            tunnel,
            live,
            response_timeout,
            client,
            account,
            clock,
        }))
    }

    /// Goes the request's way, up to the beginning of its answer.
    pub(crate) async fn run(
        self: Box<Self>,
        gateway: &Gateway,
    ) -> Result<Response<Answer>, Refused> {
        let protocol = match &self.target {
            Target::Message => return self.send().await,
            Target::Here => return Ok(self.end_here()),
            Target::Connect => None,
            Target::Upgrade(protocol) => Some(protocol.clone()),
        };
        Box::pin(tunnel::open(gateway, self, protocol)).await
    }

    pub(crate) async fn send(mut self: Box<Self>) -> Result<Response<Answer>, Refused> {
        let mut tries = Tries::default();
        loop {
            let may_repeat = self.source.is_empty() && self.head.method.is_safe();
            let in_flight = match tries.next(&self, may_repeat).await {
                Ok(in_flight) => in_flight,
                Err(refusal) => return Err((refusal, self.account)),
            };
            let abilities = in_flight.link().session.abilities();
            if let Err(refusal) = judge_fields(&self.head, abilities) {
                return Err((refusal, self.account));
            }
            let body = self.source.lend(abilities.message_fields());
            let sent_at = Instant::now();
            let sent = tokio::select! {
                biased;
                // hyper's server cannot pass 1xx on; it says 100 itself.
                sent = in_flight.link().session.send(&self.head, body, |_| {}) => sent,
                () = self.live.cut() => return Err((Code::AccessRevoked.into(), self.account)),
                late = self.late() => return Err((late, self.account)),
                () = tries.better(&self, &in_flight), if may_repeat => {
                    tries.leave(&in_flight);
                    continue;
                }
            };
            let error = match sent {
                Ok(response) => return Ok(self.answer(response, in_flight, sent_at)),
                Err(error) => error,
            };
            if error.is_request_body() {
                return Err((upload::refusal(&error), self.account));
            }
            let is_whole = error.is_not_delivered() && self.source.take_back().await;
            tries.failed(&in_flight, &error, is_whole, may_repeat);
            if tries.is_over() {
                return Err((tries.refusal(), self.account));
            }
            self.account.core().metrics.retries.increment(1);
        }
    }

    /// Resolves when the answer has taken longer to begin than the client's token allows.
    pub(crate) async fn late(&self) -> Refusal {
        let Some(timeout) = self.response_timeout else { return std::future::pending().await };
        let deadline = tokio::time::Instant::from_std(self.clock.judged_at) + timeout;
        // In a box, because few tokens have one.
        Box::pin(tokio::time::sleep_until(deadline)).await;
        let seconds = timeout.as_secs();
        let detail = format!("no answer within {seconds} s, which is what the token allows");
        Refusal::new(Code::OriginTimeout, detail)
    }

    /// The answer to a request that may not be forwarded any more.
    fn end_here(mut self: Box<Self>) -> Response<Answer> {
        self.account.outcome = Outcome::Ok;
        max_forwards::answer(&self.head).map(Answer::Whole)
    }

    /// The response as it streams back.
    pub(crate) fn answer(
        self: Box<Self>,
        response: Response<link::Body>,
        in_flight: InFlight,
        sent_at: Instant,
    ) -> Response<Answer> {
        let Self { head: request, live, client, mut account, clock, .. } = *self;
        in_flight.link().answers();
        let (mut head, body) = response.into_parts();
        finish(&mut head.headers, clock, sent_at, &mut account);
        let is_bodyless = request.method == Method::HEAD
            || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        // A connector sends one length or none; hyper would send nothing at all after others.
        let Ok(length) = framing::settle_length(&mut head.headers) else {
            let detail = "the answer's Content-Length is not one number";
            return super::answer::refuse(&Refusal::new(Code::OriginGarbage, detail), account);
        };
        let length = if is_bodyless { Some(0) } else { length };
        live.hold(body);
        let stream = Stream::new(live, client, length, in_flight, account);
        let mut response = Response::new(Answer::Stream(Box::new(stream)));
        *response.status_mut() = head.status;
        *response.headers_mut() = head.headers;
        if head.status.canonical_reason().is_none() {
            // hyper would call it "<none>". A link does not carry the origin's own phrase.
            response.extensions_mut().insert(ReasonPhrase::from_static(b""));
        }
        response
    }
}

/// How a try failed. The worst one is told: a request that may have reached the origin once is never
/// said to be undelivered, whatever came of later tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Blame {
    Full,
    NotDelivered,
    OriginReset,
    LinkLost,
}

impl From<&SendError> for Blame {
    fn from(error: &SendError) -> Self {
        match error {
            _ if error.is_full() => Self::Full,
            _ if error.is_not_delivered() => Self::NotDelivered,
            _ if error.is_incomplete() => Self::OriginReset,
            _ => Self::LinkLost,
        }
    }
}

impl From<Blame> for Code {
    fn from(blame: Blame) -> Self {
        match blame {
            Blame::Full => Self::TunnelFull,
            Blame::NotDelivered => Self::NotDelivered,
            Blame::OriginReset => Self::OriginReset,
            Blame::LinkLost => Self::LinkLost,
        }
    }
}

/// May a request with so many fields be sent to a connector that understands this?
fn judge_fields(head: &Parts, abilities: Abilities) -> Result<(), Refusal> {
    let (count, most) = (head.headers.len(), abilities.message_fields());
    if count <= most {
        return Ok(());
    }
    let detail = format!(
        "the request has {count} header fields; the tunnel's connector is older and takes {most}"
    );
    Err(Refusal::new(Code::HeadersTooLarge, detail))
}

/// Which links a request was tried on, and what came of it.
#[derive(Debug, Default)]
pub(crate) struct Tries {
    tried: Vec<Arc<Link>>,
    worst: Option<Blame>,
    is_over: bool,
}

impl Tries {
    /// The next link; when there is none left, what came of the tries before. A request that `may_repeat` can leave
    /// its link later.
    pub(crate) async fn next(
        &self,
        exchange: &Exchange,
        may_repeat: bool,
    ) -> Result<InFlight, Refusal> {
        exchange.account.core().registry.wake(exchange.clock.judged_at);
        match self.pick(exchange) {
            Ok(in_flight) if may_repeat || !in_flight.link().trust.is_suspect() => Ok(in_flight),
            Err(NoPick::Full) => Err(self.full()),
            Ok(_) | Err(NoPick::NoLink) => Box::pin(self.wait(exchange)).await,
        }
    }

    fn pick(&self, exchange: &Exchange) -> Result<InFlight, NoPick> {
        exchange.tunnel.pick(exchange.client.worker(), &self.tried)
    }

    fn full(&self) -> Refusal {
        if self.worst.is_none() { Code::TunnelFull.into() } else { self.refusal() }
    }

    /// Waits for a link, where one is likely to come, or for one that is not suspect.
    async fn wait(&self, exchange: &Exchange) -> Result<InFlight, Refusal> {
        let (tunnel, registry) = (&exchange.tunnel, &exchange.account.core().registry);
        let Some(_place) = registry.wait() else {
            return self.pick(exchange).map_err(|_| self.refusal());
        };
        let well_by = Instant::now() + WELL_WITHIN;
        let mut link_by = None;
        loop {
            let mut arrives = pin!(tunnel.link_arrives());
            // From now on none is overlooked.
            arrives.as_mut().enable();
            let now = Instant::now();
            let (until, is_missing) = match self.pick(exchange) {
                Ok(in_flight) if now >= well_by || !in_flight.link().trust.is_suspect() => {
                    return Ok(in_flight);
                }
                Ok(_) => (well_by, false),
                Err(NoPick::Full) => return Err(self.full()),
                Err(NoPick::NoLink) => (*link_by.get_or_insert(now + LINK_WITHIN), true),
            };
            if is_missing {
                if registry.leaving().is_cancelled() {
                    return Err(self.worst.map_or(Code::EdgeUnavailable, Code::from).into());
                }
                if now >= until || !tunnel.is_missed() {
                    return Err(self.refusal());
                }
            }
            tokio::select! {
                () = arrives => {}
                () = exchange.live.cut() => return Err(Code::AccessRevoked.into()),
                () = registry.leaving().cancelled(), if is_missing => {}
                () = tokio::time::sleep_until(until.into()) => {}
            }
        }
    }

    /// Notes a failure: another link may follow if nothing was delivered and `is_whole`, or if the
    /// request `may_repeat` whatever came of it.
    pub(crate) fn failed(
        &mut self,
        in_flight: &InFlight,
        error: &SendError,
        is_whole: bool,
        may_repeat: bool,
    ) {
        let is_not_delivered = error.is_not_delivered();
        self.worst = self.worst.max(Some(Blame::from(error)));
        self.tried.push(in_flight.link().clone());
        // Another link leads to the same origin.
        let may_follow = !error.is_incomplete() && (is_not_delivered && is_whole || may_repeat);
        // After this edge was stopped all of a tunnel's links may have ended. To find that out is no try. A request that
        // ends links itself must not be sent for ever either.
        let ended = self.tried.iter().filter(|link| link.has_ended()).count();
        let is_spent = self.tried.len() - ended >= MAX_TRIES || ended >= MAX_ENDED;
        self.is_over = !may_follow || is_spent;
    }

    /// Resolves when the link has become suspect, and another one is well: a request that may be repeated
    /// does not wait until the link is dead. Whoever waits must also wait for a cut of the stream, which is
    /// how it is woken.
    async fn better(&self, exchange: &Exchange, in_flight: &InFlight) {
        std::future::poll_fn(|_| {
            let is_better = in_flight.link().trust.is_suspect()
                && self.tried.len() + 1 < MAX_TRIES
                && exchange.tunnel.has_well_link(&self.tried);
            if is_better { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Leaves a link for a better one.
    fn leave(&mut self, in_flight: &InFlight) {
        self.worst = self.worst.max(Some(Blame::LinkLost));
        self.tried.push(in_flight.link().clone());
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    pub(crate) fn refusal(&self) -> Refusal {
        self.worst.map_or_else(no_link, |blame| Code::from(blame).into())
    }
}

/// Cleans a response's fields, keeps what the connector says in Postern's name, adds the edge's phases,
/// and tells what became of the request.
pub(crate) fn finish(
    headers: &mut HeaderMap,
    clock: Clock,
    sent_at: Instant,
    account: &mut Account,
) {
    let phases = headers.remove(fields::PHASES);
    // With the phases gone, few answers hold anything that may not pass as it is.
    let is_clean = !fields::must_strip(headers);
    let outcome = if is_clean { Outcome::Ok } else { clean(headers) };
    let phases = phases.as_ref().and_then(|phases| phases.to_str().ok());
    let mut phases = phases.map(Phases::parse).unwrap_or_default();
    let link_us = micros(sent_at, Instant::now()).saturating_sub(phases.total());
    phases.set(Phase::Policy, clock.judged_us);
    phases.set(Phase::Edge, micros(clock.judged_at, sent_at));
    phases.set(Phase::Link, link_us);
    account.core().metrics.phases(&phases);
    headers.insert(fields::PHASES, phases.to_value());
    account.answered(outcome, phases);
}

/// Cleans fields; tells whether the connector has refused the request, and why.
fn clean(headers: &mut HeaderMap) -> Outcome {
    let (error, source) = (headers.remove(fields::ERROR), headers.remove(fields::ERROR_SOURCE));
    fields::strip(headers);
    let code = error.as_ref().and_then(|error| error.to_str().ok()?.parse().ok());
    for (name, value) in [(fields::ERROR, error), (fields::ERROR_SOURCE, source)] {
        if let Some(value) = value {
            headers.insert(name, value);
        }
    }
    code.map_or(Outcome::Ok, Outcome::Refused)
}

fn micros(from: Instant, to: Instant) -> u64 {
    to.saturating_duration_since(from).as_micros() as u64
}
