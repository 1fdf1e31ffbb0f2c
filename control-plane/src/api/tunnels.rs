//! Tunnels, for owners and users with TUNNEL_MANAGE.

use axum::extract::State;
use http::StatusCode;
use protocol::{
    access::Decision,
    health,
    id::{ConnectorId, EdgeId, KeyId, TeamId, TunnelId},
    name::TunnelName,
    presence::Transport,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    access::AccessBody,
    edit::{Edited, Editors, IfMatch, Versioned},
    extract::{Caller, Json, Path, Query, display_text},
    health::{HealthView, HealthWord},
    list::{List, Paging, search},
    problem::Problem,
    rollout::Rollout,
    secrets::{self, SecretView},
    timestamp::Timestamp,
    usage,
};
use crate::{
    app::{App, Shared},
    presence::state::ConnectorView,
    random,
    store::{
        self, Read,
        edge::Edge,
        page::Slice,
        presence::HealthRow,
        stamp::{Stamp, Stamped},
        tunnel::Tunnel,
    },
};

mod summary;

use summary::TunnelSummary;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(list_tunnels, create_tunnel)).routes(routes!(
        get_tunnel,
        rename_tunnel,
        delete_tunnel
    ))
}

/// A tunnel.
#[derive(Serialize, ToSchema)]
struct TunnelView {
    #[schema(value_type = Uuid)]
    id: TunnelId,
    /// Never changes; stands in URLs and proxy credentials.
    #[schema(value_type = String)]
    name: TunnelName,
    display_name: String,
    access: AccessBody,
    health: HealthView,
    created_at: Timestamp,
    #[serde(flatten)]
    edited: Edited,
}

impl TunnelView {
    fn new(app: &App, tunnel: &Tunnel, editors: &Editors) -> Self {
        Self {
            id: tunnel.id,
            name: tunnel.name.clone(),
            display_name: tunnel.display_name.clone(),
            access: tunnel.access.clone().into(),
            health: health_of(app, tunnel).into(),
            created_at: Timestamp(tunnel.created_ms),
            edited: editors.edited(tunnel.stamp),
        }
    }
}

/// Which of them, in which order.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ListTunnels {
    /// `name`, `display_name`, `created_at`, `updated_at` or `health`, with `-` before it for descending; `name` without it.
    sort: Option<String>,
    /// Only those whose name or display name contains this; ASCII letters in either case.
    #[param(max_length = 128)]
    search: Option<String>,
    /// Only tunnels that are that well.
    #[param(inline)]
    health: Option<HealthWord>,
    /// Only tunnels with a link to an edge in this region.
    region: Option<String>,
    /// Only tunnels that this team may use.
    #[param(value_type = Option<Uuid>)]
    team: Option<TeamId>,
}

/// A tunnel to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateTunnel {
    /// 1 to 63 of a-z, 0-9 and -; unique in the tenant; never changes.
    #[schema(value_type = String, pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
    name: TunnelName,
    /// For people; the name, if it is left out.
    #[schema(min_length = 1, max_length = 128)]
    display_name: Option<String>,
    /// Who may use it; any team, if it is left out.
    access: Option<AccessBody>,
}

/// A new tunnel.
#[derive(Serialize, ToSchema)]
struct CreatedTunnel {
    #[serde(flatten)]
    tunnel: TunnelView,
    /// What `TUNNEL_SECRET` is to hold, shown this once.
    secret: String,
    rollout: Rollout,
}

/// A tunnel with all that is known of it.
#[derive(Serialize, ToSchema)]
struct TunnelDetail {
    #[serde(flatten)]
    tunnel: TunnelView,
    secrets: Vec<SecretView>,
    connectors: Vec<ConnectorBody>,
}

