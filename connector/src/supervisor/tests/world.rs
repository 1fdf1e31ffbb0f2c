//! A small internet in virtual time: edges that answer, refuse, vanish and return, a network that
//! drops UDP or everything, and one supervisor in it. It executes the supervisor's effects as the
//! shell would, and checks on the way what must never happen.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    time::Duration,
};

use link::CloseReason;
use protocol::{
    address::{EdgeAddress, HostPort},
    control::{DirectoryEdge, LinkRefusal, LinkRefusalCode},
    id::EdgeId,
    presence::Transport,
};
use rand::{SeedableRng as _, rngs::SmallRng};
use zeroize::Zeroizing;

use crate::{
    proxy::Proxies,
    supervisor::{
        Effect, Event, Failure, FailureKind, Input, LinkId, Plan, Supervisor, Transports, timing,
    },
};

/// Round trip to every edge; a dial takes three of them.
pub(super) const RTT: Duration = Duration::from_millis(20);
/// When an unanswered dial sends its packets again, since it began.
const RETRANSMITS: [u64; 3] = [0, 1_000, 3_000];

pub(super) struct Edge {
    pub(super) address: EdgeAddress,
    pub(super) is_up: bool,
    pub(super) refuses: Option<LinkRefusal>,
    pub(super) is_listed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Paths {
    pub(super) udp: bool,
    pub(super) tcp: bool,
    pub(super) tcp_fallback: bool,
}

impl Paths {
    pub(super) const ALL: Self = Self { udp: true, tcp: true, tcp_fallback: true };
    pub(super) const NONE: Self = Self { udp: false, tcp: false, tcp_fallback: false };
}

#[derive(Clone)]
pub(super) struct Dial {
    pub(super) at: Duration,
    pub(super) slot: u8,
    pub(super) edge: usize,
    pub(super) target: HostPort,
    pub(super) transport: Transport,
}

#[derive(Clone)]
pub(super) struct Up {
    pub(super) slot: u8,
    pub(super) edge: usize,
    pub(super) transport: Transport,
    port: u16,
    pub(super) is_retiring: bool,
    pub(super) pings: Vec<Duration>,
}

pub(super) struct World {
    pub(super) now: Duration,
    pub(super) edges: Vec<Edge>,
    pub(super) paths: Paths,
    /// The proxy, where there is one, lets nobody through.
    pub(super) proxy_refuses: bool,
    pub(super) supervisor: Supervisor,
    /// What is under way.
    pub(super) dialling: BTreeMap<LinkId, Dial>,
    /// What the edges hold.
    pub(super) links: BTreeMap<LinkId, Up>,
    /// Every dial so far.
    pub(super) dials: Vec<Dial>,
    pub(super) said: Vec<(Duration, Event)>,
    pub(super) closed: Vec<(Duration, LinkId, CloseReason)>,
    /// How long a retired link has something to finish.
    pub(super) finishes_in: Duration,
    /// How long a pong waits behind other data.
    pub(super) backlog: Duration,
    /// There is always something under way, and so some sign of life where packets pass.
    pub(super) is_loaded: bool,
    queue: BinaryHeap<Reverse<(Duration, u64)>>,
    pending: BTreeMap<u64, Happening>,
    rng: SmallRng,
    count: u64,
}

enum Happening {
    /// A dial's packets arrive, if the network lets them.
    Packets(LinkId),
    /// An edge takes a dial as a link.
    Register(LinkId),
    /// A retired link has nothing more to do.
    Finish(LinkId),
    Tell(Input),
}

impl World {
    /// `edges` gives, for each region, how many edges stand there.
    pub(super) fn new(edges: &[usize], transports: Transports, seed: u64) -> Self {
        Self::behind(Proxies::default(), edges, transports, seed)
    }

    /// The same, with some or all of the edges behind a proxy.
    pub(super) fn behind(
        proxies: Proxies,
        edges: &[usize],
        transports: Transports,
        seed: u64,
    ) -> Self {
        let mut all = Vec::new();
        for (region, count) in edges.iter().enumerate() {
            for edge in 0..*count {
                all.push(Edge {
                    address: EdgeAddress {
                        region: format!("r{region}").parse().unwrap(),
                        address: format!("e{edge}.r{region}.example:7844").parse().unwrap(),
                        fallback_port: Some(443),
                    },
                    is_up: true,
                    refuses: None,
                    is_listed: true,
                });
            }
        }
        let bootstrap = all.iter().map(|edge| edge.address.clone()).collect();
        let plan =
            Plan { edges: bootstrap, follow_directory: true, region: None, transports, proxies };
        Self::planned(all, plan, seed)
    }

    /// What the environment says of proxies.
    pub(super) fn proxies(url: &str, except: &str) -> Proxies {
        let variables = [("HTTPS_PROXY", url), ("NO_PROXY", except)];
        let variables = variables.map(|(name, value)| (name.into(), Zeroizing::new(value.into())));
        Proxies::load(&variables.into()).unwrap()
    }

