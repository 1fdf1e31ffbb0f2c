//! Running connectors: their links moved elsewhere or cut, how much they log, and vanished ones forgotten.

use axum::extract::State;
use http::StatusCode;
use protocol::{
    id::{ConnectorId, EdgeId},
    name::TunnelName,
    order::{LogLevel, Task},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    extract::{Caller, Json, Path, Query},
    no_content,
    problem::Problem,
    rollout::Rollout,
    tunnels,
};
use crate::{
    app::Shared,
    presence::state::ConnectorView,
    store::{self, Change, connector_order::Forgotten, tunnel::Tunnel},
};

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(forget_connector))
        .routes(routes!(cut_link))
        .routes(routes!(drain_link))
        .routes(routes!(set_log_level))
}

/// Something has been asked of a connector.
#[derive(Serialize, ToSchema)]
struct Asked {
    /// Which edges have heard of it.
    rollout: Rollout,
}

/// Which link of a slot.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct OfSlot {
    /// The link's edge. While a link moves, its slot has two links at different edges: then this says which one is
    /// meant.
    #[param(value_type = Option<Uuid>)]
    edge: Option<EdgeId>,
}

/// How much a connector is to log.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SetLogLevel {
    level: LogLevelBody,
}

/// How much is logged; each level has what those before it have.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum LogLevelBody {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl From<LogLevelBody> for LogLevel {
    fn from(level: LogLevelBody) -> Self {
        match level {
            LogLevelBody::Error => Self::Error,
            LogLevelBody::Warn => Self::Warn,
            LogLevelBody::Info => Self::Info,
            LogLevelBody::Debug => Self::Debug,
            LogLevelBody::Trace => Self::Trace,
        }
    }
}

/// Moves a link elsewhere: the connector brings up a replacement, at another edge if there is one, and the link
/// closes once no request is under way on it.
#[utoipa::path(
    post, path = "/api/v1/admin/tunnel/{name}/connectors/{connector}/links/{slot}/drain", tag = "tunnels",
    params(
        ("name" = String, Path, description = "The tunnel's name."),
        ("connector" = Uuid, Path, description = "The connector."),
        ("slot" = u8, Path, description = "The link's slot."),
        OfSlot,
    ),
    responses((status = 200, description = "The link's edge asks for it.", body = Asked)),
)]
async fn drain_link(
    State(app): State<Shared>,
    caller: Caller,
    Path((name, connector, slot)): Path<(TunnelName, ConnectorId, u8)>,
    Query(query): Query<OfSlot>,
) -> Result<Json<Asked>, Problem> {
    let asking = Asking::begin(&app, &caller, &name, connector).await?;
    let (edge, since_ms) = asking.link(slot, query.edge)?;
    let detail = json!({ "connector": connector, "slot": slot, "edge": edge });
    asking.ask(Task::DrainLink { slot, since_ms }, "tunnel.drain_link", detail).await
}

/// Cuts a link, with what is under way on it. The connector dials anew at once.
#[utoipa::path(
    delete, path = "/api/v1/admin/tunnel/{name}/connectors/{connector}/links/{slot}", tag = "tunnels",
    params(
        ("name" = String, Path, description = "The tunnel's name."),
        ("connector" = Uuid, Path, description = "The connector."),
        ("slot" = u8, Path, description = "The link's slot."),
        OfSlot,
    ),
    responses((status = 200, description = "The link's edge has been told.", body = Asked)),
)]
async fn cut_link(
    State(app): State<Shared>,
    caller: Caller,
    Path((name, connector, slot)): Path<(TunnelName, ConnectorId, u8)>,
    Query(query): Query<OfSlot>,
) -> Result<Json<Asked>, Problem> {
    let asking = Asking::begin(&app, &caller, &name, connector).await?;
    let (edge, since_ms) = asking.link(slot, query.edge)?;
    let detail = json!({ "connector": connector, "slot": slot, "edge": edge });
    asking.ask(Task::CutLink { slot, since_ms }, "tunnel.cut_link", detail).await
}

