//! Who may use a tunnel.

use std::collections::BTreeSet;

use axum::extract::State;
use protocol::{
    access::Access,
    id::{TeamId, TenantId},
    name::TunnelName,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    edit::{IfMatch, Versioned},
    extract::{Caller, Json, Path},
    problem::Problem,
    rollout::Rollout,
    tunnels,
};
use crate::{
    app::Shared,
    store::{self, Read, stamp::Stamped},
};

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(get_access, set_access))
}

/// A tunnel's access list.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(tag = "mode", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum AccessBody {
    /// Every team of the tenant.
    AnyTeam {},
    /// These teams; none, if the list is empty.
    Teams {
        /// The teams that an admin picked.
        #[schema(value_type = Vec<Uuid>)]
        teams: BTreeSet<TeamId>,
    },
}

impl From<Access> for AccessBody {
    fn from(access: Access) -> Self {
        match access {
            Access::AnyTeam => Self::AnyTeam {},
            Access::Teams { teams } => Self::Teams { teams },
        }
    }
}

impl AccessBody {
    /// Checks that the teams are the tenant's.
    pub(super) async fn validated(
        self,
        db: &mut impl Read,
        tenant: TenantId,
    ) -> Result<Access, Problem> {
        let Self::Teams { teams } = self else { return Ok(Access::AnyTeam) };
        let known = store::team::list(db, tenant).await?;
        match teams.iter().find(|id| !known.iter().any(|team| team.id == **id)) {
            Some(stranger) => Err(Problem::invalid(format!("there is no team {stranger}"))),
            None => Ok(Access::Teams { teams }),
        }
    }
}

/// An access list that has just been set.
#[derive(Serialize, ToSchema)]
struct SetAccess {
    #[serde(flatten)]
    access: AccessBody,
    rollout: Rollout,
}

/// Shows who may use a tunnel.
#[utoipa::path(
    get, path = "/api/v1/admin/tunnel/{name}/access", tag = "tunnels",
    params(("name" = String, Path, description = "The tunnel's name.")),
    responses((status = 200, description = "The access list.", body = AccessBody)),
)]
async fn get_access(
    State(app): State<Shared>,
    caller: Caller,
    Path(name): Path<TunnelName>,
) -> Result<Versioned<AccessBody>, Problem> {
    caller.must_manage_tunnels()?;
    let mut db = app.store.read().await?;
    let tunnel = tunnels::find(&mut db, &caller, &name).await?;
    Ok(Versioned(tunnel.stamp, tunnel.access.into()))
}

/// Sets who may use a tunnel. Streams that are no longer allowed are cut. The answer waits up to a
/// second for the edges and names those that do not obey yet.
#[utoipa::path(
    put, path = "/api/v1/admin/tunnel/{name}/access", tag = "tunnels", request_body = AccessBody,
    params(("name" = String, Path, description = "The tunnel's name."), IfMatch),
    responses((status = 200, description = "The access list.", body = SetAccess)),
)]
async fn set_access(
    State(app): State<Shared>,
    caller: Caller,
    if_match: IfMatch,
    Path(name): Path<TunnelName>,
    Json(body): Json<AccessBody>,
) -> Result<Versioned<SetAccess>, Problem> {
    caller.must_manage_tunnels()?;
    let mut change = app.store.change().await?;
    let tunnel = tunnels::find(&mut change, &caller, &name).await?;
    if_match.check(&mut change, tunnel.stamp).await?;
    let access = body.validated(&mut change, caller.tenant()).await?;
    store::tunnel::set_access(&mut change, tunnel.id, &access).await?;
    let stamp = caller.stamp(&app, &mut change, Stamped::Tunnel, tunnel.id).await?;
    let detail = serde_json::json!({ "before": tunnel.access, "after": &access });
    let generation = change.commit(caller.entry(&app, "tunnel.access", &name, detail)).await?;
    let rollout = Rollout::of(&app, generation).await?;
    Ok(Versioned(stamp, SetAccess { access: access.into(), rollout }))
}
