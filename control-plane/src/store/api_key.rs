//! Keys for the API. Each acts as the user who made it; only its digest is stored.

use protocol::{
    credential::CredentialDigest,
    id::{ApiKeyId, UserId},
};
use sqlx::any::AnyRow;

use super::{
    Change, Read, Result, Write, converted,
    page::{Column, Page, Select, Slice, State, Value},
    parsed, signed, text, unsigned, unsigned_option,
};

/// What keys can be ordered by.
pub(crate) const COLUMNS: &[Column] = &[
    Column::text("name", "LOWER(name)"),
    Column::number("created_at", "created_ms"),
    Column::number("last_used_at", "COALESCE(last_used_ms, 0)"),
];

#[derive(Debug, Clone)]
pub(crate) struct ApiKeyRow {
    pub(crate) id: ApiKeyId,
    pub(crate) user: UserId,
    pub(crate) name: String,
    pub(crate) digest: CredentialDigest,
    pub(crate) created_ms: u64,
    pub(crate) last_used_ms: Option<u64>,
    pub(crate) revoked_ms: Option<u64>,
}

pub(crate) async fn insert(db: &mut Change, key: &ApiKeyRow) -> Result<()> {
    sqlx::query(
        "INSERT INTO api_key (id, user_id, name, digest, created_ms) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(key.id.to_string())
    .bind(key.user.to_string())
    .bind(key.name.as_str())
    .bind(String::from(key.digest))
    .bind(signed(key.created_ms))
    .execute(db.connection())
    .await?;
    Ok(())
}

pub(crate) async fn find(db: &mut impl Read, id: ApiKeyId) -> Result<Option<ApiKeyRow>> {
    let row = sqlx::query("SELECT * FROM api_key WHERE id = $1")
        .bind(id.to_string())
        .fetch_optional(db.connection())
        .await?;
    row.as_ref().map(read).transpose()
}

/// A page of a user's keys.
pub(crate) async fn page(
    db: &mut impl Read,
    user: UserId,
    state: State,
    search: Option<&str>,
    page: &Page,
) -> Result<Slice<ApiKeyRow>> {
    let select = Select::new("*", "api_key", "id")
        .and("user_id = ?", [Value::Text(user.to_string())])
        .search(&["name"], search);
    let select = match state {
        State::All => select,
        State::Live => select.and("revoked_ms IS NULL", []),
        State::Ended => select.and("revoked_ms IS NOT NULL", []),
    };
    select.page(db, page, read).await
}

pub(crate) async fn touch(db: &mut impl Write, id: ApiKeyId, now_ms: u64) -> Result<()> {
    sqlx::query("UPDATE api_key SET last_used_ms = $2 WHERE id = $1")
        .bind(id.to_string())
        .bind(signed(now_ms))
        .execute(db.connection())
        .await?;
    Ok(())
}

pub(crate) async fn revoke(db: &mut Change, id: ApiKeyId, now_ms: u64) -> Result<()> {
    sqlx::query("UPDATE api_key SET revoked_ms = $2 WHERE id = $1 AND revoked_ms IS NULL")
        .bind(id.to_string())
        .bind(signed(now_ms))
        .execute(db.connection())
        .await?;
    Ok(())
}

fn read(row: &AnyRow) -> Result<ApiKeyRow> {
    Ok(ApiKeyRow {
        id: parsed(row, "id")?,
        user: parsed(row, "user_id")?,
        name: text(row, "name")?,
        digest: converted(row, "digest")?,
        created_ms: unsigned(row, "created_ms")?,
        last_used_ms: unsigned_option(row, "last_used_ms")?,
        revoked_ms: unsigned_option(row, "revoked_ms")?,
    })
}
