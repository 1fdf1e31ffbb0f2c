//! What of presence must outlive the process: whether a tunnel ever had a connector, which connectors
//! it had when last heard of, its history of health, and when each secret was last used.

use protocol::{
    control::Facts,
    health::{Cause, Health, Verdict},
    id::{ConnectorId, KeyId, TunnelId},
};

use super::{
    Read, Result, Write, json,
    page::{Column, Page, Select, Slice, Value},
    parsed, signed, text, to_json, unsigned, unsigned_option,
};

/// The order of changes of health.
pub(crate) const BY_TIME: &Column = &Column::number("since", "since_ms");

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConnectorRow {
    pub(crate) tunnel: TunnelId,
    pub(crate) connector: ConnectorId,
    pub(crate) facts: Facts,
    pub(crate) vanished_ms: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HealthRow {
    pub(crate) since_ms: u64,
    pub(crate) health: Health,
    pub(crate) reason: String,
    pub(crate) causes: Vec<Cause>,
}

impl HealthRow {
    pub(crate) fn new(since_ms: u64, verdict: Verdict) -> Self {
        let Verdict { health, reason, causes } = verdict;
        Self { since_ms, health, reason, causes }
    }
}

/// Changes of health that are kept of each tunnel.
const MAX_HISTORY: i64 = 1_000;

/// The presence of a tunnel that has had a connector, as it is to be stored.
#[derive(Debug, Clone)]
pub(crate) struct TunnelPresence {
    pub(crate) tunnel: TunnelId,
    pub(crate) connectors: Vec<ConnectorRow>,
    /// Changes of health that are not stored yet, oldest first.
    pub(crate) health: Vec<HealthRow>,
    /// Secrets that hold a link, or were used since the last time.
    pub(crate) keys_used: Vec<(KeyId, u64)>,
}

/// Stores what is new. False if there is no such tunnel (any more).
pub(crate) async fn store(db: &mut impl Write, presence: &TunnelPresence) -> Result<bool> {
    let tunnel = presence.tunnel.to_string();
    let known = sqlx::query("UPDATE tunnel SET ever_connected = 1 WHERE id = $1")
        .bind(tunnel.as_str())
        .execute(db.connection())
        .await?;
    if known.rows_affected() == 0 {
        return Ok(false);
    }
    sqlx::query("DELETE FROM connector WHERE tunnel_id = $1")
        .bind(tunnel.as_str())
        .execute(db.connection())
        .await?;
    for row in &presence.connectors {
        sqlx::query(
            "INSERT INTO connector (tunnel_id, connector_id, facts, vanished_ms)
             VALUES ($1, $2, $3, $4)",
        )
        .bind(tunnel.as_str())
        .bind(row.connector.to_string())
        .bind(to_json(&row.facts))
        .bind(row.vanished_ms.map(signed))
        .execute(db.connection())
        .await?;
    }
    for row in &presence.health {
        sqlx::query(
            "INSERT INTO health (tunnel_id, since_ms, health, reason, causes)
             VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (tunnel_id, since_ms) DO UPDATE SET health = excluded.health,
                 reason = excluded.reason, causes = excluded.causes",
        )
        .bind(tunnel.as_str())
        .bind(signed(row.since_ms))
        .bind(row.health.as_str())
        .bind(row.reason.as_str())
        .bind(to_json(&row.causes))
        .execute(db.connection())
        .await?;
    }
    sqlx::query(
        "DELETE FROM health WHERE tunnel_id = $1 AND since_ms <= (SELECT since_ms FROM health
         WHERE tunnel_id = $1 ORDER BY since_ms DESC LIMIT 1 OFFSET $2)",
    )
    .bind(tunnel.as_str())
    .bind(MAX_HISTORY)
    .execute(db.connection())
    .await?;
    for (key, at_ms) in &presence.keys_used {
        sqlx::query("UPDATE tunnel_key SET last_used_ms = $3 WHERE tunnel_id = $1 AND id = $2")
            .bind(tunnel.as_str())
            .bind(key.to_string())
            .bind(signed(*at_ms))
            .execute(db.connection())
            .await?;
    }
    Ok(true)
}

pub(crate) async fn connectors(db: &mut impl Read) -> Result<Vec<ConnectorRow>> {
    let rows = sqlx::query("SELECT * FROM connector").fetch_all(db.connection()).await?;
    rows.iter()
        .map(|row| {
            Ok(ConnectorRow {
                tunnel: parsed(row, "tunnel_id")?,
                connector: parsed(row, "connector_id")?,
                facts: json(row, "facts")?,
                vanished_ms: unsigned_option(row, "vanished_ms")?,
            })
        })
        .collect()
}

/// Tunnels that ever had a connector, with their last known health.
pub(crate) async fn ever_connected(db: &mut impl Read) -> Result<Vec<(TunnelId, HealthRow)>> {
    let rows = sqlx::query(
        "SELECT health.* FROM tunnel JOIN health ON health.tunnel_id = tunnel.id
         WHERE tunnel.ever_connected = 1 AND health.since_ms =
             (SELECT MAX(since_ms) FROM health WHERE tunnel_id = tunnel.id)",
    )
    .fetch_all(db.connection())
    .await?;
    rows.iter().map(|row| Ok((parsed(row, "tunnel_id")?, read_health(row)?))).collect()
}

/// A page of a tunnel's changes of health.
pub(crate) async fn history(
    db: &mut impl Read,
    tunnel: TunnelId,
    page: &Page,
) -> Result<Slice<HealthRow>> {
    Select::new("*", "health", "tunnel_id")
        .and("tunnel_id = ?", [Value::Text(tunnel.to_string())])
        .page(db, page, read_health)
        .await
}

fn read_health(row: &sqlx::any::AnyRow) -> Result<HealthRow> {
    let health = serde_json::from_value(text(row, "health")?.into())
        .map_err(|_| super::Error::Unreadable("health"))?;
    Ok(HealthRow {
        since_ms: unsigned(row, "since_ms")?,
        health,
        reason: text(row, "reason")?,
        causes: json(row, "causes")?,
    })
}
