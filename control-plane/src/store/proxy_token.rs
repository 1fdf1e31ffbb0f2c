//! Long-lived tokens for the gateway, each of a team or of one of its workflows; only a token's
//! digest is stored. Whatever changes here is marked for the feed.

use protocol::{
    credential::CredentialDigest,
    feed::ItemKey,
    id::{ProxyTokenId, TeamId, TenantId, UserId, WorkflowId},
};
use sqlx::{Row as _, any::AnyRow};

use super::{
    Change, Error, Read, Result, converted, feed,
    page::{Column, Page, Select, Slice, State, Value},
    parsed, signed, text, unsigned, unsigned_option,
};

/// What tokens can be ordered by.
pub(crate) const COLUMNS: &[Column] = &[
    Column::text("name", "LOWER(name)"),
    Column::number("created_at", "created_ms"),
    Column::number("expires_at", "expires_ms"),
];

/// Which tokens are looked for; what is left out fits all.
#[derive(Debug, Default)]
pub(crate) struct Filter<'a> {
    /// Of this user's teams.
    pub(crate) of: Option<UserId>,
    pub(crate) team: Option<TeamId>,
    pub(crate) workflow: Option<WorkflowId>,
    pub(crate) state: State,
    /// Part of the name.
    pub(crate) search: Option<&'a str>,
}

#[derive(Debug, Clone)]
pub(crate) struct ProxyTokenRow {
    pub(crate) id: ProxyTokenId,
    pub(crate) tenant: TenantId,
    pub(crate) team: TeamId,
    pub(crate) workflow: Option<WorkflowId>,
    pub(crate) name: String,
    pub(crate) digest: CredentialDigest,
    pub(crate) created_by: UserId,
    pub(crate) created_ms: u64,
    pub(crate) expires_ms: u64,
    pub(crate) revoked_ms: Option<u64>,
    pub(crate) response_timeout_s: Option<u32>,
}

impl ProxyTokenRow {
    /// Neither revoked nor expired.
    pub(super) fn is_live(&self, now_ms: u64) -> bool {
        self.revoked_ms.is_none() && now_ms < self.expires_ms
    }
}

