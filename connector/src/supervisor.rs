//! Which links to have, and what to do when one is missing: the connector's mind.
//!
//! The supervisor does no IO, reads no clock and owns no random generator. It is told what happened
//! ([`Input`]) and at what time, and answers with what to do about it ([`Effect`]); the shell
//! executes that and decides nothing. So every promise is a property that can be
//! tested in virtual time.
//!
//! A connector wants [`protocol::SLOTS`] links. Each slot holds at most one serving link and at most
//! one *attempt* to get one:
//!
//! ```text
//!            ┌───────────────────────── lost, dead ──────────────────────────┐
//!            ▼                                                               │
//!  ┌──────────────────┐  an edge may   ┌─────────────┐  first to register  ┌─┴──┐
//!  │ vacant (waiting) ├──be asked────► │  attempting ├────────────────────►│ up │
//!  └──────────────────┘                └──────┬──────┘  others cancelled   └─┬──┘
//!            ▲                                │                              │ drain, a better edge,
//!            └──── refused, failed, unanswered┘                              │ in doubt, or UDP is back
//!                                                                            ▼
//!                 closed ◄── idle, or deadline ── leaving ◄── registered ── up, and attempting
//! ```
//!
//! An attempt goes to one edge and climbs down a ladder of *rungs*: QUIC (unless a proxy stands before
//! the edge), HTTP/2 on the same port, HTTP/2 on the fallback port. The next rung joins in when the one before has failed, or has said
//! nothing for [`timing::NEXT_RUNG`]. The ladder starts at the rung that last worked.
//!
//! An edge that fails rests for a while, drawn at random up to a bound that grows. As long as it has
//! no link, one attempt at a time finds out whether it is back, and a slot that stands elsewhere makes
//! it: rebalancing and probing are the same thing.
//!
//! A link that shows no life is in doubt long before it is dead: its slot then makes an attempt beside it, in
//! which HTTP/2 joins in at once. The first to be well wins: the attempt is cancelled if the link shows life.

mod attempt;
mod event;
mod heartbeat;
mod network;
mod places;
mod rebalance;
mod rules;
#[cfg(test)]
mod tests;
pub mod timing;
mod view;

use std::{collections::BTreeMap, time::Duration};

use link::CloseReason;
use protocol::{
    SLOTS,
    address::{EdgeAddress, HostPort},
    control::{DirectoryEdge, LinkRefusal},
    id::EdgeId,
    name::RegionName,
    presence::Transport,
};
use rand::Rng;

use self::{
    attempt::Attempt,
    heartbeat::Heartbeat,
    network::{DialBudget, Network},
    places::Places,
};
pub use self::{
    event::{Event, Failure, FailureKind, LossReason, Purpose},
    network::Transports,
    view::{LinkView, SlotState, SlotView, View},
};
use crate::proxy::Proxies;

/// Names a dial, and the link that it becomes. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// What the supervisor is given for its whole life.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Edges to dial before anything is known; at least one.
    pub edges: Vec<EdgeAddress>,
    /// May the edges' directory add to `edges`? False when an operator named them one by one.
    pub follow_directory: bool,
    /// Dial only edges of this region, as soon as one is known.
    pub region: Option<RegionName>,
    /// Which carriers may be used.
    pub transports: Transports,
    /// Which edges stand behind a proxy: QUIC is not tried with those.
    pub proxies: Proxies,
}

