//! Sends a request through a tunnel: like any other client, by an edge's gateway, with a capability
//! that is good for this tunnel and a few minutes. Another gateway is tried only if the request
//! provably did not reach the origin.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use protocol::{
    access::{Caller, Decision},
    claims::{self, Capability},
    fields,
    name::TunnelName,
    phases::{Phase, Phases},
    refusal::{Code, Refusal},
};
use rand::seq::SliceRandom as _;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use zeroize::Zeroizing;

use super::{
    exchange::{self, Broken, Connection, Exchanged},
    http_action::{Failure, Prepared, Trace, microseconds},
};
use crate::{
    app::App,
    ca, random,
    store::{self, edge::Edge, tunnel::Tunnel},
};

/// A gateway that does not accept a connection in that time is passed over.
const DIAL: Duration = Duration::from_secs(3);
/// Largest body of a refusal that is read.
const MAX_PROBLEM: usize = 64 * 1024;

/// Why a gateway gave no answer of the origin.
struct Refused {
    failure: Failure,
    /// Nothing reached the origin: another gateway may be asked.
    is_undelivered: bool,
}

impl Refused {
    fn undelivered(code: Code, detail: String) -> Self {
        Self { failure: Refusal::new(code, detail).into(), is_undelivered: true }
    }

    fn delivered(code: Code, detail: &str) -> Self {
        Self { failure: Refusal::new(code, detail).into(), is_undelivered: false }
    }
}

pub(super) async fn send(
    app: &App,
    caller: &Caller,
    name: &TunnelName,
    request: &Prepared,
    trace: &mut Trace,
) -> Result<Exchanged, Failure> {
    let (tunnel, gateways) = route(app, caller, name).await?;
    let mut last = Refused::undelivered(
        Code::EdgeUnavailable,
        "no edge is in touch with the control plane".to_owned(),
    );
    for (edge, is_tls) in gateways {
        trace.phases = Phases::default();
        trace.gateways.push(format!("{} {}", edge.link.region, edge.gateway));
        let credentials = credentials(app, caller, &tunnel)?;
        let tls = is_tls.then_some(&app.to_gateways);
        match attempt(&edge, tls, credentials, request, trace).await {
            Ok(exchanged) => return Ok(exchanged),
            Err(refused) if refused.is_undelivered => last = refused,
            Err(refused) => return Err(refused.failure),
        }
    }
    Err(last.failure)
}

/// Looks the tunnel up and judges access early, for a clear answer; the edge decides. Gateways with a
/// link of the tunnel come first, and regions alternate. With each comes whether it speaks TLS.
async fn route(
    app: &App,
    caller: &Caller,
    name: &TunnelName,
) -> Result<(Tunnel, Vec<(Edge, bool)>), Refusal> {
    let lookup = async {
        let mut db = app.store.read().await?;
        let tunnel = store::tunnel::by_name(&mut db, caller.tenant, name).await?;
        Ok::<_, store::Error>((tunnel, store::edge::list(&mut db).await?))
    };
    let (tunnel, mut edges) = lookup.await.map_err(|error| {
        tracing::error!(
            error = &error as &dyn std::error::Error,
            "a tunnel could not be looked up"
        );
        Refusal::new(Code::EdgeUnavailable, "the database failed")
    })?;
    let unknown = || Refusal::new(Code::UnknownTunnel, format!("there is no tunnel {name}"));
    let tunnel = tunnel.ok_or_else(unknown)?;
    match tunnel.access.evaluate(tunnel.tenant, caller) {
        Decision::Allowed => {}
        Decision::OtherTenant => return Err(unknown()),
        Decision::TeamNotListed => {
            let detail = format!("the workflow's team is not on the access list of tunnel {name}");
            return Err(Refusal::new(Code::AccessDenied, detail));
        }
    }
    let now_ms = app.clock.now_ms();
    edges.shuffle(&mut rand::rng());
    let (edges, linked) = {
        let state = app.presence.state();
        let views = edges.into_iter().map(|edge| (state.edge(edge.id, now_ms), edge));
        let live = views.filter(|(view, _)| view.is_live);
        let edges: Vec<_> = live.map(|(view, edge)| (edge, view.gateway_tls)).collect();
        let connectors = state.connectors(tunnel.id);
        let links = connectors.into_iter().flat_map(|connector| connector.links);
        (edges, links.map(|(edge, _)| edge).collect::<Vec<_>>())
    };
    let mut seen = HashMap::new();
    let mut ranked: Vec<_> = edges
        .into_iter()
        .map(|(edge, is_tls)| {
            let rank: &mut usize = seen.entry(edge.link.region.clone()).or_default();
            *rank += 1;
            ((!linked.contains(&edge.id), *rank), (edge, is_tls))
        })
        .collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    Ok((tunnel, ranked.into_iter().map(|(_, edge)| edge).collect()))
}