    pub(super) fn planned(edges: Vec<Edge>, plan: Plan, seed: u64) -> Self {
        Self {
            now: Duration::ZERO,
            edges,
            paths: Paths::ALL,
            proxy_refuses: false,
            supervisor: Supervisor::new(plan),
            dialling: BTreeMap::new(),
            links: BTreeMap::new(),
            dials: Vec::new(),
            said: Vec::new(),
            closed: Vec::new(),
            finishes_in: Duration::from_millis(100),
            backlog: Duration::ZERO,
            is_loaded: false,
            queue: BinaryHeap::new(),
            pending: BTreeMap::new(),
            rng: SmallRng::seed_from_u64(seed),
            count: 0,
        }
    }

    pub(super) fn run_for(&mut self, length: Duration) {
        self.run_until(self.now + length);
    }

    /// Lets time pass until `end`.
    pub(super) fn run_until(&mut self, end: Duration) {
        self.tell(Input::Timer);
        loop {
            let timer = self.supervisor.deadline();
            let next = self.queue.peek().map(|Reverse((at, _))| *at);
            let Some(at) = timer.into_iter().chain(next).min().filter(|at| *at <= end) else {
                break;
            };
            self.now = at.max(self.now);
            if next.is_some_and(|next| next <= self.now) {
                let Reverse((_, id)) = self.queue.pop().unwrap();
                match self.pending.remove(&id).unwrap() {
                    Happening::Packets(link) => self.packets(link),
                    Happening::Register(link) => self.register(link),
                    Happening::Finish(link) => {
                        self.links.remove(&link);
                        self.tell(Input::Lost { link, detail: "closed".into() });
                    }
                    Happening::Tell(input) => self.tell(input),
                }
            } else {
                self.tell(Input::Timer);
            }
        }
        self.now = end;
    }

    /// Lets time pass until `done`, at most for `most`; says how long it took.
    pub(super) fn run_while(
        &mut self,
        most: Duration,
        done: impl Fn(&Self) -> bool,
    ) -> Option<Duration> {
        let start = self.now;
        while !done(self) {
            if self.now - start >= most {
                return None;
            }
            self.run_for(Duration::from_millis(10));
        }
        Some(self.now - start)
    }

    pub(super) fn tell(&mut self, input: Input) {
        if self.is_loaded {
            for (link, up) in &self.links {
                if self.reaches(up) {
                    self.supervisor.shows_life(*link);
                }
            }
        }
        let effects = self.supervisor.handle(self.now, input, &mut self.rng);
        for effect in effects {
            self.execute(effect);
        }
        let deadline = self.supervisor.deadline();
        assert!(deadline.is_none_or(|at| at > self.now), "a deadline that does not pass");
        let up = self.supervisor.view().serving();
        assert!(up <= 4);
    }

    /// Kills an edge's process: its TCP connections end at once, its QUIC ones fall silent.
    pub(super) fn kill(&mut self, edge: usize) {
        self.edges[edge].is_up = false;
        let gone = self.links.iter().filter(|(_, link)| link.edge == edge);
        let gone: Vec<_> = gone.map(|(id, link)| (*id, link.transport)).collect();
        for (link, transport) in gone {
            self.links.remove(&link);
            if transport == Transport::Http2 {
                self.tell(Input::Lost { link, detail: "reset".into() });
            }
        }
    }

    /// Has an edge leave, as a SIGTERM does: its links drain, and it refuses new ones until it is gone.
    pub(super) fn drain(&mut self, edge: usize, deadline: Duration) {
        let refusal = LinkRefusal { code: LinkRefusalCode::Draining, retry_after_ms: Some(1_000) };
        self.edges[edge].refuses = Some(refusal);
        let links = self.links.iter().filter(|(_, link)| link.edge == edge);
        for link in links.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.tell(Input::Drain {
                link,
                reconnect_in: Duration::ZERO,
                deadline,
                successor: false,
            });
        }
    }

    /// Does an edge still hold a link, be it one that leaves?
    pub(super) fn is_held(&self, edge: usize) -> bool {
        self.links.values().any(|link| link.edge == edge)
    }

    pub(super) fn directory(&self) -> Vec<DirectoryEdge> {
        let listed = self.edges.iter().enumerate().filter(|(_, edge)| edge.is_listed);
        let entry = |(n, edge): (usize, &Edge)| DirectoryEdge {
            edge: EdgeId::from_bytes([n as u8 + 1; 16]),
            link: edge.address.clone(),
        };
        listed.map(entry).collect()
    }

