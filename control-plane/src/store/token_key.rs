//! Public halves of the keys that sign capabilities.

use protocol::feed::{FeedTokenKey, ItemKey};

use super::{Change, Read, Result, converted, feed, signed, text};

pub(crate) async fn insert(db: &mut Change, key: &FeedTokenKey, now_ms: u64) -> Result<()> {
    sqlx::query("INSERT INTO token_key (kid, public_key, created_ms) VALUES ($1, $2, $3)")
        .bind(key.kid.as_str())
        .bind(String::from(key.public_key))
        .bind(signed(now_ms))
        .execute(db.connection())
        .await?;
    feed::mark(db, &ItemKey::TokenKey(key.kid.clone())).await
}

/// Edges hold at most three keys; the newest count.
pub(crate) async fn list(db: &mut impl Read) -> Result<Vec<FeedTokenKey>> {
    let rows = sqlx::query("SELECT * FROM token_key ORDER BY created_ms DESC LIMIT 3")
        .fetch_all(db.connection())
        .await?;
    rows.iter()
        .map(|row| {
            Ok(FeedTokenKey { kid: text(row, "kid")?, public_key: converted(row, "public_key")? })
        })
        .collect()
}
