//! Edges: where connectors must be able to dial, and how well each edge is.

use axum::extract::State;
use http::StatusCode;
use protocol::id::EdgeId;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    extract::{Caller, Json, Path, Query},
    list::{List, Paging},
    no_content,
    problem::Problem,
    timestamp::Timestamp,
};
use crate::{
    app::Shared,
    presence::state::EdgeView,
    store::{
        self,
        edge::Edge,
        page::{Position, Slice},
    },
};

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(list_edges)).routes(routes!(remove_edge))
}

/// An edge.
#[derive(Serialize, ToSchema)]
struct EdgeBody {
    #[schema(value_type = Uuid)]
    id: EdgeId,
    region: String,
    /// What a firewall in front of a connector must let out.
    endpoints: Vec<Endpoint>,
    /// Where workflows enter, as `host:port`.
    gateway: String,
    /// The gateway speaks TLS: clients name it as `https://host:port`.
    gateway_tls: bool,
    /// True while it reports.
    is_live: bool,
    /// Until when its last report holds.
    lease_until: Option<Timestamp>,
    /// The newest generation that it obeys.
    applied_generation: u64,
    /// Links that it holds.
    links: usize,
    joined_at: Timestamp,
}

/// Something that must be reachable.
#[derive(Serialize, ToSchema)]
struct Endpoint {
    host: String,
    port: u16,
    /// `udp` or `tcp`.
    protocol: &'static str,
    /// What it is for.
    purpose: &'static str,
}

impl EdgeBody {
    fn new(edge: Edge, view: EdgeView) -> Self {
        let address = &edge.link.address;
        let endpoint = |port, protocol, purpose| Endpoint {
            host: address.host.clone(),
            port,
            protocol,
            purpose,
        };
        let mut endpoints = vec![
            endpoint(address.port, "udp", "links over QUIC"),
            endpoint(address.port, "tcp", "links over HTTP/2"),
        ];
        let fallback = edge.link.fallback_port;
        endpoints.extend(
            fallback.map(|port| {
                endpoint(port, "tcp", "links over HTTP/2 where nothing else is let out")
            }),
        );
        Self {
            id: edge.id,
            region: edge.link.region.to_string(),
            endpoints,
            gateway: edge.gateway.to_string(),
            gateway_tls: view.gateway_tls,
            is_live: view.is_live,
            lease_until: Some(view.lease_until_ms).filter(|at| *at > 0).map(Timestamp),
            applied_generation: view.applied_generation,
            links: view.links,
            joined_at: Timestamp(edge.joined_ms),
        }
    }
}

/// A page of the deployment's edges.
#[derive(Serialize, ToSchema)]
struct Edges {
    /// The newest generation there is.
    generation: u64,
    #[serde(flatten)]
    page: List<EdgeBody>,
}

/// Which of them, in which order.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ListEdges {
    /// `joined_at` or `region`, with `-` before it for descending; `joined_at` without it.
    sort: Option<String>,
    /// Only the edges of this region.
    region: Option<String>,
    /// Only edges that report, or only those that do not.
    is_live: Option<bool>,
}

/// Lists the edges, and what firewalls must let out to them.
#[utoipa::path(
    get, path = "/api/v1/edges", tag = "edges", params(Paging, ListEdges),
    responses((status = 200, description = "A page of edges.", body = Edges)),
)]
async fn list_edges(
    State(app): State<Shared>,
    _caller: Caller,
    Query(paging): Query<Paging>,
    Query(query): Query<ListEdges>,
) -> Result<Json<Edges>, Problem> {
    let (page, order) = paging.page(query.sort.as_deref(), store::edge::COLUMNS)?;
    let mut db = app.store.read().await?;
    let edges = store::edge::list(&mut db).await?;
    drop(db);
    let generation = app.store.reconcile().await?;
    let now_ms = app.clock.now_ms();
    let state = app.presence.state();
    let edges = edges.into_iter().map(|edge| {
        let view = state.edge(edge.id, now_ms);
        EdgeBody::new(edge, view)
    });
    let fits = |edge: &EdgeBody| {
        query.region.as_ref().is_none_or(|region| edge.region == *region)
            && query.is_live.is_none_or(|is_live| edge.is_live == is_live)
    };
    let place = |edge: &EdgeBody| match page.column.name {
        "region" => Position::new(edge.region.as_str(), edge.id),
        _ => Position::new(edge.joined_at.0, edge.id),
    };
    let edges = Slice::of(edges.filter(fits).collect(), &page, place);
    Ok(Json(Edges { generation, page: List::new(edges, &order) }))
}

/// Removes an edge for good: its certificate counts no more.
#[utoipa::path(
    delete, path = "/api/v1/edges/{id}", tag = "edges",
    params(("id" = Uuid, Path, description = "The edge.")),
    responses((status = 204, description = "Removed.")),
)]
async fn remove_edge(
    State(app): State<Shared>,
    caller: Caller,
    Path(id): Path<EdgeId>,
) -> Result<StatusCode, Problem> {
    caller.must_be_operator()?;
    let mut change = app.store.change().await?;
    let edge = store::edge::find(&mut change, id).await?;
    let edge = edge.ok_or_else(|| Problem::not_found("edge"))?;
    store::edge::delete(&mut change, id).await?;
    let detail = serde_json::json!({ "link": edge.link });
    change.commit(caller.entry(&app, "edge.remove", id, detail)).await?;
    app.presence.state().forget_edge(id, app.clock.now_ms());
    no_content()
}
