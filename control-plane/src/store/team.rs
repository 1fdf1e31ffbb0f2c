//! Teams and who is in them.

use std::collections::BTreeSet;

use protocol::{
    access::Access,
    id::{ProxyTokenId, TeamId, TenantId, UserId},
};
use sqlx::any::AnyRow;

use super::{
    Change, Read, Result,
    page::{Column, Page, Select, Slice, Value},
    parsed, proxy_token, signed,
    stamp::{self, Stamp},
    text, tunnel, unsigned, user,
};

/// What teams can be ordered by.
pub(crate) const COLUMNS: &[Column] = &[
    Column::text("name", "LOWER(name)"),
    Column::number("created_at", "created_ms"),
    Column::number("updated_at", "updated_ms"),
];

#[derive(Debug, Clone)]
pub(crate) struct Team {
    pub(crate) id: TeamId,
    pub(crate) tenant: TenantId,
    pub(crate) name: String,
    pub(crate) created_ms: u64,
    pub(crate) stamp: Stamp,
}

pub(crate) async fn insert(db: &mut Change, team: &Team) -> Result<()> {
    sqlx::query("INSERT INTO team (id, tenant_id, name, created_ms, updated_ms) VALUES ($1, $2, $3, $4, $4)")
        .bind(team.id.to_string())
        .bind(team.tenant.to_string())
        .bind(team.name.as_str())
        .bind(signed(team.created_ms))
        .execute(db.connection())
        .await?;
    Ok(())
}

pub(crate) async fn find(db: &mut impl Read, tenant: TenantId, id: TeamId) -> Result<Option<Team>> {
    let row = sqlx::query("SELECT * FROM team WHERE tenant_id = $1 AND id = $2")
        .bind(tenant.to_string())
        .bind(id.to_string())
        .fetch_optional(db.connection())
        .await?;
    row.as_ref().map(read).transpose()
}

pub(crate) async fn list(db: &mut impl Read, tenant: TenantId) -> Result<Vec<Team>> {
    let rows = sqlx::query("SELECT * FROM team WHERE tenant_id = $1 ORDER BY name")
        .bind(tenant.to_string())
        .fetch_all(db.connection())
        .await?;
    rows.iter().map(read).collect()
}

/// A page of the tenant's teams; of a user's own, if there is one.
pub(crate) async fn page(
    db: &mut impl Read,
    tenant: TenantId,
    of: Option<UserId>,
    search: Option<&str>,
    page: &Page,
) -> Result<Slice<Team>> {
    Select::new("*", "team", "id")
        .and("tenant_id = ?", [Value::Text(tenant.to_string())])
        .and_if("id IN (SELECT team_id FROM team_member WHERE user_id = ?)", of)
        .search(&["name"], search)
        .page(db, page, read)
        .await
}

/// The teams that a user is in.
pub(crate) async fn of_user(db: &mut impl Read, user: UserId) -> Result<BTreeSet<TeamId>> {
    let rows = sqlx::query("SELECT team_id FROM team_member WHERE user_id = $1")
        .bind(user.to_string())
        .fetch_all(db.connection())
        .await?;
    rows.iter().map(|row| parsed(row, "team_id")).collect()
}

pub(crate) async fn members(db: &mut impl Read, team: TeamId) -> Result<BTreeSet<UserId>> {
    let rows = sqlx::query("SELECT user_id FROM team_member WHERE team_id = $1")
        .bind(team.to_string())
        .fetch_all(db.connection())
        .await?;
    rows.iter().map(|row| parsed(row, "user_id")).collect()
}

pub(crate) async fn add_member(db: &mut Change, team: TeamId, user: UserId) -> Result<()> {
    sqlx::query(
        "INSERT INTO team_member (team_id, user_id) VALUES ($1, $2) ON CONFLICT DO NOTHING",
    )
    .bind(team.to_string())
    .bind(user.to_string())
    .execute(db.connection())
    .await?;
    Ok(())
}

pub(crate) async fn remove_member(db: &mut Change, team: TeamId, user: UserId) -> Result<()> {
    sqlx::query("DELETE FROM team_member WHERE team_id = $1 AND user_id = $2")
        .bind(team.to_string())
        .bind(user.to_string())
        .execute(db.connection())
        .await?;
    Ok(())
}

pub(crate) async fn rename(db: &mut Change, id: TeamId, name: &str) -> Result<()> {
    sqlx::query("UPDATE team SET name = $2 WHERE id = $1")
        .bind(id.to_string())
        .bind(name)
        .execute(db.connection())
        .await?;
    Ok(())
}

/// The users in a team.
pub(crate) async fn users(db: &mut impl Read, team: TeamId) -> Result<Vec<user::User>> {
    let sql = "SELECT account.*, tenant.is_operator FROM account
         JOIN tenant ON tenant.id = account.tenant_id
         JOIN team_member ON team_member.user_id = account.id
         WHERE team_member.team_id = $1 ORDER BY account.email";
    let rows = sqlx::query(sql).bind(team.to_string()).fetch_all(db.connection()).await?;
    rows.iter().map(user::read).collect()
}

/// Takes it off every access list, and revokes its gateway tokens, which it returns.
pub(crate) async fn delete(db: &mut Change, team: &Team, now_ms: u64) -> Result<Vec<ProxyTokenId>> {
    for tunnel in tunnel::list(db, team.tenant).await? {
        let Access::Teams { mut teams } = tunnel.access else { continue };
        if teams.remove(&team.id) {
            tunnel::set_access(db, tunnel.id, &Access::Teams { teams }).await?;
        }
    }
    sqlx::query("DELETE FROM team WHERE id = $1")
        .bind(team.id.to_string())
        .execute(db.connection())
        .await?;
    proxy_token::revoke_of_team(db, team.id, now_ms).await
}

fn read(row: &AnyRow) -> Result<Team> {
    Ok(Team {
        id: parsed(row, "id")?,
        tenant: parsed(row, "tenant_id")?,
        name: text(row, "name")?,
        created_ms: unsigned(row, "created_ms")?,
        stamp: stamp::read(row)?,
    })
}
