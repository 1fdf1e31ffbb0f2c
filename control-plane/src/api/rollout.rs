//! How far a change has come: which edges obey it already. An answer that changes who may use what
//! waits a moment for them.

use protocol::id::EdgeId;
use serde::Serialize;
use utoipa::ToSchema;

use super::problem::Problem;
use crate::{
    app::App,
    store::{self, edge::Edge},
};

/// Which edges obey a change, of those with a live lease.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Rollout {
    /// The change's generation.
    generation: u64,
    /// Edges that obey it.
    applied: Vec<RolloutEdge>,
    /// Edges that do not yet; they will as soon as they hear of it.
    pending: Vec<RolloutEdge>,
}

/// An edge.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RolloutEdge {
    /// Its identity.
    #[schema(value_type = Uuid)]
    edge: EdgeId,
    /// Its region.
    region: String,
}

impl Rollout {
    /// Waits a moment, then tells.
    pub(crate) async fn of(app: &App, generation: u64) -> Result<Self, Problem> {
        let (applied, pending) = app.applied(generation).await;
        let mut db = app.store.read().await?;
        let edges = store::edge::list(&mut db).await?;
        let name = |ids: Vec<EdgeId>| {
            let known = edges.iter().filter(|edge| ids.contains(&edge.id));
            known.map(RolloutEdge::from).collect()
        };
        Ok(Self { generation, applied: name(applied), pending: name(pending) })
    }
}

impl From<&Edge> for RolloutEdge {
    fn from(edge: &Edge) -> Self {
        Self { edge: edge.id, region: edge.link.region.to_string() }
    }
}
