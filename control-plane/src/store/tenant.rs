//! Tenants: who owns everything else.

use protocol::id::TenantId;
use sqlx::any::AnyRow;

use super::{
    Change, Read, Result,
    page::{Column, Page, Select, Slice},
    parsed, signed, text, truth, unsigned,
};

/// What tenants can be ordered by.
pub(crate) const COLUMNS: &[Column] =
    &[Column::text("name", "LOWER(name)"), Column::number("created_at", "created_ms")];

#[derive(Debug, Clone)]
pub(crate) struct Tenant {
    pub(crate) id: TenantId,
    pub(crate) name: String,
    /// Its owners look after the deployment: edges, join tokens, tenants.
    pub(crate) is_operator: bool,
    pub(crate) created_ms: u64,
}

pub(crate) async fn insert(db: &mut Change, tenant: &Tenant) -> Result<()> {
    sqlx::query("INSERT INTO tenant (id, name, is_operator, created_ms) VALUES ($1, $2, $3, $4)")
        .bind(tenant.id.to_string())
        .bind(tenant.name.as_str())
        .bind(i64::from(tenant.is_operator))
        .bind(signed(tenant.created_ms))
        .execute(db.connection())
        .await?;
    Ok(())
}

pub(crate) async fn list(db: &mut impl Read) -> Result<Vec<Tenant>> {
    let rows = sqlx::query("SELECT * FROM tenant ORDER BY name").fetch_all(db.connection()).await?;
    rows.iter().map(read).collect()
}

pub(crate) async fn page(
    db: &mut impl Read,
    search: Option<&str>,
    page: &Page,
) -> Result<Slice<Tenant>> {
    Select::new("*", "tenant", "id").search(&["name"], search).page(db, page, read).await
}

/// The tenant whose owners look after the deployment.
pub(crate) async fn operator(db: &mut impl Read) -> Result<TenantId> {
    let row = sqlx::query("SELECT id FROM tenant WHERE is_operator = 1")
        .fetch_one(db.connection())
        .await?;
    parsed(&row, "id")
}

fn read(row: &AnyRow) -> Result<Tenant> {
    Ok(Tenant {
        id: parsed(row, "id")?,
        name: text(row, "name")?,
        is_operator: truth(row, "is_operator")?,
        created_ms: unsigned(row, "created_ms")?,
    })
}
