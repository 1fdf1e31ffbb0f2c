//! A tunnel as the list shows it: with its links, and without what only its own page needs.

use std::collections::HashMap;

use protocol::{
    id::{ConnectorId, EdgeId},
    presence::{LinkPresence, Transport},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::TunnelView;
use crate::{
    api::{edit::Editors, health::HealthWord},
    app::App,
    store::{page::Position, tunnel::Tunnel},
};

/// A tunnel with its links.
#[derive(Serialize, ToSchema)]
pub(super) struct TunnelSummary {
    #[serde(flatten)]
    tunnel: TunnelView,
    /// Connectors that serve.
    connectors: usize,
    /// Connectors that vanished without a goodbye.
    missing_connectors: usize,
    links: Vec<LinkSummary>,
}

/// A link, in short.
#[derive(Serialize, ToSchema)]
struct LinkSummary {
    /// The connector that holds it.
    #[schema(value_type = Uuid)]
    connector: ConnectorId,
    slot: u8,
    region: Option<String>,
    #[schema(value_type = Uuid)]
    edge: EdgeId,
    /// `quic` or `http2`.
    #[schema(value_type = String)]
    transport: Transport,
    /// Round-trip time in microseconds, once measured.
    rtt_us: Option<u64>,
}

impl TunnelSummary {
    pub(super) fn new(
        app: &App,
        tunnel: &Tunnel,
        regions: &HashMap<EdgeId, String>,
        editors: &Editors,
    ) -> Self {
        let views = app.presence.state().connectors(tunnel.id);
        let link = |connector, (edge, link): &(EdgeId, LinkPresence)| LinkSummary {
            connector,
            slot: link.slot,
            region: regions.get(edge).cloned(),
            edge: *edge,
            transport: link.transport,
            rtt_us: link.rtt_us,
        };
        let links = views
            .iter()
            .flat_map(|view| view.links.iter().map(move |known| link(view.connector, known)));
        Self {
            tunnel: TunnelView::new(app, tunnel, editors),
            connectors: views.iter().filter(|view| !view.links.is_empty()).count(),
            missing_connectors: views.iter().filter(|view| view.vanished_ms.is_some()).count(),
            links: links.collect(),
        }
    }

    pub(super) fn fits(&self, health: Option<HealthWord>, region: Option<&str>) -> bool {
        health.is_none_or(|health| self.tunnel.health.is(health))
            && region.is_none_or(|region| {
                self.links.iter().any(|link| link.region.as_deref() == Some(region))
            })
    }

    /// Where it stands in a list that is ordered by this column.
    pub(super) fn place(&self, column: &str) -> Position {
        let TunnelView { name, display_name, health, created_at, edited, .. } = &self.tunnel;
        match column {
            "display_name" => Position::new(display_name.as_str(), name),
            "created_at" => Position::new(created_at.0, name),
            "updated_at" => Position::new(edited.at_ms(), name),
            "health" => Position::new(health.rank(), name),
            _ => Position::new(name.as_str(), name),
        }
    }
}
