//! All figures of one run. Whatever is told of the run is told from here.

use serde_json::{Value, json};

use super::{goals, load::Outcome, machine::Machine, metric::Metric, work::Work};

const MIB: f64 = 1024.0 * 1024.0;

/// One figure: a value for each round.
#[derive(Debug, Clone, PartialEq)]
struct Figure {
    work: &'static str,
    way: &'static str,
    metric: Metric,
    values: Vec<f64>,
}

/// Something that could not be measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// A way, a work, or a work on a way.
    pub what: String,
    /// Why, and what to do about it.
    pub why: String,
}

/// All figures of one run.
#[derive(Debug, Clone)]
pub struct Results {
    /// Where it ran.
    pub machine: Machine,
    /// Rounds of which medians are taken.
    pub rounds: usize,
    /// How long each measurement took, in seconds.
    pub seconds: f64,
    /// The ways, by key and name, in the order of the tables.
    pub ways: Vec<(&'static str, &'static str)>,
    /// The works.
    pub works: Vec<Work>,
    /// What is missing, and why.
    pub left_out: Vec<LeftOut>,
    figures: Vec<Figure>,
}

impl Results {
    /// Without any figures yet.
    pub fn new(machine: Machine, rounds: usize, seconds: f64, works: Vec<Work>) -> Self {
        let (ways, left_out, figures) = Default::default();
        Self { machine, rounds, seconds, ways, works, left_out, figures }
    }

    /// Adds the value of one round.
    pub fn add(&mut self, work: &Work, way: &'static str, metric: Metric, value: f64) {
        let is_it = |f: &&mut Figure| (f.work, f.way, f.metric) == (work.key, way, metric);
        match self.figures.iter_mut().find(is_it) {
            Some(figure) => figure.values.push(value),
            None => {
                let (work, values) = (work.key, vec![value]);
                self.figures.push(Figure { work, way, metric, values });
            }
        }
    }

    /// Adds all that comes of a round's load.
    pub fn add_load(&mut self, work: &Work, way: &'static str, outcome: &Outcome) {
        let (seconds, cpu) = (outcome.elapsed.as_secs_f64(), outcome.usage.cpu.as_secs_f64());
        let us = |share| outcome.quantile(share).as_secs_f64() * 1e6;
        let mut add = |metric, value| self.add(work, way, metric, value);
        add(Metric::Rate, outcome.requests() / seconds);
        add(Metric::P50, us(0.5));
        add(Metric::P99, us(0.99));
        add(Metric::OwnCpuPerRequest, outcome.own_cpu.as_secs_f64() * 1e6 / outcome.requests());
        add(Metric::Idle, outcome.idle * 100.0);
        let gigabytes = outcome.bytes as f64 / 1e9;
        if gigabytes > 0.0 {
            add(Metric::Throughput, gigabytes * 1e3 / seconds);
        }
        if outcome.usage.near_peak == 0 {
            // There is nothing in between.
            return;
        }
        add(Metric::CpuPerRequest, cpu * 1e6 / outcome.requests());
        if gigabytes > 0.0 {
            add(Metric::CpuPerGigabyte, cpu / gigabytes);
        }
        add(Metric::NearPeak, outcome.usage.near_peak as f64 / MIB);
        add(Metric::FarPeak, outcome.usage.far_peak as f64 / MIB);
    }

    /// Notes what could not be measured.
    pub fn leave_out(&mut self, what: impl Into<String>, why: impl Into<String>) {
        self.left_out.push(LeftOut { what: what.into(), why: why.into() });
    }

    /// The median of all rounds.
    pub fn median(&self, work: &str, way: &str, metric: Metric) -> Option<f64> {
        let is_it =
            |figure: &&Figure| figure.work == work && figure.way == way && figure.metric == metric;
        self.figures.iter().find(is_it).map(|figure| median(&figure.values))
    }

    /// The greatest value of any round of any work, and that work's title.
    pub fn greatest(&self, way: &str, metric: Metric) -> Option<(f64, &'static str)> {
        let of_it = |figure: &&Figure| figure.way == way && figure.metric == metric;
        let values = self.figures.iter().filter(of_it).flat_map(|figure| {
            let title = self.works.iter().find(|work| work.key == figure.work);
            let title = title.map_or(figure.work, |work| work.title);
            figure.values.iter().map(move |value| (*value, title))
        });
        values.max_by(|a, b| a.0.total_cmp(&b.0))
    }

    /// Those ways, by key and name, of which there is anything to tell about `work`.
    pub fn ways_of(&self, work: &Work) -> impl Iterator<Item = (&'static str, &'static str)> {
        let has = |way: &str| self.figures.iter().any(|f| (f.work, f.way) == (work.key, way));
        self.ways.iter().copied().filter(move |(way, _)| has(way))
    }

    /// Everything, for programs.
    pub fn json(&self) -> Value {
        let figures = &|work: &Work, way: &str| -> Value {
            let of_it = self.figures.iter().filter(|f| (f.work, f.way) == (work.key, way));
            let figure = |figure: &Figure| {
                let rounds: Vec<f64> = figure.values.iter().copied().map(rounded).collect();
                let value = json!({ "median": rounded(median(&figure.values)), "rounds": rounds });
                (figure.metric.key().to_owned(), value)
            };
            Value::Object(of_it.map(figure).collect())
        };
        let figures = self.works.iter().flat_map(|work| {
            self.ways_of(work).map(move |(way, name)| {
                let (title, figures) = (work.title, figures(work, way));
                json!({ "work": work.key, "title": title, "way": way, "name": name, "figures": figures })
            })
        });
        let left_out =
            self.left_out.iter().map(|left| json!({ "what": left.what, "why": left.why }));
        let goals = goals::judge(self);
        json!({
            "machine": self.machine.json(),
            "rounds": self.rounds,
            "seconds": self.seconds,
            "figures": figures.collect::<Vec<_>>(),
            "goals": goals.iter().map(goals::Judged::json).collect::<Vec<_>>(),
            "left_out": left_out.collect::<Vec<_>>(),
        })
    }
}

/// To a thousandth.
pub(super) fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// Never called with nothing.
fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_stands_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
