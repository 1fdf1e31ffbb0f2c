//! Who uses a tunnel, and who may.

use axum::extract::State;
use protocol::{
    access::Decision,
    id::{ProxyTokenId, TeamId, WorkflowId},
    name::TunnelName,
};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    extract::{Caller, Json, Path},
    problem::{Problem, UsedBy},
    tunnels,
};
use crate::{
    app::Shared,
    store::{
        self, Read,
        page::{Page, Slice, State as Shown},
        tunnel::Tunnel,
        workflow::Summary,
    },
};

/// Workflows, and tokens, that are looked at.
const MOST: usize = 500;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(get_tunnel_usage))
}

/// Who uses a tunnel.
#[derive(Serialize, ToSchema)]
struct TunnelUsage {
    /// Teams that may use it, and teams whose workflows name it though they may not.
    teams: Vec<TeamUsage>,
    /// False if there are more workflows or tokens than are looked at: 500 of each.
    is_complete: bool,
}

/// What of a team uses a tunnel.
#[derive(Serialize, ToSchema)]
struct TeamUsage {
    #[schema(value_type = Uuid)]
    id: TeamId,
    name: String,
    /// May the team use the tunnel?
    is_allowed: bool,
    /// Workflows whose actions name the tunnel.
    workflows: Vec<UsingWorkflow>,
    /// Live gateway tokens of a team that may use the tunnel. Which tunnels a token is used for is not
    /// known.
    proxy_tokens: Vec<UsingToken>,
}

/// A workflow.
#[derive(Serialize, ToSchema)]
struct UsingWorkflow {
    #[schema(value_type = Uuid)]
    id: WorkflowId,
    name: String,
}

/// A gateway token.
#[derive(Serialize, ToSchema)]
struct UsingToken {
    #[schema(value_type = Uuid)]
    id: ProxyTokenId,
    name: String,
}

/// Shows who may use a tunnel, and what of them does. What a team may use is in `GET /api/v1/tunnels`.
#[utoipa::path(
    get, path = "/api/v1/admin/tunnel/{name}/usage", tag = "tunnels",
    params(("name" = String, Path, description = "The tunnel's name.")),
    responses((status = 200, description = "Who uses it.", body = TunnelUsage)),
)]
async fn get_tunnel_usage(
    State(app): State<Shared>,
    caller: Caller,
    Path(name): Path<TunnelName>,
) -> Result<Json<TunnelUsage>, Problem> {
    caller.must_manage_tunnels()?;
    let mut db = app.store.read().await?;
    let tunnel = tunnels::find(&mut db, &caller, &name).await?;
    let workflows = workflows_of(&mut db, &tunnel, MOST).await?;
    let filter = store::proxy_token::Filter { state: Shown::Live, ..Default::default() };
    let page = first(store::proxy_token::COLUMNS, MOST);
    let now_ms = app.clock.now_ms();
    let tokens = store::proxy_token::page(&mut db, caller.tenant(), &filter, now_ms, &page).await?;
    let mut teams = Vec::new();
    for team in store::team::list(&mut db, caller.tenant()).await? {
        let decision = tunnel.access.evaluate(tunnel.tenant, &caller.as_member(team.id));
        let is_allowed = decision == Decision::Allowed;
        let own = workflows.items.iter().filter(|workflow| workflow.team == team.id);
        let own_tokens = tokens.items.iter().filter(|token| is_allowed && token.team == team.id);
        let usage = TeamUsage {
            id: team.id,
            name: team.name,
            is_allowed,
            workflows: own.map(|w| UsingWorkflow { id: w.id, name: w.name.clone() }).collect(),
            proxy_tokens: own_tokens
                .map(|token| UsingToken { id: token.id, name: token.name.clone() })
                .collect(),
        };
        if is_allowed || !usage.workflows.is_empty() {
            teams.push(usage);
        }
    }
    let is_complete = workflows.end.is_none() && tokens.end.is_none();
    Ok(Json(TunnelUsage { teams, is_complete }))
}

/// The workflows that name a tunnel, as a refusal tells them.
pub(super) async fn users_of(db: &mut impl Read, tunnel: &Tunnel) -> Result<Vec<UsedBy>, Problem> {
    let workflows = workflows_of(db, tunnel, MOST).await?.items.into_iter();
    Ok(workflows.map(|w| UsedBy::new("workflow", w.id, w.name)).collect())
}

/// What a team has that goes with it: live gateway tokens, and places on access lists.
pub(super) async fn belongings_of(
    db: &mut impl Read,
    caller: &Caller,
    team: TeamId,
    now_ms: u64,
) -> Result<Vec<UsedBy>, Problem> {
    let filter = store::proxy_token::Filter { team: Some(team), ..Default::default() };
    let page = first(store::proxy_token::COLUMNS, MOST);
    let tokens = store::proxy_token::page(db, caller.tenant(), &filter, now_ms, &page).await?;
    let tokens = tokens.items.into_iter();
    let mut used: Vec<_> = tokens.map(|t| UsedBy::new("proxy_token", t.id, t.name)).collect();
    for tunnel in store::tunnel::list(db, caller.tenant()).await? {
        if let protocol::access::Access::Teams { teams } = &tunnel.access
            && teams.contains(&team)
        {
            used.push(UsedBy::new("tunnel", tunnel.id, tunnel.name.to_string()));
        }
    }
    Ok(used)
}

/// The workflows of a team, as a refusal tells them.
pub(super) async fn workflows_of_team(
    db: &mut impl Read,
    caller: &Caller,
    team: TeamId,
) -> Result<Vec<UsedBy>, Problem> {
    let filter = store::workflow::Filter { team: Some(team), ..Default::default() };
    let page = first(store::workflow::COLUMNS, MOST);
    let workflows = store::workflow::page(db, caller.tenant(), &filter, &page).await?;
    Ok(workflows.items.into_iter().map(|w| UsedBy::new("workflow", w.id, w.name)).collect())
}

async fn workflows_of(
    db: &mut impl Read,
    tunnel: &Tunnel,
    limit: usize,
) -> Result<Slice<Summary>, Problem> {
    let filter = store::workflow::Filter { tunnel: Some(&tunnel.name), ..Default::default() };
    let page = first(store::workflow::COLUMNS, limit);
    Ok(store::workflow::page(db, tunnel.tenant, &filter, &page).await?)
}

fn first(columns: &'static [store::page::Column], limit: usize) -> Page {
    Page { limit, column: &columns[0], is_descending: false, after: None }
}
