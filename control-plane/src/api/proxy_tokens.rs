//! Long-lived tokens for the gateway, for programs that are no workflows of ours: each belongs to a
//! team or to one of its workflows, is shown once, expires and can be revoked.

use std::collections::HashMap;

use axum::extract::State;
use http::StatusCode;
use protocol::{
    credential::{CredentialSecret, ProxyToken},
    id::{ProxyTokenId, TeamId, UserId, WorkflowId},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    extract::{Caller, Json, Path, Query, display_text},
    list::{List, Paging, search},
    problem::Problem,
    rollout::Rollout,
    teams,
    timestamp::Timestamp,
    workflows,
};
use crate::{
    app::Shared,
    random,
    store::{self, Read, names::Kind, page::State as Shown, proxy_token::ProxyTokenRow},
};

/// Longest life of a token, in days.
const MAX_DAYS: u32 = 365;
/// Life of a token of which nobody said how long it should be, in days.
const DEFAULT_DAYS: u32 = 90;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// Longest time that an answer may take to begin, in seconds.
const MAX_RESPONSE_TIMEOUT: u32 = 3_600;
/// Live tokens of a team. Every edge holds all tokens of all tenants, some 300 bytes each.
const MAX_LIVE: u64 = 1_000;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(list_proxy_tokens, create_proxy_token))
        .routes(routes!(revoke_proxy_token))
}

/// A gateway token, without its secret half.
#[derive(Serialize, ToSchema)]
struct ProxyTokenView {
    #[schema(value_type = Uuid)]
    id: ProxyTokenId,
    name: String,
    /// For which it acts.
    #[schema(value_type = Uuid)]
    team: TeamId,
    /// The team's name, if the team is still there.
    team_name: Option<String>,
    /// For which it acts, if it is a workflow's.
    #[schema(value_type = Option<Uuid>)]
    workflow: Option<WorkflowId>,
    /// The workflow's name, if the workflow is still there.
    workflow_name: Option<String>,
    /// Who made it.
    #[schema(value_type = Uuid)]
    created_by: UserId,
    /// The maker's name, if the maker is still there.
    created_by_name: Option<String>,
    created_at: Timestamp,
    expires_at: Timestamp,
    revoked_at: Option<Timestamp>,
    /// How long an answer to its requests may take to begin, in seconds, if that is bounded.
    response_timeout_s: Option<u32>,
}

impl ProxyTokenView {
    fn new(row: ProxyTokenRow, names: &Names) -> Self {
        Self {
            id: row.id,
            name: row.name,
            team_name: names.teams.get(&row.team.to_string()).cloned(),
            team: row.team,
            workflow_name: row
                .workflow
                .and_then(|id| names.workflows.get(&id.to_string()).cloned()),
            workflow: row.workflow,
            created_by_name: names.users.get(&row.created_by.to_string()).cloned(),
            created_by: row.created_by,
            created_at: Timestamp(row.created_ms),
            expires_at: Timestamp(row.expires_ms),
            revoked_at: row.revoked_ms.map(Timestamp),
            response_timeout_s: row.response_timeout_s,
        }
    }
}

/// The names of what tokens refer to.
struct Names {
    teams: HashMap<String, String>,
    workflows: HashMap<String, String>,
    users: HashMap<String, String>,
}

impl Names {
    async fn of(db: &mut impl Read, rows: &[ProxyTokenRow]) -> store::Result<Self> {
        let teams = rows.iter().map(|row| row.team.to_string());
        let workflows = rows.iter().filter_map(|row| Some(row.workflow?.to_string()));
        let users = rows.iter().map(|row| row.created_by.to_string());
        Ok(Self {
            teams: store::names::of(db, Kind::Team, teams.collect()).await?,
            workflows: store::names::of(db, Kind::Workflow, workflows.collect()).await?,
            users: store::names::of(db, Kind::User, users.collect()).await?,
        })
    }
}

/// Which of them, in which order.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ListProxyTokens {
    /// `name`, `created_at` or `expires_at`, with `-` before it for descending; `name` without it.
    sort: Option<String>,
    /// Only those whose name contains this; ASCII letters in either case.
    #[param(max_length = 128)]
    search: Option<String>,
    /// Only the tokens of this team and its workflows.
    #[param(value_type = Option<Uuid>)]
    team: Option<TeamId>,
    /// Only the tokens of this workflow.
    #[param(value_type = Option<Uuid>)]
    workflow: Option<WorkflowId>,
    /// `live`, `ended` (revoked or expired) or `all`; `live` without it.
    #[serde(default)]
    #[param(inline)]
    state: Shown,
}

/// A gateway token to be, of either a team or a workflow.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateProxyToken {
    /// What it is for.
    #[schema(min_length = 1, max_length = 128)]
    name: String,
    /// The team for which it is to act.
    #[schema(value_type = Option<Uuid>)]
    team: Option<TeamId>,
    /// The workflow for which it is to act, and so for its team.
    #[schema(value_type = Option<Uuid>)]
    workflow: Option<WorkflowId>,
    /// How long it is to be good for.
    #[serde(default = "default_days")]
    #[schema(minimum = 1, maximum = 365, default = 90)]
    expires_in_days: u32,
    /// How long an answer to its requests may take to begin, in seconds; then they get 504 `origin_timeout`.
    /// Without it, as long as the origin may take.
    #[schema(minimum = 1, maximum = 3600)]
    response_timeout_s: Option<u32>,
}

fn default_days() -> u32 {
    DEFAULT_DAYS
}

/// A new gateway token.
#[derive(Serialize, ToSchema)]
struct CreatedProxyToken {
    #[serde(flatten)]
    view: ProxyTokenView,
    /// The token, shown this once: the password for the gateway, where a tunnel's name is the user.
    token: String,
    rollout: Rollout,
}

