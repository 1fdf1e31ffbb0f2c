//! Join tokens: invitations for edges, for the deployment's operators.

use axum::extract::State;
use http::StatusCode;
use protocol::id::JoinTokenId;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    extract::{Caller, Json, Path, Query},
    list::{List, Paging},
    no_content,
    problem::Problem,
    timestamp::Timestamp,
};
use crate::{
    app::Shared,
    store::{self, join_token::JoinTokenRow, page::State as Shown},
};

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(list_join_tokens, create_join_token))
        .routes(routes!(revoke_join_token))
}

/// A join token, without its secret half.
#[derive(Serialize, ToSchema)]
struct JoinTokenView {
    #[schema(value_type = Uuid)]
    id: JoinTokenId,
    created_at: Timestamp,
    expires_at: Timestamp,
    last_used_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
}

impl From<JoinTokenRow> for JoinTokenView {
    fn from(row: JoinTokenRow) -> Self {
        Self {
            id: row.id,
            created_at: Timestamp(row.created_ms),
            expires_at: Timestamp(row.expires_ms),
            last_used_at: row.last_used_ms.map(Timestamp),
            revoked_at: row.revoked_ms.map(Timestamp),
        }
    }
}

/// Which of them, in which order.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ListJoinTokens {
    /// `created_at` or `expires_at`, with `-` before it for descending; `created_at` without it.
    sort: Option<String>,
    /// `live`, `ended` (revoked or expired) or `all`; `live` without it.
    #[serde(default)]
    #[param(inline)]
    state: Shown,
}

/// A new join token.
#[derive(Serialize, ToSchema)]
struct CreatedJoinToken {
    #[serde(flatten)]
    view: JoinTokenView,
    /// The token, shown this once.
    token: String,
}

/// Lists the join tokens.
#[utoipa::path(
    get, path = "/api/v1/edges/join-tokens", tag = "edges", params(Paging, ListJoinTokens),
    responses((status = 200, description = "A page of tokens.", body = List<JoinTokenView>)),
)]
async fn list_join_tokens(
    State(app): State<Shared>,
    caller: Caller,
    Query(paging): Query<Paging>,
    Query(query): Query<ListJoinTokens>,
) -> Result<Json<List<JoinTokenView>>, Problem> {
    caller.must_be_operator()?;
    let (page, order) = paging.page(query.sort.as_deref(), store::join_token::COLUMNS)?;
    let (state, now_ms) = (query.state, app.clock.now_ms());
    let mut db = app.store.read().await?;
    let tokens = store::join_token::page(&mut db, state, now_ms, &page).await?;
    Ok(Json(List::new(tokens.map(JoinTokenView::from), &order)))
}

/// Makes a token with which edges can join for 24 hours.
#[utoipa::path(
    post, path = "/api/v1/edges/join-tokens", tag = "edges",
    responses((status = 201, description = "The token, shown this once.", body = CreatedJoinToken)),
)]
async fn create_join_token(
    State(app): State<Shared>,
    caller: Caller,
) -> Result<(StatusCode, Json<CreatedJoinToken>), Problem> {
    caller.must_be_operator()?;
    let (token, row) = app.create_join_token(caller.actor()).await?;
    let created = CreatedJoinToken { view: row.into(), token: token.encode().to_string() };
    Ok((StatusCode::CREATED, Json(created)))
}

/// Revokes a join token. Edges that joined with it stay.
#[utoipa::path(
    delete, path = "/api/v1/edges/join-tokens/{id}", tag = "edges",
    params(("id" = Uuid, Path, description = "The token.")),
    responses((status = 204, description = "Revoked.")),
)]
async fn revoke_join_token(
    State(app): State<Shared>,
    caller: Caller,
    Path(id): Path<JoinTokenId>,
) -> Result<StatusCode, Problem> {
    caller.must_be_operator()?;
    let mut change = app.store.change().await?;
    let token = store::join_token::find(&mut change, id).await?;
    token.ok_or_else(|| Problem::not_found("join token"))?;
    store::join_token::revoke(&mut change, id, app.clock.now_ms()).await?;
    change.commit(caller.entry(&app, "join_token.revoke", id, serde_json::Value::Null)).await?;
    no_content()
}
