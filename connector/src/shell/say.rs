//! The supervisor's events as log lines: one for each change of state.

use tracing::{info, warn};

use crate::supervisor::Event;

pub(super) fn say(event: &Event) {
    match event {
        Event::Up { slot, edge, region, transport, purpose, links } => info!(
            slot,
            link.edge = %edge,
            link.region = %region,
            link.transport = transport.as_str(),
            purpose = purpose.as_str(),
            links,
            "link is up"
        ),
        Event::Down { slot, edge, region, transport, reason, detail, links } => warn!(
            slot,
            link.edge = %edge,
            link.region = %region,
            link.transport = transport.as_str(),
            reason = reason.as_str(),
            detail,
            links,
            "link was lost"
        ),
        Event::Draining { slot, edge, region, reconnect_in, deadline } => info!(
            slot,
            link.edge = %edge,
            link.region = %region,
            reconnect_in_ms = reconnect_in.as_millis() as u64,
            deadline_ms = deadline.as_millis() as u64,
            "edge is leaving, its link is being replaced"
        ),
        Event::EdgeFailing { address, failure } => warn!(
            %address,
            kind = failure.kind.as_str(),
            detail = failure.detail,
            "edge cannot be reached, trying again until it can"
        ),
        Event::EdgeRefuses { address, refusal, again_in } => warn!(
            %address,
            code = refusal.code.as_str(),
            reason = %refusal.code,
            again_in_ms = again_in.as_millis() as u64,
            "edge refuses the link"
        ),
        Event::UdpDropped => {
            warn!("network drops UDP, links use HTTP/2 and QUIC is tried again every half minute");
        }
        Event::UdpBack => info!("UDP passes again, links move back to QUIC"),
        Event::RegionUnknown { region } => {
            warn!(%region, "no edge stands in the region of TUNNEL_REGION, using the others");
        }
        Event::Leaving { links, grace } => info!(
            links,
            grace_ms = grace.as_millis() as u64,
            "shutting down, requests under way may finish"
        ),
    }
}
