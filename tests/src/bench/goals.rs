//! The goals that a run is held against. Each is judged by figures of that same run alone: machines
//! differ, and so does one machine from hour to hour.

use serde_json::{Value, json};

use super::{
    metric::Metric::{self, *},
    results::{Results, rounded},
};

/// What is asked of Postern on one carrier or both.
struct Goal {
    what: &'static str,
    measure: Measure,
    is_upper_bound: bool,
    /// The bound for each carrier, by the key of its way.
    bounds: &'static [(&'static str, f64)],
}

#[derive(Clone, Copy)]
enum Measure {
    /// A figure as a multiple of another way's.
    Ratio(&'static str, Metric, &'static str),
    /// A figure as a multiple of what the libraries of the same carrier come to alone.
    OfLibraries(&'static str, Metric),
    /// What it is more than another way's.
    Added(&'static str, Metric, &'static str),
    /// A figure as it is.
    Plain(&'static str, Metric),
    /// The greatest in any work.
    Greatest(Metric),
}

use Measure::{Added, Greatest, OfLibraries, Plain, Ratio};

const QUIC: &str = "quic";
const HTTP2: &str = "http2";
const RATHOLE: &str = "rathole";
const HAPROXY: &str = "haproxy";
const DIRECT: &str = "direct";
/// What the libraries of a carrier do alone.
const FLOORS: [(&str, &str); 2] = [(QUIC, "bare-quic"), (HTTP2, "bare-http2")];
/// No less than the other.
const AS_MUCH: &[(&str, f64)] = &[(QUIC, 1.0), (HTTP2, 1.0)];

static GOALS: [Goal; 18] = [
    at_most(
        "CPU time of a 1 KB request, 64 clients",
        Ratio("small-64", CpuPerRequest, RATHOLE),
        &[(QUIC, 1.0), (HTTP2, 1.2)],
    ),
    at_least("requests/s, 16 clients", Ratio("small-16", Rate, RATHOLE), AS_MUCH),
    at_least("requests/s, 64 clients", Ratio("small-64", Rate, RATHOLE), AS_MUCH),
    at_least("requests/s, 256 clients", Ratio("small-256", Rate, RATHOLE), AS_MUCH),
    at_most(
        "p50 of a 1 KB request, 1 client",
        Ratio("small-1", P50, RATHOLE),
        &[(QUIC, 1.7), (HTTP2, 1.7)],
    ),
    at_most("p99 of a 1 KB request, 64 clients", Ratio("small-64", P99, HAPROXY), AS_MUCH),
    at_least("1 GB down, MB/s", Ratio("down", Throughput, RATHOLE), &[(QUIC, 1.2), (HTTP2, 1.9)]),
    at_least("1 GB up, MB/s", Ratio("up", Throughput, RATHOLE), &[(QUIC, 1.2), (HTTP2, 1.9)]),
    at_most("1 GB down, CPU s/GB", Plain("down", CpuPerGigabyte), &[(QUIC, 2.8), (HTTP2, 1.5)]),
    at_most("1 GB up, CPU s/GB", Plain("up", CpuPerGigabyte), &[(QUIC, 2.8), (HTTP2, 1.5)]),
    at_least(
        "100 KB answers/s, 64 clients",
        Ratio("100k", Rate, HAPROXY),
        &[(QUIC, 0.9), (HTTP2, 1.3)],
    ),
    at_most("connector idle, four links, MiB", Plain("memory", ConnectorIdle), &[(QUIC, 12.0)]),
    at_most(
        "connector at its peak in any work, MiB",
        Greatest(FarPeak),
        &[(QUIC, 40.0), (HTTP2, 40.0)],
    ),
    at_most(
        "edge, for an idle link, KiB",
        Plain("links", EdgePerLink),
        &[(QUIC, 60.0), (HTTP2, 60.0)],
    ),
    at_most(
        "first byte of a stream, later than direct, µs",
        Added("first-byte", P50, DIRECT),
        &[(QUIC, 300.0), (HTTP2, 300.0)],
    ),
    at_most(
        "CPU time of a 1 KB request, 64 clients, beside the libraries",
        OfLibraries("small-64", CpuPerRequest),
        &[(QUIC, 1.15), (HTTP2, 1.15)],
    ),
    at_most(
        "p50 of a 1 KB request, 1 client, beside the libraries",
        OfLibraries("small-1", P50),
        &[(QUIC, 1.10), (HTTP2, 1.10)],
    ),
    at_most(
        "first byte of a stream, beside the libraries",
        OfLibraries("first-byte", P50),
        &[(QUIC, 1.15), (HTTP2, 1.15)],
    ),
];

const fn at_most(
    what: &'static str,
    measure: Measure,
    bounds: &'static [(&'static str, f64)],
) -> Goal {
    Goal { what, measure, is_upper_bound: true, bounds }
}

const fn at_least(
    what: &'static str,
    measure: Measure,
    bounds: &'static [(&'static str, f64)],
) -> Goal {
    Goal { what, measure, is_upper_bound: false, bounds }
}

/// A goal, and what a run made of it on one carrier.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// What was asked.
    pub what: &'static str,
    /// Of which way, by its name.
    pub way: &'static str,
    /// The bound, with what it is a multiple of.
    pub goal: String,
    /// What came out; `None` if it, or what it is compared with, was not measured.
    pub value: Option<f64>,
    /// In which work, if any would count.
    pub work: Option<&'static str>,
    /// Is the goal met? `None` if that cannot be said.
    pub is_met: Option<bool>,
    /// What the same libraries came to alone, without anything of Postern's, if that was measured.
    pub floor: Option<f64>,
    /// Would they have met it?
    pub floor_meets: Option<bool>,
}

