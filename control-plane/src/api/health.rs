//! How well a tunnel is, and was.

use axum::extract::State;
use protocol::{
    health::{Cause, Health},
    name::TunnelName,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    extract::{Caller, Json, Path, Query},
    list::{List, Paging},
    problem::Problem,
    timestamp::Timestamp,
    tunnels,
};
use crate::{app::Shared, store, store::presence::HealthRow};

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(get_health)).routes(routes!(get_health_history))
}

/// One of four words, with its reason.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HealthView {
    /// `Healthy`, `Degraded`, `Inactive` or `Down`.
    health: HealthWord,
    /// What is so, and what to do about it.
    reason: String,
    /// The same for machines; empty while the word is `Healthy`, and for changes that were stored before
    /// there were codes.
    causes: Vec<CauseCode>,
    /// Since when the word holds.
    since: Timestamp,
}

/// What makes a tunnel anything but healthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum CauseCode {
    /// No connector ever ran with the tunnel's secret.
    NeverConnected,
    /// No connector runs.
    NoConnector,
    /// A connector lost its last link without a goodbye.
    ConnectorVanished,
    /// A connector does not hold all its links.
    LinksMissing,
    /// Requests are refused because too many are under way.
    Crowded,
    /// Links are up, and requests over them get no answer.
    Stuck,
    /// Something that only a newer control plane knows.
    Unknown,
}

impl From<Cause> for CauseCode {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::NeverConnected => Self::NeverConnected,
            Cause::NoConnector => Self::NoConnector,
            Cause::ConnectorVanished => Self::ConnectorVanished,
            Cause::LinksMissing => Self::LinksMissing,
            Cause::Crowded => Self::Crowded,
            Cause::Stuck => Self::Stuck,
            Cause::Unknown => Self::Unknown,
        }
    }
}

/// The four words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(super) enum HealthWord {
    /// Every connector holds all its links.
    Healthy,
    /// Serving, but a link or a replica is missing, or requests do not get through.
    Degraded,
    /// Never connected.
    Inactive,
    /// Has run before, holds no link.
    Down,
}

impl From<Health> for HealthWord {
    fn from(health: Health) -> Self {
        match health {
            Health::Healthy => Self::Healthy,
            Health::Degraded => Self::Degraded,
            Health::Inactive => Self::Inactive,
            Health::Down => Self::Down,
        }
    }
}

impl HealthView {
    pub(super) fn is(&self, health: HealthWord) -> bool {
        self.health == health
    }

    /// The worst is the least.
    pub(super) fn rank(&self) -> u64 {
        match self.health {
            HealthWord::Down => 0,
            HealthWord::Degraded => 1,
            HealthWord::Inactive => 2,
            HealthWord::Healthy => 3,
        }
    }
}

impl From<HealthRow> for HealthView {
    fn from(row: HealthRow) -> Self {
        Self {
            health: row.health.into(),
            reason: row.reason,
            causes: row.causes.into_iter().map(CauseCode::from).collect(),
            since: Timestamp(row.since_ms),
        }
    }
}

/// Shows how well a tunnel is.
#[utoipa::path(
    get, path = "/api/v1/admin/tunnel/{name}/health", tag = "tunnels",
    params(("name" = String, Path, description = "The tunnel's name.")),
    responses((status = 200, description = "Its health.", body = HealthView)),
)]
async fn get_health(
    State(app): State<Shared>,
    caller: Caller,
    Path(name): Path<TunnelName>,
) -> Result<Json<HealthView>, Problem> {
    caller.must_manage_tunnels()?;
    let mut db = app.store.read().await?;
    let tunnel = tunnels::find(&mut db, &caller, &name).await?;
    Ok(Json(tunnels::health_of(&app, &tunnel).into()))
}

/// Lists the changes of a tunnel's health, newest first.
#[utoipa::path(
    get, path = "/api/v1/admin/tunnel/{name}/health/history", tag = "tunnels",
    params(("name" = String, Path, description = "The tunnel's name."), Paging),
    responses((status = 200, description = "A page of changes.", body = List<HealthView>)),
)]
async fn get_health_history(
    State(app): State<Shared>,
    caller: Caller,
    Path(name): Path<TunnelName>,
    Query(paging): Query<Paging>,
) -> Result<Json<List<HealthView>>, Problem> {
    caller.must_manage_tunnels()?;
    let (page, order) = paging.newest_first(store::presence::BY_TIME)?;
    let mut db = app.store.read().await?;
    let tunnel = tunnels::find(&mut db, &caller, &name).await?;
    let rows = store::presence::history(&mut db, tunnel.id, &page).await?;
    Ok(Json(List::new(rows.map(HealthView::from), &order)))
}
