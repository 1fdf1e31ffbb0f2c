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
    edit::{Edited, Editors, IfMatch, Versioned},
    extract::{Caller, Json, Path, Query, display_text},
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
        self, Read,
        stamp::{Stamp, Stamped},
        user::{About, Permission, User},
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
    /// What people call them; may be empty.
    name: String,
    is_owner: bool,
    permissions: BTreeSet<Permission>,
    created_at: Timestamp,
    /// Since when nobody can come in as this user.
    disabled_at: Option<Timestamp>,
    /// When they last logged in.
    last_login_at: Option<Timestamp>,
    #[serde(flatten)]
    edited: Edited,
}

impl UserView {
    fn new(user: User, editors: &Editors) -> Self {
        Self {
            id: user.id,
            email: user.email,
            name: user.about.name,
            is_owner: user.is_owner,
            permissions: user.permissions,
            created_at: Timestamp(user.created_ms),
            disabled_at: user.about.disabled_ms.map(Timestamp),
            last_login_at: user.about.last_login_ms.map(Timestamp),
            edited: editors.edited(user.stamp),
        }
    }

    async fn one(db: &mut impl Read, user: User) -> Result<Versioned<Self>, Problem> {
        let editors = Editors::of(db, vec![user.stamp]).await?;
        Ok(Versioned(user.stamp, Self::new(user, &editors)))
    }
}

/// Which of them, in which order.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ListUsers {
    /// `email`, `name`, `created_at`, `updated_at` or `last_login_at`, with `-` before it for descending; `email` without it.
    sort: Option<String>,
    /// Only those whose address or name contains this; ASCII letters in either case.
    #[param(max_length = 128)]
    search: Option<String>,
    /// Only users who are disabled, or only those who are not.
    is_disabled: Option<bool>,
}

/// A user to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateUser {
    /// Unique over all tenants.
    #[schema(max_length = 254)]
    email: String,
    /// What people call them.
    #[serde(default)]
    #[schema(max_length = 128)]
    name: String,
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
    #[schema(value_type = Option<String>, format = Password, min_length = 8, max_length = 1024)]
    password: Option<Zeroizing<String>>,
    /// Unique over all tenants.
    #[schema(max_length = 254)]
    email: Option<String>,
    /// What people call them.
    #[schema(max_length = 128)]
    name: Option<String>,
    /// Owners may do everything in their tenant.
    is_owner: Option<bool>,
    /// Nobody comes in as a disabled user; what they have made stays.
    disabled: Option<bool>,
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
    let users =
        store::user::page(&mut db, caller.tenant(), query.is_disabled, search, &page).await?;
    let editors = Editors::of(&mut db, users.items.iter().map(|user| user.stamp).collect()).await?;
    Ok(Json(List::new(users.map(|user| UserView::new(user, &editors)), &order)))
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
) -> Result<(StatusCode, Versioned<UserView>), Problem> {
    caller.must_be_owner()?;
    new_password(&body.password)?;
    let mut user = User {
        id: random::id(),
        tenant: caller.tenant(),
        is_operator_tenant: caller.user.is_operator_tenant,
        email: email(&body.email)?,
        password_hash: app.passwords.hash(body.password, caller.asker()).await?,
        is_owner: body.is_owner,
        permissions: body.permissions,
        created_ms: app.clock.now_ms(),
        about: About { name: person(&body.name)?, ..About::default() },
        stamp: Stamp::default(),
    };
    let mut change = app.store.change().await?;
    store::user::insert(&mut change, &user).await?;
    user.stamp = caller.stamp(&app, &mut change, Stamped::Account, user.id).await?;
    let detail = serde_json::json!({
        "email": &user.email, "is_owner": user.is_owner, "permissions": &user.permissions,
    });
    let id = user.id;
    let view = UserView::one(&mut change, user).await?;
    change.commit(caller.entry(&app, "user.create", id, detail)).await?;
    Ok((StatusCode::CREATED, view))
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
) -> Result<Versioned<UserView>, Problem> {
    caller.must_be_owner()?;
    let mut db = app.store.read().await?;
    let user = store::user::of_tenant(&mut db, caller.tenant(), id).await?;
    let user = user.ok_or_else(|| Problem::not_found("user"))?;
    UserView::one(&mut db, user).await
}

