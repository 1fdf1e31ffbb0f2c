//! What edges must know, read from the database: everything at once, or what changed since a
//! generation. `feed_change` holds the generation at which each item last changed; an item that it
//! names and that is no more has been removed.

use std::collections::HashMap;

use protocol::{
    feed::{
        FeedEdge, FeedMessage, FeedProxyToken, FeedTokenKey, FeedTunnel, FeedTunnelKey, Item,
        ItemKey,
    },
    id::TunnelId,
    order::Order,
};

use super::{
    Change, Error, Read, Result, connector_order, edge, generation, parsed, proxy_token, signed,
    text, token_key, tunnel,
};

/// Notes that edges must hear of this item, as of the change's generation.
pub(super) async fn mark(db: &mut Change, key: &ItemKey) -> Result<()> {
    let (kind, id) = columns(key);
    let generation = signed(db.generation);
    sqlx::query(
        "INSERT INTO feed_change (kind, id, generation) VALUES ($1, $2, $3)
         ON CONFLICT (kind, id) DO UPDATE SET generation = excluded.generation",
    )
    .bind(kind)
    .bind(id)
    .bind(generation)
    .execute(db.connection())
    .await?;
    Ok(())
}

/// Everything, as of now.
pub(crate) async fn snapshot(db: &mut impl Read, now_ms: u64) -> Result<FeedMessage> {
    let generation = generation(db).await?;
    let mut items: Vec<Item> = token_key::list(db).await?.into_iter().map(Item::TokenKey).collect();
    items.extend(edge::list(db).await?.into_iter().map(|row| Item::Edge(row.into_feed())));
    let tokens = proxy_token::live(db, now_ms).await?.into_iter();
    items.extend(tokens.map(|row| Item::ProxyToken(row.into_feed())));
    let rows =
        sqlx::query("SELECT * FROM tunnel_key ORDER BY id").fetch_all(db.connection()).await?;
    let mut orders = connector_order::all(db).await?;
    let mut keys: HashMap<TunnelId, Vec<FeedTunnelKey>> = HashMap::new();
    for row in &rows {
        keys.entry(parsed(row, "tunnel_id")?).or_default().push(feed_key(tunnel::read_key(row)?));
    }
    for row in &sqlx::query("SELECT * FROM tunnel").fetch_all(db.connection()).await? {
        let row = tunnel::read(row)?;
        let keys = keys.remove(&row.id).unwrap_or_default();
        let orders = orders.remove(&row.id).unwrap_or_default();
        items.push(Item::Tunnel(feed_tunnel(row, keys, orders)));
    }
    Ok(FeedMessage::Snapshot { generation, items })
}

/// What changed after a generation.
pub(crate) async fn changes(db: &mut impl Read, after: u64, now_ms: u64) -> Result<FeedMessage> {
    let generation = generation(db).await?;
    let rows =
        sqlx::query("SELECT kind, id FROM feed_change WHERE generation > $1 ORDER BY generation")
            .bind(signed(after))
            .fetch_all(db.connection())
            .await?;
    let (mut put, mut remove) = (Vec::new(), Vec::new());
    for row in &rows {
        let key = item_key(&text(row, "kind")?, text(row, "id")?)?;
        match item(db, &key, now_ms).await? {
            Some(item) => put.push(item),
            None => remove.push(key),
        }
    }
    Ok(FeedMessage::Change { generation, put, remove })
}

async fn item(db: &mut impl Read, key: &ItemKey, now_ms: u64) -> Result<Option<Item>> {
    Ok(match key {
        ItemKey::Tunnel(id) => match tunnel::by_id(db, *id).await? {
            None => None,
            Some(row) => {
                let keys = tunnel::keys(db, *id).await?.into_iter().map(feed_key).collect();
                let orders = connector_order::of_tunnel(db, *id).await?;
                Some(Item::Tunnel(feed_tunnel(row, keys, orders)))
            }
        },
        ItemKey::TokenKey(kid) => {
            let keys = token_key::list(db).await?;
            keys.into_iter().find(|key: &FeedTokenKey| key.kid == *kid).map(Item::TokenKey)
        }
        ItemKey::Edge(id) => edge::find(db, *id).await?.map(|row| Item::Edge(row.into_feed())),
        ItemKey::ProxyToken(id) => {
            let token = proxy_token::find(db, *id).await?.filter(|token| token.is_live(now_ms));
            token.map(|row| Item::ProxyToken(row.into_feed()))
        }
    })
}

fn feed_tunnel(row: tunnel::Tunnel, keys: Vec<FeedTunnelKey>, orders: Vec<Order>) -> FeedTunnel {
    let tunnel::Tunnel { id, tenant, name, access, .. } = row;
    FeedTunnel { id, tenant, name, access, keys, orders }
}

fn feed_key(key: tunnel::TunnelKey) -> FeedTunnelKey {
    FeedTunnelKey { id: key.id, public_key: key.public_key, revoked: key.revoked_ms.is_some() }
}

impl edge::Edge {
    fn into_feed(self) -> FeedEdge {
        FeedEdge { id: self.id, link: self.link, gateway: self.gateway }
    }
}

impl proxy_token::ProxyTokenRow {
    fn into_feed(self) -> FeedProxyToken {
        FeedProxyToken {
            id: self.id,
            digest: self.digest,
            tenant: self.tenant,
            team: self.team,
            workflow: self.workflow,
            expires_at: self.expires_ms / 1000,
            response_timeout_s: self.response_timeout_s,
        }
    }
}

fn columns(key: &ItemKey) -> (&'static str, String) {
    match key {
        ItemKey::Tunnel(id) => ("tunnel", id.to_string()),
        ItemKey::TokenKey(kid) => ("token_key", kid.clone()),
        ItemKey::ProxyToken(id) => ("proxy_token", id.to_string()),
        ItemKey::Edge(id) => ("edge", id.to_string()),
    }
}

fn item_key(kind: &str, id: String) -> Result<ItemKey> {
    let bad = |_| Error::Unreadable("feed change");
    Ok(match kind {
        "tunnel" => ItemKey::Tunnel(id.parse().map_err(bad)?),
        "token_key" => ItemKey::TokenKey(id),
        "proxy_token" => ItemKey::ProxyToken(id.parse().map_err(bad)?),
        "edge" => ItemKey::Edge(id.parse().map_err(bad)?),
        _ => return Err(Error::Unreadable("feed change")),
    })
}
