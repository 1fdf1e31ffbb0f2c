//! What people call the things that others refer to by id.

use std::collections::{BTreeSet, HashMap};

use super::{Read, Result, text};

/// Kinds of things that have an id and a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// By name, or by address while there is no name.
    User,
    Team,
    Workflow,
    ProxyToken,
    ApiKey,
}

/// Ids that are looked up at a time; databases bound what a query may hold.
const BATCH: usize = 500;

/// The names of things by their ids. What is gone has none.
pub(crate) async fn of(
    db: &mut impl Read,
    kind: Kind,
    ids: BTreeSet<String>,
) -> Result<HashMap<String, String>> {
    let (name, table) = match kind {
        Kind::User => ("COALESCE(NULLIF(name, ''), email)", "account"),
        Kind::Team => ("name", "team"),
        Kind::Workflow => ("name", "workflow"),
        Kind::ProxyToken => ("name", "proxy_token"),
        Kind::ApiKey => ("name", "api_key"),
    };
    let ids: Vec<_> = ids.into_iter().collect();
    let mut names = HashMap::new();
    for batch in ids.chunks(BATCH) {
        let places: Vec<_> = (1..=batch.len()).map(|n| format!("${n}")).collect();
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT id, {name} AS name FROM {table} WHERE id IN ({})",
            places.join(", ")
        ));
        let query = batch.iter().fold(sqlx::query(sql), |query, id| query.bind(id.as_str()));
        for row in &query.fetch_all(db.connection()).await? {
            names.insert(text(row, "id")?, text(row, "name")?);
        }
    }
    Ok(names)
}