/// Changes a user. Whatever but the name changes ends the user's sessions.
#[utoipa::path(
    patch, path = "/api/v1/users/{id}", tag = "users", request_body = UpdateUser,
    params(("id" = Uuid, Path, description = "The user."), IfMatch),
    responses((status = 200, description = "The user.", body = UserView)),
)]
async fn update_user(
    State(app): State<Shared>,
    caller: Caller,
    if_match: IfMatch,
    Path(id): Path<UserId>,
    Json(body): Json<UpdateUser>,
) -> Result<Versioned<UserView>, Problem> {
    caller.must_be_owner()?;
    let hash = match body.password {
        None => None,
        Some(password) => {
            new_password(&password)?;
            Some(app.passwords.hash(password, caller.asker()).await?)
        }
    };
    let mut change = app.store.change().await?;
    let before = store::user::of_tenant(&mut change, caller.tenant(), id)
        .await?
        .ok_or_else(|| Problem::not_found("user"))?;
    if_match.check(&mut change, before.stamp).await?;
    let mut user = before.clone();
    if let Some(name) = &body.name {
        user.about.name = person(name)?;
    }
    if let Some(text) = &body.email {
        user.email = email(text)?;
    }
    user.permissions = body.permissions.unwrap_or(user.permissions);
    user.is_owner = body.is_owner.unwrap_or(user.is_owner);
    user.about.disabled_ms = match body.disabled {
        Some(true) => user.about.disabled_ms.or(Some(app.clock.now_ms())),
        Some(false) => None,
        None => user.about.disabled_ms,
    };
    if id == caller.user.id && user.about.disabled_ms.is_some() {
        return Err(Problem::conflict(
            "owners cannot disable themselves",
            "Let another owner do it, so that one is always left.",
        ));
    }
    store::user::update(&mut change, &user).await?;
    if before.is_owner && store::user::count_owners(&mut change, caller.tenant()).await? == 0 {
        return Err(last_owner());
    }
    if let Some(hash) = &hash {
        store::user::set_password(&mut change, id, hash).await?;
    }
    let is_only_renamed = hash.is_none()
        && (&before.email, before.is_owner, &before.permissions, before.about.disabled_ms)
            == (&user.email, user.is_owner, &user.permissions, user.about.disabled_ms);
    if !is_only_renamed {
        store::session::delete_of(&mut change, id).await?;
        store::one_time_link::delete_of(&mut change, id).await?;
    }
    user.stamp = caller.stamp(&app, &mut change, Stamped::Account, id).await?;
    let detail = serde_json::json!({
        "email": &user.email, "name": &user.about.name, "is_owner": user.is_owner,
        "permissions": &user.permissions, "disabled": user.about.disabled_ms.is_some(),
        "password_changed": hash.is_some(),
    });
    let view = UserView::one(&mut change, user).await?;
    change.commit(caller.entry(&app, "user.update", id, detail)).await?;
    Ok(view)
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
    store::user::delete(&mut change, id).await?;
    if store::user::count_owners(&mut change, caller.tenant()).await? == 0 {
        return Err(last_owner());
    }
    let detail = serde_json::json!({ "email": user.email });
    change.commit(caller.entry(&app, "user.delete", id, detail)).await?;
    no_content()
}

fn last_owner() -> Problem {
    Problem::conflict(
        "this is the tenant's last owner",
        "Make another owner first, so that one is always left.",
    )
}

/// What people call a user; may be empty.
fn person(name: &str) -> Result<String, Problem> {
    match name.trim() {
        "" => Ok(String::new()),
        name => display_text(name, "the name"),
    }
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
