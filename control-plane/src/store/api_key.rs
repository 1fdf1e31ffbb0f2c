//! Keys for the API. Each acts as the user who made it; only its digest is stored.

use protocol::{
    credential::CredentialDigest,
    id::{ApiKeyId, UserId},
};
use sqlx::any::AnyRow;

use super::{
    Change, Read, Result, Write, converted, parsed, signed, text, unsigned, unsigned_option,
};

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

pub(crate) async fn list(db: &mut impl Read, user: UserId) -> Result<Vec<ApiKeyRow>> {
    let rows = sqlx::query("SELECT * FROM api_key WHERE user_id = $1 ORDER BY id")
        .bind(user.to_string())
        .fetch_all(db.connection())
        .await?;
    rows.iter().map(read).collect()
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
