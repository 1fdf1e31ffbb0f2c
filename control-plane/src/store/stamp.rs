//! Who last changed something, when, and at which generation. The generation is the thing's version:
//! two changes never have the same.

use protocol::id::UserId;
use sqlx::{Row as _, any::AnyRow};

use super::{Change, Error, Read as _, Result, signed, unsigned};

/// Of the last change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// The generation of the change; 0 for what older versions have written.
    pub(crate) revision: u64,
    pub(crate) updated_ms: u64,
    /// Nobody for what the deployment itself has done.
    pub(crate) updated_by: Option<UserId>,
}

/// What has a stamp.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stamped {
    Team,
    Account,
    Workflow,
    Tunnel,
}

/// Stamps something that the change has made or changed.
pub(crate) async fn set(
    db: &mut Change,
    what: Stamped,
    id: impl ToString,
    updated_by: UserId,
    updated_ms: u64,
) -> Result<Stamp> {
    let table = match what {
        Stamped::Team => "team",
        Stamped::Account => "account",
        Stamped::Workflow => "workflow",
        Stamped::Tunnel => "tunnel",
    };
    let revision = db.generation;
    let sql = sqlx::AssertSqlSafe(format!(
        "UPDATE {table} SET revision = $2, updated_ms = $3, updated_by = $4 WHERE id = $1"
    ));
    sqlx::query(sql)
        .bind(id.to_string())
        .bind(signed(revision))
        .bind(signed(updated_ms))
        .bind(updated_by.to_string())
        .execute(db.connection())
        .await?;
    Ok(Stamp { revision, updated_ms, updated_by: Some(updated_by) })
}

pub(super) fn read(row: &AnyRow) -> Result<Stamp> {
    let updated_by: Option<String> = row.try_get("updated_by")?;
    let updated_by = updated_by.map(|id| id.parse()).transpose();
    Ok(Stamp {
        revision: unsigned(row, "revision")?,
        updated_ms: unsigned(row, "updated_ms")?,
        updated_by: updated_by.map_err(|_| Error::Unreadable("updated_by"))?,
    })
}
