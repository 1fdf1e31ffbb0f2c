//! An edge joins: it shows a join token and gets its identity and its certificate. An edge that joins
//! again under the address of its links stays the same edge.

use std::{collections::BTreeSet, net::SocketAddr};

use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use protocol::{
    id::JoinTokenId,
    join::{JoinRequest, JoinResponse, JoinToken},
};

use super::{Body, full};
use crate::{
    api::problem::Problem,
    app::App,
    failures::Failure,
    random,
    store::{
        self,
        audit::{Actor, Entry},
        edge::Edge,
        join_token::JoinTokenRow,
    },
};

/// Largest request to join, in bytes.
const MAX_REQUEST: usize = 64 * 1024;

pub(super) async fn handle(
    app: &App,
    peer: SocketAddr,
    body: Incoming,
) -> Result<Response<Body>, Problem> {
    let body = Limited::new(body, MAX_REQUEST)
        .collect()
        .await
        .map_err(|_| Problem::too_large("a request to join has at most 64 KiB"))?
        .to_bytes();
    let request: JoinRequest =
        serde_json::from_slice(&body).map_err(|error| Problem::invalid(error.to_string()))?;
    let response = join(app, peer, request).await?;
    let json = serde_json::to_vec(&response).expect("a join response is plain data");
    let mut response = Response::new(full(json));
    *response.status_mut() = StatusCode::OK;
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    Ok(response)
}

async fn join(app: &App, peer: SocketAddr, request: JoinRequest) -> Result<JoinResponse, Problem> {
    let refused = |id: Option<JoinTokenId>, reason| {
        let subject = id.map(|id| id.to_string()).unwrap_or_default();
        let (action, ip) = ("edge.join_fail", peer.ip());
        app.failures.note(Failure { tenant: None, action, subject, ip, reason });
        Problem::unauthenticated(
            "the join token is not valid, has expired or was revoked: make a new one",
        )
    };
    let token = JoinToken::decode(&request.token).map_err(|_| refused(None, "malformed"))?;
    let now_ms = app.clock.now_ms();
    let judge = |row: Option<JoinTokenRow>| {
        let reason = match row {
            None => "unknown",
            Some(row) if !row.digest.matches(&token.secret) => "wrong_secret",
            Some(row) if row.revoked_ms.is_some() => "revoked",
            Some(row) if row.expires_ms <= now_ms => "expired",
            Some(_) => return Ok(()),
        };
        Err(refused(Some(token.id), reason))
    };
    // Nobody waits for a stranger: it is judged before anything is written, and once more where nobody can come
    // between.
    let mut db = app.store.read().await?;
    judge(store::join_token::find(&mut db, token.id).await?)?;
    drop(db);
    let mut change = app.store.change().await?;
    judge(store::join_token::find(&mut change, token.id).await?)?;
    let edges = store::edge::list(&mut change).await?;
    let known = edges.into_iter().find(|edge| edge.link.address == request.link.address);
    let edge = Edge {
        id: known.map_or_else(random::id, |edge| edge.id),
        link: request.link,
        gateway: request.gateway,
        joined_ms: now_ms,
    };
    let hosts = BTreeSet::from([edge.link.address.host.as_str(), edge.gateway.host.as_str()]);
    let certificate = app
        .authority
        .certify_edge(edge.id, hosts, &request.certificate_request)
        .map_err(|error| Problem::invalid(error.to_string()))?;
    store::edge::put(&mut change, &edge).await?;
    store::join_token::touch(&mut change, token.id, now_ms).await?;
    let entry = Entry {
        tenant: store::tenant::operator(&mut change).await?,
        actor: Actor::Edge { address: peer.ip().to_string() },
        action: "edge.join",
        subject: edge.id.to_string(),
        detail: serde_json::json!({ "link": &edge.link, "join_token": token.id }),
        at_ms: now_ms,
    };
    change.commit(entry).await?;
    tracing::info!(
        edge = %edge.id,
        region = %edge.link.region,
        address = %edge.link.address,
        "an edge has joined"
    );
    Ok(JoinResponse {
        edge: edge.id,
        certificate,
        ca_certificate: app.authority.certificate_pem().to_owned(),
    })
}
