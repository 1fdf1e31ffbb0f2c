//! Sessions of people who logged in with a password. Only the digest of a session's id is stored.

use protocol::id::UserId;

use super::{Change, Read, Result, Write, parsed, signed, unsigned};

#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) user: UserId,
    pub(crate) created_ms: u64,
    pub(crate) last_used_ms: u64,
}

pub(crate) async fn insert(db: &mut Change, digest: &str, session: &Session) -> Result<()> {
    sqlx::query(
        "INSERT INTO session (digest, user_id, created_ms, last_used_ms) VALUES ($1, $2, $3, $4)",
    )
    .bind(digest)
    .bind(session.user.to_string())
    .bind(signed(session.created_ms))
    .bind(signed(session.last_used_ms))
    .execute(db.connection())
    .await?;
    Ok(())
}

pub(crate) async fn find(db: &mut impl Read, digest: &str) -> Result<Option<Session>> {
    let row = sqlx::query("SELECT * FROM session WHERE digest = $1")
        .bind(digest)
        .fetch_optional(db.connection())
        .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Session {
        user: parsed(&row, "user_id")?,
        created_ms: unsigned(&row, "created_ms")?,
        last_used_ms: unsigned(&row, "last_used_ms")?,
    }))
}

pub(crate) async fn touch(db: &mut impl Write, digest: &str, now_ms: u64) -> Result<()> {
    sqlx::query("UPDATE session SET last_used_ms = $2 WHERE digest = $1")
        .bind(digest)
        .bind(signed(now_ms))
        .execute(db.connection())
        .await?;
    Ok(())
}

pub(crate) async fn delete(db: &mut Change, digest: &str) -> Result<()> {
    sqlx::query("DELETE FROM session WHERE digest = $1")
        .bind(digest)
        .execute(db.connection())
        .await?;
    Ok(())
}

/// Ends every session of a user, as a change of rights or password demands.
pub(crate) async fn delete_of(db: &mut Change, user: UserId) -> Result<()> {
    sqlx::query("DELETE FROM session WHERE user_id = $1")
        .bind(user.to_string())
        .execute(db.connection())
        .await?;
    Ok(())
}

/// Forgets sessions that are too old to be used again.
pub(crate) async fn delete_stale(
    db: &mut impl Write,
    created_before_ms: u64,
    used_before_ms: u64,
) -> Result<()> {
    sqlx::query("DELETE FROM session WHERE created_ms < $1 OR last_used_ms < $2")
        .bind(signed(created_before_ms))
        .bind(signed(used_before_ms))
        .execute(db.connection())
        .await?;
    Ok(())
}
