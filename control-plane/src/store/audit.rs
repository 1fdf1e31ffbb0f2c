//! The audit log: who did what, in a chain of hashes for each tenant. Whoever edits or deletes an
//! entry in the middle breaks the chain; a cut tail shows against an exported checkpoint.
//!
//! `h(n) = SHA-256(h(n-1) || entry)`, where the entry is its JSON text exactly as stored.

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use protocol::id::{TenantId, UserId};
use serde::{Deserialize, Serialize};

use super::{
    Change, Read, Result,
    page::{Column, Key, Page, Position, Slice},
    signed, text, unsigned,
};

/// The order of entries.
pub(crate) const BY_TIME: &Column = &Column::number("at", "sequence");

/// What is to be recorded about a change.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) tenant: TenantId,
    pub(crate) actor: Actor,
    /// What was done, such as `tunnel.create`.
    pub(crate) action: &'static str,
    /// To what: a name or an id.
    pub(crate) subject: String,
    /// What is particular about it; never a secret.
    pub(crate) detail: serde_json::Value,
    pub(crate) at_ms: u64,
}

/// Who did it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Actor {
    /// A person, by session or API key.
    User { id: UserId, email: String },
    /// An edge that joins.
    Edge { address: String },
    /// Somebody who could not come in.
    Stranger { address: String },
    /// The deployment itself.
    System,
}

/// What is stored, and hashed, as JSON. The order of the fields is the order in the text.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Recorded {
    pub(crate) sequence: u64,
    pub(crate) generation: u64,
    pub(crate) at_ms: u64,
    pub(crate) actor: Actor,
    pub(crate) action: String,
    pub(crate) subject: String,
    pub(crate) detail: serde_json::Value,
}

/// An entry with its place in the chain.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(crate) recorded: Recorded,
    pub(crate) hash: String,
}

pub(super) async fn append(db: &mut Change, entry: Entry) -> Result<()> {
    let last = sqlx::query(
        "SELECT sequence, hash FROM audit WHERE tenant_id = $1 ORDER BY sequence DESC LIMIT 1",
    )
    .bind(entry.tenant.to_string())
    .fetch_optional(db.connection())
    .await?;
    let (sequence, previous) = match &last {
        None => (1, String::new()),
        Some(row) => (unsigned(row, "sequence")? + 1, text(row, "hash")?),
    };
    let recorded = Recorded {
        sequence,
        generation: db.generation,
        at_ms: entry.at_ms,
        actor: entry.actor,
        action: entry.action.to_owned(),
        subject: entry.subject,
        detail: entry.detail,
    };
    let json = super::to_json(&recorded);
    let hash = chain(&previous, &json);
    sqlx::query("INSERT INTO audit (tenant_id, sequence, entry, hash) VALUES ($1, $2, $3, $4)")
        .bind(entry.tenant.to_string())
        .bind(signed(sequence))
        .bind(json)
        .bind(hash)
        .execute(db.connection())
        .await?;
    Ok(())
}

/// Which entries are looked for; what is left out fits all.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    /// An action such as `tunnel.create`, or an area such as `tunnel`.
    pub(crate) action: Option<String>,
    /// The whole subject.
    pub(crate) subject: Option<String>,
    /// Part of the actor's e-mail address.
    pub(crate) actor: Option<String>,
    pub(crate) from_ms: Option<u64>,
    pub(crate) until_ms: Option<u64>,
}

impl Filter {
    fn fits(&self, entry: &Recorded) -> bool {
        let actor = match &entry.actor {
            Actor::User { email, .. } => email.as_str(),
            Actor::Edge { address } | Actor::Stranger { address } => address.as_str(),
            Actor::System => "system",
        };
        let area = entry.action.split('.').next();
        let is_action = |action: &String| entry.action == *action || area == Some(action.as_str());
        self.action.as_ref().is_none_or(is_action)
            && self.subject.as_ref().is_none_or(|subject| entry.subject == *subject)
            && self.actor.as_ref().is_none_or(|part| actor.contains(&part.to_lowercase()))
            && self.from_ms.is_none_or(|from| entry.at_ms >= from)
            && self.until_ms.is_none_or(|until| entry.at_ms < until)
    }
}

