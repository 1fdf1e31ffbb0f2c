//! Control planes at work on this database, and what they must have in common.

use protocol::{address::CaPin, id::ControlPlaneId};

use super::{Read, Result, Write, converted, parsed, unsigned};

/// Counts one more beat; the first one makes the control plane known.
pub(crate) async fn beat(db: &mut impl Write, id: ControlPlaneId) -> Result<()> {
    sqlx::query(
        "INSERT INTO control_plane (id, beats) VALUES ($1, 1)
         ON CONFLICT (id) DO UPDATE SET beats = control_plane.beats + 1",
    )
    .bind(id.to_string())
    .execute(db.connection())
    .await?;
    Ok(())
}

/// Those that are known, with their beats.
pub(crate) async fn list(db: &mut impl Read) -> Result<Vec<(ControlPlaneId, u64)>> {
    let rows = sqlx::query("SELECT * FROM control_plane").fetch_all(db.connection()).await?;
    rows.iter().map(|row| Ok((parsed(row, "id")?, unsigned(row, "beats")?))).collect()
}

/// It has stopped.
pub(crate) async fn delete(db: &mut impl Write, id: ControlPlaneId) -> Result<()> {
    sqlx::query("DELETE FROM control_plane WHERE id = $1")
        .bind(id.to_string())
        .execute(db.connection())
        .await?;
    Ok(())
}

/// All have stopped.
pub(crate) async fn delete_all(db: &mut impl Write) -> Result<()> {
    sqlx::query("DELETE FROM control_plane").execute(db.connection()).await?;
    Ok(())
}

/// The pin of the deployment's authority; it is `pin` from now on if there was none.
pub(crate) async fn ca_pin(db: &mut impl Write, pin: CaPin) -> Result<CaPin> {
    sqlx::query("UPDATE deployment SET ca_pin = $1 WHERE id = 1 AND ca_pin IS NULL")
        .bind(String::from(pin))
        .execute(db.connection())
        .await?;
    let row = sqlx::query("SELECT ca_pin FROM deployment WHERE id = 1")
        .fetch_one(db.connection())
        .await?;
    converted(&row, "ca_pin")
}
