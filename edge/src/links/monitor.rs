//! Notices connectors that have fallen silent while requests wait for them: killed, stopped, or out of
//! reach. Heartbeats come too rarely for that.
//!
//! ```text
//!  well ── owes a sign of life for 0.75 s ──► suspect ── 2.5 s ──► dead: the link is closed
//!    ▲                                           │
//!    └────────────── any sign of life ───────────┘
//! ```
//!
//! A suspect link gets no request while another one is well; requests that may be repeated leave it, and others wait
//! for a while before they go there ([`Tries`](crate::gateway)). If one link is suspect, so may be the others of its
//! connector: they are asked as well. An edge that was stopped itself finds all of its links suspect.
//!
//! A tick looks at links with something under way, and at those in question. A request pays for none of it.

use std::{sync::Arc, time::Duration};

use link::CloseReason;
use protocol::presence::Transport;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::{
    core::Core,
    registry::{Finding, Link, Tunnel},
};

/// How often links are looked at.
const TICK: Duration = Duration::from_millis(250);
/// A link that has owed a sign of life for this long is suspect: requests go there until then, and a
/// shorter wait would suspect connectors that are only busy. A long round trip is given twice its length.
const SUSPECT_AFTER: Duration = Duration::from_millis(750);
/// A link that stays suspect for this long is dead.
const DEAD_AFTER: Duration = Duration::from_millis(2_500);
/// The same over TCP, which delivers in order: on a slow line with a full queue, one lost packet silences a
/// link for several round trips of seconds.
const DEAD_AFTER_TCP: Duration = Duration::from_secs(5);
/// So much longer a link may be suspect where no other link of the tunnel is well: the network may have failed
/// as a whole, and closing links that would come back with it wins nothing. Connectors give a link up 4 s
/// after a ping.
const ALONE: Duration = Duration::from_millis(1_750);

/// Looks at links until the future is dropped.
pub(crate) async fn run(core: Arc<Core>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // It tells when it was due.
        ticks.tick().await;
        let now = Instant::now();
        if core.registry.beat(now) {
            // What has come meanwhile is to be read first.
            continue;
        }
        for tunnel in core.registry.all() {
            look_at(&tunnel, now);
        }
    }
}

/// A link that is suspect, and for how long.
struct Suspect {
    link: Arc<Link>,
    length: Duration,
    lingers: bool,
}

fn look_at(tunnel: &Tunnel, now: Instant) {
    let links = tunnel.links();
    let looked_at = links.iter().filter(|link| link.is_busy() || link.trust.is_in_question());
    let suspects: Vec<Suspect> = looked_at.filter_map(|link| find(tunnel, link, now)).collect();
    if suspects.is_empty() {
        return;
    }
    for link in links.iter().filter(|link| !link.trust.is_in_question()) {
        if suspects.iter().any(|suspect| suspect.link.key.connector == link.key.connector) {
            link.trust.question(now);
        }
    }
    let has_well_link = tunnel.has_well_link(&[]);
    if has_well_link {
        tunnel.streams.wake_all();
    }
    // A connector that lives on another link is there: this one may come back as well.
    let lives = |connector| {
        let mut own = links.iter().filter(|link| link.key.connector == connector);
        own.any(|link| link.trust.lived_within(DEAD_AFTER, now))
    };
    for Suspect { link, length, lingers } in suspects {
        let patience = match link.transport {
            Transport::Quic => DEAD_AFTER,
            Transport::Http2 => DEAD_AFTER_TCP,
        } + if has_well_link { Duration::ZERO } else { ALONE };
        if length >= patience && !lingers && !lives(link.key.connector) {
            tracing::info!(
                tunnel.id = %link.key.tunnel,
                connector.id = %link.key.connector,
                link.slot = link.key.slot,
                "a link is closed because its connector shows no life"
            );
            link.session.close(CloseReason::Unresponsive);
        }
    }
}

/// Looks at one of the tunnel's links.
fn find(tunnel: &Tunnel, link: &Arc<Link>, now: Instant) -> Option<Suspect> {
    match link.trust.look(now, &link.session) {
        Finding::Well => {
            if link.trust.restore() {
                tunnel.link_is_well();
            }
            None
        }
        Finding::Silent { length, is_probe_due, lingers } => {
            if is_probe_due {
                link.trust.probe();
            }
            let length = length.checked_sub(SUSPECT_AFTER.max(2 * link.rtt()))?;
            link.trust.suspect();
            Some(Suspect { link: link.clone(), length, lingers })
        }
    }
}