/// A connector that serves, or has vanished.
#[derive(Serialize, ToSchema)]
struct ConnectorBody {
    #[schema(value_type = Uuid)]
    id: ConnectorId,
    version: String,
    host: String,
    platform: String,
    /// Digest of the policy of its own that it obeys: as long as it stays the same, so do the rules.
    /// Without one it has no policy.
    policy: Option<String>,
    /// When it started, by its own clock; connectors before 0.2 do not say.
    started_at: Option<Timestamp>,
    /// How much it logs: `error`, `warn`, `info`, `debug` or `trace`.
    log_level: Option<String>,
    /// Its own setting lets the cloud change how much it logs.
    log_level_from_cloud: bool,
    links: Vec<LinkBody>,
    /// When its last link was lost without a goodbye.
    vanished_at: Option<Timestamp>,
}

/// A link.
#[derive(Serialize, ToSchema)]
struct LinkBody {
    slot: u8,
    region: Option<String>,
    #[schema(value_type = Uuid)]
    edge: EdgeId,
    /// `quic` or `http2`.
    #[schema(value_type = String)]
    transport: Transport,
    /// The secret that opened it.
    #[schema(value_type = Uuid)]
    secret: KeyId,
    /// Round-trip time in microseconds, once measured.
    rtt_us: Option<u64>,
    since: Timestamp,
    /// The connector's address as the edge sees it.
    #[schema(value_type = String)]
    remote: std::net::SocketAddr,
}

impl ConnectorBody {
    fn new(view: ConnectorView, edges: &[Edge]) -> Self {
        let links = view.links.into_iter().map(|(id, link)| {
            let edge = edges.iter().find(|edge| edge.id == id);
            LinkBody {
                slot: link.slot,
                region: edge.map(|edge| edge.link.region.to_string()),
                edge: id,
                transport: link.transport,
                secret: link.key,
                rtt_us: link.rtt_us,
                since: Timestamp(link.since_ms),
                remote: link.remote,
            }
        });
        Self {
            id: view.connector,
            links: links.collect(),
            version: view.facts.version,
            host: view.facts.host,
            platform: view.facts.platform,
            policy: view.facts.policy,
            started_at: view.facts.started_ms.map(Timestamp),
            log_level: view.facts.log_level,
            log_level_from_cloud: view.facts.log_level_from_cloud,
            vanished_at: view.vanished_ms.map(Timestamp),
        }
    }
}

/// What can change of a tunnel.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RenameTunnel {
    #[schema(min_length = 1, max_length = 128)]
    display_name: String,
}

/// What came of a removal.
#[derive(Serialize, ToSchema)]
struct DeletedTunnel {
    rollout: Rollout,
}

/// Lists the tenant's tunnels with their links. By health the worst come first.
#[utoipa::path(
    get, path = "/api/v1/admin/tunnel", tag = "tunnels", params(Paging, ListTunnels),
    responses((status = 200, description = "A page of tunnels.", body = List<TunnelSummary>)),
)]
async fn list_tunnels(
    State(app): State<Shared>,
    caller: Caller,
    Query(paging): Query<Paging>,
    Query(query): Query<ListTunnels>,
) -> Result<Json<List<TunnelSummary>>, Problem> {
    caller.must_manage_tunnels()?;
    let (page, order) = paging.page(query.sort.as_deref(), store::tunnel::COLUMNS)?;
    let search = search(query.search.as_deref())?.map(str::to_ascii_lowercase);
    let mut db = app.store.read().await?;
    let mut tunnels = store::tunnel::list(&mut db, caller.tenant()).await?;
    let edges = store::edge::list(&mut db).await?.into_iter();
    let editors = Editors::of(&mut db, tunnels.iter().map(|tunnel| tunnel.stamp).collect()).await?;
    drop(db);
    let regions = edges.map(|edge| (edge.id, edge.link.region.to_string())).collect();
    tunnels.retain(|tunnel| {
        let texts = [tunnel.name.as_str(), tunnel.display_name.as_str()];
        let is_named =
            |part: &String| texts.iter().any(|text| text.to_ascii_lowercase().contains(part));
        let is_usable = |team| {
            tunnel.access.evaluate(tunnel.tenant, &caller.as_member(team)) == Decision::Allowed
        };
        search.as_ref().is_none_or(is_named) && query.team.is_none_or(is_usable)
    });
    let mut tunnels: Vec<_> =
        tunnels.iter().map(|tunnel| TunnelSummary::new(&app, tunnel, &regions, &editors)).collect();
    tunnels.retain(|tunnel| tunnel.fits(query.health, query.region.as_deref()));
    let place = |tunnel: &TunnelSummary| tunnel.place(page.column.name);
    Ok(Json(List::new(Slice::of(tunnels, &page, place), &order)))
}

