//! Requests that a client marked to be done once: their keys, and what was answered.

use protocol::id::{TenantId, UserId};
use sqlx::Row as _;

use super::{Result, Write, signed, unsigned, unsigned_option};

/// By which a request is known again.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    pub(crate) tenant: TenantId,
    pub(crate) user: UserId,
    /// In the client's words.
    pub(crate) key: String,
    /// Of what was asked.
    pub(crate) digest: String,
}

/// What is known of a key.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) digest: String,
    /// Of the answer, once there is one.
    pub(crate) status: Option<u64>,
    /// Of the answer, if it may be told again.
    pub(crate) body: Option<String>,
}

/// Forgets what is older than `before_ms`.
pub(crate) async fn trim(db: &mut impl Write, before_ms: u64) -> Result<()> {
    sqlx::query("DELETE FROM idempotency WHERE created_ms < $1")
        .bind(signed(before_ms))
        .execute(db.connection())
        .await?;
    Ok(())
}

pub(crate) async fn find(db: &mut impl Write, claim: &Claim) -> Result<Option<Known>> {
    let row = sqlx::query(
        "SELECT * FROM idempotency WHERE tenant_id = $1 AND user_id = $2 AND client_key = $3",
    )
    .bind(claim.tenant.to_string())
    .bind(claim.user.to_string())
    .bind(claim.key.as_str())
    .fetch_optional(db.connection())
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Known {
        digest: row.try_get("digest")?,
        status: unsigned_option(&row, "status")?,
        body: row.try_get("body")?,
    }))
}

/// How many keys of a tenant are remembered.
pub(crate) async fn count(db: &mut impl Write, tenant: TenantId) -> Result<u64> {
    let row = sqlx::query("SELECT COUNT(*) AS n FROM idempotency WHERE tenant_id = $1")
        .bind(tenant.to_string())
        .fetch_one(db.connection())
        .await?;
    unsigned(&row, "n")
}

pub(crate) async fn insert(db: &mut impl Write, claim: &Claim, now_ms: u64) -> Result<()> {
    sqlx::query(
        "INSERT INTO idempotency (tenant_id, user_id, client_key, digest, created_ms)
         VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(claim.tenant.to_string())
    .bind(claim.user.to_string())
    .bind(claim.key.as_str())
    .bind(claim.digest.as_str())
    .bind(signed(now_ms))
    .execute(db.connection())
    .await?;
    Ok(())
}

/// Notes the answer.
pub(crate) async fn answered(
    db: &mut impl Write,
    claim: &Claim,
    status: u16,
    body: Option<&str>,
) -> Result<()> {
    sqlx::query(
        "UPDATE idempotency SET status = $4, body = $5
         WHERE tenant_id = $1 AND user_id = $2 AND client_key = $3",
    )
    .bind(claim.tenant.to_string())
    .bind(claim.user.to_string())
    .bind(claim.key.as_str())
    .bind(i64::from(status))
    .bind(body)
    .execute(db.connection())
    .await?;
    Ok(())
}

/// Forgets a key whose request changed nothing.
pub(crate) async fn release(db: &mut impl Write, claim: &Claim) -> Result<()> {
    sqlx::query(
        "DELETE FROM idempotency WHERE tenant_id = $1 AND user_id = $2 AND client_key = $3",
    )
    .bind(claim.tenant.to_string())
    .bind(claim.user.to_string())
    .bind(claim.key.as_str())
    .execute(db.connection())
    .await?;
    Ok(())
}
