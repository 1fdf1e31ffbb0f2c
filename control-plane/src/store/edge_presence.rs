//! What edges report to one control plane, for the others that share the database.
//!
//! A row belongs to the session (one presence connection at one control plane) that claimed it last;
//! an edge that has moved to another control plane is claimed there, and the older session finds that
//! the row is no longer its own.

use protocol::{
    id::{ControlPlaneId, EdgeId},
    presence::Report,
};

use super::{Read, Result, Store, Write, json, news, parsed, signed, to_json, truth, unsigned};

/// Which state of an edge's links it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LinksVersion {
    pub(crate) control_plane: ControlPlaneId,
    pub(crate) session: u64,
    pub(crate) version: u64,
}

/// An edge, but for its links.
#[derive(Debug, Clone)]
pub(crate) struct EdgePresence {
    pub(crate) edge: EdgeId,
    pub(crate) is_live: bool,
    pub(crate) applied_generation: u64,
    pub(crate) links: LinksVersion,
}

/// What a control plane has to tell of an edge that reports to it.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) presence: EdgePresence,
    /// The session is new: the row is its own from now on.
    pub(crate) is_claim: bool,
    /// All its links, if any has come or gone; `down` are those that went with a goodbye of late.
    pub(crate) report: Option<Report>,
}

/// Stores what is told, and lets the other control planes know. Returns the edges whose rows are not,
/// or no more, those of this session.
pub(crate) async fn tell(store: &Store, told: &[Told]) -> Result<Vec<EdgeId>> {
    let mut lost = Vec::new();
    let mut db = store.write().await?;
    for told in told {
        let is_stored = match told.is_claim {
            true => claim(&mut db, told).await?,
            false => update(&mut db, told).await?,
        };
        if !is_stored {
            lost.push(told.presence.edge);
        }
    }
    news::tell(&mut db, &news::News::Presence).await?;
    db.commit().await?;
    Ok(lost)
}

/// False if there is no such edge.
async fn claim(db: &mut impl Write, told: &Told) -> Result<bool> {
    let Told { presence, report, .. } = told;
    let done = sqlx::query(
        "INSERT INTO edge_presence
         (edge_id, control_plane, session, is_live, applied_generation, report, version)
         SELECT edge.id, $2, $3, $4, $5, $6, $7 FROM edge WHERE edge.id = $1
         ON CONFLICT (edge_id) DO UPDATE SET control_plane = excluded.control_plane,
             session = excluded.session, is_live = excluded.is_live,
             applied_generation = excluded.applied_generation,
             report = excluded.report, version = excluded.version",
    )
    .bind(presence.edge.to_string())
    .bind(presence.links.control_plane.to_string())
    .bind(signed(presence.links.session))
    .bind(i64::from(presence.is_live))
    .bind(signed(presence.applied_generation))
    .bind(to_json(report))
    .bind(signed(presence.links.version))
    .execute(db.connection())
    .await?;
    Ok(done.rows_affected() > 0)
}

/// False if another session has claimed the edge.
async fn update(db: &mut impl Write, told: &Told) -> Result<bool> {
    let Told { presence, report, .. } = told;
    let done = sqlx::query(
        "UPDATE edge_presence SET is_live = $4, applied_generation = $5,
             report = COALESCE($6, report), version = $7
         WHERE edge_id = $1 AND control_plane = $2 AND session = $3",
    )
    .bind(presence.edge.to_string())
    .bind(presence.links.control_plane.to_string())
    .bind(signed(presence.links.session))
    .bind(i64::from(presence.is_live))
    .bind(signed(presence.applied_generation))
    .bind(report.as_ref().map(to_json))
    .bind(signed(presence.links.version))
    .execute(db.connection())
    .await?;
    Ok(done.rows_affected() > 0)
}

pub(crate) async fn list(db: &mut impl Read) -> Result<Vec<EdgePresence>> {
    let rows = sqlx::query(
        "SELECT edge_id, control_plane, session, is_live, applied_generation, version
         FROM edge_presence",
    )
    .fetch_all(db.connection())
    .await?;
    rows.iter()
        .map(|row| {
            Ok(EdgePresence {
                edge: parsed(row, "edge_id")?,
                is_live: truth(row, "is_live")?,
                applied_generation: unsigned(row, "applied_generation")?,
                links: LinksVersion {
                    control_plane: parsed(row, "control_plane")?,
                    session: unsigned(row, "session")?,
                    version: unsigned(row, "version")?,
                },
            })
        })
        .collect()
}

/// All links of an edge that has a row.
pub(crate) async fn report(db: &mut impl Read, edge: EdgeId) -> Result<Report> {
    let row = sqlx::query("SELECT report FROM edge_presence WHERE edge_id = $1")
        .bind(edge.to_string())
        .fetch_one(db.connection())
        .await?;
    json(&row, "report")
}
