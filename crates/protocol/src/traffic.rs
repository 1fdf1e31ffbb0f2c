//! What went through a tunnel at one edge, as the edge's reports tell it: counts since its last report, and
//! the requests that were refused. What a broken connection takes along is not told again, so the counts are
//! for people's eyes, and not for bills.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::{ProxyTokenId, TeamId, TunnelId, WorkflowId};

/// Upper bounds of the classes of [`Counts::latency`], in milliseconds; the last class has none.
pub const LATENCY_BOUNDS_MS: [u32; 12] = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 5_000, 30_000];
/// Classes of latency.
pub const LATENCY_CLASSES: usize = LATENCY_BOUNDS_MS.len() + 1;
/// Refusals of a tunnel that are told at most in one report, and remembered: the latest ones.
pub const MAX_FAILURES: usize = 100;

/// What was counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Requests that ended, by what became of them: `ok`, `client_gone`, or a refusal's code.
    #[serde(default)]
    pub outcomes: BTreeMap<String, u64>,
    /// Bytes of bodies, and through CONNECT and upgrades, to origins.
    #[serde(default)]
    pub bytes_up: u64,
    /// The same, from origins.
    #[serde(default)]
    pub bytes_down: u64,
    /// Answers by how long they took to begin, in the classes of [`LATENCY_BOUNDS_MS`].
    #[serde(default)]
    pub latency: Vec<u64>,
}

impl Counts {
    /// True if nothing happened.
    pub fn is_empty(&self) -> bool {
        self.outcomes.is_empty() && self.bytes_up == 0 && self.bytes_down == 0
    }

    /// Adds what was counted elsewhere, or later.
    pub fn add(&mut self, other: &Self) {
        for (outcome, count) in &other.outcomes {
            let known = self.outcomes.entry(outcome.clone()).or_default();
            *known = known.saturating_add(*count);
        }
        self.bytes_up = self.bytes_up.saturating_add(other.bytes_up);
        self.bytes_down = self.bytes_down.saturating_add(other.bytes_down);
        self.latency.resize(LATENCY_CLASSES, 0);
        for (known, count) in self.latency.iter_mut().zip(&other.latency) {
            *known = known.saturating_add(*count);
        }
    }
}

/// The class of a latency.
pub fn latency_class(microseconds: u64) -> usize {
    LATENCY_BOUNDS_MS.partition_point(|bound| u64::from(*bound) * 1_000 < microseconds)
}

/// What went through one tunnel since the last report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelTraffic {
    /// The tunnel.
    pub tunnel: TunnelId,
    /// What was counted.
    pub counts: Counts,
    /// What was refused, oldest first; at most [`MAX_FAILURES`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<Failure>,
}

/// A request that was refused, or whose answer broke off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// When it ended, milliseconds since 1970.
    pub at_ms: u64,
    /// The refusal's code. A text: a newer edge may know more of them.
    pub code: String,
    /// What was particular about it.
    pub detail: String,
    /// Host and port that were asked for.
    pub destination: String,
    /// The team that asked.
    pub team: TeamId,
    /// Its workflow, if it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<WorkflowId>,
    /// The proxy token, if it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<ProxyTokenId>,
    /// How long each part took, as in the header of [`crate::phases`]; empty if nothing was measured.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub phases: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_belongs_to_the_class_whose_bound_it_does_not_exceed() {
        for (microseconds, class) in
            [(0, 0), (1_000, 0), (1_001, 1), (30_000_000, 11), (30_000_001, 12), (u64::MAX, 12)]
        {
            assert_eq!(latency_class(microseconds), class, "{microseconds}");
        }
    }

    #[test]
    fn counts_of_any_version_add_up() {
        let mut counts: Counts = serde_json::from_str(r#"{"outcomes":{"ok":1}}"#).unwrap();
        let newer = r#"{"outcomes":{"ok":2,"new":3},"bytes_up":4,"latency":[1],"later":true}"#;
        counts.add(&serde_json::from_str(newer).unwrap());
        assert_eq!(counts.outcomes, BTreeMap::from([("ok".into(), 3), ("new".into(), 3)]));
        assert_eq!((counts.bytes_up, counts.latency.len()), (4, LATENCY_CLASSES));
        assert_eq!(counts.latency[0], 1);
    }
}
