//! Teams of a tenant and their members.

use std::collections::BTreeSet;

use axum::extract::State;
use http::StatusCode;
use protocol::id::{TeamId, UserId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    extract::{Caller, Json, Path, Query, display_text},
    list::{List, Paging, search},
    no_content,
    problem::Problem,
    timestamp::Timestamp,
};
use crate::{
    app::Shared,
    random,
    store::{self, Change, Read, page::Slice, team::Team, user::Permission},
};

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(list_teams, create_team))
        .routes(routes!(get_team, delete_team))
        .routes(routes!(add_member, remove_member))
}

/// A team.
#[derive(Serialize, ToSchema)]
struct TeamView {
    #[schema(value_type = Uuid)]
    id: TeamId,
    name: String,
    #[schema(value_type = Vec<Uuid>)]
    members: BTreeSet<UserId>,
    created_at: Timestamp,
}

/// Which of them, in which order.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ListTeams {
    /// `name` or `created_at`, with `-` before it for descending; `name` without it.
    sort: Option<String>,
    /// Only those whose name contains this; ASCII letters in either case.
    #[param(max_length = 128)]
    search: Option<String>,
}

/// A team to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateTeam {
    /// Unique in the tenant.
    name: String,
}

/// Lists the teams that the caller is in; owners, and users with TUNNEL_MANAGE, see all.
#[utoipa::path(
    get, path = "/api/v1/teams", tag = "teams", params(Paging, ListTeams),
    responses((status = 200, description = "A page of teams.", body = List<TeamView>)),
)]
async fn list_teams(
    State(app): State<Shared>,
    caller: Caller,
    Query(paging): Query<Paging>,
    Query(query): Query<ListTeams>,
) -> Result<Json<List<TeamView>>, Problem> {
    let (page, order) = paging.page(query.sort.as_deref(), store::team::COLUMNS)?;
    let search = search(query.search.as_deref())?;
    let own = caller.own_only().filter(|_| !caller.may(Permission::TunnelManage));
    let mut db = app.store.read().await?;
    let teams = store::team::page(&mut db, caller.tenant(), own, search, &page).await?;
    let mut items = Vec::new();
    for team in teams.items {
        items.push(view(&mut db, team).await?);
    }
    Ok(Json(List::new(Slice { items, end: teams.end }, &order)))
}

/// Makes a team.
#[utoipa::path(
    post, path = "/api/v1/teams", tag = "teams", request_body = CreateTeam,
    responses((status = 201, description = "The team.", body = TeamView)),
)]
async fn create_team(
    State(app): State<Shared>,
    caller: Caller,
    Json(body): Json<CreateTeam>,
) -> Result<(StatusCode, Json<TeamView>), Problem> {
    caller.must_be_owner()?;
    let team = Team {
        id: random::id(),
        tenant: caller.tenant(),
        name: display_text(&body.name, "the name")?,
        created_ms: app.clock.now_ms(),
    };
    let mut change = app.store.change().await?;
    store::team::insert(&mut change, &team).await?;
    let detail = serde_json::json!({ "name": &team.name });
    let view = view(&mut change, team).await?;
    change.commit(caller.entry(&app, "team.create", view.id, detail)).await?;
    Ok((StatusCode::CREATED, Json(view)))
}

/// Shows a team.
#[utoipa::path(
    get, path = "/api/v1/teams/{id}", tag = "teams",
    params(("id" = Uuid, Path, description = "The team.")),
    responses((status = 200, description = "The team.", body = TeamView)),
)]
async fn get_team(
    State(app): State<Shared>,
    caller: Caller,
    Path(id): Path<TeamId>,
) -> Result<Json<TeamView>, Problem> {
    let mut db = app.store.read().await?;
    let team = find(&mut db, &caller, id).await?;
    if !caller.may(Permission::TunnelManage) {
        caller.must_act_for(&mut db, id).await?;
    }
    Ok(Json(view(&mut db, team).await?))
}

/// Removes a team that owns no workflow. It leaves every access list, and its gateway tokens are
/// revoked.
#[utoipa::path(
    delete, path = "/api/v1/teams/{id}", tag = "teams",
    params(("id" = Uuid, Path, description = "The team.")),
    responses((status = 204, description = "Removed.")),
)]
async fn delete_team(
    State(app): State<Shared>,
    caller: Caller,
    Path(id): Path<TeamId>,
) -> Result<StatusCode, Problem> {
    caller.must_be_owner()?;
    let mut change = app.store.change().await?;
    let team = find(&mut change, &caller, id).await?;
    let workflows = store::team::workflows(&mut change, id).await?;
    if workflows > 0 {
        return Err(Problem::conflict(
            format!("the team owns {workflows} workflows"),
            "Remove its workflows first.",
        ));
    }
    let revoked = store::team::delete(&mut change, &team, app.clock.now_ms()).await?;
    let detail = serde_json::json!({ "name": team.name, "revoked_proxy_tokens": revoked });
    change.commit(caller.entry(&app, "team.delete", id, detail)).await?;
    no_content()
}

/// Adds a member.
#[utoipa::path(
    put, path = "/api/v1/teams/{id}/members/{user}", tag = "teams",
    params(
        ("id" = Uuid, Path, description = "The team."),
        ("user" = Uuid, Path, description = "The user."),
    ),
    responses((status = 204, description = "The user is a member.")),
)]
async fn add_member(
    State(app): State<Shared>,
    caller: Caller,
    Path((id, user)): Path<(TeamId, UserId)>,
) -> Result<StatusCode, Problem> {
    let mut change = membership(&app, &caller, id, user).await?;
    store::team::add_member(&mut change, id, user).await?;
    let detail = serde_json::json!({ "user": user });
    change.commit(caller.entry(&app, "team.add_member", id, detail)).await?;
    no_content()
}

/// Removes a member.
#[utoipa::path(
    delete, path = "/api/v1/teams/{id}/members/{user}", tag = "teams",
    params(
        ("id" = Uuid, Path, description = "The team."),
        ("user" = Uuid, Path, description = "The user."),
    ),
    responses((status = 204, description = "The user is no member.")),
)]
async fn remove_member(
    State(app): State<Shared>,
    caller: Caller,
    Path((id, user)): Path<(TeamId, UserId)>,
) -> Result<StatusCode, Problem> {
    let mut change = membership(&app, &caller, id, user).await?;
    store::team::remove_member(&mut change, id, user).await?;
    let detail = serde_json::json!({ "user": user });
    change.commit(caller.entry(&app, "team.remove_member", id, detail)).await?;
    no_content()
}

/// Begins a change of a membership whose both sides belong to the tenant.
async fn membership(
    app: &Shared,
    caller: &Caller,
    team: TeamId,
    user: UserId,
) -> Result<Change, Problem> {
    caller.must_be_owner()?;
    let mut change = app.store.change().await?;
    find(&mut change, caller, team).await?;
    store::user::of_tenant(&mut change, caller.tenant(), user)
        .await?
        .ok_or_else(|| Problem::not_found("user"))?;
    Ok(change)
}

/// The caller's tenant's team.
pub(super) async fn find(db: &mut impl Read, caller: &Caller, id: TeamId) -> Result<Team, Problem> {
    let team = store::team::find(db, caller.tenant(), id).await?;
    team.ok_or_else(|| Problem::not_found("team"))
}

async fn view(db: &mut impl Read, team: Team) -> Result<TeamView, Problem> {
    Ok(TeamView {
        id: team.id,
        members: store::team::members(db, team.id).await?,
        name: team.name,
        created_at: Timestamp(team.created_ms),
    })
}
