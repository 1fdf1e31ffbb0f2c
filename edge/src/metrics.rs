//! What the edge counts. Every edge has a recorder of its own, so that several can run in one
//! process, and every label comes from a closed enum, or is a worker's number.

use std::time::{Duration, Instant};

use link::workers::WorkerId;
use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder, Unit};
use metrics_exporter_prometheus::{
    BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use protocol::{
    control::LinkRefusalCode,
    phases::{Phase, Phases},
    presence::{Strain, Transport},
    refusal::Code,
};

use crate::{registry::Registry, streams::Ages};

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The origin answered, whatever its answer was.
    Ok,
    /// The client went away before the answer's end.
    ClientGone,
    /// A refusal, by whichever part of Postern.
    Refused(Code),
}

impl Outcome {
    /// How many there are.
    pub(crate) const COUNT: usize = 2 + Code::ALL.len();

    /// A number below [`COUNT`](Self::COUNT).
    pub(crate) fn index(self) -> usize {
        match self {
            Self::Ok => 0,
            Self::ClientGone => 1,
            // The codes are numbered in the order of `ALL`.
            Self::Refused(code) => 2 + code as usize,
        }
    }

    /// Each, with its name.
    pub(crate) fn all() -> impl Iterator<Item = (Self, &'static str)> {
        let refusals = Code::ALL.iter().map(|code| (Self::Refused(*code), code.as_str()));
        [(Self::Ok, "ok"), (Self::ClientGone, "client_gone")].into_iter().chain(refusals)
    }
}

const PHASES: [Phase; 3] = [Phase::Policy, Phase::Edge, Phase::Link];
const TRANSPORTS: [Transport; 2] = [Transport::Quic, Transport::Http2];
const STRAINS: [Strain; 2] = [Strain::Crowded, Strain::Stuck];
const LINK_REFUSALS: [LinkRefusalCode; 10] = [
    LinkRefusalCode::UnknownTunnel,
    LinkRefusalCode::UnknownKey,
    LinkRefusalCode::RevokedSecret,
    LinkRefusalCode::BadProof,
    LinkRefusalCode::VersionTooOld,
    LinkRefusalCode::Malformed,
    LinkRefusalCode::FeedStale,
    LinkRefusalCode::Capacity,
    LinkRefusalCode::Draining,
    LinkRefusalCode::Unknown,
];
/// From what a policy takes to what a slow origin takes, in seconds.
const BUCKETS: [f64; 12] =
    [0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0];

/// How often samples are counted into their histograms, and requests under way looked at. Each sample takes memory until then, and counting many at
/// once would hold requests up.
const TIDY_EVERY: Duration = Duration::from_secs(1);

/// One edge's metrics; all handles are made once, so that counting is one atomic addition.
pub(crate) struct Metrics {
    handle: PrometheusHandle,
    requests: Vec<Counter>,
    phases: [Histogram; 3],
    links: [Gauge; 2],
    strained_links: [Gauge; 2],
    workers: Vec<ByWorker>,
    link_refusals: [Counter; 10],
    /// Handshakes that were dropped because too many were under way.
    pub(crate) handshakes_dropped: Counter,
    /// Requests under way.
    pub(crate) in_flight: Gauge,
    oldest_request: Gauge,
    longest_stall: Gauge,
    /// Bytes of request bodies, and from client to origin through tunnels.
    pub(crate) bytes_up: Counter,
    /// Bytes of response bodies, and from origin to client through tunnels.
    pub(crate) bytes_down: Counter,
    /// Requests that were sent again over another link.
    pub(crate) retries: Counter,
    feed_generation: Gauge,
    feed_age: Gauge,
}

/// What one worker has to do with.
struct ByWorker {
    links: Gauge,
    clients: Gauge,
}

/// A client's connection, for as long as it lasts.
pub(crate) struct CountedClient<'a>(&'a Gauge);

