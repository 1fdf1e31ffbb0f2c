//! Workflows and their actions.

use protocol::id::{ProxyTokenId, TeamId, TenantId, WorkflowId};
use sqlx::any::AnyRow;

use super::{Change, Read, Result, json, parsed, proxy_token, signed, text, to_json, unsigned};
use crate::action::Action;

#[derive(Debug, Clone)]
pub(crate) struct Workflow {
    pub(crate) id: WorkflowId,
    pub(crate) tenant: TenantId,
    pub(crate) team: TeamId,
    pub(crate) name: String,
    pub(crate) actions: Vec<Action>,
    pub(crate) created_ms: u64,
}

pub(crate) async fn insert(db: &mut Change, workflow: &Workflow) -> Result<()> {
    sqlx::query(
        "INSERT INTO workflow (id, tenant_id, team_id, name, actions, created_ms)
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(workflow.id.to_string())
    .bind(workflow.tenant.to_string())
    .bind(workflow.team.to_string())
    .bind(workflow.name.as_str())
    .bind(to_json(&workflow.actions))
    .bind(signed(workflow.created_ms))
    .execute(db.connection())
    .await?;
    Ok(())
}

pub(crate) async fn update(db: &mut Change, workflow: &Workflow) -> Result<()> {
    sqlx::query("UPDATE workflow SET name = $2, actions = $3 WHERE id = $1")
        .bind(workflow.id.to_string())
        .bind(workflow.name.as_str())
        .bind(to_json(&workflow.actions))
        .execute(db.connection())
        .await?;
    Ok(())
}

/// Revokes its gateway tokens too, and returns them.
pub(crate) async fn delete(
    db: &mut Change,
    id: WorkflowId,
    now_ms: u64,
) -> Result<Vec<ProxyTokenId>> {
    sqlx::query("DELETE FROM workflow WHERE id = $1")
        .bind(id.to_string())
        .execute(db.connection())
        .await?;
    proxy_token::revoke_of_workflow(db, id, now_ms).await
}

pub(crate) async fn find(
    db: &mut impl Read,
    tenant: TenantId,
    id: WorkflowId,
) -> Result<Option<Workflow>> {
    let row = sqlx::query("SELECT * FROM workflow WHERE tenant_id = $1 AND id = $2")
        .bind(tenant.to_string())
        .bind(id.to_string())
        .fetch_optional(db.connection())
        .await?;
    row.as_ref().map(read).transpose()
}

pub(crate) async fn list(db: &mut impl Read, tenant: TenantId) -> Result<Vec<Workflow>> {
    let rows = sqlx::query("SELECT * FROM workflow WHERE tenant_id = $1 ORDER BY name, id")
        .bind(tenant.to_string())
        .fetch_all(db.connection())
        .await?;
    rows.iter().map(read).collect()
}

fn read(row: &AnyRow) -> Result<Workflow> {
    Ok(Workflow {
        id: parsed(row, "id")?,
        tenant: parsed(row, "tenant_id")?,
        team: parsed(row, "team_id")?,
        name: text(row, "name")?,
        actions: json(row, "actions")?,
        created_ms: unsigned(row, "created_ms")?,
    })
}
