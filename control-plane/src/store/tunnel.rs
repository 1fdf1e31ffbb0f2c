//! Tunnels with their access lists and the public halves of their secrets. Whatever changes here is
//! marked for the feed.

use protocol::{
    access::Access,
    feed::ItemKey,
    id::{KeyId, TenantId, TunnelId},
    key::PublicKey,
    name::TunnelName,
};
use sqlx::any::AnyRow;

use super::{
    Change, Read, Result, converted, feed, json,
    page::Column,
    parsed, signed,
    stamp::{self, Stamp},
    text, to_json, truth, unsigned, unsigned_option,
};

/// What tunnels can be ordered by.
pub(crate) const COLUMNS: &[Column] = &[
    Column::text("name", "name"),
    Column::text("display_name", "LOWER(display_name)"),
    Column::number("created_at", "created_ms"),
    Column::number("updated_at", "updated_ms"),
    Column::number("health", "0"),
];
/// What a tunnel's secrets are ordered by.
pub(crate) const KEY_COLUMNS: &[Column] = &[Column::number("created_at", "created_ms")];

#[derive(Debug, Clone)]
pub(crate) struct Tunnel {
    pub(crate) id: TunnelId,
    pub(crate) tenant: TenantId,
    pub(crate) name: TunnelName,
    pub(crate) display_name: String,
    pub(crate) access: Access,
    pub(crate) created_ms: u64,
    pub(crate) ever_connected: bool,
    pub(crate) stamp: Stamp,
}

/// The public half of a secret.
#[derive(Debug, Clone)]
pub(crate) struct TunnelKey {
    pub(crate) id: KeyId,
    pub(crate) public_key: PublicKey,
    pub(crate) created_ms: u64,
    pub(crate) last_used_ms: Option<u64>,
    pub(crate) revoked_ms: Option<u64>,
}

pub(crate) async fn insert(db: &mut Change, tunnel: &Tunnel) -> Result<()> {
    sqlx::query(
        "INSERT INTO tunnel (id, tenant_id, name, display_name, access, created_ms)
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(tunnel.id.to_string())
    .bind(tunnel.tenant.to_string())
    .bind(tunnel.name.as_str())
    .bind(tunnel.display_name.as_str())
    .bind(to_json(&tunnel.access))
    .bind(signed(tunnel.created_ms))
    .execute(db.connection())
    .await?;
    feed::mark(db, &ItemKey::Tunnel(tunnel.id)).await
}

pub(crate) async fn by_name(
    db: &mut impl Read,
    tenant: TenantId,
    name: &TunnelName,
) -> Result<Option<Tunnel>> {
    let row = sqlx::query("SELECT * FROM tunnel WHERE tenant_id = $1 AND name = $2")
        .bind(tenant.to_string())
        .bind(name.as_str())
        .fetch_optional(db.connection())
        .await?;
    row.as_ref().map(read).transpose()
}

/// Of any tenant: for the feed and for presence.
pub(crate) async fn by_id(db: &mut impl Read, id: TunnelId) -> Result<Option<Tunnel>> {
    let row = sqlx::query("SELECT * FROM tunnel WHERE id = $1")
        .bind(id.to_string())
        .fetch_optional(db.connection())
        .await?;
    row.as_ref().map(read).transpose()
}

pub(crate) async fn list(db: &mut impl Read, tenant: TenantId) -> Result<Vec<Tunnel>> {
    let rows = sqlx::query("SELECT * FROM tunnel WHERE tenant_id = $1 ORDER BY name")
        .bind(tenant.to_string())
        .fetch_all(db.connection())
        .await?;
    rows.iter().map(read).collect()
}

pub(crate) async fn set_display_name(db: &mut Change, id: TunnelId, name: &str) -> Result<()> {
    sqlx::query("UPDATE tunnel SET display_name = $2 WHERE id = $1")
        .bind(id.to_string())
        .bind(name)
        .execute(db.connection())
        .await?;
    Ok(())
}

pub(crate) async fn set_access(db: &mut Change, id: TunnelId, access: &Access) -> Result<()> {
    sqlx::query("UPDATE tunnel SET access = $2, revision = $3 WHERE id = $1")
        .bind(id.to_string())
        .bind(to_json(access))
        .bind(signed(db.generation))
        .execute(db.connection())
        .await?;
    feed::mark(db, &ItemKey::Tunnel(id)).await
}

pub(crate) async fn delete(db: &mut Change, id: TunnelId) -> Result<()> {
    sqlx::query("DELETE FROM tunnel WHERE id = $1")
        .bind(id.to_string())
        .execute(db.connection())
        .await?;
    feed::mark(db, &ItemKey::Tunnel(id)).await
}

pub(crate) async fn keys(db: &mut impl Read, tunnel: TunnelId) -> Result<Vec<TunnelKey>> {
    let rows = sqlx::query("SELECT * FROM tunnel_key WHERE tunnel_id = $1 ORDER BY id")
        .bind(tunnel.to_string())
        .fetch_all(db.connection())
        .await?;
    rows.iter().map(read_key).collect()
}

pub(crate) async fn insert_key(db: &mut Change, tunnel: TunnelId, key: &TunnelKey) -> Result<()> {
    sqlx::query(
        "INSERT INTO tunnel_key (id, tunnel_id, public_key, created_ms) VALUES ($1, $2, $3, $4)",
    )
    .bind(key.id.to_string())
    .bind(tunnel.to_string())
    .bind(String::from(key.public_key))
    .bind(signed(key.created_ms))
    .execute(db.connection())
    .await?;
    feed::mark(db, &ItemKey::Tunnel(tunnel)).await
}

pub(crate) async fn revoke_key(
    db: &mut Change,
    tunnel: TunnelId,
    key: KeyId,
    now_ms: u64,
) -> Result<()> {
    sqlx::query("UPDATE tunnel_key SET revoked_ms = $3 WHERE tunnel_id = $1 AND id = $2")
        .bind(tunnel.to_string())
        .bind(key.to_string())
        .bind(signed(now_ms))
        .execute(db.connection())
        .await?;
    feed::mark(db, &ItemKey::Tunnel(tunnel)).await
}

pub(super) fn read(row: &AnyRow) -> Result<Tunnel> {
    Ok(Tunnel {
        id: parsed(row, "id")?,
        tenant: parsed(row, "tenant_id")?,
        name: parsed(row, "name")?,
        display_name: text(row, "display_name")?,
        access: json(row, "access")?,
        created_ms: unsigned(row, "created_ms")?,
        ever_connected: truth(row, "ever_connected")?,
        stamp: stamp::read(row)?,
    })
}

pub(super) fn read_key(row: &AnyRow) -> Result<TunnelKey> {
    Ok(TunnelKey {
        id: parsed(row, "id")?,
        public_key: converted(row, "public_key")?,
        created_ms: unsigned(row, "created_ms")?,
        last_used_ms: unsigned_option(row, "last_used_ms")?,
        revoked_ms: unsigned_option(row, "revoked_ms")?,
    })
}
