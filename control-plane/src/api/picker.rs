//! The tunnels that the caller's teams may use, for whoever builds a workflow.

use std::collections::BTreeSet;

use axum::extract::State;
use protocol::{access::Decision, id::TeamId, name::TunnelName};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    extract::{Caller, Json, Query},
    health::HealthView,
    list::{List, Paging, search},
    problem::Problem,
    tunnels,
};
use crate::{
    app::Shared,
    store::{
        self,
        page::{Position, Slice},
        user::Permission,
    },
};

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

/// For whom.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ForTeam {
    /// The team that is to use the tunnel; without one, any of the caller's.
    #[param(value_type = Option<Uuid>)]
    team: Option<TeamId>,
    /// Only tunnels whose name or display name contains this; ASCII letters in either case.
    #[param(max_length = 128)]
    search: Option<String>,
}

/// Lists the tunnels that the caller's teams, or one of them, may use; owners act for every team. Users
/// with TUNNEL_MANAGE may ask for any team.
#[utoipa::path(
    get, path = "/api/v1/tunnels", tag = "workflows", params(Paging, ForTeam),
    responses((status = 200, description = "A page of tunnels.", body = List<UsableTunnel>)),
)]
async fn list_usable_tunnels(
    State(app): State<Shared>,
    caller: Caller,
    Query(paging): Query<Paging>,
    Query(ForTeam { team, search: text }): Query<ForTeam>,
) -> Result<Json<List<UsableTunnel>>, Problem> {
    let (page, order) = paging.page(None, store::tunnel::COLUMNS)?;
    let search = search(text.as_deref())?.map(str::to_ascii_lowercase);
    let mut db = app.store.read().await?;
    let teams = if let Some(team) = team {
        let known = store::team::find(&mut db, caller.tenant(), team).await?;
        known.ok_or_else(|| Problem::not_found("team"))?;
        if !caller.may(Permission::TunnelManage) {
            caller.must_act_for(&mut db, team).await?;
        }
        BTreeSet::from([team])
    } else if caller.user.is_owner {
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
    let is_named = |tunnel: &store::tunnel::Tunnel| {
        let texts = [tunnel.name.as_str(), tunnel.display_name.as_str()];
        let fits = |part: &String| texts.iter().any(|t| t.to_ascii_lowercase().contains(part));
        search.as_ref().is_none_or(fits)
    };
    let tunnels = tunnels.into_iter().filter(|tunnel| is_named(tunnel) && is_usable(tunnel));
    let place = |tunnel: &store::tunnel::Tunnel| Position::new(tunnel.name.as_str(), tunnel.id);
    let tunnels = Slice::of(tunnels.collect(), &page, place).map(|tunnel| UsableTunnel {
        health: tunnels::health_of(&app, &tunnel).into(),
        name: tunnel.name,
        display_name: tunnel.display_name,
    });
    Ok(Json(List::new(tunnels, &order)))
}
