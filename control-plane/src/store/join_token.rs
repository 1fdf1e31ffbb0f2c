//! Invitations for edges to join. Only the digest of each is stored.

use protocol::{credential::CredentialDigest, id::JoinTokenId};
use sqlx::any::AnyRow;

use super::{
    Change, Read, Result, converted,
    page::{Column, Page, Select, Slice, State, Value},
    parsed, signed, unsigned, unsigned_option,
};

/// What join tokens can be ordered by.
pub(crate) const COLUMNS: &[Column] =
    &[Column::number("created_at", "created_ms"), Column::number("expires_at", "expires_ms")];

#[derive(Debug, Clone)]
pub(crate) struct JoinTokenRow {
    pub(crate) id: JoinTokenId,
    pub(crate) digest: CredentialDigest,
    pub(crate) created_ms: u64,
    pub(crate) expires_ms: u64,
    pub(crate) last_used_ms: Option<u64>,
    pub(crate) revoked_ms: Option<u64>,
}

pub(crate) async fn insert(db: &mut Change, token: &JoinTokenRow) -> Result<()> {
    sqlx::query(
        "INSERT INTO join_token (id, digest, created_ms, expires_ms) VALUES ($1, $2, $3, $4)",
    )
    .bind(token.id.to_string())
    .bind(String::from(token.digest))
    .bind(signed(token.created_ms))
    .bind(signed(token.expires_ms))
    .execute(db.connection())
    .await?;
    Ok(())
}

pub(crate) async fn find(db: &mut impl Read, id: JoinTokenId) -> Result<Option<JoinTokenRow>> {
    let row = sqlx::query("SELECT * FROM join_token WHERE id = $1")
        .bind(id.to_string())
        .fetch_optional(db.connection())
        .await?;
    row.as_ref().map(read).transpose()
}

pub(crate) async fn page(
    db: &mut impl Read,
    state: State,
    now_ms: u64,
    page: &Page,
) -> Result<Slice<JoinTokenRow>> {
    let select = Select::new("*", "join_token", "id");
    let now = [Value::Number(signed(now_ms))];
    let select = match state {
        State::All => select,
        State::Live => select.and("revoked_ms IS NULL AND expires_ms > ?", now),
        State::Ended => select.and("(revoked_ms IS NOT NULL OR expires_ms <= ?)", now),
    };
    select.page(db, page, read).await
}

pub(crate) async fn touch(db: &mut Change, id: JoinTokenId, now_ms: u64) -> Result<()> {
    sqlx::query("UPDATE join_token SET last_used_ms = $2 WHERE id = $1")
        .bind(id.to_string())
        .bind(signed(now_ms))
        .execute(db.connection())
        .await?;
    Ok(())
}

pub(crate) async fn revoke(db: &mut Change, id: JoinTokenId, now_ms: u64) -> Result<()> {
    sqlx::query("UPDATE join_token SET revoked_ms = $2 WHERE id = $1 AND revoked_ms IS NULL")
        .bind(id.to_string())
        .bind(signed(now_ms))
        .execute(db.connection())
        .await?;
    Ok(())
}

fn read(row: &AnyRow) -> Result<JoinTokenRow> {
    Ok(JoinTokenRow {
        id: parsed(row, "id")?,
        digest: converted(row, "digest")?,
        created_ms: unsigned(row, "created_ms")?,
        expires_ms: unsigned(row, "expires_ms")?,
        last_used_ms: unsigned_option(row, "last_used_ms")?,
        revoked_ms: unsigned_option(row, "revoked_ms")?,
    })
}