/// What happened.
#[derive(Debug, Clone)]
pub enum Input {
    /// Time has passed; also the first input of all.
    Timer,
    /// A dial led to a link.
    Registered {
        /// The dial, from now on the link.
        link: LinkId,
        /// Which edge answered.
        edge: EdgeId,
        /// Where it stands.
        region: RegionName,
        /// All edges that it knows.
        directory: Vec<DirectoryEdge>,
    },
    /// An edge said no to a dial.
    Refused {
        /// The dial.
        link: LinkId,
        /// Its reason.
        refusal: LinkRefusal,
    },
    /// A dial failed in some other way.
    Failed {
        /// The dial.
        link: LinkId,
        /// How.
        failure: Failure,
    },
    /// A link is gone.
    Lost {
        /// The link.
        link: LinkId,
        /// What is known of the cause, for people.
        detail: String,
    },
    /// The edge answered a ping.
    Pong {
        /// The link.
        link: LinkId,
        /// The ping's number.
        sequence: u64,
    },
    /// The edge is leaving.
    Drain {
        /// The link.
        link: LinkId,
        /// When to dial the replacement, from now.
        reconnect_in: Duration,
        /// When the edge will close the link, from now.
        deadline: Duration,
        /// Another process has taken the edge's place, at the same address.
        successor: bool,
    },
    /// The edges have changed.
    Directory(Vec<DirectoryEdge>),
    /// Leave: finish what is under way for at most this long.
    Shutdown(Duration),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Resolve the host now, connect, register as `slot`.
    Dial {
        /// Names the dial in the answer.
        link: LinkId,
        /// Which of the links this is to be.
        slot: u8,
        /// Where to.
        target: HostPort,
        /// How.
        transport: Transport,
    },
    /// Forget a dial; no answer is expected.
    Cancel(LinkId),
    /// Send a ping.
    Ping {
        /// On this link.
        link: LinkId,
        /// The ping's number.
        sequence: u64,
        /// Round-trip time of the one before.
        rtt: Option<Duration>,
    },
    /// Say goodbye, finish what is under way, then close the link; `Lost` tells when it is done.
    Retire(LinkId),
    /// Close the link now.
    Close(LinkId, CloseReason),
    /// Tell people.
    Say(Event),
}

#[derive(Debug)]
struct Link {
    slot: u8,
    place: HostPort,
    edge: EdgeId,
    region: RegionName,
    transport: Transport,
    rung: attempt::Rung,
    up_at: Duration,
    stage: Stage,
    heartbeat: Heartbeat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Takes requests and is to stay.
    Up,
    /// Takes requests; the edge wants it gone.
    Draining { reconnect_at: Duration, deadline: Duration },
    /// Takes no new requests; closed when idle, at the latest at the deadline.
    Leaving { deadline: Duration },
}

#[derive(Debug, Default)]
struct Slot {
    /// The serving link: up or draining.
    link: Option<LinkId>,
    attempt: Option<Attempt>,
    /// After a fatal refusal with no other link up, the slot asks nobody until then.
    rest_until: Duration,
    /// Why the slot has no link, for people.
    reason: Option<String>,
}

/// The state machine. Feed it with [`Supervisor::handle`], wake it at [`Supervisor::deadline`].
#[derive(Debug)]
pub struct Supervisor {
    places: Places,
    slots: [Slot; SLOTS as usize],
    links: BTreeMap<LinkId, Link>,
    network: Network,
    budget: DialBudget,
    /// Set by shutdown: when the last links are cut.
    leave_by: Option<Duration>,
    next_link: u64,
    wake_at: Option<Duration>,
    effects: Vec<Effect>,
}

impl Supervisor {
    /// A supervisor that has not begun: its first input, a timer, makes it dial.
    pub fn new(plan: Plan) -> Self {
        Self {
            places: Places::new(plan.edges, plan.follow_directory, plan.region),
            slots: Default::default(),
            links: BTreeMap::new(),
            network: Network::new(plan.transports, plan.proxies),
            budget: DialBudget::default(),
            leave_by: None,
            next_link: 0,
            wake_at: None,
            effects: Vec::new(),
        }
    }

    /// Notes that a link has shown life: something has arrived on it, or what was sent was acknowledged. To be
    /// told before every input, or a link whose pong is late would be judged by that alone.
    pub fn shows_life(&mut self, link: LinkId) {
        if let Some(link) = self.links.get_mut(&link) {
            link.heartbeat.on_life();
        }
    }

