//! A tunnel's secrets. During a rotation two are live; a revoked one is cut at once and never
//! returns. Only public halves are stored.

use std::collections::HashMap;

use axum::extract::State;
use http::StatusCode;
use protocol::{
    address::EdgeAddress,
    id::{KeyId, TunnelId},
    key::Seed,
    name::TunnelName,
    secret::{MAX_EDGES, TunnelSecret},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    extract::{Caller, Json, Path, Query},
    list::{List, Paging},
    problem::Problem,
    rollout::Rollout,
    timestamp::Timestamp,
    tunnels,
};
use crate::{
    app::{App, Shared},
    presence::state::ConnectorView,
    random,
    store::{
        self, Change,
        page::{Position, Slice, State as Shown},
        tunnel::TunnelKey,
    },
};

/// Live secrets of a tunnel: the one in use and the one that replaces it.
const MAX_LIVE: usize = 2;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(list_secrets, rotate_secret)).routes(routes!(revoke_secret))
}

/// A secret, by its public half.
#[derive(Serialize, ToSchema)]
pub(super) struct SecretView {
    /// Stands in the secret and in the connector's log.
    #[schema(value_type = Uuid)]
    key: KeyId,
    created_at: Timestamp,
    /// When a link was last opened or held with it.
    last_used_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
    /// Links that it holds now.
    links: usize,
}

/// Which of them.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ListSecrets {
    /// `live`, `ended` (revoked) or `all`; `live` without it.
    #[serde(default)]
    #[param(inline)]
    state: Shown,
}

/// A new secret.
#[derive(Serialize, ToSchema)]
struct RotatedSecret {
    #[schema(value_type = Uuid)]
    key: KeyId,
    /// What `TUNNEL_SECRET` is to hold, shown this once.
    secret: String,
    rollout: Rollout,
}

/// What came of a revocation.
#[derive(Serialize, ToSchema)]
struct RevokedSecret {
    rollout: Rollout,
}

/// Lists a tunnel's secrets with their last use, oldest first.
#[utoipa::path(
    get, path = "/api/v1/admin/tunnel/{name}/secrets", tag = "tunnels",
    params(("name" = String, Path, description = "The tunnel's name."), Paging, ListSecrets),
    responses((status = 200, description = "A page of secrets.", body = List<SecretView>)),
)]
async fn list_secrets(
    State(app): State<Shared>,
    caller: Caller,
    Path(name): Path<TunnelName>,
    Query(paging): Query<Paging>,
    Query(ListSecrets { state }): Query<ListSecrets>,
) -> Result<Json<List<SecretView>>, Problem> {
    caller.must_manage_tunnels()?;
    let (page, order) = paging.page(None, store::tunnel::KEY_COLUMNS)?;
    let mut db = app.store.read().await?;
    let tunnel = tunnels::find(&mut db, &caller, &name).await?;
    let mut keys = store::tunnel::keys(&mut db, tunnel.id).await?;
    keys.retain(|key| state.shows(key.revoked_ms.is_none()));
    let connectors = app.presence.state().connectors(tunnel.id);
    let secrets = views(keys, &connectors, app.clock.now_ms());
    let place = |secret: &SecretView| Position::new(secret.created_at.0, secret.key);
    Ok(Json(List::new(Slice::of(secrets, &page, place), &order)))
}

/// Makes a second secret. Revoke the first once every connector runs with the second.
#[utoipa::path(
    post, path = "/api/v1/admin/tunnel/{name}/secrets", tag = "tunnels",
    params(("name" = String, Path, description = "The tunnel's name.")),
    responses((status = 201, description = "The secret, shown this once.", body = RotatedSecret)),
)]
async fn rotate_secret(
    State(app): State<Shared>,
    caller: Caller,
    Path(name): Path<TunnelName>,
) -> Result<(StatusCode, Json<RotatedSecret>), Problem> {
    caller.must_manage_tunnels()?;
    let mut change = app.store.change().await?;
    let tunnel = tunnels::find(&mut change, &caller, &name).await?;
    let keys = store::tunnel::keys(&mut change, tunnel.id).await?;
    if keys.iter().filter(|key| key.revoked_ms.is_none()).count() >= MAX_LIVE {
        return Err(Problem::conflict(
            "the tunnel has two live secrets already",
            "Revoke the older one first; the list shows which is still in use.",
        ));
    }
    let (secret, key) = make(&app, &mut change, tunnel.id).await?;
    let detail = serde_json::json!({ "secret": key });
    let generation =
        change.commit(caller.entry(&app, "tunnel.rotate_secret", &name, detail)).await?;
    let rollout = Rollout::of(&app, generation).await?;
    let secret = secret.encode().to_string();
    Ok((StatusCode::CREATED, Json(RotatedSecret { key, secret, rollout })))
}

