//! Users of a tenant and their permissions, for its owners.

use std::collections::BTreeSet;

use axum::extract::State;
use http::StatusCode;
use protocol::id::UserId;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use zeroize::Zeroizing;

use super::{
    extract::{Caller, Json, Path, Query},
    list::{List, Paging, search},
    no_content,
    problem::Problem,
    timestamp::Timestamp,
};
use crate::{
    app::Shared,
    options::{MAX_PASSWORD, MIN_PASSWORD},
    random,
    store::{
        self,
        user::{Permission, User},
    },
};

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(list_users, create_user)).routes(routes!(
        get_user,
        update_user,
        delete_user
    ))
}

/// A user.
#[derive(Serialize, ToSchema)]
struct UserView {
    #[schema(value_type = Uuid)]
    id: UserId,
    email: String,
    is_owner: bool,
    permissions: BTreeSet<Permission>,
    created_at: Timestamp,
}

impl From<User> for UserView {
    fn from(user: User) -> Self {
        Self {
            id: user.id,
            email: user.email,
            is_owner: user.is_owner,
            permissions: user.permissions,
            created_at: Timestamp(user.created_ms),
        }
    }
}

/// Which of them, in which order.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ListUsers {
    /// `email` or `created_at`, with `-` before it for descending; `email` without it.
    sort: Option<String>,
    /// Only those whose address contains this; ASCII letters in either case.
    #[param(max_length = 128)]
    search: Option<String>,
}

/// A user to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateUser {
    /// Unique over all tenants.
    email: String,
    #[schema(value_type = String, format = Password, min_length = 8)]
    password: Zeroizing<String>,
    #[serde(default)]
    permissions: BTreeSet<Permission>,
    /// Owners may do everything in their tenant.
    #[serde(default)]
    is_owner: bool,
}

/// What can change of a user; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct UpdateUser {
    permissions: Option<BTreeSet<Permission>>,
    #[schema(value_type = Option<String>, format = Password, min_length = 8)]
    password: Option<Zeroizing<String>>,
}

/// Lists the tenant's users.
#[utoipa::path(
    get, path = "/api/v1/users", tag = "users", params(Paging, ListUsers),
    responses((status = 200, description = "A page of users.", body = List<UserView>)),
)]
async fn list_users(
    State(app): State<Shared>,
    caller: Caller,
    Query(paging): Query<Paging>,
    Query(query): Query<ListUsers>,
) -> Result<Json<List<UserView>>, Problem> {
    caller.must_be_owner()?;
    let (page, order) = paging.page(query.sort.as_deref(), store::user::COLUMNS)?;
    let search = search(query.search.as_deref())?;
    let mut db = app.store.read().await?;
    let users = store::user::page(&mut db, caller.tenant(), search, &page).await?;
    Ok(Json(List::new(users.map(UserView::from), &order)))
}

/// Makes a user.
#[utoipa::path(
    post, path = "/api/v1/users", tag = "users", request_body = CreateUser,
    responses((status = 201, description = "The user.", body = UserView)),
)]
async fn create_user(
    State(app): State<Shared>,
    caller: Caller,
    Json(body): Json<CreateUser>,
) -> Result<(StatusCode, Json<UserView>), Problem> {
    caller.must_be_owner()?;
    new_password(&body.password)?;
    let user = User {
        id: random::id(),
        tenant: caller.tenant(),
        is_operator_tenant: caller.user.is_operator_tenant,
        email: email(&body.email)?,
        password_hash: app.passwords.hash(body.password).await?,
        is_owner: body.is_owner,
        permissions: body.permissions,
        created_ms: app.clock.now_ms(),
    };
    let mut change = app.store.change().await?;
    store::user::insert(&mut change, &user).await?;
    let detail = serde_json::json!({
        "email": &user.email, "is_owner": user.is_owner, "permissions": &user.permissions,
    });
    change.commit(caller.entry(&app, "user.create", user.id, detail)).await?;
    Ok((StatusCode::CREATED, Json(user.into())))
}

