//! Sessions of people who logged in with a password. Only the digest of a session's id is stored.

use protocol::id::UserId;

use sqlx::any::AnyRow;

use super::{Change, Read, Result, Write, page::Column, parsed, signed, text, unsigned};
use crate::auth::session::{ABSOLUTE_MS, IDLE_MS};

/// The order of sessions.
pub(crate) const BY_USE: &Column = &Column::number("last_used_at", "last_used_ms");

#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) user: UserId,
    /// From where it began; empty for sessions of older versions.
    pub(crate) address: String,
    /// By which program, in its own words.
    pub(crate) user_agent: String,
    pub(crate) created_ms: u64,
    pub(crate) last_used_ms: u64,
}

impl Session {
    /// When it ends unless it is used before.
    pub(crate) fn ends_ms(&self) -> u64 {
        (self.last_used_ms + IDLE_MS).min(self.created_ms + ABSOLUTE_MS)
    }

    pub(crate) fn is_over(&self, now_ms: u64) -> bool {
        self.ends_ms() <= now_ms
    }
}

pub(crate) async fn insert(db: &mut Change, digest: &str, session: &Session) -> Result<()> {
    sqlx::query(
        "INSERT INTO session (digest, user_id, created_ms, last_used_ms, address, user_agent)
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(digest)
    .bind(session.user.to_string())
    .bind(signed(session.created_ms))
    .bind(signed(session.last_used_ms))
    .bind(session.address.as_str())
    .bind(session.user_agent.as_str())
    .execute(db.connection())
    .await?;
    Ok(())
}

pub(crate) async fn find(db: &mut impl Read, digest: &str) -> Result<Option<Session>> {
    let row = sqlx::query("SELECT * FROM session WHERE digest = $1")
        .bind(digest)
        .fetch_optional(db.connection())
        .await?;
    row.as_ref().map(read).transpose()
}

/// A user's sessions with their digests, the latest used first.
pub(crate) async fn list(db: &mut impl Read, user: UserId) -> Result<Vec<(String, Session)>> {
    let rows =
        sqlx::query("SELECT * FROM session WHERE user_id = $1 ORDER BY last_used_ms DESC, digest")
            .bind(user.to_string())
            .fetch_all(db.connection())
            .await?;
    rows.iter().map(|row| Ok((text(row, "digest")?, read(row)?))).collect()
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

fn read(row: &AnyRow) -> Result<Session> {
    Ok(Session {
        user: parsed(row, "user_id")?,
        address: text(row, "address")?,
        user_agent: text(row, "user_agent")?,
        created_ms: unsigned(row, "created_ms")?,
        last_used_ms: unsigned(row, "last_used_ms")?,
    })
}
