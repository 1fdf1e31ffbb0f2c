//! What is counted and measured, for `/metrics`. Every name begins with `postern_connector_`; labels
//! come from closed sets, but for regions, which the operator names.
//!
//! | metric | labels | |
//! |---|---|---|
//! | `build_info` | version | always 1 |
//! | `links` | region, transport | links that take requests |
//! | `link_rtt_seconds` | slot | round trip of the last ping |
//! | `link_up_total` | transport, purpose | links that came up, and what for |
//! | `link_down_total` | reason | links that were lost |
//! | `dial_failures_total` | kind | dials that led nowhere |
//! | `link_refusals_total` | code | dials that an edge refused |
//! | `requests_in_flight` | | requests being served |
//! | `oldest_request_seconds` | | age of the oldest of them, as of the last second |
//! | `longest_stall_seconds` | | how long the one that stands still for longest has moved nothing, likewise |
//! | `requests_total` | outcome | requests served, and what became of them |
//! | `request_bytes_total`, `response_bytes_total` | | body bytes to and from origins |
//! | `origin_phase_seconds` | phase | how long each part of a request took |
//! | `policy_refusals_total` | reason | requests that the guard refused |
//! | `file_reads_total` | file, outcome | files of the customer's own that were read again |
//! | `file_good` | file | 1 if the newest text of the file is in force, 0 if it cannot be used |
//! | `unverified_origins` | | entries of TUNNEL_ORIGINS_FILE with `verify = false` |
//! | `unverified_handshakes_total` | | TLS connections to such origins |

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};
use metrics_exporter_prometheus::{
    BuildError, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use protocol::{
    control::LinkRefusalCode,
    name::RegionName,
    phases::{Phase, Phases},
    policy::Reason,
    presence::Transport,
    refusal::Code,
};

use self::under_way::UnderWay;
pub(crate) use self::under_way::{Mark, Table};
use crate::supervisor::{Event, FailureKind, View};

mod under_way;

const BUILD_INFO: &str = "postern_connector_build_info";
const LINKS: &str = "postern_connector_links";
const LINK_RTT: &str = "postern_connector_link_rtt_seconds";
const LINK_UP: &str = "postern_connector_link_up_total";
const LINK_DOWN: &str = "postern_connector_link_down_total";
const DIAL_FAILURES: &str = "postern_connector_dial_failures_total";
const LINK_REFUSALS: &str = "postern_connector_link_refusals_total";
const IN_FLIGHT: &str = "postern_connector_requests_in_flight";
const OLDEST_REQUEST: &str = "postern_connector_oldest_request_seconds";
const LONGEST_STALL: &str = "postern_connector_longest_stall_seconds";
const REQUESTS: &str = "postern_connector_requests_total";
const REQUEST_BYTES: &str = "postern_connector_request_bytes_total";
const RESPONSE_BYTES: &str = "postern_connector_response_bytes_total";
const ORIGIN_PHASE: &str = "postern_connector_origin_phase_seconds";

const POLICY_REFUSALS: &str = "postern_connector_policy_refusals_total";
const FILE_READS: &str = "postern_connector_file_reads_total";
const FILE_GOOD: &str = "postern_connector_file_good";
const UNVERIFIED_ORIGINS: &str = "postern_connector_unverified_origins";
const UNVERIFIED_HANDSHAKES: &str = "postern_connector_unverified_handshakes_total";

/// Bounds of the histogram of phases, in seconds: from a name in the resolver's cache to a long poll.
const PHASE_BUCKETS: [f64; 12] =
    [0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 300.0];

/// The recorder that a program which embeds a connector installs; its handle belongs into
/// [`crate::Options::prometheus`].
///
/// # Errors
/// Never in practice: the buckets are fixed and not empty.
pub fn recorder() -> Result<PrometheusRecorder, BuildError> {
    Ok(PrometheusBuilder::new().set_buckets(&PHASE_BUCKETS)?.build_recorder())
}

/// How often samples are counted into their histograms, and the requests under way are looked through. Each sample takes
/// memory until then, and counting many at once would hold requests up.
const TIDY_EVERY: Duration = Duration::from_secs(1);

/// Keeps samples from piling up where nobody scrapes, and the ages of what is under way up to date, until the
/// future is dropped.
pub(crate) async fn tidy(prometheus: PrometheusHandle, meter: Arc<Meter>) {
    loop {
        tokio::time::sleep(TIDY_EVERY).await;
        meter.show_ages();
        prometheus.run_upkeep();
    }
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The origin's answer was passed on, whatever its status.
    Answered,
    /// No answer could be had.
    Refused(Code),
    /// The origin broke off in the middle of its answer.
    BrokenOff,
    /// The edge gave up on it.
    Cancelled,
    /// Not begun: too many are under way, or the connector is leaving.
    Rejected,
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Refused(code) => code.as_str(),
            Self::BrokenOff => "broken_off",
            Self::Cancelled => "cancelled",
            Self::Rejected => "rejected",
        }
    }
}