/// Revokes a secret: its links are cut and cannot return.
#[utoipa::path(
    delete, path = "/api/v1/admin/tunnel/{name}/secrets/{key}", tag = "tunnels",
    params(
        ("name" = String, Path, description = "The tunnel's name."),
        ("key" = Uuid, Path, description = "The secret's key id."),
    ),
    responses((status = 200, description = "Revoked.", body = RevokedSecret)),
)]
async fn revoke_secret(
    State(app): State<Shared>,
    caller: Caller,
    Path((name, key)): Path<(TunnelName, KeyId)>,
) -> Result<Json<RevokedSecret>, Problem> {
    caller.must_manage_tunnels()?;
    let mut change = app.store.change().await?;
    let tunnel = tunnels::find(&mut change, &caller, &name).await?;
    let keys = store::tunnel::keys(&mut change, tunnel.id).await?;
    let known = keys.iter().find(|known| known.id == key);
    let known = known.ok_or_else(|| Problem::not_found("secret"))?;
    if known.revoked_ms.is_none() {
        store::tunnel::revoke_key(&mut change, tunnel.id, key, app.clock.now_ms()).await?;
    }
    let detail = serde_json::json!({ "secret": key });
    let generation =
        change.commit(caller.entry(&app, "tunnel.revoke_secret", &name, detail)).await?;
    Ok(Json(RevokedSecret { rollout: Rollout::of(&app, generation).await? }))
}

/// Draws a secret for a tunnel and stores its public half.
pub(super) async fn make(
    app: &App,
    change: &mut Change,
    tunnel: TunnelId,
) -> Result<(TunnelSecret, KeyId), Problem> {
    let edges = bootstrap(app, change).await?;
    let seed = Seed::from_bytes(*random::bytes::<32>());
    let key = TunnelKey {
        id: random::id(),
        public_key: seed.public_key(),
        created_ms: app.clock.now_ms(),
        last_used_ms: None,
        revoked_ms: None,
    };
    store::tunnel::insert_key(change, tunnel, &key).await?;
    let ca_pin = Some(app.authority.pin());
    Ok((TunnelSecret { tunnel, key: key.id, seed, edges, ca_pin }, key.id))
}

/// The edges that a connector dials first: live ones before others, regions in turn.
async fn bootstrap(app: &App, change: &mut Change) -> Result<Vec<EdgeAddress>, Problem> {
    let edges = store::edge::list(change).await?;
    if edges.is_empty() {
        return Err(Problem::no_edge());
    }
    let now_ms = app.clock.now_ms();
    let state = app.presence.state();
    let mut seen = HashMap::new();
    let mut ranked: Vec<_> = edges
        .into_iter()
        .map(|edge| {
            let is_silent = !state.edge(edge.id, now_ms).is_live;
            let rank: &mut usize = seen.entry((is_silent, edge.link.region.clone())).or_default();
            *rank += 1;
            ((is_silent, *rank), edge.link)
        })
        .collect();
    ranked.sort();
    Ok(ranked.into_iter().map(|(_, link)| link).take(MAX_EDGES).collect())
}

/// Secrets with their use, of which links that are up know the latest.
pub(super) fn views(
    keys: Vec<TunnelKey>,
    connectors: &[ConnectorView],
    now_ms: u64,
) -> Vec<SecretView> {
    let view = |key: TunnelKey| {
        let links = connectors.iter().flat_map(|connector| &connector.links);
        let links = links.filter(|(_, link)| link.key == key.id).count();
        let last_used_ms = if links > 0 { Some(now_ms) } else { key.last_used_ms };
        SecretView {
            key: key.id,
            created_at: Timestamp(key.created_ms),
            last_used_at: last_used_ms.map(Timestamp),
            revoked_at: key.revoked_ms.map(Timestamp),
            links,
        }
    };
    keys.into_iter().map(view).collect()
}
