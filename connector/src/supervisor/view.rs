//! What the supervisor shows of itself: for `/status`, `/ready` and the metrics.

use std::time::Duration;

use protocol::{address::HostPort, id::EdgeId, name::RegionName, presence::Transport};

use super::{Stage, Supervisor};

/// All slots at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// In the order of the slots.
    pub slots: Vec<SlotView>,
    /// True once a shutdown has begun.
    pub is_leaving: bool,
}

/// One slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotView {
    /// Its number, from 0.
    pub slot: u8,
    /// What it does.
    pub state: SlotState,
    /// Why it has no link; absent while it has one.
    pub reason: Option<String>,
    /// Where an attempt under way goes to.
    pub dialling: Option<HostPort>,
    /// The serving link.
    pub link: Option<LinkView>,
}

/// What a slot does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SlotState {
    /// Has no link and asks nobody for the moment.
    Waiting,
    /// Has no link and asks an edge.
    Dialling,
    /// Serves.
    Up,
    /// Serves, until a replacement is up.
    Draining,
}

impl SlotState {
    /// As it stands in `/status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Dialling => "dialling",
            Self::Up => "up",
            Self::Draining => "draining",
        }
    }
}

/// One serving link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkView {
    /// The edge.
    pub edge: EdgeId,
    /// Where it stands.
    pub region: RegionName,
    /// Where it was dialled.
    pub address: HostPort,
    /// How it was reached.
    pub transport: Transport,
    /// The proxy on the way.
    pub proxy: Option<String>,
    /// Round-trip time of the last ping.
    pub rtt: Option<Duration>,
    /// When it came up, since the process began.
    pub up_at: Duration,
}

impl View {
    /// Links that take requests.
    pub fn serving(&self) -> usize {
        self.slots.iter().filter(|slot| slot.link.is_some()).count()
    }
}

impl Supervisor {
    /// All slots as they are now.
    pub fn view(&self) -> View {
        let slots = self.slots.iter().enumerate().map(|(slot, state)| {
            let link = state.link.and_then(|id| self.links.get(&id));
            let dialling = state.attempt.as_ref().map(|attempt| attempt.edge.address.clone());
            SlotView {
                slot: slot as u8,
                state: match (link.map(|link| link.stage), &dialling) {
                    (Some(Stage::Draining { .. }), _) => SlotState::Draining,
                    (Some(Stage::Up | Stage::Leaving { .. }), _) => SlotState::Up,
                    (None, Some(_)) => SlotState::Dialling,
                    (None, None) => SlotState::Waiting,
                },
                reason: state.reason.clone(),
                dialling,
                link: link.map(|link| LinkView {
                    edge: link.edge,
                    region: link.region.clone(),
                    address: link.place.clone(),
                    transport: link.transport,
                    proxy: self.network.proxy(&link.place),
                    rtt: link.heartbeat.rtt,
                    up_at: link.up_at,
                }),
            }
        });
        View { slots: slots.collect(), is_leaving: self.leave_by.is_some() }
    }
}