impl Drop for CountedClient<'_> {
    fn drop(&mut self) {
        self.0.decrement(1);
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// For an edge with so many workers.
    pub(crate) fn new(workers: u8) -> Result<Self, BuildError> {
        let phases = Matcher::Full("postern_edge_phase_seconds".into());
        let recorder =
            PrometheusBuilder::new().set_buckets_for_metric(phases, &BUCKETS)?.build_recorder();
        let r = Registrar(&recorder);
        Ok(Self {
            handle: recorder.handle(),
            requests: {
                let counter = |(_, text)| r.counter("postern_edge_requests_total", "outcome", text);
                Outcome::all().map(counter).collect()
            },
            phases: PHASES.map(|p| r.histogram("postern_edge_phase_seconds", "phase", p.as_str())),
            links: TRANSPORTS.map(|t| r.gauge("postern_edge_links", &[("transport", t.as_str())])),
            strained_links: STRAINS.map(|strain| {
                r.gauge("postern_edge_strained_links", &[("strain", strain.as_str())])
            }),
            workers: (0..workers).map(|n| r.worker(&n.to_string())).collect(),
            link_refusals: LINK_REFUSALS
                .map(|code| r.counter("postern_edge_link_refusals_total", "code", code.as_str())),
            handshakes_dropped: r.counter("postern_edge_handshakes_dropped_total", "", ""),
            in_flight: r.gauge("postern_edge_requests_in_flight", &[]),
            oldest_request: r.gauge("postern_edge_oldest_request_seconds", &[]),
            longest_stall: r.gauge("postern_edge_longest_stall_seconds", &[]),
            bytes_up: r.counter("postern_edge_bytes_total", "direction", "up"),
            bytes_down: r.counter("postern_edge_bytes_total", "direction", "down"),
            retries: r.counter("postern_edge_retries_total", "", ""),
            feed_generation: r.gauge("postern_edge_feed_generation", &[]),
            feed_age: r.gauge("postern_edge_feed_age_seconds", &[]),
        })
    }

    pub(crate) fn request(&self, outcome: Outcome) {
        self.requests[outcome.index()].increment(1);
    }

    pub(crate) fn phases(&self, phases: &Phases) {
        for (phase, histogram) in PHASES.into_iter().zip(&self.phases) {
            if let Some(microseconds) = phases.get(phase) {
                histogram.record(microseconds as f64 / 1e6);
            }
        }
    }

    /// Counts a client of this worker's.
    pub(crate) fn client(&self, worker: WorkerId) -> CountedClient<'_> {
        let clients = &self.workers[worker.index()].clients;
        clients.increment(1);
        CountedClient(clients)
    }

    pub(crate) fn link_refusal(&self, code: LinkRefusalCode) {
        let at = LINK_REFUSALS.iter().position(|known| *known == code);
        at.into_iter().for_each(|at| self.link_refusals[at].increment(1));
    }

    /// Shows the ages of what is under way.
    pub(crate) fn ages(&self, ages: Option<Ages>, now: Instant) {
        let seconds = |at| now.saturating_duration_since(at).as_secs_f64();
        self.oldest_request.set(ages.map_or(0.0, |ages| seconds(ages.oldest)));
        self.longest_stall.set(ages.map_or(0.0, |ages| seconds(ages.moved_at)));
    }

    /// Keeps samples from piling up where nobody scrapes, and what is under way looked at, until the future is
    /// dropped.
    pub(crate) async fn tidy(&self, registry: &Registry) {
        loop {
            tokio::time::sleep(TIDY_EVERY).await;
            let now = Instant::now();
            self.ages(registry.ages(now), now);
            self.handle.run_upkeep();
        }
    }

    /// Everything as text, in the Prometheus format; what is not counted but known is given.
    pub(crate) fn render(
        &self,
        links: impl Iterator<Item = (Transport, WorkerId, Option<Strain>)>,
        feed_generation: u64,
        feed_age: Duration,
    ) -> String {
        let mut by_transport = [0u32; 2];
        let mut by_worker = vec![0u32; self.workers.len()];
        let mut by_strain = [0u32; STRAINS.len()];
        for (transport, worker, strain) in links {
            by_transport[transport as usize] += 1;
            by_worker[worker.index()] += 1;
            let strain = STRAINS.iter().position(|known| strain == Some(*known));
            strain.into_iter().for_each(|at| by_strain[at] += 1);
        }
        let by_strain = self.strained_links.iter().zip(by_strain);
        let by_worker = self.workers.iter().map(|worker| &worker.links).zip(by_worker);
        let gauges = self.links.iter().zip(by_transport).chain(by_strain).chain(by_worker);
        gauges.for_each(|(gauge, count)| gauge.set(count));
        self.feed_generation.set(feed_generation as f64);
        self.feed_age.set(feed_age.as_secs_f64());
        self.handle.run_upkeep();
        self.handle.render()
    }
}

