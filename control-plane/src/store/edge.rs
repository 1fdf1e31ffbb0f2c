//! Edges that have joined.

use protocol::{
    address::{EdgeAddress, HostPort},
    feed::ItemKey,
    id::EdgeId,
};
use sqlx::any::AnyRow;

use super::{Change, Read, Result, feed, json, page::Column, parsed, signed, to_json, unsigned};

/// What edges can be ordered by.
pub(crate) const COLUMNS: &[Column] =
    &[Column::number("joined_at", "joined_ms"), Column::text("region", "''")];

#[derive(Debug, Clone)]
pub(crate) struct Edge {
    pub(crate) id: EdgeId,
    pub(crate) link: EdgeAddress,
    pub(crate) gateway: HostPort,
    pub(crate) joined_ms: u64,
}

/// Inserts an edge, or updates it if it has joined before.
pub(crate) async fn put(db: &mut Change, edge: &Edge) -> Result<()> {
    sqlx::query(
        "INSERT INTO edge (id, link, gateway, joined_ms) VALUES ($1, $2, $3, $4)
         ON CONFLICT (id) DO UPDATE SET link = excluded.link, gateway = excluded.gateway,
             joined_ms = excluded.joined_ms",
    )
    .bind(edge.id.to_string())
    .bind(to_json(&edge.link))
    .bind(edge.gateway.to_string())
    .bind(signed(edge.joined_ms))
    .execute(db.connection())
    .await?;
    feed::mark(db, &ItemKey::Edge(edge.id)).await
}

pub(crate) async fn find(db: &mut impl Read, id: EdgeId) -> Result<Option<Edge>> {
    let row = sqlx::query("SELECT * FROM edge WHERE id = $1")
        .bind(id.to_string())
        .fetch_optional(db.connection())
        .await?;
    row.as_ref().map(read).transpose()
}

pub(crate) async fn list(db: &mut impl Read) -> Result<Vec<Edge>> {
    let rows = sqlx::query("SELECT * FROM edge ORDER BY id").fetch_all(db.connection()).await?;
    rows.iter().map(read).collect()
}

pub(crate) async fn delete(db: &mut Change, id: EdgeId) -> Result<()> {
    sqlx::query("DELETE FROM edge WHERE id = $1")
        .bind(id.to_string())
        .execute(db.connection())
        .await?;
    feed::mark(db, &ItemKey::Edge(id)).await
}

fn read(row: &AnyRow) -> Result<Edge> {
    Ok(Edge {
        id: parsed(row, "id")?,
        link: json(row, "link")?,
        gateway: parsed(row, "gateway")?,
        joined_ms: unsigned(row, "joined_ms")?,
    })
}
