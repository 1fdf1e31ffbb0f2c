//! Runs of workflows, with their results. A run is a record of its own: it needs no generation and
//! no audit entry.

use protocol::id::{ControlPlaneId, RunId, TeamId, TenantId, WorkflowId};
use serde::{Deserialize, Serialize};
use sqlx::{Row as _, any::AnyRow};

use super::{
    Read, Result, Write, json,
    page::{Column, Page, Select, Slice, Value},
    parsed, signed, to_json, unsigned, unsigned_option,
};
use crate::action::{ActionResult, Outcome};

/// The order of runs; ids are ordered by the time at which they were made.
pub(crate) const BY_TIME: &Column = &Column::text("created_at", "id");

/// How far a run has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    /// Waits for room.
    Queued,
    /// Its actions are being taken.
    Running,
    /// Every action got its answer.
    Succeeded,
    /// An action got none; the later ones were not taken.
    Failed,
    /// The control plane stopped while it was under way; what its last action did is not known.
    Interrupted,
}

#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) id: RunId,
    pub(crate) tenant: TenantId,
    pub(crate) team: TeamId,
    pub(crate) workflow: WorkflowId,
    pub(crate) status: Status,
    pub(crate) results: Vec<ActionResult>,
    pub(crate) created_ms: u64,
    pub(crate) finished_ms: Option<u64>,
}

/// A run as lists show it.
#[derive(Debug, Clone)]
pub(crate) struct Summary {
    pub(crate) id: RunId,
    pub(crate) workflow: WorkflowId,
    pub(crate) status: Status,
    pub(crate) outcomes: Vec<Outcome>,
    pub(crate) created_ms: u64,
    pub(crate) finished_ms: Option<u64>,
}

/// How far a run has come, for whoever watches.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RunNews {
    pub(crate) tenant: TenantId,
    pub(crate) team: TeamId,
    pub(crate) workflow: WorkflowId,
    pub(crate) run: RunId,
    pub(crate) status: Status,
}

impl From<&Run> for RunNews {
    fn from(run: &Run) -> Self {
        let Run { id, tenant, team, workflow, status, .. } = run;
        Self { tenant: *tenant, team: *team, workflow: *workflow, run: *id, status: *status }
    }
}

/// Inserts a run whose actions are taken by `control_plane`.
pub(crate) async fn insert(
    db: &mut impl Write,
    run: &Run,
    control_plane: ControlPlaneId,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO run
         (id, tenant_id, team_id, workflow_id, status, results, created_ms, control_plane)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(run.id.to_string())
    .bind(run.tenant.to_string())
    .bind(run.team.to_string())
    .bind(run.workflow.to_string())
    .bind(to_json(&run.status))
    .bind(to_json(&run.results))
    .bind(signed(run.created_ms))
    .bind(control_plane.to_string())
    .execute(db.connection())
    .await?;
    Ok(())
}

pub(crate) async fn update(db: &mut impl Write, run: &Run) -> Result<()> {
    let outcomes: Vec<_> = run.results.iter().map(Outcome::from).collect();
    sqlx::query(
        "UPDATE run SET status = $2, results = $3, finished_ms = $4, outcomes = $5 WHERE id = $1",
    )
    .bind(run.id.to_string())
    .bind(to_json(&run.status))
    .bind(to_json(&run.results))
    .bind(run.finished_ms.map(signed))
    .bind(to_json(&outcomes))
    .execute(db.connection())
    .await?;
    Ok(())
}

/// Marks what was under way at control planes that have stopped.
pub(crate) async fn interrupt_unfinished(db: &mut impl Write, now_ms: u64) -> Result<()> {
    sqlx::query(
        "UPDATE run SET status = $1, finished_ms = $2 WHERE status IN ($3, $4)
         AND (control_plane IS NULL OR control_plane NOT IN (SELECT id FROM control_plane))",
    )
    .bind(to_json(&Status::Interrupted))
    .bind(signed(now_ms))
    .bind(to_json(&Status::Queued))
    .bind(to_json(&Status::Running))
    .execute(db.connection())
    .await?;
    Ok(())
}

pub(crate) async fn find(db: &mut impl Read, tenant: TenantId, id: RunId) -> Result<Option<Run>> {
    let row = sqlx::query("SELECT * FROM run WHERE tenant_id = $1 AND id = $2")
        .bind(tenant.to_string())
        .bind(id.to_string())
        .fetch_optional(db.connection())
        .await?;
    row.as_ref().map(read).transpose()
}

/// A page of a workflow's runs.
pub(crate) async fn page(
    db: &mut impl Read,
    workflow: WorkflowId,
    status: Option<Status>,
    page: &Page,
) -> Result<Slice<Summary>> {
    // Runs of older versions have no outcomes of their own.
    let columns = "id, workflow_id, status, created_ms, finished_ms, outcomes, \
         CASE WHEN outcomes IS NULL THEN results END AS results";
    Select::new(columns, "run", "id")
        .and("workflow_id = ?", [Value::Text(workflow.to_string())])
        .and_if("status = ?", status.map(|status| to_json(&status)))
        .page(db, page, read_summary)
        .await
}

/// Forgets all but a workflow's newest runs.
pub(crate) async fn trim(db: &mut impl Write, workflow: WorkflowId, keep: u32) -> Result<()> {
    sqlx::query(
        "DELETE FROM run WHERE workflow_id = $1 AND finished_ms IS NOT NULL AND id NOT IN
         (SELECT id FROM run WHERE workflow_id = $1 ORDER BY id DESC LIMIT $2)",
    )
    .bind(workflow.to_string())
    .bind(i64::from(keep))
    .execute(db.connection())
    .await?;
    Ok(())
}

fn read_summary(row: &AnyRow) -> Result<Summary> {
    let outcomes = match row.try_get::<Option<String>, _>("outcomes")? {
        Some(_) => json(row, "outcomes")?,
        None => json::<Vec<ActionResult>>(row, "results")?.iter().map(Outcome::from).collect(),
    };
    Ok(Summary {
        id: parsed(row, "id")?,
        workflow: parsed(row, "workflow_id")?,
        status: json(row, "status")?,
        outcomes,
        created_ms: unsigned(row, "created_ms")?,
        finished_ms: unsigned_option(row, "finished_ms")?,
    })
}

fn read(row: &AnyRow) -> Result<Run> {
    Ok(Run {
        id: parsed(row, "id")?,
        tenant: parsed(row, "tenant_id")?,
        team: parsed(row, "team_id")?,
        workflow: parsed(row, "workflow_id")?,
        status: json(row, "status")?,
        results: json(row, "results")?,
        created_ms: unsigned(row, "created_ms")?,
        finished_ms: unsigned_option(row, "finished_ms")?,
    })
}