    /// Links that take requests, by edge.
    pub(super) fn by_edge(&self) -> BTreeMap<usize, usize> {
        let mut counts = BTreeMap::new();
        for link in self.links.values().filter(|link| !link.is_retiring) {
            *counts.entry(link.edge).or_default() += 1;
        }
        counts
    }

    pub(super) fn serving(&self) -> usize {
        self.by_edge().values().sum()
    }

    pub(super) fn on(&self, transport: Transport) -> usize {
        let links = self.links.values().filter(|link| !link.is_retiring);
        links.filter(|link| link.transport == transport).count()
    }

    fn later(&mut self, after: Duration, happening: Happening) {
        self.count += 1;
        self.pending.insert(self.count, happening);
        self.queue.push(Reverse((self.now + after, self.count)));
    }

    fn passes(&self, transport: Transport, port: u16) -> bool {
        match (transport, port) {
            (Transport::Quic, _) => self.paths.udp,
            (Transport::Http2, 443) => self.paths.tcp_fallback,
            (Transport::Http2, _) => self.paths.tcp,
        }
    }

    fn reaches(&self, link: &Up) -> bool {
        self.passes(link.transport, link.port) && self.edges[link.edge].is_up
    }

    fn packets(&mut self, link: LinkId) {
        let Some(dial) = self.dialling.get(&link).cloned() else { return };
        let edge = &self.edges[dial.edge];
        if self.proxy_refuses {
            self.dialling.remove(&link);
            let failure = Failure { kind: FailureKind::ProxyRefused, detail: "407".into() };
            self.later(RTT, Happening::Tell(Input::Failed { link, failure }));
            return;
        }
        if !self.passes(dial.transport, dial.target.port) {
            return;
        }
        if !edge.is_up {
            if dial.transport == Transport::Http2 {
                self.dialling.remove(&link);
                let failure =
                    Failure { kind: FailureKind::Connect, detail: "connection refused".into() };
                self.later(RTT, Happening::Tell(Input::Failed { link, failure }));
            }
            return;
        }
        if let Some(refusal) = edge.refuses.clone() {
            self.dialling.remove(&link);
            self.later(3 * RTT, Happening::Tell(Input::Refused { link, refusal }));
            return;
        }
        self.later(3 * RTT, Happening::Register(link));
    }

    fn register(&mut self, link: LinkId) {
        let Some(dial) = self.dialling.remove(&link) else { return };
        let region = self.edges[dial.edge].address.region.clone();
        let up = Up {
            slot: dial.slot,
            edge: dial.edge,
            transport: dial.transport,
            port: dial.target.port,
            is_retiring: false,
            pings: Vec::new(),
        };
        self.links.insert(link, up);
        let directory = self.directory();
        let edge = EdgeId::from_bytes([dial.edge as u8 + 1; 16]);
        self.tell(Input::Registered { link, edge, region, directory });
    }

    fn execute(&mut self, effect: Effect) {
        match effect {
            Effect::Dial { link, slot, target, transport } => {
                let edge = self.edges.iter().position(|e| e.address.address.host == target.host);
                let edge = edge.expect("only known edges are dialled");
                let dial = Dial { at: self.now, slot, edge, target, transport };
                self.dials.push(dial.clone());
                assert!(self.dialling.insert(link, dial).is_none(), "an id is used once");
                assert!(!self.links.contains_key(&link), "an id is used once");
                for at in RETRANSMITS {
                    self.later(Duration::from_millis(at), Happening::Packets(link));
                }
                self.check_dial_rate();
            }
            Effect::Cancel(link) => {
                self.dialling.remove(&link);
            }
            Effect::Ping { link, sequence, .. } => {
                let Some(up) = self.links.get_mut(&link) else { return };
                up.pings.push(self.now);
                let up = up.clone();
                if self.reaches(&up) {
                    self.later(RTT + self.backlog, Happening::Tell(Input::Pong { link, sequence }));
                }
            }
            Effect::Retire(link) => {
                if let Some(up) = self.links.get_mut(&link) {
                    up.is_retiring = true;
                    self.later(self.finishes_in, Happening::Finish(link));
                }
            }
            Effect::Close(link, reason) => {
                self.links.remove(&link);
                self.closed.push((self.now, link, reason));
            }
            Effect::Say(event) => self.said.push((self.now, event)),
        }
    }

    /// The promise about the rate holds in every world, so it is checked at every dial.
    fn check_dial_rate(&self) {
        const WINDOW: Duration = Duration::from_secs(10);
        const RUNGS: u128 = 3;
        let attempts = u128::from(timing::DIAL_BURST)
            + WINDOW.as_micros() / timing::DIAL_EVERY.as_micros()
            + 1;
        let since = self.now.saturating_sub(WINDOW);
        let recent = self.dials.iter().rev().take_while(|dial| dial.at >= since).count();
        assert!(recent as u128 <= attempts * RUNGS, "{recent} dials in 10 s");
    }
}