/// A gateway token that is no more.
#[derive(Serialize, ToSchema)]
struct RevokedProxyToken {
    rollout: Rollout,
}

/// Lists the tokens of the caller's teams; owners see all.
#[utoipa::path(
    get, path = "/api/v1/proxy-tokens", tag = "proxy tokens", params(Paging, ListProxyTokens),
    responses((status = 200, description = "A page of tokens.", body = List<ProxyTokenView>)),
)]
async fn list_proxy_tokens(
    State(app): State<Shared>,
    caller: Caller,
    Query(paging): Query<Paging>,
    Query(query): Query<ListProxyTokens>,
) -> Result<Json<List<ProxyTokenView>>, Problem> {
    let (page, order) = paging.page(query.sort.as_deref(), store::proxy_token::COLUMNS)?;
    let filter = store::proxy_token::Filter {
        of: caller.own_only(),
        team: query.team,
        workflow: query.workflow,
        state: query.state,
        search: search(query.search.as_deref())?,
    };
    let now_ms = app.clock.now_ms();
    let mut db = app.store.read().await?;
    let tokens = store::proxy_token::page(&mut db, caller.tenant(), &filter, now_ms, &page).await?;
    let names = Names::of(&mut db, &tokens.items).await?;
    Ok(Json(List::new(tokens.map(|row| ProxyTokenView::new(row, &names)), &order)))
}

/// Makes a token for the gateway. The answer waits up to a second for the edges, so that the token
/// works at once, and names those that do not know it yet.
#[utoipa::path(
    post, path = "/api/v1/proxy-tokens", tag = "proxy tokens", request_body = CreateProxyToken,
    responses((status = 201, description = "The token, shown this once.", body = CreatedProxyToken)),
)]
async fn create_proxy_token(
    State(app): State<Shared>,
    caller: Caller,
    Json(body): Json<CreateProxyToken>,
) -> Result<(StatusCode, Json<CreatedProxyToken>), Problem> {
    let name = display_text(&body.name, "the name")?;
    if !(1..=MAX_DAYS).contains(&body.expires_in_days) {
        return Err(Problem::invalid(format!("a token is good for 1 to {MAX_DAYS} days")));
    }
    if !body.response_timeout_s.is_none_or(|s| (1..=MAX_RESPONSE_TIMEOUT).contains(&s)) {
        let detail = format!("response_timeout_s is 1 to {MAX_RESPONSE_TIMEOUT} seconds");
        return Err(Problem::invalid(detail));
    }
    let mut change = app.store.change().await?;
    let team = match (body.team, body.workflow) {
        (Some(team), None) => {
            teams::find(&mut change, &caller, team).await?;
            caller.must_act_for(&mut change, team).await?;
            team
        }
        (None, Some(workflow)) => workflows::find(&mut change, &caller, workflow).await?.team,
        (Some(_), Some(_)) | (None, None) => {
            return Err(Problem::invalid("a token is for either a team or a workflow"));
        }
    };
    let now_ms = app.clock.now_ms();
    if store::proxy_token::count_live(&mut change, team, now_ms).await? >= MAX_LIVE {
        return Err(Problem::conflict(
            format!("the team has {MAX_LIVE} live tokens already"),
            "Revoke tokens that are no longer used.",
        ));
    }
    let token = ProxyToken {
        id: random::id(),
        secret: CredentialSecret::from_bytes(*random::bytes::<32>()),
    };
    let row = ProxyTokenRow {
        id: token.id,
        tenant: caller.tenant(),
        team,
        workflow: body.workflow,
        name,
        digest: token.secret.digest(),
        created_by: caller.user.id,
        created_ms: now_ms,
        expires_ms: now_ms + u64::from(body.expires_in_days) * DAY_MS,
        revoked_ms: None,
        response_timeout_s: body.response_timeout_s,
    };
    store::proxy_token::insert(&mut change, &row).await?;
    let names = Names::of(&mut change, std::slice::from_ref(&row)).await?;
    let detail = serde_json::json!({
        "name": &row.name, "team": row.team, "workflow": row.workflow, "expires_ms": row.expires_ms,
    });
    let generation =
        change.commit(caller.entry(&app, "proxy_token.create", row.id, detail)).await?;
    let rollout = Rollout::of(&app, generation).await?;
    let created = CreatedProxyToken {
        view: ProxyTokenView::new(row, &names),
        token: token.encode().to_string(),
        rollout,
    };
    Ok((StatusCode::CREATED, Json(created)))
}

/// Revokes a gateway token. Its streams are cut. The answer waits up to a second for the edges and
/// names those that do not obey yet.
#[utoipa::path(
    delete, path = "/api/v1/proxy-tokens/{id}", tag = "proxy tokens",
    params(("id" = Uuid, Path, description = "The token.")),
    responses((status = 200, description = "Revoked.", body = RevokedProxyToken)),
)]
async fn revoke_proxy_token(
    State(app): State<Shared>,
    caller: Caller,
    Path(id): Path<ProxyTokenId>,
) -> Result<Json<RevokedProxyToken>, Problem> {
    let mut change = app.store.change().await?;
    let token = store::proxy_token::find(&mut change, id)
        .await?
        .filter(|token| token.tenant == caller.tenant())
        .ok_or_else(|| Problem::not_found("gateway token"))?;
    caller.must_act_for(&mut change, token.team).await?;
    store::proxy_token::revoke(&mut change, id, app.clock.now_ms()).await?;
    let detail = serde_json::json!({ "name": token.name });
    let generation = change.commit(caller.entry(&app, "proxy_token.revoke", id, detail)).await?;
    Ok(Json(RevokedProxyToken { rollout: Rollout::of(&app, generation).await? }))
}
