//! The tunnels that the caller's teams may use, for whoever builds a workflow.

use axum::extract::State;
use protocol::{access::Decision, name::TunnelName};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    extract::{Caller, Json},
    health::HealthView,
    problem::Problem,
    tunnels,
};
use crate::{app::Shared, store};

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(list_usable_tunnels))
}

/// A tunnel that can be picked.
#[derive(Serialize, ToSchema)]
struct UsableTunnel {
    /// For `use_tunnel`.
    #[schema(value_type = String)]
    name: TunnelName,
    display_name: String,
    #[serde(flatten)]
    health: HealthView,
}

/// Tunnels that can be picked.
#[derive(Serialize, ToSchema)]
struct UsableTunnels {
    items: Vec<UsableTunnel>,
}

/// Lists the tunnels that the caller's teams may use; owners act for every team.
#[utoipa::path(
    get, path = "/api/v1/tunnels", tag = "workflows",
    responses((status = 200, description = "The tunnels.", body = UsableTunnels)),
)]
async fn list_usable_tunnels(
    State(app): State<Shared>,
    caller: Caller,
) -> Result<Json<UsableTunnels>, Problem> {
    let mut db = app.store.read().await?;
    let teams = if caller.user.is_owner {
        let all = store::team::list(&mut db, caller.tenant()).await?;
        all.into_iter().map(|team| team.id).collect()
    } else {
        store::team::of_user(&mut db, caller.user.id).await?
    };
    let tunnels = store::tunnel::list(&mut db, caller.tenant()).await?;
    let is_usable = |tunnel: &store::tunnel::Tunnel| {
        teams.iter().any(|team| {
            tunnel.access.evaluate(tunnel.tenant, &caller.as_member(*team)) == Decision::Allowed
        })
    };
    let items = tunnels.into_iter().filter(is_usable).map(|tunnel| UsableTunnel {
        health: tunnels::health_of(&app, &tunnel).into(),
        name: tunnel.name,
        display_name: tunnel.display_name,
    });
    Ok(Json(UsableTunnels { items: items.collect() }))
}
