//! What happens, and what must hold while it does.

use std::time::{Duration, Instant};

use protocol::presence::Transport;

use super::{
    load::{Exchange, Mix},
    stage::{Deployment, Length, Stage},
};

mod connectors;
mod edges;
mod lines;
mod origins;

/// Something that happens to a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Nothing.
    Steady,
    /// 2 Mbit/s with a queue of 2 s, and eight downloads of 1 MB.
    SlowEight,
    /// 1 Mbit/s, and one download of 3 MB.
    SlowOne,
    /// 256 kbit/s with a queue of 2 s, and a transfer in either direction.
    SlowQuarter,
    /// One of the origins does not answer.
    SilentOrigin,
    /// An edge is killed and started again.
    EdgeKilled,
    /// An edge is asked to leave and started again.
    EdgeDrained,
    /// Each edge in turn is asked to leave and started again; the next one once this one is ready.
    EdgesRolling,
    /// An edge is asked to leave while many clients ask it without a pause.
    BusyDrain,
    /// An edge is stopped for a while.
    EdgeStopped,
    /// A connector is killed and started again.
    ConnectorKilled,
    /// A connector is stopped for a while.
    ConnectorStopped,
    /// Each connector in turn is asked to leave and started again.
    ConnectorsRolling,
    /// `postern up` is killed and started again.
    UpKilled,
    /// `postern up` is asked to leave and started again.
    UpRestarted,
    /// The control plane is killed, and started again after a while.
    ControlPlaneAway,
    /// UDP packets do not pass.
    UdpDropped,
    /// Nothing passes for 3 s.
    Outage,
    /// A tenth of all packets is lost.
    Loss,
    /// The connectors' machine gets another address.
    NewAddress,
    /// Packets longer than 1,280 bytes do not pass, and nobody tells; connectors start.
    NarrowLine,
}

/// What must hold. Nothing may happen twice, and nothing may fail but what is excused.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Longest time in which nobody got an answer.
    pub gap: Duration,
    /// The slowest small answer.
    pub slowest: Duration,
    /// Until all links are there again, after the cause has gone.
    pub back: Duration,
}

/// What an event is.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// Names it on the command line.
    pub key: &'static str,
    /// What happens.
    pub title: &'static str,
    /// Where.
    pub deployment: Deployment,
    /// What goes on meanwhile.
    pub mix: Mix,
    /// What must hold.
    pub bounds: Bounds,
}

/// Someone died: what was under way with them may fail.
#[derive(Debug, Clone, Copy)]
pub struct Death {
    /// When.
    pub at: Instant,
    /// How long nobody can tell it from a slow answer: until then others may hand work to the dead.
    pub unknown_for: Duration,
    /// Who.
    pub whose: Whose,
}

/// Who died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// The edge of this region: its clients see their connections break.
    Edge(usize),
    /// Links: what may have been delivered by them is told as `link_lost`, or breaks off.
    Links,
}

/// What an event leaves to be judged.
#[derive(Debug)]
pub struct Marks {
    /// When it began.
    pub begun: Instant,
    /// When its cause had gone, if that was before its end.
    pub healed: Option<Instant>,
    /// Who died.
    pub deaths: Vec<Death>,
    /// Exchanges of the event's own.
    pub exchanges: Vec<Exchange>,
}

/// Requests a second, in `make chaos`.
const RATE: f64 = 170.0;
/// A tenth of a slow line.
const LIGHT: Mix = Mix { small: 6.0, download_every: 0, streams: 0 };
/// How long those are away that are away for long.
const AWAY: Duration = Duration::from_secs(20);
/// The same, where time is short.
const AWAY_BRIEFLY: Duration = Duration::from_secs(5);

impl Event {
    /// All of them.
    pub const ALL: [Self; 21] = [
        Self::Steady,
        Self::SlowEight,
        Self::SlowOne,
        Self::SlowQuarter,
        Self::SilentOrigin,
        Self::EdgeKilled,
        Self::EdgeDrained,
        Self::EdgesRolling,
        Self::BusyDrain,
        Self::EdgeStopped,
        Self::ConnectorKilled,
        Self::ConnectorStopped,
        Self::ConnectorsRolling,
        Self::ControlPlaneAway,
        Self::UdpDropped,
        Self::Outage,
        Self::Loss,
        Self::NewAddress,
        Self::NarrowLine,
        Self::UpKilled,
        Self::UpRestarted,
    ];

