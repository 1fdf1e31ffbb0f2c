//! Users: people who can log in, and what they may do.

use std::collections::BTreeSet;

use protocol::id::{TenantId, UserId};
use serde::{Deserialize, Serialize};
use sqlx::any::AnyRow;

use super::{
    Change, Read, Result, json,
    page::{Column, Page, Select, Slice, Value},
    parsed, signed,
    stamp::{self, Stamp},
    text, to_json, truth, unsigned, unsigned_option,
};

/// What users can be ordered by.
pub(crate) const COLUMNS: &[Column] =
    &[Column::text("email", "email"), Column::number("created_at", "account.created_ms")];

/// Something that a user may be allowed to do beyond using what their teams own.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum Permission {
    /// Create, change and delete tunnels, their access and their secrets.
    TunnelManage,
}

#[derive(Clone)]
pub(crate) struct User {
    pub(crate) id: UserId,
    pub(crate) tenant: TenantId,
    /// Its tenant looks after the deployment.
    pub(crate) is_operator_tenant: bool,
    pub(crate) email: String,
    /// Argon2id, in PHC form; empty until the user has chosen a password.
    pub(crate) password_hash: String,
    pub(crate) is_owner: bool,
    pub(crate) permissions: BTreeSet<Permission>,
    pub(crate) created_ms: u64,
    pub(crate) about: About,
    pub(crate) stamp: Stamp,
}

/// What is known of a user beyond what a new one needs.
#[derive(Debug, Clone, Default)]
pub(crate) struct About {
    /// What people call them; may be empty.
    pub(crate) name: String,
    /// Since when nobody can come in as this user.
    pub(crate) disabled_ms: Option<u64>,
    pub(crate) last_login_ms: Option<u64>,
}

impl User {
    /// The password's hash, if the user has chosen a password.
    pub(crate) fn password_hash(&self) -> Option<&str> {
        Some(self.password_hash.as_str()).filter(|hash| !hash.is_empty())
    }
}

const SELECT: &str = "SELECT account.*, tenant.is_operator FROM account \
     JOIN tenant ON tenant.id = account.tenant_id";

pub(crate) async fn insert(db: &mut Change, user: &User) -> Result<()> {
    sqlx::query(
        "INSERT INTO account (id, tenant_id, email, password_hash, is_owner, permissions, created_ms,
          updated_ms, name)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $8)",
    )
    .bind(user.id.to_string())
    .bind(user.tenant.to_string())
    .bind(user.email.as_str())
    .bind(user.password_hash.as_str())
    .bind(i64::from(user.is_owner))
    .bind(to_json(&user.permissions))
    .bind(signed(user.created_ms))
    .bind(user.about.name.as_str())
    .execute(db.connection())
    .await?;
    Ok(())
}

pub(crate) async fn by_email(db: &mut impl Read, email: &str) -> Result<Option<User>> {
    let sql = sqlx::AssertSqlSafe(format!("{SELECT} WHERE email = $1"));
    let row = sqlx::query(sql).bind(email).fetch_optional(db.connection()).await?;
    row.as_ref().map(read).transpose()
}

/// Of any tenant: for whoever holds a session or a key of this user.
pub(crate) async fn by_id(db: &mut impl Read, id: UserId) -> Result<Option<User>> {
    let sql = sqlx::AssertSqlSafe(format!("{SELECT} WHERE account.id = $1"));
    let row = sqlx::query(sql).bind(id.to_string()).fetch_optional(db.connection()).await?;
    row.as_ref().map(read).transpose()
}

pub(crate) async fn of_tenant(
    db: &mut impl Read,
    tenant: TenantId,
    id: UserId,
) -> Result<Option<User>> {
    Ok(by_id(db, id).await?.filter(|user| user.tenant == tenant))
}

