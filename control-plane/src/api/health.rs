//! How well a tunnel is, and was.

use axum::extract::State;
use protocol::{health::Health, name::TunnelName};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    extract::{Caller, Json, Path},
    problem::Problem,
    timestamp::Timestamp,
    tunnels,
};
use crate::{app::Shared, store, store::presence::HealthRow};

/// Changes of health that are shown.
const HISTORY: u32 = 200;

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
    /// Since when the word holds.
    since: Timestamp,
}

/// The four words.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
enum HealthWord {
    /// Every connector holds all its links.
    Healthy,
    /// Serving, but a link or a replica is missing.
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

impl From<HealthRow> for HealthView {
    fn from(row: HealthRow) -> Self {
        Self { health: row.health.into(), reason: row.reason, since: Timestamp(row.since_ms) }
    }
}

/// Changes of health, newest first.
#[derive(Serialize, ToSchema)]
struct HealthHistory {
    items: Vec<HealthView>,
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

/// Shows the latest changes of a tunnel's health.
#[utoipa::path(
    get, path = "/api/v1/admin/tunnel/{name}/health/history", tag = "tunnels",
    params(("name" = String, Path, description = "The tunnel's name.")),
    responses((status = 200, description = "The changes, newest first.", body = HealthHistory)),
)]
async fn get_health_history(
    State(app): State<Shared>,
    caller: Caller,
    Path(name): Path<TunnelName>,
) -> Result<Json<HealthHistory>, Problem> {
    caller.must_manage_tunnels()?;
    let mut db = app.store.read().await?;
    let tunnel = tunnels::find(&mut db, &caller, &name).await?;
    let rows = store::presence::history(&mut db, tunnel.id, HISTORY).await?;
    Ok(Json(HealthHistory { items: rows.into_iter().map(HealthView::from).collect() }))
}
