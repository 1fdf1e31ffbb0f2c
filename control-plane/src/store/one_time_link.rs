//! Links that work once: to choose a first password, or to sign in.

use protocol::id::UserId;

use super::{Change, Read, Result, Write, parsed, signed, unsigned};

/// What a link is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Its user chooses a first password.
    SetUp,
    /// Its user is signed in.
    SignIn,
}

impl Purpose {
    fn as_str(self) -> &'static str {
        match self {
            Self::SetUp => "set_up",
            Self::SignIn => "sign_in",
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct OneTimeLink {
    pub(crate) user: UserId,
    pub(crate) expires_ms: u64,
}

pub(crate) async fn insert(
    db: &mut Change,
    digest: &str,
    purpose: Purpose,
    link: &OneTimeLink,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO one_time_link (digest, user_id, purpose, expires_ms) VALUES ($1, $2, $3, $4)",
    )
    .bind(digest)
    .bind(link.user.to_string())
    .bind(purpose.as_str())
    .bind(signed(link.expires_ms))
    .execute(db.connection())
    .await?;
    Ok(())
}

/// The link, if it has not expired.
pub(crate) async fn find(
    db: &mut impl Read,
    digest: &str,
    purpose: Purpose,
    now_ms: u64,
) -> Result<Option<OneTimeLink>> {
    let row = sqlx::query(
        "SELECT * FROM one_time_link WHERE digest = $1 AND purpose = $2 AND expires_ms > $3",
    )
    .bind(digest)
    .bind(purpose.as_str())
    .bind(signed(now_ms))
    .fetch_optional(db.connection())
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(OneTimeLink {
        user: parsed(&row, "user_id")?,
        expires_ms: unsigned(&row, "expires_ms")?,
    }))
}

pub(crate) async fn delete(db: &mut Change, digest: &str) -> Result<()> {
    sqlx::query("DELETE FROM one_time_link WHERE digest = $1")
        .bind(digest)
        .execute(db.connection())
        .await?;
    Ok(())
}

/// Ends every link of a user, as a new password demands.
pub(crate) async fn delete_of(db: &mut Change, user: UserId) -> Result<()> {
    sqlx::query("DELETE FROM one_time_link WHERE user_id = $1")
        .bind(user.to_string())
        .execute(db.connection())
        .await?;
    Ok(())
}

/// Forgets links that have expired.
pub(crate) async fn delete_stale(db: &mut impl Write, now_ms: u64) -> Result<()> {
    sqlx::query("DELETE FROM one_time_link WHERE expires_ms <= $1")
        .bind(signed(now_ms))
        .execute(db.connection())
        .await?;
    Ok(())
}
