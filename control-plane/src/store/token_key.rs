//! Public halves of the keys that sign capabilities: the one in use, and for a while those that it
//! replaced.

use protocol::feed::{FeedTokenKey, ItemKey};

use super::{Change, Read, Result, converted, feed, signed, text};

/// Makes a key the newest, whether or not it is there.
pub(crate) async fn put(db: &mut Change, key: &FeedTokenKey, now_ms: u64) -> Result<()> {
    sqlx::query(
        "INSERT INTO token_key (kid, public_key, created_ms) VALUES ($1, $2, $3)
         ON CONFLICT (kid) DO UPDATE SET created_ms = excluded.created_ms",
    )
    .bind(key.kid.as_str())
    .bind(String::from(key.public_key))
    .bind(signed(now_ms))
    .execute(db.connection())
    .await?;
    feed::mark(db, &ItemKey::TokenKey(key.kid.clone())).await
}

/// Removes all keys but this one, if it was published at `published_ms` or before. Returns the
/// removed ones' ids.
pub(crate) async fn delete_others(
    db: &mut Change,
    kid: &str,
    published_ms: u64,
) -> Result<Vec<String>> {
    let rows = sqlx::query(
        "DELETE FROM token_key WHERE kid <> $1 AND EXISTS
             (SELECT 1 FROM token_key WHERE kid = $1 AND created_ms <= $2)
         RETURNING kid",
    )
    .bind(kid)
    .bind(signed(published_ms))
    .fetch_all(db.connection())
    .await?;
    let kids = rows.iter().map(|row| text(row, "kid")).collect::<Result<Vec<_>>>()?;
    for kid in &kids {
        feed::mark(db, &ItemKey::TokenKey(kid.clone())).await?;
    }
    Ok(kids)
}

/// The newest first; edges hold at most three.
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