/// Makes a tunnel and its first secret.
#[utoipa::path(
    post, path = "/api/v1/admin/tunnel", tag = "tunnels", request_body = CreateTunnel,
    responses((status = 201, description = "The tunnel; its secret is shown this once.",
        body = CreatedTunnel)),
)]
async fn create_tunnel(
    State(app): State<Shared>,
    caller: Caller,
    Json(body): Json<CreateTunnel>,
) -> Result<(StatusCode, Versioned<CreatedTunnel>), Problem> {
    caller.must_manage_tunnels()?;
    let display_name = match &body.display_name {
        Some(text) => display_text(text, "the display name")?,
        None => body.name.to_string(),
    };
    let mut change = app.store.change().await?;
    let mut tunnel = Tunnel {
        id: random::id(),
        tenant: caller.tenant(),
        name: body.name,
        display_name,
        access: match body.access {
            Some(access) => access.validated(&mut change, caller.tenant()).await?,
            None => protocol::access::Access::default(),
        },
        created_ms: app.clock.now_ms(),
        ever_connected: false,
        stamp: Stamp::default(),
    };
    store::tunnel::insert(&mut change, &tunnel).await?;
    tunnel.stamp = caller.stamp(&app, &mut change, Stamped::Tunnel, tunnel.id).await?;
    let editors = Editors::of(&mut change, vec![tunnel.stamp]).await?;
    let (secret, _) = secrets::make(&app, &mut change, tunnel.id).await?;
    let detail = serde_json::json!({
        "id": tunnel.id, "access": &tunnel.access, "secret": secret.key,
    });
    let entry = caller.entry(&app, "tunnel.create", &tunnel.name, detail);
    let generation = change.commit(entry).await?;
    let created = CreatedTunnel {
        tunnel: TunnelView::new(&app, &tunnel, &editors),
        secret: secret.encode().to_string(),
        rollout: Rollout::of(&app, generation).await?,
    };
    Ok((StatusCode::CREATED, Versioned(tunnel.stamp, created)))
}

/// Shows a tunnel with its secrets, connectors and links.
#[utoipa::path(
    get, path = "/api/v1/admin/tunnel/{name}", tag = "tunnels",
    params(("name" = String, Path, description = "The tunnel's name.")),
    responses((status = 200, description = "The tunnel.", body = TunnelDetail)),
)]
async fn get_tunnel(
    State(app): State<Shared>,
    caller: Caller,
    Path(name): Path<TunnelName>,
) -> Result<Versioned<TunnelDetail>, Problem> {
    caller.must_manage_tunnels()?;
    let mut db = app.store.read().await?;
    let tunnel = find(&mut db, &caller, &name).await?;
    let edges = store::edge::list(&mut db).await?;
    let keys = store::tunnel::keys(&mut db, tunnel.id).await?;
    let editors = Editors::of(&mut db, vec![tunnel.stamp]).await?;
    let connectors = app.presence.state().connectors(tunnel.id);
    let detail = TunnelDetail {
        tunnel: TunnelView::new(&app, &tunnel, &editors),
        secrets: secrets::views(keys, &connectors, app.clock.now_ms()),
        connectors: connectors.into_iter().map(|view| ConnectorBody::new(view, &edges)).collect(),
    };
    Ok(Versioned(tunnel.stamp, detail))
}

