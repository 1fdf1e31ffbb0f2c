//! Keys for the API: each acts as the user who made it, is shown once and can be revoked.

use axum::extract::State;
use http::StatusCode;
use protocol::{
    credential::{ApiKey, CredentialSecret},
    id::ApiKeyId,
};
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
    store::{self, api_key::ApiKeyRow, page::State as Shown},
};

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(list_api_keys, create_api_key))
        .routes(routes!(revoke_api_key))
}

/// A key, without its secret half.
#[derive(Serialize, ToSchema)]
struct ApiKeyView {
    #[schema(value_type = Uuid)]
    id: ApiKeyId,
    name: String,
    created_at: Timestamp,
    /// To the minute.
    last_used_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
}

impl From<ApiKeyRow> for ApiKeyView {
    fn from(row: ApiKeyRow) -> Self {
        Self {
            id: row.id,
            name: row.name,
            created_at: Timestamp(row.created_ms),
            last_used_at: row.last_used_ms.map(Timestamp),
            revoked_at: row.revoked_ms.map(Timestamp),
        }
    }
}

/// Which of them, in which order.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ListApiKeys {
    /// `name`, `created_at` or `last_used_at`, with `-` before it for descending; `name` without it.
    sort: Option<String>,
    /// Only those whose name contains this; ASCII letters in either case.
    #[param(max_length = 128)]
    search: Option<String>,
    /// `live`, `ended` (revoked or expired) or `all`; `live` without it.
    #[serde(default)]
    #[param(inline)]
    state: Shown,
}

/// A key to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateApiKey {
    /// What it is for.
    #[schema(min_length = 1, max_length = 128)]
    name: String,
}

/// A new key.
#[derive(Serialize, ToSchema)]
struct CreatedApiKey {
    #[serde(flatten)]
    view: ApiKeyView,
    /// The key, shown this once: `Authorization: Bearer …`.
    key: String,
}

/// Lists one's own keys.
#[utoipa::path(
    get, path = "/api/v1/api-keys", tag = "api keys", params(Paging, ListApiKeys),
    responses((status = 200, description = "A page of keys.", body = List<ApiKeyView>)),
)]
async fn list_api_keys(
    State(app): State<Shared>,
    caller: Caller,
    Query(paging): Query<Paging>,
    Query(query): Query<ListApiKeys>,
) -> Result<Json<List<ApiKeyView>>, Problem> {
    let (page, order) = paging.page(query.sort.as_deref(), store::api_key::COLUMNS)?;
    let (state, search) = (query.state, search(query.search.as_deref())?);
    let mut db = app.store.read().await?;
    let keys = store::api_key::page(&mut db, caller.user.id, state, search, &page).await?;
    Ok(Json(List::new(keys.map(ApiKeyView::from), &order)))
}

/// Makes a key that acts as the caller.
#[utoipa::path(
    post, path = "/api/v1/api-keys", tag = "api keys", request_body = CreateApiKey,
    responses((status = 201, description = "The key, shown this once.", body = CreatedApiKey)),
)]
async fn create_api_key(
    State(app): State<Shared>,
    caller: Caller,
    Json(body): Json<CreateApiKey>,
) -> Result<(StatusCode, Json<CreatedApiKey>), Problem> {
    let key =
        ApiKey { id: random::id(), secret: CredentialSecret::from_bytes(*random::bytes::<32>()) };
    let row = ApiKeyRow {
        id: key.id,
        user: caller.user.id,
        name: display_text(&body.name, "the name")?,
        digest: key.secret.digest(),
        created_ms: app.clock.now_ms(),
        last_used_ms: None,
        revoked_ms: None,
    };
    let mut change = app.store.change().await?;
    store::api_key::insert(&mut change, &row).await?;
    let detail = serde_json::json!({ "name": &row.name });
    change.commit(caller.entry(&app, "api_key.create", row.id, detail)).await?;
    let created = CreatedApiKey { view: row.into(), key: key.encode().to_string() };
    Ok((StatusCode::CREATED, Json(created)))
}

/// Revokes one of one's own keys.
#[utoipa::path(
    delete, path = "/api/v1/api-keys/{id}", tag = "api keys",
    params(("id" = Uuid, Path, description = "The key.")),
    responses((status = 204, description = "Revoked.")),
)]
async fn revoke_api_key(
    State(app): State<Shared>,
    caller: Caller,
    Path(id): Path<ApiKeyId>,
) -> Result<StatusCode, Problem> {
    let mut change = app.store.change().await?;
    store::api_key::find(&mut change, id)
        .await?
        .filter(|key| key.user == caller.user.id)
        .ok_or_else(|| Problem::not_found("API key"))?;
    store::api_key::revoke(&mut change, id, app.clock.now_ms()).await?;
    change.commit(caller.entry(&app, "api_key.revoke", id, serde_json::Value::Null)).await?;
    no_content()
}