/// Entries that a search for one page goes through, at most.
const MAX_SEARCHED: i64 = 20_000;

/// A page of the entries that fit, newest first. It may hold fewer than asked for, or none, though there
/// are more: the search for one page is bounded.
pub(crate) async fn page(
    db: &mut impl Read,
    tenant: TenantId,
    filter: &Filter,
    page: &Page,
) -> Result<Slice<Link>> {
    let before = match &page.after {
        Some(Position { key: Key::Number(before), .. }) => u64::try_from(*before).ok(),
        Some(_) | None => None,
    };
    let (mut found, mut next, mut searched) = (Vec::new(), before, 0);
    let slice = |items, next: Option<u64>| {
        let next = next.filter(|next| *next > 1);
        let end = |next| Position { key: Key::Number(signed(next)), id: String::new() };
        Slice { items, end: next.map(end) }
    };
    while searched < MAX_SEARCHED {
        let rows = sqlx::query(
            "SELECT entry, hash FROM audit WHERE tenant_id = $1 AND sequence < $2
             ORDER BY sequence DESC LIMIT $3",
        )
        .bind(tenant.to_string())
        .bind(next.map_or(i64::MAX, signed))
        .bind(BATCH)
        .fetch_all(db.connection())
        .await?;
        if rows.is_empty() {
            return Ok(slice(found, None));
        }
        for row in &rows {
            let recorded: Recorded = super::json(row, "entry")?;
            next = Some(recorded.sequence);
            if filter.fits(&recorded) {
                found.push(Link { recorded, hash: text(row, "hash")? });
            }
            if found.len() == page.limit {
                return Ok(slice(found, next));
            }
        }
        searched += BATCH;
    }
    Ok(slice(found, next))
}

/// Entries after `after`, oldest first.
pub(crate) async fn after(
    db: &mut impl Read,
    tenant: TenantId,
    after: u64,
    limit: u32,
) -> Result<Vec<Recorded>> {
    let rows = sqlx::query(
        "SELECT entry FROM audit WHERE tenant_id = $1 AND sequence > $2 ORDER BY sequence LIMIT $3",
    )
    .bind(tenant.to_string())
    .bind(signed(after))
    .bind(i64::from(limit))
    .fetch_all(db.connection())
    .await?;
    rows.iter().map(|row| super::json(row, "entry")).collect()
}

/// The number of a tenant's newest entry.
pub(crate) async fn newest(db: &mut impl Read, tenant: TenantId) -> Result<u64> {
    let row = sqlx::query("SELECT COALESCE(MAX(sequence), 0) AS n FROM audit WHERE tenant_id = $1")
        .bind(tenant.to_string())
        .fetch_one(db.connection())
        .await?;
    unsigned(&row, "n")
}

/// What an inspection of a chain found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Inspection {
    /// Every entry is where and what it was; the last hash is what a checkpoint would hold.
    Intact { entries: u64, head: String },
    /// The entry with this number was edited, or the one before it is gone.
    Broken { sequence: u64 },
}

/// Entries that an inspection reads at a time.
const BATCH: i64 = 1_000;

/// Follows a tenant's chain from its beginning.
pub(crate) async fn verify(db: &mut impl Read, tenant: TenantId) -> Result<Inspection> {
    let (mut entries, mut head) = (0, String::new());
    loop {
        let rows = sqlx::query(
            "SELECT sequence, entry, hash FROM audit WHERE tenant_id = $1 AND sequence > $2
             ORDER BY sequence LIMIT $3",
        )
        .bind(tenant.to_string())
        .bind(signed(entries))
        .bind(BATCH)
        .fetch_all(db.connection())
        .await?;
        if rows.is_empty() {
            return Ok(Inspection::Intact { entries, head });
        }
        for row in &rows {
            let (sequence, hash) = (unsigned(row, "sequence")?, text(row, "hash")?);
            if sequence != entries + 1 || hash != chain(&head, &text(row, "entry")?) {
                return Ok(Inspection::Broken { sequence });
            }
            (entries, head) = (sequence, hash);
        }
    }
}

fn chain(previous: &str, entry: &str) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(previous.as_bytes());
    context.update(entry.as_bytes());
    URL_SAFE_NO_PAD.encode(context.finish())
}
