//! Teams of a tenant and their members.

use std::collections::BTreeSet;

use axum::extract::State;
use http::StatusCode;
use protocol::id::{TeamId, UserId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    edit::{Edited, Editors, IfMatch, Versioned},
    extract::{Caller, Json, Path, Query, display_text},
    list::{List, Paging, search},
    no_content,
    problem::Problem,
    timestamp::Timestamp,
    tunnels::Force,
    usage,
};
use crate::{
    app::Shared,
    random,
    store::{
        self, Change, Read,
        page::Slice,
        stamp::{Stamp, Stamped},
        team::Team,
        user::{Permission, User},
    },
};

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(list_teams, create_team))
        .routes(routes!(get_team, rename_team, delete_team))
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
    #[serde(flatten)]
    edited: Edited,
}

/// A team with its members.
#[derive(Serialize, ToSchema)]
struct TeamDetail {
    #[serde(flatten)]
    team: TeamView,
    /// The members with their names, in the order of their addresses.
    member_users: Vec<Member>,
}

/// A member of a team.
#[derive(Serialize, ToSchema)]
struct Member {
    #[schema(value_type = Uuid)]
    id: UserId,
    email: String,
    /// May be empty.
    name: String,
}

/// What can change of a team.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RenameTeam {
    /// Unique in the tenant.
    #[schema(min_length = 1, max_length = 128)]
    name: String,
}

/// Which of them, in which order.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ListTeams {
    /// `name`, `created_at` or `updated_at`, with `-` before it for descending; `name` without it.
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
    #[schema(min_length = 1, max_length = 128)]
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
    let editors = Editors::of(&mut db, teams.items.iter().map(|team| team.stamp).collect()).await?;
    let mut items = Vec::new();
    for team in teams.items {
        items.push(view(&mut db, team, &editors).await?);
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
) -> Result<(StatusCode, Versioned<TeamView>), Problem> {
    caller.must_be_owner()?;
    let mut team = Team {
        id: random::id(),
        tenant: caller.tenant(),
        name: display_text(&body.name, "the name")?,
        created_ms: app.clock.now_ms(),
        stamp: Stamp::default(),
    };
    let mut change = app.store.change().await?;
    store::team::insert(&mut change, &team).await?;
    team.stamp = caller.stamp(&app, &mut change, Stamped::Team, team.id).await?;
    let detail = serde_json::json!({ "name": &team.name });
    let (stamp, view) = (team.stamp, one(&mut change, team).await?);
    change.commit(caller.entry(&app, "team.create", view.id, detail)).await?;
    Ok((StatusCode::CREATED, Versioned(stamp, view)))
}

/// Shows a team.
#[utoipa::path(
    get, path = "/api/v1/teams/{id}", tag = "teams",
    params(("id" = Uuid, Path, description = "The team.")),
    responses((status = 200, description = "The team.", body = TeamDetail)),
)]
async fn get_team(
    State(app): State<Shared>,
    caller: Caller,
    Path(id): Path<TeamId>,
) -> Result<Versioned<TeamDetail>, Problem> {
    let mut db = app.store.read().await?;
    let team = find(&mut db, &caller, id).await?;
    if !caller.may(Permission::TunnelManage) {
        caller.must_act_for(&mut db, id).await?;
    }
    let users = store::team::users(&mut db, id).await?.into_iter();
    let member = |user: User| Member { id: user.id, email: user.email, name: user.about.name };
    let member_users = users.map(member).collect();
    let (stamp, team) = (team.stamp, one(&mut db, team).await?);
    Ok(Versioned(stamp, TeamDetail { team, member_users }))
}

/// Renames a team.
#[utoipa::path(
    patch, path = "/api/v1/teams/{id}", tag = "teams", request_body = RenameTeam,
    params(("id" = Uuid, Path, description = "The team."), IfMatch),
    responses((status = 200, description = "The team.", body = TeamView)),
)]
async fn rename_team(
    State(app): State<Shared>,
    caller: Caller,
    if_match: IfMatch,
    Path(id): Path<TeamId>,
    Json(body): Json<RenameTeam>,
) -> Result<Versioned<TeamView>, Problem> {
    caller.must_be_owner()?;
    let mut change = app.store.change().await?;
    let mut team = find(&mut change, &caller, id).await?;
    if_match.check(&mut change, team.stamp).await?;
    let before = std::mem::replace(&mut team.name, display_text(&body.name, "the name")?);
    store::team::rename(&mut change, id, &team.name).await?;
    team.stamp = caller.stamp(&app, &mut change, Stamped::Team, id).await?;
    let detail = serde_json::json!({ "name": &team.name, "before": before });
    let (stamp, view) = (team.stamp, one(&mut change, team).await?);
    change.commit(caller.entry(&app, "team.rename", id, detail)).await?;
    Ok(Versioned(stamp, view))
}

/// Removes a team that owns no workflow. It leaves every access list, and its gateway tokens are
/// revoked: while it has any of these this needs `force`.
#[utoipa::path(
    delete, path = "/api/v1/teams/{id}", tag = "teams",
    params(("id" = Uuid, Path, description = "The team."), Force),
    responses((status = 204, description = "Removed.")),
)]
async fn delete_team(
    State(app): State<Shared>,
    caller: Caller,
    Path(id): Path<TeamId>,
    Query(Force { force }): Query<Force>,
) -> Result<StatusCode, Problem> {
    caller.must_be_owner()?;
    let mut change = app.store.change().await?;
    let team = find(&mut change, &caller, id).await?;
    let workflows = usage::workflows_of_team(&mut change, &caller, id).await?;
    if !workflows.is_empty() {
        return Err(Problem::must_move(
            format!("the team owns {} workflows", workflows.len()),
            "Move its workflows to another team, or remove them, first.",
            workflows,
        ));
    }
    let now_ms = app.clock.now_ms();
    let used_by = usage::belongings_of(&mut change, &caller, id, now_ms).await?;
    if !used_by.is_empty() && !force {
        let detail = "the team has gateway tokens, or tunnels name it in their access lists";
        return Err(Problem::in_use(detail, used_by));
    }
    let revoked = store::team::delete(&mut change, &team, now_ms).await?;
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
    caller.stamp(&app, &mut change, Stamped::Team, id).await?;
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
    caller.stamp(&app, &mut change, Stamped::Team, id).await?;
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

async fn one(db: &mut impl Read, team: Team) -> Result<TeamView, Problem> {
    let editors = Editors::of(db, vec![team.stamp]).await?;
    view(db, team, &editors).await
}

async fn view(db: &mut impl Read, team: Team, editors: &Editors) -> Result<TeamView, Problem> {
    Ok(TeamView {
        id: team.id,
        members: store::team::members(db, team.id).await?,
        name: team.name,
        created_at: Timestamp(team.created_ms),
        edited: editors.edited(team.stamp),
    })
}
