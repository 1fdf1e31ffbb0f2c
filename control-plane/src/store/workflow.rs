//! Workflows and their actions.

use std::collections::{BTreeSet, HashMap};

use protocol::{
    id::{ProxyTokenId, TeamId, TenantId, UserId, WorkflowId},
    name::TunnelName,
};
use sqlx::any::AnyRow;

use super::{
    Change, Read, Result, json,
    page::{Column, Page, Select, Slice, Value},
    parsed, proxy_token, signed,
    stamp::{self, Stamp},
    text, to_json, unsigned,
};
use crate::action::Action;

#[derive(Debug, Clone)]
pub(crate) struct Workflow {
    pub(crate) id: WorkflowId,
    pub(crate) tenant: TenantId,
    pub(crate) team: TeamId,
    pub(crate) name: String,
    pub(crate) actions: Vec<Action>,
    pub(crate) created_ms: u64,
    pub(crate) stamp: Stamp,
}

impl Workflow {
    /// The tunnels that its actions name.
    fn tunnels(&self) -> BTreeSet<&TunnelName> {
        self.actions.iter().filter_map(|Action::Http(http)| http.use_tunnel.as_ref()).collect()
    }
}

/// A workflow as lists show it.
#[derive(Debug, Clone)]
pub(crate) struct Summary {
    pub(crate) id: WorkflowId,
    pub(crate) team: TeamId,
    pub(crate) team_name: String,
    pub(crate) name: String,
    pub(crate) actions: u64,
    /// The tunnels that its actions name.
    pub(crate) tunnels: Vec<TunnelName>,
    pub(crate) created_ms: u64,
    pub(crate) stamp: Stamp,
}

/// What workflows can be ordered by.
pub(crate) const COLUMNS: &[Column] = &[
    Column::text("name", "LOWER(workflow.name)"),
    Column::number("created_at", "workflow.created_ms"),
    Column::number("updated_at", "workflow.updated_ms"),
];

/// Which workflows are looked for; what is left out fits all.
#[derive(Debug, Default)]
pub(crate) struct Filter<'a> {
    /// Of this user's teams.
    pub(crate) of: Option<UserId>,
    pub(crate) team: Option<TeamId>,
    /// Those that name this tunnel.
    pub(crate) tunnel: Option<&'a TunnelName>,
    /// Part of the name.
    pub(crate) search: Option<&'a str>,
}