impl Judged {
    /// `met`, `missed` or `not measured`; of what is missed, whether the libraries alone miss it too.
    pub fn verdict(&self) -> &'static str {
        match (self.is_met, self.floor_meets) {
            (Some(true), _) => "met",
            (Some(false), Some(false)) => "missed, by the libraries too",
            (Some(false), _) => "missed",
            (None, _) => "not measured",
        }
    }

    /// What the libraries came to, for people.
    pub fn floor(&self) -> String {
        self.floor.map_or("–".to_owned(), |floor| Rate.show(floor))
    }

    /// What came out, for people.
    pub fn outcome(&self) -> String {
        let value = self.value.map_or("–".to_owned(), |value| Rate.show(value));
        self.work.map_or(value.clone(), |work| format!("{value} ({work})"))
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "what": self.what,
            "way": self.way,
            "goal": self.goal,
            "value": self.value.map(rounded),
            "work": self.work,
            "libraries_alone": self.floor.map(rounded),
            "verdict": self.verdict(),
        })
    }
}

/// Holds a run against every goal.
pub fn judge(results: &Results) -> Vec<Judged> {
    let judge = |goal: &Goal, way: &'static str, bound: f64| {
        let (value, work) = measure(results, goal.measure, way);
        let sign = if goal.is_upper_bound { '≤' } else { '≥' };
        let of = match goal.measure {
            Ratio(_, _, other) => format!(" × {other}"),
            OfLibraries(..) => " × the libraries alone".to_owned(),
            Added(..) | Plain(..) | Greatest(_) => String::new(),
        };
        let meets = |value| if goal.is_upper_bound { value <= bound } else { value >= bound };
        let floor = libraries(way).and_then(|floor| measure(results, goal.measure, floor).0);
        let (is_met, floor_meets) = (value.map(meets), floor.map(meets));
        let name = results.ways.iter().find(|(key, _)| *key == way);
        let way = name.map_or(way, |(_, name)| name);
        let (what, goal) = (goal.what, format!("{sign} {bound}{of}"));
        Judged { what, way, goal, value, work, is_met, floor, floor_meets }
    };
    let judge = &judge;
    let each =
        |goal: &'static Goal| goal.bounds.iter().map(move |(way, bound)| judge(goal, way, *bound));
    GOALS.iter().flat_map(each).collect()
}

/// The way that is the libraries of this carrier alone.
fn libraries(carrier: &str) -> Option<&'static str> {
    FLOORS.iter().find(|(way, _)| *way == carrier).map(|(_, alone)| *alone)
}

fn measure(results: &Results, measure: Measure, way: &str) -> (Option<f64>, Option<&'static str>) {
    let pair = |work, metric, other| {
        Some((results.median(work, way, metric)?, results.median(work, other, metric)?))
    };
    match measure {
        Ratio(work, metric, other) => (pair(work, metric, other).map(|(a, b)| a / b), None),
        OfLibraries(work, metric) => {
            let pair = libraries(way).and_then(|alone| pair(work, metric, alone));
            (pair.map(|(a, b)| a / b), None)
        }
        Added(work, metric, other) => (pair(work, metric, other).map(|(a, b)| a - b), None),
        Plain(work, metric) => (results.median(work, way, metric), None),
        Greatest(metric) => results.greatest(way, metric).unzip(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{machine::Machine, work::WORKS};

    fn verdicts(results: &Results, what: &str) -> Vec<&'static str> {
        let judged = judge(results);
        judged.iter().filter(|goal| goal.what == what).map(Judged::verdict).collect()
    }

    #[test]
    fn a_goal_is_met_or_missed_by_the_medians_of_its_own_run() {
        let mut results = Results::new(Machine::default(), 3, 1.0, WORKS.to_vec());
        let work = WORKS.iter().find(|work| work.key == "small-64").unwrap();
        for value in [30.0, 31.0, 99.0] {
            results.add(work, QUIC, CpuPerRequest, value);
            results.add(work, HTTP2, CpuPerRequest, value * 1.3);
            results.add(work, RATHOLE, CpuPerRequest, 32.0);
        }
        assert_eq!(verdicts(&results, GOALS[0].what), ["met", "missed"]);
        for (floor, verdict) in [(30.0, "missed"), (45.0, "missed, by the libraries too")] {
            let mut results = results.clone();
            results.add(work, "bare-http2", CpuPerRequest, floor);
            assert_eq!(verdicts(&results, GOALS[0].what), ["met", verdict]);
        }
        assert_eq!(verdicts(&results, GOALS[1].what), ["not measured", "not measured"]);
    }

    #[test]
    fn a_goal_beside_the_libraries_compares_with_those_of_the_same_carrier() {
        let mut results = Results::new(Machine::default(), 1, 1.0, WORKS.to_vec());
        let work = WORKS.iter().find(|work| work.key == "small-64").unwrap();
        for (way, value) in [(QUIC, 40.0), ("bare-quic", 36.0), (HTTP2, 40.0), ("bare-http2", 30.0)]
        {
            results.add(work, way, CpuPerRequest, value);
        }
        let what = "CPU time of a 1 KB request, 64 clients, beside the libraries";
        assert_eq!(verdicts(&results, what), ["met", "missed"]);
    }
}