/// Changes the display name.
#[utoipa::path(
    patch, path = "/api/v1/admin/tunnel/{name}", tag = "tunnels", request_body = RenameTunnel,
    params(("name" = String, Path, description = "The tunnel's name."), IfMatch),
    responses((status = 200, description = "The tunnel.", body = TunnelView)),
)]
async fn rename_tunnel(
    State(app): State<Shared>,
    caller: Caller,
    if_match: IfMatch,
    Path(name): Path<TunnelName>,
    Json(body): Json<RenameTunnel>,
) -> Result<Versioned<TunnelView>, Problem> {
    caller.must_manage_tunnels()?;
    let mut change = app.store.change().await?;
    let mut tunnel = find(&mut change, &caller, &name).await?;
    if_match.check(&mut change, tunnel.stamp).await?;
    tunnel.display_name = display_text(&body.display_name, "the display name")?;
    store::tunnel::set_display_name(&mut change, tunnel.id, &tunnel.display_name).await?;
    tunnel.stamp = caller.stamp(&app, &mut change, Stamped::Tunnel, tunnel.id).await?;
    let editors = Editors::of(&mut change, vec![tunnel.stamp]).await?;
    let detail = serde_json::json!({ "display_name": &tunnel.display_name });
    change.commit(caller.entry(&app, "tunnel.rename", &name, detail)).await?;
    Ok(Versioned(tunnel.stamp, TunnelView::new(&app, &tunnel, &editors)))
}

/// How to remove.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Force {
    /// Remove it though something uses it.
    #[serde(default)]
    pub(super) force: bool,
}

/// Removes a tunnel; its links are cut. While workflows use it this needs `force`.
#[utoipa::path(
    delete, path = "/api/v1/admin/tunnel/{name}", tag = "tunnels",
    params(("name" = String, Path, description = "The tunnel's name."), Force),
    responses((status = 200, description = "Removed.", body = DeletedTunnel)),
)]
async fn delete_tunnel(
    State(app): State<Shared>,
    caller: Caller,
    Path(name): Path<TunnelName>,
    Query(Force { force }): Query<Force>,
) -> Result<Json<DeletedTunnel>, Problem> {
    caller.must_manage_tunnels()?;
    let mut change = app.store.change().await?;
    let tunnel = find(&mut change, &caller, &name).await?;
    let used_by = usage::users_of(&mut change, &tunnel).await?;
    if !used_by.is_empty() && !force {
        let detail = format!("{} workflows use the tunnel", used_by.len());
        return Err(Problem::in_use(detail, used_by));
    }
    store::tunnel::delete(&mut change, tunnel.id).await?;
    let detail = serde_json::json!({ "id": tunnel.id, "used_by": used_by });
    let generation = change.commit(caller.entry(&app, "tunnel.delete", &name, detail)).await?;
    app.presence.forget(tunnel.id);
    Ok(Json(DeletedTunnel { rollout: Rollout::of(&app, generation).await? }))
}

/// The caller's tenant's tunnel of that name.
pub(super) async fn find(
    db: &mut impl Read,
    caller: &Caller,
    name: &TunnelName,
) -> Result<Tunnel, Problem> {
    let tunnel = store::tunnel::by_name(db, caller.tenant(), name).await?;
    tunnel.ok_or_else(|| Problem::not_found("tunnel"))
}

/// A tunnel's health, from its links.
pub(super) fn health_of(app: &App, tunnel: &Tunnel) -> HealthRow {
    app.presence.state().health(tunnel.id).unwrap_or_else(|| {
        let verdict = health::derive(tunnel.ever_connected, &[], app.clock.now_ms());
        HealthRow::new(tunnel.created_ms, verdict)
    })
}