/// Shows a user.
#[utoipa::path(
    get, path = "/api/v1/users/{id}", tag = "users",
    params(("id" = Uuid, Path, description = "The user.")),
    responses((status = 200, description = "The user.", body = UserView)),
)]
async fn get_user(
    State(app): State<Shared>,
    caller: Caller,
    Path(id): Path<UserId>,
) -> Result<Json<UserView>, Problem> {
    caller.must_be_owner()?;
    let mut db = app.store.read().await?;
    let user = store::user::of_tenant(&mut db, caller.tenant(), id).await?;
    Ok(Json(user.ok_or_else(|| Problem::not_found("user"))?.into()))
}

/// Changes a user's permissions or password; either ends the user's sessions.
#[utoipa::path(
    patch, path = "/api/v1/users/{id}", tag = "users", request_body = UpdateUser,
    params(("id" = Uuid, Path, description = "The user.")),
    responses((status = 200, description = "The user.", body = UserView)),
)]
async fn update_user(
    State(app): State<Shared>,
    caller: Caller,
    Path(id): Path<UserId>,
    Json(body): Json<UpdateUser>,
) -> Result<Json<UserView>, Problem> {
    caller.must_be_owner()?;
    let hash = match body.password {
        None => None,
        Some(password) => {
            new_password(&password)?;
            Some(app.passwords.hash(password).await?)
        }
    };
    let mut change = app.store.change().await?;
    let mut user = store::user::of_tenant(&mut change, caller.tenant(), id)
        .await?
        .ok_or_else(|| Problem::not_found("user"))?;
    if let Some(hash) = &hash {
        store::user::set_password(&mut change, id, hash).await?;
    }
    if let Some(permissions) = body.permissions {
        store::user::set_permissions(&mut change, id, &permissions).await?;
        user.permissions = permissions;
    }
    store::session::delete_of(&mut change, id).await?;
    let detail = serde_json::json!({
        "permissions": &user.permissions, "password_changed": hash.is_some(),
    });
    change.commit(caller.entry(&app, "user.update", id, detail)).await?;
    Ok(Json(user.into()))
}

/// Removes a user, with sessions, API keys and memberships.
#[utoipa::path(
    delete, path = "/api/v1/users/{id}", tag = "users",
    params(("id" = Uuid, Path, description = "The user.")),
    responses((status = 204, description = "Removed.")),
)]
async fn delete_user(
    State(app): State<Shared>,
    caller: Caller,
    Path(id): Path<UserId>,
) -> Result<StatusCode, Problem> {
    caller.must_be_owner()?;
    let mut change = app.store.change().await?;
    let user = store::user::of_tenant(&mut change, caller.tenant(), id)
        .await?
        .ok_or_else(|| Problem::not_found("user"))?;
    if id == caller.user.id {
        return Err(Problem::conflict(
            "owners cannot remove themselves",
            "Let another owner do it, so that one is always left.",
        ));
    }
    // The caller may have been removed since it was let in.
    if user.is_owner && store::user::count_owners(&mut change, caller.tenant()).await? < 2 {
        return Err(Problem::conflict(
            "this is the tenant's last owner",
            "Make another owner first, so that one is always left.",
        ));
    }
    store::user::delete(&mut change, id).await?;
    let detail = serde_json::json!({ "email": user.email });
    change.commit(caller.entry(&app, "user.delete", id, detail)).await?;
    no_content()
}

/// An e-mail address, in the form in which it is stored and compared.
pub(super) fn email(text: &str) -> Result<String, Problem> {
    let email = text.trim().to_lowercase();
    let is_fine = email.len() <= 254
        && email.split_once('@').is_some_and(|(name, host)| !name.is_empty() && !host.is_empty())
        && !email.chars().any(|c| c.is_whitespace() || c.is_control());
    if is_fine { Ok(email) } else { Err(Problem::invalid("that is no e-mail address")) }
}

/// Checks a password that is to be.
pub(super) fn new_password(password: &str) -> Result<(), Problem> {
    if password.chars().count() >= MIN_PASSWORD && password.len() <= MAX_PASSWORD {
        return Ok(());
    }
    Err(Problem::invalid(format!(
        "a password must have {MIN_PASSWORD} to {MAX_PASSWORD} characters"
    )))
}