    /// What it is, at a rate in proportion to the full one.
    pub fn facts(self, share: f64) -> Facts {
        let full = Mix { small: RATE * share, download_every: 64, streams: 4 };
        let spread = |key, title, mix, [gap, slowest, back]: [f64; 3]| {
            let [gap, slowest, back] = [gap, slowest, back].map(Duration::from_secs_f64);
            let bounds = Bounds { gap, slowest, back };
            Facts { key, title, deployment: Deployment::Spread, mix, bounds }
        };
        let up = |key, title, bounds| Facts {
            deployment: Deployment::Up,
            ..spread(key, title, full, bounds)
        };
        // Longest without an answer, slowest small answer, links back: in seconds.
        match self {
            Self::Steady => spread("steady", "steady load", full, [1.0, 2.0, 0.0]),
            Self::SlowEight => {
                let title = "2 Mbit/s, queue of 2 s, eight downloads of 1 MB";
                spread("slow-2m", title, LIGHT, [4.0, 4.0, 0.0])
            }
            Self::SlowOne => {
                let title = "1 Mbit/s, one download of 3 MB";
                spread("slow-1m", title, LIGHT, [2.0, 2.0, 0.0])
            }
            Self::SlowQuarter => {
                let title = "256 kbit/s, queue of 2 s, a transfer each way";
                spread("slow-256k", title, Mix { small: 2.0, ..LIGHT }, [6.0, 6.0, 0.0])
            }
            Self::SilentOrigin => {
                let title = "one origin never answers 150 requests/s";
                spread("silent-origin", title, Mix { streams: 2, ..full }, [1.0, 2.0, 0.0])
            }
            Self::EdgeKilled => {
                spread("edge-killed", "an edge SIGKILLed, back after 1 s", full, [1.0, 3.0, 2.5])
            }
            Self::EdgeDrained => {
                let title = "an edge drained (SIGTERM) and started again";
                spread("edge-drained", title, full, [1.0, 3.0, 2.0])
            }
            Self::EdgesRolling => {
                let title = "rolling restart of edges, gated on /ready";
                spread("edges-rolling", title, full, [1.0, 3.0, 2.0])
            }
            Self::BusyDrain => {
                let title = "an edge drained while 48 clients ask it without a pause";
                spread("busy-drain", title, full, [1.0, 3.0, 2.0])
            }
            Self::EdgeStopped => {
                spread("edge-stopped", "an edge SIGSTOPped", full, [1.0, 25.0, 5.0])
            }
            Self::ConnectorKilled => {
                let title = "a connector SIGKILLed, back after 1 s";
                spread("connector-killed", title, full, [1.0, 3.5, 5.0])
            }
            Self::ConnectorStopped => {
                spread("connector-stopped", "a connector SIGSTOPped", full, [1.0, 3.5, 5.0])
            }
            Self::ConnectorsRolling => {
                let title = "rolling restart of connectors";
                spread("connectors-rolling", title, full, [1.0, 3.0, 5.0])
            }
            Self::ControlPlaneAway => {
                spread("control-plane-away", "the control plane SIGKILLed", full, [1.0, 2.0, 0.0])
            }
            Self::UdpDropped => spread("udp-dropped", "UDP dropped", full, [3.0, 5.0, 10.0]),
            Self::Outage => spread("outage", "everything dropped for 3 s", full, [5.0, 6.0, 5.0]),
            Self::Loss => spread("loss", "10 % loss", full, [3.0, 10.0, 5.0]),
            Self::NewAddress => {
                let title = "a new address of the connectors' machine";
                spread("new-address", title, full, [5.0, 6.0, 5.0])
            }
            Self::NarrowLine => {
                let title = "MTU 1,280, ICMP blocked, connectors start";
                spread("narrow-line", title, Mix { download_every: 0, ..full }, [2.0, 3.0, 15.0])
            }
            Self::UpKilled => {
                let title = "`postern up` SIGKILLed and started again";
                up("up-killed", title, [2.0, 5.0, 5.0])
            }
            Self::UpRestarted => {
                let title = "`postern up` started anew in its place (SIGUSR2)";
                up("up-restarted", title, [1.0, 3.0, 5.0])
            }
        }
    }

    /// Does it happen to links over this carrier? `None` stands for connectors that choose.
    pub fn concerns(self, carrier: Option<Transport>) -> bool {
        match self {
            Self::UdpDropped => carrier.is_none(),
            _ => carrier.is_some(),
        }
    }

    /// Has it happen.
    ///
    /// # Errors
    /// If something does not do as it is told.
    pub async fn happen(self, stage: &mut Stage, marks: &mut Marks) -> anyhow::Result<()> {
        let away = match stage.length {
            Length::Short => AWAY_BRIEFLY,
            Length::Long => AWAY,
        };
        match self {
            Self::Steady => tokio::time::sleep(away).await,
            Self::SlowEight => lines::slow_eight(stage, marks).await?,
            Self::SlowOne => lines::slow_one(stage, marks).await?,
            Self::SlowQuarter => lines::slow_quarter(stage, marks).await?,
            Self::SilentOrigin => origins::silent(stage, away).await,
            Self::EdgeKilled => edges::killed(stage, marks).await?,
            Self::EdgeDrained => edges::drained(stage, 0).await?,
            Self::EdgesRolling => edges::rolling(stage).await?,
            Self::BusyDrain => edges::busy_drain(stage, marks).await?,
            Self::EdgeStopped => edges::stopped(stage, marks, away).await?,
            Self::ConnectorKilled => connectors::killed(stage, marks).await?,
            Self::ConnectorStopped => connectors::stopped(stage, marks).await?,
            Self::ConnectorsRolling => connectors::rolling(stage).await?,
            Self::ControlPlaneAway => edges::control_plane_away(stage, away).await?,
            Self::UdpDropped => lines::udp_dropped(stage, marks, away).await?,
            Self::Outage => lines::outage(stage).await?,
            Self::Loss => lines::loss(stage, away).await?,
            Self::NewAddress => lines::new_address(stage, marks).await?,
            Self::NarrowLine => lines::narrow(stage, marks).await?,
            Self::UpKilled => edges::up_killed(stage, marks).await?,
            Self::UpRestarted => edges::up_restarted(stage).await?,
        }
        marks.healed.get_or_insert_with(Instant::now);
        Ok(())
    }
}

impl Marks {
    /// Of an event that begins now.
    pub fn now() -> Self {
        let now = Instant::now();
        Self { begun: now, healed: None, deaths: Vec::new(), exchanges: Vec::new() }
    }

    /// The cause has gone.
    pub fn heal(&mut self) {
        self.healed = Some(Instant::now());
    }

    fn died(&mut self, whose: Whose, unknown_for: Duration) {
        self.died_since(Instant::now(), whose, unknown_for);
    }

    /// It was told to die at a moment, and has died by now.
    fn died_since(&mut self, at: Instant, whose: Whose, unknown_for: Duration) {
        self.deaths.push(Death { at, unknown_for: at.elapsed() + unknown_for, whose });
    }
}
