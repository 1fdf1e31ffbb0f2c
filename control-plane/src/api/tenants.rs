//! Tenants, for the deployment's operators. A new tenant comes with its first owner.

use std::collections::BTreeSet;

use axum::extract::State;
use http::StatusCode;
use protocol::id::TenantId;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use zeroize::Zeroizing;

use super::{
    extract::{Caller, Json, Query, display_text},
    list::{List, Paging, search},
    problem::Problem,
    timestamp::Timestamp,
    users::{email, new_password},
};
use crate::{
    app::Shared,
    random,
    store::{
        self,
        audit::Entry,
        stamp::Stamp,
        tenant::Tenant,
        user::{About, User},
    },
};

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(list_tenants, create_tenant))
}

/// A tenant.
#[derive(Serialize, ToSchema)]
struct TenantView {
    #[schema(value_type = Uuid)]
    id: TenantId,
    name: String,
    created_at: Timestamp,
}

impl From<Tenant> for TenantView {
    fn from(tenant: Tenant) -> Self {
        Self { id: tenant.id, name: tenant.name, created_at: Timestamp(tenant.created_ms) }
    }
}

/// Which of them, in which order.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ListTenants {
    /// `name` or `created_at`, with `-` before it for descending; `name` without it.
    sort: Option<String>,
    /// Only those whose name contains this; ASCII letters in either case.
    #[param(max_length = 128)]
    search: Option<String>,
}

/// A tenant to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateTenant {
    /// Unique.
    name: String,
    /// Its first owner's e-mail address, unique over all tenants.
    owner_email: String,
    /// Its first owner's password.
    #[schema(value_type = String, format = Password, min_length = 8)]
    owner_password: Zeroizing<String>,
}

/// Lists all tenants.
#[utoipa::path(
    get, path = "/api/v1/tenants", tag = "tenants", params(Paging, ListTenants),
    responses((status = 200, description = "A page of tenants.", body = List<TenantView>)),
)]
async fn list_tenants(
    State(app): State<Shared>,
    caller: Caller,
    Query(paging): Query<Paging>,
    Query(query): Query<ListTenants>,
) -> Result<Json<List<TenantView>>, Problem> {
    caller.must_be_operator()?;
    let (page, order) = paging.page(query.sort.as_deref(), store::tenant::COLUMNS)?;
    let search = search(query.search.as_deref())?;
    let mut db = app.store.read().await?;
    let tenants = store::tenant::page(&mut db, search, &page).await?;
    Ok(Json(List::new(tenants.map(TenantView::from), &order)))
}

/// Makes a tenant with its first owner.
#[utoipa::path(
    post, path = "/api/v1/tenants", tag = "tenants", request_body = CreateTenant,
    responses((status = 201, description = "The tenant.", body = TenantView)),
)]
async fn create_tenant(
    State(app): State<Shared>,
    caller: Caller,
    Json(body): Json<CreateTenant>,
) -> Result<(StatusCode, Json<TenantView>), Problem> {
    caller.must_be_operator()?;
    new_password(&body.owner_password)?;
    let now_ms = app.clock.now_ms();
    let tenant = Tenant {
        id: random::id(),
        name: display_text(&body.name, "the name")?,
        is_operator: false,
        created_ms: now_ms,
    };
    let owner = User {
        id: random::id(),
        tenant: tenant.id,
        is_operator_tenant: false,
        email: email(&body.owner_email)?,
        password_hash: app.passwords.hash(body.owner_password, caller.asker()).await?,
        is_owner: true,
        permissions: BTreeSet::new(),
        created_ms: now_ms,
        about: About::default(),
        stamp: Stamp::default(),
    };
    let mut change = app.store.change().await?;
    store::tenant::insert(&mut change, &tenant).await?;
    store::user::insert(&mut change, &owner).await?;
    let entry = Entry {
        tenant: tenant.id,
        actor: caller.actor(),
        action: "tenant.create",
        subject: tenant.name.clone(),
        detail: serde_json::json!({ "owner": &owner.email }),
        at_ms: now_ms,
    };
    change.commit(entry).await?;
    Ok((StatusCode::CREATED, Json(tenant.into())))
}