    /// Takes in what happened at `now` (since the process began, never going back) and says what to
    /// do, in order.
    pub fn handle(&mut self, now: Duration, input: Input, rng: &mut dyn Rng) -> Vec<Effect> {
        match input {
            Input::Timer => {}
            Input::Registered { link, edge, region, directory } => {
                self.on_registered(now, link, edge, region, directory, rng);
            }
            Input::Refused { link, refusal } => self.on_refused(now, link, refusal, rng),
            Input::Failed { link, failure } => self.on_failed(now, link, failure, rng),
            Input::Lost { link, detail } => {
                self.on_lost(now, link, LossReason::Closed, detail, rng);
            }
            Input::Pong { link, sequence } => {
                if let Some(link) = self.links.get_mut(&link) {
                    link.heartbeat.on_pong(now, sequence);
                }
            }
            Input::Drain { link, reconnect_in, deadline, successor } => {
                self.on_drain(now, link, reconnect_in, deadline, successor);
            }
            Input::Directory(directory) => self.learn(now, directory, true, rng),
            Input::Shutdown(grace) => self.on_shutdown(now, grace),
        }
        self.heartbeats(now, rng);
        self.end_doubts();
        self.link_deadlines(now, rng);
        self.attempt_deadlines(now, rng);
        if self.leave_by.is_none() {
            self.fill_slots(now, rng);
            self.rebalance(now, rng);
            self.move_to_quic(now, rng);
        }
        self.wake_at = self.next_deadline(now);
        std::mem::take(&mut self.effects)
    }

    /// When to send [`Input::Timer`] if nothing else happens; `None` when there is nothing to wait for.
    pub fn deadline(&self) -> Option<Duration> {
        self.wake_at
    }

    /// True once a shutdown has closed the last link.
    pub fn is_finished(&self) -> bool {
        self.leave_by.is_some() && self.links.is_empty()
    }

    fn next_deadline(&self, now: Duration) -> Option<Duration> {
        let links = self.links.values().flat_map(|link| {
            let stage = match link.stage {
                Stage::Up => [None, None],
                Stage::Draining { reconnect_at, deadline } => [Some(reconnect_at), Some(deadline)],
                Stage::Leaving { deadline } => [Some(deadline), None],
            };
            stage.into_iter().chain(link.heartbeat.deadlines().map(Some))
        });
        let attempts = self.slots.iter().filter_map(|slot| slot.attempt.as_ref());
        let attempts = attempts.map(|attempt| Some(attempt.deadline()));
        let rests = self.slots.iter().map(|slot| Some(slot.rest_until));
        links
            .chain(attempts)
            .chain(rests)
            .chain(self.places.deadlines().map(Some))
            .chain([self.network.probe_at(), Some(self.budget.next_at())])
            .flatten()
            .filter(|at| *at > now)
            .min()
    }

    fn on_shutdown(&mut self, now: Duration, grace: Duration) {
        if self.leave_by.is_some() {
            return;
        }
        let deadline = now + grace;
        self.leave_by = Some(deadline);
        for slot in &mut self.slots {
            slot.link = None;
            if let Some(attempt) = slot.attempt.take() {
                self.effects.extend(attempt.legs().map(Effect::Cancel));
            }
        }
        self.effects.push(Effect::Say(Event::Leaving { links: self.links.len(), grace }));
        for (id, link) in &mut self.links {
            if !matches!(link.stage, Stage::Leaving { .. }) {
                self.effects.push(Effect::Retire(*id));
            }
            link.stage = Stage::Leaving { deadline };
        }
    }

    /// Links that take requests.
    fn serving(&self) -> usize {
        self.slots.iter().filter(|slot| slot.link.is_some()).count()
    }

    fn say(&mut self, event: Event) {
        self.effects.push(Effect::Say(event));
    }
}

/// A length of time between nothing and `most`, both included, each as likely: full jitter.
fn up_to(most: Duration, rng: &mut dyn Rng) -> Duration {
    use rand::RngExt as _;
    let most = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(rng.random_range(0..=most))
}