fn credentials(app: &App, caller: &Caller, tunnel: &Tunnel) -> Result<HeaderValue, Refusal> {
    let fail = || Refusal::new(Code::BadCredentials, "the capability could not be signed");
    let now = app.clock.now_ms() / 1000;
    let capability = Capability {
        iss: claims::ISSUER.to_owned(),
        aud: claims::AUDIENCE.to_owned(),
        sub: caller.workflow.ok_or_else(fail)?,
        tenant: caller.tenant,
        team: caller.team,
        tunnel: tunnel.id,
        exp: now + claims::MAX_LIFETIME_S,
        nbf: now,
        iat: now,
        jti: random::id::<uuid::Uuid>().to_string(),
    };
    let token = app.signer.sign(&capability).map_err(|_| fail())?;
    let pair = Zeroizing::new(format!("{}:{}", tunnel.name, token.as_str()));
    let basic = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
    let mut value = HeaderValue::from_str(&basic).map_err(|_| fail())?;
    value.set_sensitive(true);
    Ok(value)
}

async fn attempt(
    edge: &Edge,
    tls: Option<&Arc<rustls::ClientConfig>>,
    credentials: HeaderValue,
    request: &Prepared,
    trace: &mut Trace,
) -> Result<Exchanged, Refused> {
    let address = &edge.gateway;
    let unreachable = || {
        Refused::undelivered(
            Code::EdgeUnavailable,
            format!("the gateway {address} cannot be reached"),
        )
    };
    let dial = TcpStream::connect((address.host.as_str(), address.port));
    let stream =
        tokio::time::timeout(DIAL, dial).await.ok().and_then(Result::ok).ok_or_else(unreachable)?;
    // Without Nagle a small request leaves at once; a socket that cannot be told so still works.
    let _ = stream.set_nodelay(true);
    let connection = match tls {
        None => Connection::new(stream).await,
        Some(tls) => Connection::new(shake_hands(edge, tls, stream).await?).await,
    };
    let connection = connection.map_err(|_| unreachable())?;
    if request.is_https() {
        through_connect(connection, credentials, request, trace).await
    } else {
        absolute(connection, credentials, request, trace).await
    }
}

/// Makes sure that this is a gateway of the deployment before it gets a capability.
async fn shake_hands(
    edge: &Edge,
    tls: &Arc<rustls::ClientConfig>,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>, Refused> {
    let address = &edge.gateway;
    let failed = |reason: String| {
        let detail = format!("TLS with the gateway {address} failed: {reason}");
        Refused::undelivered(Code::EdgeUnavailable, detail)
    };
    let name = ServerName::try_from(address.host.clone())
        .map_err(|_| failed("its host is no name for TLS".to_owned()))?;
    let handshake = TlsConnector::from(tls.clone()).connect(name, stream);
    let stream = match tokio::time::timeout(DIAL, handshake).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(failed(error.to_string())),
        Err(_) => return Err(failed(format!("no answer within {} s", DIAL.as_secs()))),
    };
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    if shown.and_then(ca::edge_of).is_none() {
        return Err(failed("its certificate is not that of an edge".to_owned()));
    }
    Ok(stream)
}

