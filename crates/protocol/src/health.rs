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
    /// Serving, but a link or a replica is missing, or requests do not get through.
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
    /// Edges refuse requests for its links because too many are under way.
    pub is_crowded: bool,
    /// Its links over which requests get no answer.
    pub stuck_links: u8,
}

/// What makes a tunnel anything but healthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// No connector ever ran with the tunnel's secret.
    NeverConnected,
    /// No connector runs.
    NoConnector,
    /// A connector lost its last link without a goodbye.
    ConnectorVanished,
    /// A connector does not hold all its links.
    LinksMissing,
    /// Requests are refused because too many are under way.
    Crowded,
    /// Links are up, and requests over them get no answer.
    Stuck,
    /// Something that only a newer version knows.
    #[serde(other)]
    Unknown,
}

/// A word and its reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The word.
    pub health: Health,
    /// One sentence: what is so, and what to do about it.
    pub reason: String,
    /// The same for machines; empty if the tunnel is healthy.
    pub causes: Vec<Cause>,
}

/// Judges a tunnel. `ever_connected` tells whether any connector was ever registered; connectors that
/// said goodbye, or vanished more than [`MISSING_FOR_MS`] ago, do not count.
pub fn derive(ever_connected: bool, connectors: &[ConnectorState], now_ms: u64) -> Verdict {
    let verdict = |health, reason: String, causes| Verdict { health, reason, causes };
    if !ever_connected {
        let reason = "No connector has ever run with this tunnel's secret. Start one: the tunnel's \
                      page has the command.";
        return verdict(Health::Inactive, reason.into(), vec![Cause::NeverConnected]);
    }
    let missing = |c: &&ConnectorState| {
        c.links == 0
            && c.vanished_at_ms.is_some_and(|at| now_ms.saturating_sub(at) < MISSING_FOR_MS)
    };
    let serving = connectors.iter().filter(|c| c.links > 0).count();
    if serving == 0 {
        let (reason, cause) = match connectors.iter().find(missing) {
            Some(lost) => {
                let reason = format!(
                    "The connector on {} lost its last link without saying goodbye. Check that its \
                     container runs and can reach the edges; its log and port 9000 /status tell why.",
                    display_host(&lost.host)
                );
                (reason, Cause::ConnectorVanished)
            }
            None => {
                ("No connector is running. Start the container again.".into(), Cause::NoConnector)
            }
        };
        return verdict(Health::Down, reason, vec![cause]);
    }
    let faults = faults(connectors, missing);
    if faults.is_empty() {
        let replicas = if serving == 1 { "The connector holds" } else { "All connectors hold" };
        return verdict(Health::Healthy, format!("{replicas} all {SLOTS} links."), vec![]);
    }
    let what: Vec<&str> = faults.iter().map(|(_, what)| what.as_str()).collect();
    let mut causes: Vec<Cause> = faults.iter().map(|(cause, _)| *cause).collect();
    causes.dedup();
    let mut advice: Vec<&str> = causes.iter().map(|cause| advice(*cause)).collect();
    advice.dedup();
    let reason = format!("Serving, but {}. {}", what.join(", and "), advice.join(" "));
    verdict(Health::Degraded, reason, causes)
}

/// What is wrong with connectors that serve, in words; each cause's faults together.
fn faults(
    connectors: &[ConnectorState],
    missing: impl Fn(&&ConnectorState) -> bool,
) -> Vec<(Cause, String)> {
    let mut faults = Vec::new();
    if connectors.iter().any(|c| c.links > 0 && c.is_crowded) {
        let what = "requests are refused because too many are under way";
        faults.push((Cause::Crowded, what.to_owned()));
    }
    for connector in connectors.iter().filter(|c| c.links > 0 && c.stuck_links > 0) {
        let (host, stuck) = (display_host(&connector.host), connector.stuck_links);
        let what = format!("requests over {stuck} links of the connector on {host} get no answer");
        faults.push((Cause::Stuck, what));
    }
    for connector in connectors.iter().filter(|c| c.links > 0 && c.links < SLOTS) {
        let (host, links) = (display_host(&connector.host), connector.links);
        let what = format!("the connector on {host} holds {links} of {SLOTS} links");
        faults.push((Cause::LinksMissing, what));
    }
    for connector in connectors.iter().filter(missing) {
        let host = display_host(&connector.host);
        let what = format!("the connector on {host} vanished without saying goodbye");
        faults.push((Cause::ConnectorVanished, what));
    }
    faults
}

fn advice(cause: Cause) -> &'static str {
    match cause {
        Cause::Crowded => {
            "The tunnel's latest failures name the origins: check why they answer slowly or not at \
             all. If they are well, start another connector."
        }
        Cause::Stuck => "Restart that connector, and report what its log says.",
        Cause::LinksMissing
        | Cause::ConnectorVanished
        | Cause::NeverConnected
        | Cause::NoConnector
        | Cause::Unknown => {
            "It repairs itself if the network allows; port 9000 /status on the connector names what \
             stands in the way."
        }
    }
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
        let host = "office".into();
        let (is_crowded, stuck_links) = (false, 0);
        ConnectorState { connector, host, links, vanished_at_ms, is_crowded, stuck_links }
    }

    #[test]
    fn links_that_are_up_are_not_enough() {
        let well = connector(4, None);
        let crowded = ConnectorState { is_crowded: true, ..well.clone() };
        let stuck = ConnectorState { stuck_links: 2, ..well.clone() };
        let gone = ConnectorState { is_crowded: true, stuck_links: 1, ..connector(0, None) };
        let verdict = |connectors: &[ConnectorState]| derive(true, connectors, 1);
        assert_eq!(verdict(&[well.clone(), gone]).health, Health::Healthy, "its links are gone");
        let one = verdict(&[well, crowded.clone()]);
        assert_eq!((one.health, one.causes), (Health::Degraded, vec![Cause::Crowded]));
        assert!(one.reason.contains("too many are under way"), "{}", one.reason);
        let several = verdict(&[crowded, stuck, connector(3, None), connector(2, None)]);
        assert_eq!(several.causes, [Cause::Crowded, Cause::Stuck, Cause::LinksMissing]);
        assert_eq!(
            several.reason,
            "Serving, but requests are refused because too many are under way, and requests over 2 \
             links of the connector on office get no answer, and the connector on office holds 3 of \
             4 links, and the connector on office holds 2 of 4 links. The tunnel's latest failures \
             name the origins: check why they answer slowly or not at all. If they are well, start \
             another connector. Restart that connector, and report what its log says. It repairs \
             itself if the network allows; port 9000 /status on the connector names what stands in \
             the way."
        );
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
            assert_eq!(verdict.causes.is_empty(), health == Health::Healthy);
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
