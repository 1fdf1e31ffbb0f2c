//! What admins ask of running connectors. The feed tells edges of orders; that a connector is to be forgotten
//! is for the control planes alone. After [`KEPT_MS`] an order is done, or its connector is gone.

use std::collections::HashMap;

use protocol::{
    feed::ItemKey,
    id::{ConnectorId, TunnelId},
    order::{Order, Task},
};
use sqlx::any::AnyRow;

use super::{
    Change, Error, Read, Result, Write, feed, news, parsed, signed, text, to_json, unsigned,
};

/// For how long an order is kept, in milliseconds: an edge that has not heard of it by then has lost its links.
const KEPT_MS: u64 = 60 * 60 * 1000;
/// Orders that a snapshot, or a change of a tunnel, carries of each tunnel at most: the newest.
const MOST: usize = 256;

/// A connector that is not to be missed any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Forgotten {
    pub(crate) tunnel: TunnelId,
    pub(crate) connector: ConnectorId,
    /// When somebody said so.
    pub(crate) at_ms: u64,
}

/// Asks something of a connector; edges hear of it by the feed. Of one change each connector gets one order.
pub(crate) async fn insert(
    db: &mut Change,
    tunnel: TunnelId,
    connector: ConnectorId,
    task: Task,
    now_ms: u64,
) -> Result<()> {
    write(db, tunnel, connector, Some(to_json(&task)), now_ms).await?;
    feed::mark(db, &ItemKey::Tunnel(tunnel)).await
}

/// Has all control planes forget a connector that has vanished.
pub(crate) async fn forget(db: &mut Change, forgotten: Forgotten) -> Result<()> {
    let Forgotten { tunnel, connector, at_ms } = forgotten;
    write(db, tunnel, connector, None, at_ms).await?;
    if db.store.is_shared() {
        news::tell(db, &news::News::Presence).await?;
    }
    Ok(())
}

/// Forgets orders that every connector has had the time to hear.
pub(crate) async fn delete_stale(db: &mut impl Write, now_ms: u64) -> Result<()> {
    sqlx::query("DELETE FROM connector_order WHERE at_ms < $1")
        .bind(signed(now_ms.saturating_sub(KEPT_MS)))
        .execute(db.connection())
        .await?;
    Ok(())
}

async fn write(
    db: &mut Change,
    tunnel: TunnelId,
    connector: ConnectorId,
    task: Option<String>,
    at_ms: u64,
) -> Result<()> {
    let number = signed(db.generation);
    sqlx::query(
        "INSERT INTO connector_order (tunnel_id, number, connector_id, task, at_ms)
         VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(tunnel.to_string())
    .bind(number)
    .bind(connector.to_string())
    .bind(task)
    .bind(signed(at_ms))
    .execute(db.connection())
    .await?;
    Ok(())
}

/// What has been asked of a tunnel's connectors of late.
pub(super) async fn of_tunnel(db: &mut impl Read, tunnel: TunnelId) -> Result<Vec<Order>> {
    let rows = sqlx::query(
        "SELECT * FROM connector_order WHERE tunnel_id = $1 AND task IS NOT NULL
         ORDER BY number DESC LIMIT $2",
    )
    .bind(tunnel.to_string())
    .bind(signed(MOST as u64))
    .fetch_all(db.connection())
    .await?;
    rows.iter().map(read).collect()
}

/// The same of all tunnels.
pub(super) async fn all(db: &mut impl Read) -> Result<HashMap<TunnelId, Vec<Order>>> {
    let rows =
        sqlx::query("SELECT * FROM connector_order WHERE task IS NOT NULL ORDER BY number DESC")
            .fetch_all(db.connection())
            .await?;
    let mut orders: HashMap<TunnelId, Vec<Order>> = HashMap::new();
    for row in &rows {
        let of_tunnel = orders.entry(parsed(row, "tunnel_id")?).or_default();
        if of_tunnel.len() < MOST {
            of_tunnel.push(read(row)?);
        }
    }
    Ok(orders)
}

/// Connectors that are to be forgotten.
pub(crate) async fn forgotten(db: &mut impl Read) -> Result<Vec<Forgotten>> {
    let rows = sqlx::query("SELECT * FROM connector_order WHERE task IS NULL")
        .fetch_all(db.connection())
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Forgotten {
                tunnel: parsed(row, "tunnel_id")?,
                connector: parsed(row, "connector_id")?,
                at_ms: unsigned(row, "at_ms")?,
            })
        })
        .collect()
}

fn read(row: &AnyRow) -> Result<Order> {
    let task = serde_json::from_str(&text(row, "task")?);
    Ok(Order {
        number: unsigned(row, "number")?,
        connector: parsed(row, "connector_id")?,
        task: task.map_err(|_| Error::Unreadable("order"))?,
    })
}
