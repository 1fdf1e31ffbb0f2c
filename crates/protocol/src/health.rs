//! How well a tunnel is: one pure function from what is known of its connectors to one of four words
//! and a reason that a person can act on.

use serde::{Deserialize, Serialize};

use crate::{SLOTS, id::ConnectorId};

/// How long a replica that vanished without a goodbye counts as missing, in milliseconds.
pub const MISSING_FOR_MS: u64 = 60 * 60 * 1000;

/// The four words, the same everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Health {
    /// Every connector holds all its links.
    Healthy,
    /// Serving, but a link or a replica is missing.
    Degraded,
    /// Never connected.
    Inactive,
    /// Has run before, holds no link.
    Down,
}

impl Health {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "Healthy",
            Self::Degraded => "Degraded",
            Self::Inactive => "Inactive",
            Self::Down => "Down",
        }
    }
}

/// What is known of one connector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectorState {
    /// Which process.
    pub connector: ConnectorId,
    /// Its host's name, for people.
    pub host: String,
    /// Links that it holds now.
    pub links: u8,
    /// When its last link was lost without a goodbye, milliseconds since 1970; `None` while it holds
    /// a link or after it said goodbye.
    pub vanished_at_ms: Option<u64>,
}

/// A word and its reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The word.
    pub health: Health,
    /// One sentence: what is so, and what to do about it.
    pub reason: String,
}

/// Judges a tunnel. `ever_connected` tells whether any connector was ever registered; connectors that
/// said goodbye, or vanished more than [`MISSING_FOR_MS`] ago, do not count.
pub fn derive(ever_connected: bool, connectors: &[ConnectorState], now_ms: u64) -> Verdict {
    let verdict = |health, reason: String| Verdict { health, reason };
    if !ever_connected {
        return verdict(
            Health::Inactive,
            "No connector has ever run with this tunnel's secret. Start one: the tunnel's page has \
             the command."
                .into(),
        );
    }
    let missing = |c: &&ConnectorState| {
        c.links == 0
            && c.vanished_at_ms.is_some_and(|at| now_ms.saturating_sub(at) < MISSING_FOR_MS)
    };
    let serving = connectors.iter().filter(|c| c.links > 0).count();
    if serving == 0 {
        let reason = match connectors.iter().find(missing) {
            Some(lost) => format!(
                "The connector on {} lost its last link without saying goodbye. Check that its \
                 container runs and can reach the edges; its log and port 9000 /status tell why.",
                display_host(&lost.host)
            ),
            None => "No connector is running. Start the container again.".into(),
        };
        return verdict(Health::Down, reason);
    }
    let mut faults = Vec::new();
    for connector in connectors.iter().filter(|c| c.links > 0 && c.links < SLOTS) {
        let (host, links) = (display_host(&connector.host), connector.links);
        faults.push(format!("the connector on {host} holds {links} of {SLOTS} links"));
    }
    for connector in connectors.iter().filter(missing) {
        let host = display_host(&connector.host);
        faults.push(format!("the connector on {host} vanished without saying goodbye"));
    }
    if faults.is_empty() {
        let replicas = if serving == 1 { "The connector holds" } else { "All connectors hold" };
        return verdict(Health::Healthy, format!("{replicas} all {SLOTS} links."));
    }
    verdict(
        Health::Degraded,
        format!(
            "Serving, but {}. It repairs itself if the network allows; port 9000 /status on the \
             connector names what stands in the way.",
            faults.join(", and ")
        ),
    )
}

fn display_host(host: &str) -> &str {
    if host.is_empty() { "an unnamed host" } else { host }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn connector(links: u8, vanished_at_ms: Option<u64>) -> ConnectorState {
        let connector = ConnectorId::from_bytes([links; 16]);
        ConnectorState { connector, host: "office".into(), links, vanished_at_ms }
    }

    #[test]
    fn the_four_words_mean_what_they_say() {
        let now = 10 * MISSING_FOR_MS;
        let cases = [
            (false, vec![], Health::Inactive, "ever run"),
            (true, vec![], Health::Down, "No connector is running"),
            (true, vec![connector(0, None)], Health::Down, "Start the container"),
            (true, vec![connector(0, Some(now - 1))], Health::Down, "without saying goodbye"),
            (true, vec![connector(4, None)], Health::Healthy, "all 4 links"),
            (true, vec![connector(3, None)], Health::Degraded, "3 of 4"),
            (true, vec![connector(4, None), connector(0, None)], Health::Healthy, "all 4"),
            (
                true,
                vec![connector(4, None), connector(0, Some(now - 1))],
                Health::Degraded,
                "vanished",
            ),
            (
                true,
                vec![connector(4, None), connector(0, Some(now - MISSING_FOR_MS))],
                Health::Healthy,
                "all 4",
            ),
        ];
        for (ever, connectors, health, reason) in cases {
            let verdict = derive(ever, &connectors, now);
            assert_eq!(verdict.health, health, "{connectors:?}");
            assert!(verdict.reason.contains(reason), "{}", verdict.reason);
        }
    }

    proptest! {
        #[test]
        fn a_tunnel_serves_exactly_when_some_link_is_up(
            states in proptest::collection::vec((0u8..=4, proptest::option::of(0u64..100)), 0..6),
            now in 0u64..200,
        ) {
            let connectors: Vec<_> = states.into_iter().map(|(l, v)| connector(l, v)).collect();
            let verdict = derive(true, &connectors, now);
            let serving = connectors.iter().any(|c| c.links > 0);
            prop_assert_eq!(serving, matches!(verdict.health, Health::Healthy | Health::Degraded));
            prop_assert!(verdict.health != Health::Inactive);
        }
    }
}