/// Changes how much a connector logs until it ends, if its own setting (TUNNEL_LOGLEVEL_FROM_CLOUD) lets the cloud
/// do so.
#[utoipa::path(
    put, path = "/api/v1/admin/tunnel/{name}/connectors/{connector}/log-level", tag = "tunnels",
    request_body = SetLogLevel,
    params(
        ("name" = String, Path, description = "The tunnel's name."),
        ("connector" = Uuid, Path, description = "The connector."),
    ),
    responses((status = 200, description = "The connector's edges tell it.", body = Asked)),
)]
async fn set_log_level(
    State(app): State<Shared>,
    caller: Caller,
    Path((name, connector)): Path<(TunnelName, ConnectorId)>,
    Json(body): Json<SetLogLevel>,
) -> Result<Json<Asked>, Problem> {
    let asking = Asking::begin(&app, &caller, &name, connector).await?;
    if !asking.view.facts.log_level_from_cloud {
        return Err(Problem::conflict(
            "this connector does not let the cloud change how much it logs",
            "Start it with TUNNEL_LOGLEVEL_FROM_CLOUD=true, or run `postern-connector loglevel LEVEL` on its host.",
        ));
    }
    let level = body.level.into();
    let before = asking.view.facts.log_level.clone();
    let detail = json!({ "connector": connector, "level": level, "before": before });
    asking.ask(Task::LogLevel { level }, "tunnel.set_log_level", detail).await
}

/// Forgets a connector that has vanished: the tunnel misses it no more.
#[utoipa::path(
    delete, path = "/api/v1/admin/tunnel/{name}/connectors/{connector}", tag = "tunnels",
    params(
        ("name" = String, Path, description = "The tunnel's name."),
        ("connector" = Uuid, Path, description = "The connector."),
    ),
    responses((status = 204, description = "Forgotten.")),
)]
async fn forget_connector(
    State(app): State<Shared>,
    caller: Caller,
    Path((name, connector)): Path<(TunnelName, ConnectorId)>,
) -> Result<StatusCode, Problem> {
    let Asking { mut change, tunnel, view, .. } =
        Asking::begin(&app, &caller, &name, connector).await?;
    if view.vanished_ms.is_none() {
        return Err(Problem::conflict(
            "this connector holds links",
            "Stop it on its host, or revoke its secret. Only connectors that have vanished can be forgotten.",
        ));
    }
    let at_ms = app.clock.now_ms();
    let forgotten = Forgotten { tunnel: tunnel.id, connector, at_ms };
    store::connector_order::forget(&mut change, forgotten).await?;
    let detail = json!({ "connector": connector, "host": view.facts.host });
    change.commit(caller.entry(&app, "tunnel.forget_connector", &name, detail)).await?;
    app.presence.forget_connector(forgotten, at_ms);
    no_content()
}

/// A change that asks something of a connector.
struct Asking<'a> {
    app: &'a Shared,
    caller: &'a Caller,
    change: Change,
    tunnel: Tunnel,
    view: ConnectorView,
}

impl<'a> Asking<'a> {
    async fn begin(
        app: &'a Shared,
        caller: &'a Caller,
        name: &TunnelName,
        connector: ConnectorId,
    ) -> Result<Self, Problem> {
        caller.must_manage_tunnels()?;
        let mut change = app.store.change().await?;
        let tunnel = tunnels::find(&mut change, caller, name).await?;
        let views = app.presence.state().connectors(tunnel.id);
        let view = views.into_iter().find(|view| view.connector == connector);
        let view = view.ok_or_else(|| Problem::not_found("connector"))?;
        Ok(Self { app, caller, change, tunnel, view })
    }

    /// A slot's link: its edge, and when it came up in Unix milliseconds. While it moves there are two, and the
    /// edge tells them apart.
    fn link(&self, slot: u8, edge: Option<EdgeId>) -> Result<(EdgeId, u64), Problem> {
        let mut links = self
            .view
            .links
            .iter()
            .filter(|(at, link)| link.slot == slot && edge.is_none_or(|edge| edge == *at));
        match (links.next(), links.next()) {
            (None, _) => Err(Problem::not_found("link")),
            (Some((edge, link)), None) => Ok((*edge, link.since_ms)),
            (Some(_), Some(_)) => Err(Problem::conflict(
                format!("slot {slot} has two links: one is leaving, the other replaces it"),
                "Add ?edge= with the id of the link's edge; GET /api/v1/admin/tunnel/{name} lists the links.",
            )),
        }
    }

    async fn ask(
        mut self,
        task: Task,
        action: &'static str,
        detail: serde_json::Value,
    ) -> Result<Json<Asked>, Problem> {
        let now_ms = self.app.clock.now_ms();
        let (tunnel, connector) = (self.tunnel.id, self.view.connector);
        store::connector_order::insert(&mut self.change, tunnel, connector, task, now_ms).await?;
        let entry = self.caller.entry(self.app, action, &self.tunnel.name, detail);
        let generation = self.change.commit(entry).await?;
        Ok(Json(Asked { rollout: Rollout::of(self.app, generation).await? }))
    }
}