/// The phases that a connector measures.
const PHASES: [Phase; 5] = [Phase::Dns, Phase::Tcp, Phase::Tls, Phase::FirstByte, Phase::Body];

/// Counts requests. What every request needs is looked up once.
pub(crate) struct Meter {
    pub(crate) request_bytes: Counter,
    pub(crate) response_bytes: Counter,
    in_flight: Gauge,
    oldest: Gauge,
    stall: Gauge,
    under_way: UnderWay,
    answered: Counter,
    phases: [Histogram; PHASES.len()],
}

impl Meter {
    pub(crate) fn new() -> Self {
        describe();
        gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1);
        Self {
            request_bytes: counter!(REQUEST_BYTES),
            response_bytes: counter!(RESPONSE_BYTES),
            in_flight: gauge!(IN_FLIGHT),
            oldest: gauge!(OLDEST_REQUEST),
            stall: gauge!(LONGEST_STALL),
            under_way: UnderWay::default(),
            answered: counter!(REQUESTS, "outcome" => Outcome::Answered.as_str()),
            phases: PHASES.map(|phase| histogram!(ORIGIN_PHASE, "phase" => phase.as_str())),
        }
    }

    /// A table for the requests of one worker.
    pub(crate) fn table(&self) -> Arc<Table> {
        self.under_way.table(self.in_flight.clone())
    }

    /// To be called about once a second: that is how exact the length of a stall is.
    fn show_ages(&self) {
        let ages = self.under_way.look();
        self.oldest.set(ages.oldest.as_secs_f64());
        self.stall.set(ages.longest_stall.as_secs_f64());
    }

    pub(crate) fn outcome(&self, outcome: Outcome) {
        match outcome {
            Outcome::Answered => self.answered.increment(1),
            other => counter!(REQUESTS, "outcome" => other.as_str()).increment(1),
        }
    }

    pub(crate) fn phases(&self, phases: &Phases) {
        for (phase, microseconds) in phases.iter() {
            self.phase(phase, Duration::from_micros(microseconds));
        }
    }

    pub(crate) fn phase(&self, phase: Phase, length: Duration) {
        let at = PHASES.iter().position(|known| *known == phase);
        at.into_iter().for_each(|at| self.phases[at].record(length));
    }
}

/// The guard refused a request.
pub(crate) fn policy_refused(reason: &Reason) {
    counter!(POLICY_REFUSALS, "reason" => reason.as_str()).increment(1);
}

/// A file of the customer's own was read again.
pub(crate) fn file_was_read(file: &'static str, is_good: bool) {
    let outcome = if is_good { "applied" } else { "refused" };
    counter!(FILE_READS, "file" => file, "outcome" => outcome).increment(1);
    file_is_good(file, is_good);
}

/// The newest text of a file of the customer's own is in force, or cannot be used.
pub(crate) fn file_is_good(file: &'static str, is_good: bool) {
    gauge!(FILE_GOOD, "file" => file).set(if is_good { 1.0 } else { 0.0 });
}