/// Plain HTTP: the gateway forwards the request.
async fn absolute(
    mut connection: Connection,
    credentials: HeaderValue,
    request: &Prepared,
    trace: &mut Trace,
) -> Result<Exchanged, Refused> {
    let mut message = request.request(true);
    message.headers_mut().insert(header::PROXY_AUTHORIZATION, credentials);
    let started = Instant::now();
    let mut response = connection.send(message).await.map_err(lost)?;
    trace.phases.set(Phase::FirstByte, microseconds(started));
    merge(&response, trace);
    if response.headers().contains_key(fields::ERROR) {
        return Err(refusal(response).await);
    }
    fields::strip_internal(response.headers_mut());
    Ok(exchange::finish(response, request.response_limit, Code::LinkLost, trace).await)
}

/// HTTPS: the gateway opens the way, and TLS goes from here to the origin.
async fn through_connect(
    mut connection: Connection,
    credentials: HeaderValue,
    request: &Prepared,
    trace: &mut Trace,
) -> Result<Exchanged, Refused> {
    let host = if request.host.contains(':') {
        format!("[{}]", request.host)
    } else {
        request.host.clone()
    };
    let target = format!("{host}:{}", request.port);
    let invalid = |_| Refused::delivered(Code::BadTarget, "the URL's host is not valid");
    let mut connect = Request::new(Full::new(Bytes::new()));
    *connect.method_mut() = Method::CONNECT;
    let host = HeaderValue::from_str(&target)
        .map_err(|_| Refused::delivered(Code::BadTarget, "the URL's host is not valid"))?;
    *connect.uri_mut() = target.parse::<Uri>().map_err(invalid)?;
    *connect.headers_mut() =
        HeaderMap::from_iter([(header::HOST, host), (header::PROXY_AUTHORIZATION, credentials)]);
    let response = connection.send(connect).await.map_err(lost)?;
    merge(&response, trace);
    if !response.status().is_success() {
        return Err(refusal(response).await);
    }
    let broke = |_| Refused::delivered(Code::LinkLost, "the gateway did not open the way");
    let stream = TokioIo::new(hyper::upgrade::on(response).await.map_err(broke)?);
    let stream = exchange::tls(stream, request, trace)
        .await
        .map_err(|failure| Refused { failure, is_undelivered: false })?;
    let started = Instant::now();
    let mut inner = Connection::new(stream).await.map_err(lost)?;
    let response = inner.send(request.request(false)).await.map_err(|broken| {
        let code = if broken.is_garbage { Code::OriginGarbage } else { Code::LinkLost };
        Refused::delivered(code, "the connection to the origin closed before an answer came")
    })?;
    trace.phases.set(Phase::FirstByte, microseconds(started));
    Ok(exchange::finish(response, request.response_limit, Code::LinkLost, trace).await)
}

fn merge(response: &Response<Incoming>, trace: &mut Trace) {
    let value = response.headers().get(fields::PHASES).and_then(|value| value.to_str().ok());
    trace.phases.merge(&Phases::parse(value.unwrap_or_default()));
}

fn lost(broken: Broken) -> Refused {
    if broken.is_unsent {
        return Refused::undelivered(
            Code::EdgeUnavailable,
            "the gateway closed the connection before the request was sent".to_owned(),
        );
    }
    Refused::delivered(Code::LinkLost, "the gateway closed the connection before an answer came")
}

/// The refusal in a gateway's response: the code in its header, the case in its body.
async fn refusal(response: Response<Incoming>) -> Refused {
    let code = response.headers().get(fields::ERROR).and_then(|value| value.to_str().ok());
    let code = code.and_then(|code| code.parse().ok());
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_PROBLEM).collect().await;
    let problem = body
        .ok()
        .and_then(|body| serde_json::from_slice::<serde_json::Value>(&body.to_bytes()).ok());
    let detail = problem.as_ref().and_then(|problem| problem.get("detail")?.as_str());
    let Some(code) = code else {
        let detail = format!("the gateway answered {status}");
        return Refused {
            failure: Refusal::new(Code::EdgeUnavailable, detail).into(),
            is_undelivered: false,
        };
    };
    let refusal = detail.map_or_else(|| Refusal::from(code), |detail| Refusal::new(code, detail));
    let is_undelivered = matches!(code, Code::NotDelivered | Code::EdgeUnavailable | Code::NoLink);
    Refused { failure: refusal.into(), is_undelivered }
}
