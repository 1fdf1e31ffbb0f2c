//! From where accounts have been used: failures elsewhere keep nobody out who comes from there.

use protocol::id::UserId;
use room::Source;

use super::{Change, Read, Result, signed};

/// Sources of one account that are kept, the latest ones.
const MAX: i64 = 32;
/// A source that was not used for so long is a stranger's again: 90 days.
const KEPT_MS: u64 = 90 * 24 * 60 * 60 * 1000;

/// The account was used from there.
pub(crate) async fn used(db: &mut Change, user: UserId, source: Source, now_ms: u64) -> Result<()> {
    sqlx::query(
        "INSERT INTO login_source (user_id, source, used_ms) VALUES ($1, $2, $3)
         ON CONFLICT (user_id, source) DO UPDATE SET used_ms = excluded.used_ms",
    )
    .bind(user.to_string())
    .bind(source.to_string())
    .bind(signed(now_ms))
    .execute(db.connection())
    .await?;
    sqlx::query(
        "DELETE FROM login_source WHERE user_id = $1 AND (used_ms < $2 OR source NOT IN
          (SELECT source FROM login_source WHERE user_id = $1
           ORDER BY used_ms DESC, source LIMIT $3))",
    )
    .bind(user.to_string())
    .bind(signed(now_ms.saturating_sub(KEPT_MS)))
    .bind(MAX)
    .execute(db.connection())
    .await?;
    Ok(())
}

/// Has the account been used from there?
pub(crate) async fn is_known(
    db: &mut impl Read,
    user: UserId,
    source: Source,
    now_ms: u64,
) -> Result<bool> {
    let row = sqlx::query(
        "SELECT 1 AS n FROM login_source WHERE user_id = $1 AND source = $2 AND used_ms >= $3",
    )
    .bind(user.to_string())
    .bind(source.to_string())
    .bind(signed(now_ms.saturating_sub(KEPT_MS)))
    .fetch_optional(db.connection())
    .await?;
    Ok(row.is_some())
}