const DESCRIPTIONS: [(&str, &str); 14] = [
    ("postern_edge_requests_total", "Requests by what became of them."),
    ("postern_edge_link_refusals_total", "Links that were refused, by reason."),
    (
        "postern_edge_handshakes_dropped_total",
        "Handshakes dropped because too many were under way.",
    ),
    ("postern_edge_bytes_total", "Body and tunnel bytes, up to the origin and down to the client."),
    ("postern_edge_retries_total", "Requests sent again over another link."),
    ("postern_edge_links", "Links that are up."),
    ("postern_edge_strained_links", "Links that are up while requests do not get through."),
    ("postern_edge_worker_links", "Links that each worker has."),
    ("postern_edge_worker_clients", "Connections of clients that each worker serves."),
    ("postern_edge_requests_in_flight", "Requests under way."),
    ("postern_edge_oldest_request_seconds", "Age of the oldest request under way, 0 without any."),
    (
        "postern_edge_longest_stall_seconds",
        "How long the request that stands still for longest has moved nothing, 0 without any.",
    ),
    ("postern_edge_feed_generation", "Newest generation of the feed that is in force."),
    ("postern_edge_feed_age_seconds", "Time since the feed was last heard."),
];

struct Registrar<'a>(&'a PrometheusRecorder);

impl Registrar<'_> {
    const METADATA: Metadata<'static> = Metadata::new("postern_edge", Level::INFO, None);

    fn counter(&self, name: &'static str, label: &'static str, value: &'static str) -> Counter {
        self.0.describe_counter(name.into(), None, description(name).into());
        let labels = if label.is_empty() { vec![] } else { vec![Label::new(label, value)] };
        self.0.register_counter(&Key::from_parts(name, labels), &Self::METADATA)
    }

    fn worker(&self, number: &str) -> ByWorker {
        let label = [("worker", number)];
        ByWorker {
            links: self.gauge("postern_edge_worker_links", &label),
            clients: self.gauge("postern_edge_worker_clients", &label),
        }
    }

    fn gauge(&self, name: &'static str, labels: &[(&'static str, &str)]) -> Gauge {
        self.0.describe_gauge(name.into(), None, description(name).into());
        let labels: Vec<_> =
            labels.iter().map(|(key, value)| Label::new(*key, (*value).to_owned())).collect();
        self.0.register_gauge(&Key::from_parts(name, labels), &Self::METADATA)
    }

    fn histogram(&self, name: &'static str, label: &'static str, value: &'static str) -> Histogram {
        let text = "How long each of the edge's phases takes.";
        self.0.describe_histogram(name.into(), Some(Unit::Seconds), text.into());
        let labels = vec![Label::new(label, value)];
        self.0.register_histogram(&Key::from_parts(name, labels), &Self::METADATA)
    }
}

fn description(name: &str) -> &'static str {
    let found = DESCRIPTIONS.iter().find(|(known, _)| *known == name);
    found.map_or("", |(_, text)| text)
}

#[cfg(test)]
mod tests;
