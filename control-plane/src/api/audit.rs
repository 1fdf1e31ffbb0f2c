//! The tenant's audit log, and whether its chain is whole.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use axum::extract::State;
use protocol::name::TunnelName;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    extract::{Caller, Json, Path, Query},
    list::{List, Paging},
    problem::Problem,
    timestamp::Timestamp,
    tunnels,
};
use crate::{
    app::{App, Shared},
    store::{
        self, Read,
        audit::{Actor, Filter, Inspection, Link},
        names::Kind,
    },
};

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(list_audit))
        .routes(routes!(list_tunnel_audit))
        .routes(routes!(verify_audit))
}

/// An entry.
#[derive(Serialize, ToSchema)]
struct AuditEntry {
    /// Counts up from 1 in each tenant, without a gap.
    sequence: u64,
    /// The deployment's generation that the change made; of what edges need not hear of, such as a session, the
    /// one that there was.
    generation: u64,
    at: Timestamp,
    /// Who: a user, an edge, somebody who could not come in, or the deployment itself.
    #[schema(value_type = Object)]
    actor: Actor,
    /// What was done, such as `tunnel.create`.
    action: String,
    /// To what: a name or an id.
    subject: String,
    /// What people call the subject, where that is known and the subject is an id.
    subject_name: Option<String>,
    /// What is particular about it.
    detail: serde_json::Value,
    /// SHA-256 over the hash before and this entry, base64url.
    hash: String,
}

impl AuditEntry {
    fn new(Link { recorded, hash }: Link, names: &HashMap<String, String>) -> Self {
        // What is gone was called something when it was changed.
        let told = ["name", "email"].iter().find_map(|field| recorded.detail[field].as_str());
        let is_id = Uuid::try_parse(&recorded.subject).is_ok();
        let known = names.get(&recorded.subject).map(String::as_str).or(told);
        Self {
            sequence: recorded.sequence,
            generation: recorded.generation,
            at: Timestamp(recorded.at_ms),
            actor: recorded.actor,
            action: recorded.action,
            subject_name: known.filter(|_| is_id).map(str::to_owned),
            subject: recorded.subject,
            detail: recorded.detail,
            hash,
        }
    }
}

/// What the subjects of some entries are called now.
async fn names(db: &mut impl Read, links: &[Link]) -> store::Result<HashMap<String, String>> {
    let mut subjects = BTreeMap::<_, BTreeSet<_>>::new();
    for Link { recorded, .. } in links {
        let kind = match recorded.action.split('.').next() {
            Some("user") => Kind::User,
            Some("team") => Kind::Team,
            Some("workflow") => Kind::Workflow,
            Some("proxy_token") => Kind::ProxyToken,
            Some("api_key") => Kind::ApiKey,
            _ => continue,
        };
        subjects.entry(kind).or_default().insert(recorded.subject.clone());
    }
    let mut names = HashMap::new();
    for (kind, ids) in subjects {
        names.extend(store::names::of(db, kind, ids).await?);
    }
    Ok(names)
}

/// Which entries.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Search {
    /// An action, such as `tunnel.create`, or an area, such as `tunnel`.
    action: Option<String>,
    /// The whole subject.
    subject: Option<String>,
    /// Part of the actor's e-mail or network address; `system` for the deployment itself.
    actor: Option<String>,
    /// From this time on.
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<Timestamp>,
    /// Before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
}

/// What an inspection found.
#[derive(Serialize, ToSchema)]
struct AuditVerdict {
    /// True if every entry is where and what it was.
    intact: bool,
    /// Entries that were followed.
    entries: Option<u64>,
    /// The last hash: keep it elsewhere, and a cut tail will show.
    head: Option<String>,
    /// The entry that was edited, or whose predecessor is gone.
    broken_at: Option<u64>,
}

/// Lists what was done, newest first. A page may hold fewer entries than the next one, or none, while
/// `next` says that there may be more.
#[utoipa::path(
    get, path = "/api/v1/audit", tag = "audit", params(Paging, Search),
    responses((status = 200, description = "A page of entries.", body = List<AuditEntry>)),
)]
async fn list_audit(
    State(app): State<Shared>,
    caller: Caller,
    Query(paging): Query<Paging>,
    Query(search): Query<Search>,
) -> Result<Json<List<AuditEntry>>, Problem> {
    caller.must_be_owner()?;
    let filter = Filter {
        action: search.action,
        subject: search.subject,
        actor: search.actor,
        from_ms: search.from.map(|at| at.0),
        until_ms: search.until.map(|at| at.0),
    };
    page(&app, &caller, &paging, &filter).await
}

/// Lists what was done to a tunnel, newest first.
#[utoipa::path(
    get, path = "/api/v1/admin/tunnel/{name}/audit", tag = "tunnels",
    params(("name" = String, Path, description = "The tunnel's name."), Paging),
    responses((status = 200, description = "A page of entries.", body = List<AuditEntry>)),
)]
async fn list_tunnel_audit(
    State(app): State<Shared>,
    caller: Caller,
    Path(name): Path<TunnelName>,
    Query(paging): Query<Paging>,
) -> Result<Json<List<AuditEntry>>, Problem> {
    caller.must_manage_tunnels()?;
    let mut db = app.store.read().await?;
    tunnels::find(&mut db, &caller, &name).await?;
    drop(db);
    let action = Some("tunnel".to_owned());
    let filter = Filter { action, subject: Some(name.to_string()), ..Filter::default() };
    page(&app, &caller, &paging, &filter).await
}

async fn page(
    app: &App,
    caller: &Caller,
    paging: &Paging,
    filter: &Filter,
) -> Result<Json<List<AuditEntry>>, Problem> {
    let (page, order) = paging.newest_first(store::audit::BY_TIME)?;
    let mut db = app.store.read().await?;
    let links = store::audit::page(&mut db, caller.tenant(), filter, &page).await?;
    let names = names(&mut db, &links.items).await?;
    Ok(Json(List::new(links.map(|link| AuditEntry::new(link, &names)), &order)))
}

/// Follows the chain from its beginning.
#[utoipa::path(
    get, path = "/api/v1/audit/verify", tag = "audit",
    responses((status = 200, description = "What was found.", body = AuditVerdict)),
)]
async fn verify_audit(
    State(app): State<Shared>,
    caller: Caller,
) -> Result<Json<AuditVerdict>, Problem> {
    caller.must_be_owner()?;
    let mut db = app.store.read().await?;
    Ok(Json(match store::audit::verify(&mut db, caller.tenant()).await? {
        Inspection::Intact { entries, head } => {
            AuditVerdict { intact: true, entries: Some(entries), head: Some(head), broken_at: None }
        }
        Inspection::Broken { sequence } => {
            AuditVerdict { intact: false, entries: None, head: None, broken_at: Some(sequence) }
        }
    }))
}