/// So many entries for origins verify nobody.
pub(crate) fn unverified_origins(count: usize) {
    gauge!(UNVERIFIED_ORIGINS).set(count as f64);
}

/// TLS begins with an origin that is not verified.
pub(crate) fn unverified_handshake() {
    counter!(UNVERIFIED_HANDSHAKES).increment(1);
}

/// Counts links.
#[derive(Default)]
pub(crate) struct LinkMeter {
    /// What was ever shown, so that it can go back to 0.
    shown: BTreeSet<(RegionName, &'static str)>,
}

impl LinkMeter {
    pub(crate) fn event(&self, event: &Event) {
        match event {
            Event::Up { transport, purpose, .. } => {
                let (transport, purpose) = (transport.as_str(), purpose.as_str());
                counter!(LINK_UP, "transport" => transport, "purpose" => purpose).increment(1);
            }
            Event::Down { reason, .. } => {
                counter!(LINK_DOWN, "reason" => reason.as_str()).increment(1);
            }
            Event::Draining { .. }
            | Event::EdgeFailing { .. }
            | Event::EdgeRefuses { .. }
            | Event::UdpDropped
            | Event::UdpBack
            | Event::RegionUnknown { .. }
            | Event::Leaving { .. } => {}
        }
    }

    pub(crate) fn dial_failed(&self, kind: FailureKind) {
        counter!(DIAL_FAILURES, "kind" => kind.as_str()).increment(1);
    }

    pub(crate) fn dial_refused(&self, code: LinkRefusalCode) {
        counter!(LINK_REFUSALS, "code" => code.as_str()).increment(1);
    }

    pub(crate) fn view(&mut self, view: &View) {
        let links = || view.slots.iter().filter_map(|slot| Some((slot.slot, slot.link.as_ref()?)));
        self.shown.extend(links().map(|(_, l)| (l.region.clone(), l.transport.as_str())));
        for (region, transport) in &self.shown {
            let here = links().filter(|(_, link)| {
                link.region == *region && Transport::as_str(link.transport) == *transport
            });
            let (region, count) = (region.to_string(), here.count() as f64);
            gauge!(LINKS, "region" => region, "transport" => *transport).set(count);
        }
        for (slot, link) in links() {
            if let Some(rtt) = link.rtt {
                gauge!(LINK_RTT, "slot" => slot.to_string()).set(rtt.as_secs_f64());
            }
        }
    }
}

fn describe() {
    describe_gauge!(BUILD_INFO, "Version of this connector; always 1");
    describe_gauge!(LINKS, "Links that take requests");
    describe_gauge!(LINK_RTT, "Round trip of the last ping on a slot's link");
    describe_counter!(LINK_UP, "Links that came up, by what they were dialled for");
    describe_counter!(LINK_DOWN, "Links that were lost");
    describe_counter!(DIAL_FAILURES, "Dials that led nowhere");
    describe_counter!(LINK_REFUSALS, "Dials that an edge refused");
    describe_gauge!(IN_FLIGHT, "Requests being served");
    describe_gauge!(OLDEST_REQUEST, "Age of the oldest request being served, 0 without any");
    describe_gauge!(
        LONGEST_STALL,
        "How long the request that stands still for longest has moved nothing, 0 without any"
    );
    describe_counter!(REQUESTS, "Requests served, by what became of them");
    describe_counter!(REQUEST_BYTES, "Bytes of request bodies sent to origins");
    describe_counter!(RESPONSE_BYTES, "Bytes of response bodies from origins");
    describe_histogram!(ORIGIN_PHASE, "How long each part of a request took");
    describe_counter!(POLICY_REFUSALS, "Requests that the guard refused");
    describe_counter!(FILE_READS, "Files of the customer's own that were read again");
    describe_gauge!(
        FILE_GOOD,
        "1 if the newest text of a file is in force, 0 if it cannot be used"
    );
    describe_gauge!(UNVERIFIED_ORIGINS, "Entries for origins whose certificates are not verified");
    describe_counter!(UNVERIFIED_HANDSHAKES, "TLS connections to origins that are not verified");
}

#[cfg(test)]
mod tests;