pub(crate) async fn insert(db: &mut Change, token: &ProxyTokenRow) -> Result<()> {
    sqlx::query(
        "INSERT INTO proxy_token
         (id, tenant_id, team_id, workflow_id, name, digest, created_by, created_ms, expires_ms,
          response_timeout_s)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(token.id.to_string())
    .bind(token.tenant.to_string())
    .bind(token.team.to_string())
    .bind(token.workflow.map(|id| id.to_string()))
    .bind(token.name.as_str())
    .bind(String::from(token.digest))
    .bind(token.created_by.to_string())
    .bind(signed(token.created_ms))
    .bind(signed(token.expires_ms))
    .bind(token.response_timeout_s.map(i64::from))
    .execute(db.connection())
    .await?;
    feed::mark(db, &ItemKey::ProxyToken(token.id)).await
}

/// Of any tenant.
pub(crate) async fn find(db: &mut impl Read, id: ProxyTokenId) -> Result<Option<ProxyTokenRow>> {
    let row = sqlx::query("SELECT * FROM proxy_token WHERE id = $1")
        .bind(id.to_string())
        .fetch_optional(db.connection())
        .await?;
    row.as_ref().map(read).transpose()
}

/// A page of the tenant's tokens.
pub(crate) async fn page(
    db: &mut impl Read,
    tenant: TenantId,
    filter: &Filter<'_>,
    now_ms: u64,
    page: &Page,
) -> Result<Slice<ProxyTokenRow>> {
    let select = Select::new("*", "proxy_token", "id")
        .and("tenant_id = ?", [Value::Text(tenant.to_string())])
        .and_if("team_id IN (SELECT team_id FROM team_member WHERE user_id = ?)", filter.of)
        .and_if("team_id = ?", filter.team)
        .and_if("workflow_id = ?", filter.workflow)
        .search(&["name"], filter.search);
    let now = [Value::Number(signed(now_ms))];
    let select = match filter.state {
        State::All => select,
        State::Live => select.and("revoked_ms IS NULL AND expires_ms > ?", now),
        State::Ended => select.and("(revoked_ms IS NOT NULL OR expires_ms <= ?)", now),
    };
    select.page(db, page, read).await
}

/// The live tokens of all tenants.
pub(super) async fn live(db: &mut impl Read, now_ms: u64) -> Result<Vec<ProxyTokenRow>> {
    let rows =
        sqlx::query("SELECT * FROM proxy_token WHERE revoked_ms IS NULL AND expires_ms > $1")
            .bind(signed(now_ms))
            .fetch_all(db.connection())
            .await?;
    rows.iter().map(read).collect()
}

/// How many live tokens the team and its workflows have.
pub(crate) async fn count_live(db: &mut impl Read, team: TeamId, now_ms: u64) -> Result<u64> {
    let row = sqlx::query(
        "SELECT COUNT(*) AS n FROM proxy_token
         WHERE team_id = $1 AND revoked_ms IS NULL AND expires_ms > $2",
    )
    .bind(team.to_string())
    .bind(signed(now_ms))
    .fetch_one(db.connection())
    .await?;
    unsigned(&row, "n")
}

pub(crate) async fn revoke(db: &mut Change, id: ProxyTokenId, now_ms: u64) -> Result<()> {
    let sql = "UPDATE proxy_token SET revoked_ms = $2
               WHERE id = $1 AND revoked_ms IS NULL RETURNING id";
    revoke_by(db, sql, id.to_string(), now_ms).await.map(drop)
}

/// Lets a workflow's tokens act for another team.
pub(super) async fn change_team(db: &mut Change, workflow: WorkflowId, team: TeamId) -> Result<()> {
    let rows =
        sqlx::query("UPDATE proxy_token SET team_id = $2 WHERE workflow_id = $1 RETURNING id")
            .bind(workflow.to_string())
            .bind(team.to_string())
            .fetch_all(db.connection())
            .await?;
    for row in &rows {
        feed::mark(db, &ItemKey::ProxyToken(parsed(row, "id")?)).await?;
    }
    Ok(())
}

/// Returns those that were not revoked before.
pub(super) async fn revoke_of_workflow(
    db: &mut Change,
    workflow: WorkflowId,
    now_ms: u64,
) -> Result<Vec<ProxyTokenId>> {
    let sql = "UPDATE proxy_token SET revoked_ms = $2
               WHERE workflow_id = $1 AND revoked_ms IS NULL RETURNING id";
    revoke_by(db, sql, workflow.to_string(), now_ms).await
}

/// Returns those that were not revoked before.
pub(super) async fn revoke_of_team(
    db: &mut Change,
    team: TeamId,
    now_ms: u64,
) -> Result<Vec<ProxyTokenId>> {
    let sql = "UPDATE proxy_token SET revoked_ms = $2
               WHERE team_id = $1 AND revoked_ms IS NULL RETURNING id";
    revoke_by(db, sql, team.to_string(), now_ms).await
}

async fn revoke_by(
    db: &mut Change,
    sql: &'static str,
    id: String,
    now_ms: u64,
) -> Result<Vec<ProxyTokenId>> {
    let rows = sqlx::query(sql).bind(id).bind(signed(now_ms)).fetch_all(db.connection()).await?;
    let revoked = rows.iter().map(|row| parsed(row, "id")).collect::<Result<Vec<_>>>()?;
    for id in &revoked {
        feed::mark(db, &ItemKey::ProxyToken(*id)).await?;
    }
    Ok(revoked)
}

fn read(row: &AnyRow) -> Result<ProxyTokenRow> {
    let workflow: Option<String> = row.try_get("workflow_id")?;
    let workflow = workflow.map(|id| id.parse()).transpose();
    let response_timeout = unsigned_option(row, "response_timeout_s")?;
    Ok(ProxyTokenRow {
        id: parsed(row, "id")?,
        tenant: parsed(row, "tenant_id")?,
        team: parsed(row, "team_id")?,
        workflow: workflow.map_err(|_| Error::Unreadable("workflow_id"))?,
        name: text(row, "name")?,
        digest: converted(row, "digest")?,
        created_by: parsed(row, "created_by")?,
        created_ms: unsigned(row, "created_ms")?,
        expires_ms: unsigned(row, "expires_ms")?,
        revoked_ms: unsigned_option(row, "revoked_ms")?,
        response_timeout_s: response_timeout
            .map(u32::try_from)
            .transpose()
            .map_err(|_| Error::Unreadable("response_timeout_s"))?,
    })
}