pub(crate) async fn insert(db: &mut Change, workflow: &Workflow) -> Result<()> {
    sqlx::query(
        "INSERT INTO workflow (id, tenant_id, team_id, name, actions, action_count, created_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(workflow.id.to_string())
    .bind(workflow.tenant.to_string())
    .bind(workflow.team.to_string())
    .bind(workflow.name.as_str())
    .bind(to_json(&workflow.actions))
    .bind(signed(workflow.actions.len() as u64))
    .bind(signed(workflow.created_ms))
    .execute(db.connection())
    .await?;
    note_tunnels(db, workflow).await
}

pub(crate) async fn update(db: &mut Change, workflow: &Workflow) -> Result<()> {
    sqlx::query("UPDATE workflow SET name = $2, actions = $3, action_count = $4 WHERE id = $1")
        .bind(workflow.id.to_string())
        .bind(workflow.name.as_str())
        .bind(to_json(&workflow.actions))
        .bind(signed(workflow.actions.len() as u64))
        .execute(db.connection())
        .await?;
    note_tunnels(db, workflow).await
}

async fn note_tunnels(db: &mut Change, workflow: &Workflow) -> Result<()> {
    sqlx::query("DELETE FROM workflow_tunnel WHERE workflow_id = $1")
        .bind(workflow.id.to_string())
        .execute(db.connection())
        .await?;
    for tunnel in workflow.tunnels() {
        sqlx::query(
            "INSERT INTO workflow_tunnel (workflow_id, tenant_id, tunnel) VALUES ($1, $2, $3)",
        )
        .bind(workflow.id.to_string())
        .bind(workflow.tenant.to_string())
        .bind(tunnel.as_str())
        .execute(db.connection())
        .await?;
    }
    Ok(())
}

/// Gives it to another team, together with its runs and its gateway tokens.
pub(crate) async fn change_team(db: &mut Change, id: WorkflowId, team: TeamId) -> Result<()> {
    for sql in [
        "UPDATE workflow SET team_id = $2 WHERE id = $1",
        "UPDATE run SET team_id = $2 WHERE workflow_id = $1",
    ] {
        sqlx::query(sql)
            .bind(id.to_string())
            .bind(team.to_string())
            .execute(db.connection())
            .await?;
    }
    proxy_token::change_team(db, id, team).await
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

/// A page of the tenant's workflows.
pub(crate) async fn page(
    db: &mut impl Read,
    tenant: TenantId,
    filter: &Filter<'_>,
    page: &Page,
) -> Result<Slice<Summary>> {
    let columns = "workflow.id, workflow.team_id, team.name AS team_name, workflow.name, \
         workflow.action_count, workflow.created_ms, workflow.revision, workflow.updated_ms, \
         workflow.updated_by";
    let mut slice =
        Select::new(columns, "workflow JOIN team ON team.id = workflow.team_id", "workflow.id")
            .and("workflow.tenant_id = ?", [Value::Text(tenant.to_string())])
            .and_if(
                "workflow.team_id IN (SELECT team_id FROM team_member WHERE user_id = ?)",
                filter.of,
            )
            .and_if("workflow.team_id = ?", filter.team)
            .and_if(
                "workflow.id IN (SELECT workflow_id FROM workflow_tunnel
                     WHERE workflow_tunnel.tenant_id = workflow.tenant_id AND tunnel = ?)",
                filter.tunnel,
            )
            .search(&["workflow.name"], filter.search)
            .page(db, page, read_summary)
            .await?;
    let mut tunnels = tunnels_of(db, &slice.items).await?;
    for workflow in &mut slice.items {
        workflow.tunnels = tunnels.remove(&workflow.id).unwrap_or_default();
    }
    Ok(slice)
}

/// The tunnels that the actions of some workflows name.
async fn tunnels_of(
    db: &mut impl Read,
    workflows: &[Summary],
) -> Result<HashMap<WorkflowId, Vec<TunnelName>>> {
    let mut tunnels = HashMap::<_, Vec<_>>::new();
    if workflows.is_empty() {
        return Ok(tunnels);
    }
    let places: Vec<_> = (1..=workflows.len()).map(|n| format!("${n}")).collect();
    let sql = sqlx::AssertSqlSafe(format!(
        "SELECT workflow_id, tunnel FROM workflow_tunnel WHERE workflow_id IN ({}) ORDER BY tunnel",
        places.join(", ")
    ));
    let mut query = sqlx::query(sql);
    for workflow in workflows {
        query = query.bind(workflow.id.to_string());
    }
    for row in &query.fetch_all(db.connection()).await? {
        tunnels.entry(parsed(row, "workflow_id")?).or_default().push(parsed(row, "tunnel")?);
    }
    Ok(tunnels)
}

fn read_summary(row: &AnyRow) -> Result<Summary> {
    Ok(Summary {
        id: parsed(row, "id")?,
        team: parsed(row, "team_id")?,
        team_name: text(row, "team_name")?,
        name: text(row, "name")?,
        actions: unsigned(row, "action_count")?,
        tunnels: Vec::new(),
        created_ms: unsigned(row, "created_ms")?,
        stamp: stamp::read(row)?,
    })
}

fn read(row: &AnyRow) -> Result<Workflow> {
    Ok(Workflow {
        id: parsed(row, "id")?,
        tenant: parsed(row, "tenant_id")?,
        team: parsed(row, "team_id")?,
        name: text(row, "name")?,
        actions: json(row, "actions")?,
        created_ms: unsigned(row, "created_ms")?,
        stamp: stamp::read(row)?,
    })
}