pub(crate) async fn page(
    db: &mut impl Read,
    tenant: TenantId,
    is_disabled: Option<bool>,
    search: Option<&str>,
    page: &Page,
) -> Result<Slice<User>> {
    let from = "account JOIN tenant ON tenant.id = account.tenant_id";
    let select = Select::new("account.*, tenant.is_operator", from, "account.id")
        .and("tenant_id = ?", [Value::Text(tenant.to_string())])
        .search(&["email", "account.name"], search);
    let select = match is_disabled {
        None => select,
        Some(true) => select.and("disabled_ms IS NOT NULL", []),
        Some(false) => select.and("disabled_ms IS NULL", []),
    };
    select.page(db, page, read).await
}

/// The deployment's first owner, while no password has been chosen.
pub(crate) async fn without_password(db: &mut impl Read) -> Result<Option<User>> {
    let sql = sqlx::AssertSqlSafe(format!(
        "{SELECT} WHERE password_hash = '' AND is_owner = 1 AND tenant.is_operator = 1
         ORDER BY account.id LIMIT 1"
    ));
    let row = sqlx::query(sql).fetch_optional(db.connection()).await?;
    row.as_ref().map(read).transpose()
}

/// How many owners a tenant has who can come in.
pub(crate) async fn count_owners(db: &mut impl Read, tenant: TenantId) -> Result<u64> {
    let row = sqlx::query(
        "SELECT COUNT(*) AS n FROM account
         WHERE tenant_id = $1 AND is_owner = 1 AND disabled_ms IS NULL",
    )
    .bind(tenant.to_string())
    .fetch_one(db.connection())
    .await?;
    unsigned(&row, "n")
}

/// Stores all that can change of a user but the password.
pub(crate) async fn update(db: &mut Change, user: &User) -> Result<()> {
    sqlx::query(
        "UPDATE account SET email = $2, name = $3, is_owner = $4, permissions = $5,
             disabled_ms = $6 WHERE id = $1",
    )
    .bind(user.id.to_string())
    .bind(user.email.as_str())
    .bind(user.about.name.as_str())
    .bind(i64::from(user.is_owner))
    .bind(to_json(&user.permissions))
    .bind(user.about.disabled_ms.map(signed))
    .execute(db.connection())
    .await?;
    Ok(())
}

/// Notes that the user has come in.
pub(crate) async fn came_in(db: &mut Change, user: UserId, now_ms: u64) -> Result<()> {
    sqlx::query("UPDATE account SET last_login_ms = $2 WHERE id = $1")
        .bind(user.to_string())
        .bind(signed(now_ms))
        .execute(db.connection())
        .await?;
    Ok(())
}

pub(crate) async fn set_password(db: &mut Change, user: UserId, hash: &str) -> Result<()> {
    sqlx::query("UPDATE account SET password_hash = $2 WHERE id = $1")
        .bind(user.to_string())
        .bind(hash)
        .execute(db.connection())
        .await?;
    Ok(())
}

/// Sessions, keys and memberships go with the user.
pub(crate) async fn delete(db: &mut Change, user: UserId) -> Result<()> {
    sqlx::query("DELETE FROM account WHERE id = $1")
        .bind(user.to_string())
        .execute(db.connection())
        .await?;
    Ok(())
}

pub(super) fn read(row: &AnyRow) -> Result<User> {
    Ok(User {
        id: parsed(row, "id")?,
        tenant: parsed(row, "tenant_id")?,
        is_operator_tenant: truth(row, "is_operator")?,
        email: text(row, "email")?,
        password_hash: text(row, "password_hash")?,
        is_owner: truth(row, "is_owner")?,
        permissions: json(row, "permissions")?,
        created_ms: unsigned(row, "created_ms")?,
        about: About {
            name: text(row, "name")?,
            disabled_ms: unsigned_option(row, "disabled_ms")?,
            last_login_ms: unsigned_option(row, "last_login_ms")?,
        },
        stamp: stamp::read(row)?,
    })
}
