//! The edge's side of a link's control stream, once the link is up.

use std::{sync::Arc, time::Duration};

use link::{
    CloseReason, LinkError,
    control::{ControlReceiver, ControlSender},
};
use protocol::{
    control::{DirectoryEdge, FromConnector, FromEdge},
    presence::Transport,
};
use rand::RngExt as _;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{core::Core, registry::Link};

/// A connector pings every 5 s, and gives up a link that shows no life for 4 s after a ping. So a link on
/// which nothing has arrived for 9 s, and nothing was acknowledged, is of no more use.
const SILENCE: Duration = Duration::from_secs(9);
/// How often an edge looks for signs of life: a dead link is noticed this much later at most.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// A connector that moves a link says goodbye on the old one at once. From one that has lost it, nothing
/// more will come.
const GOODBYE_WITHIN: Duration = Duration::from_secs(2);
/// Most that a drained connector is asked to wait before it dials elsewhere.
const LONGEST_SMEAR: Duration = Duration::from_secs(3);
/// What one link more adds to that time. The other edges shake hands with a thousand links a second.
const SMEAR_PER_LINK: Duration = Duration::from_millis(1);
/// How long an edge that another one has taken over from keeps links for the clients that it still has: idle
/// ones are sent away after a second.
const OVERLAP: Duration = Duration::from_millis(1_500);

/// The control stream, and what is to be told on it.
pub(super) struct Control {
    pub(super) sender: ControlSender<FromEdge>,
    pub(super) receiver: ControlReceiver<FromConnector>,
    /// What the connector has said before the link was up.
    pub(super) first_word: Option<FromConnector>,
    /// Its current value is known to the connector.
    pub(super) directory: watch::Receiver<Vec<DirectoryEdge>>,
}

impl Control {
    /// Speaks with the connector until the link is gone; tells why it went.
    pub(super) async fn run(
        mut self,
        core: &Core,
        link: &Arc<Link>,
        draining: &CancellationToken,
        grace: Duration,
    ) -> LinkError {
        let spoken = tokio::select! {
            spoken = self.speak(core, link, draining, grace) => spoken,
            () = abandoned(link) => {
                link.session.close(CloseReason::Replaced);
                return link.session.closed().await;
            }
            () = silence(link) => Err(LinkError::TimedOut),
            ended = link.session.closed() => return ended,
        };
        match spoken {
            // Whoever ends the control stream ends the link.
            Ok(()) => {
                link.session.close(CloseReason::Drained);
                link.session.closed().await
            }
            Err(error) => {
                link.session.close(CloseReason::Unresponsive);
                error
            }
        }
    }

    async fn speak(
        &mut self,
        core: &Core,
        link: &Arc<Link>,
        draining: &CancellationToken,
        grace: Duration,
    ) -> Result<(), LinkError> {
        let first_word = self.first_word.take();
        if let Some(answer) = first_word.and_then(|word| answer(core, link, word)) {
            self.sender.send(&answer).await?;
        }
        let (mut was_drained, mut was_superseded) = (false, false);
        let (mut asked, mut level_told) = (link.asked(), None);
        loop {
            let message = tokio::select! {
                message = self.receiver.receive() => {
                    let Some(message) = message? else { return Ok(()) };
                    match answer(core, link, message) {
                        Some(answer) => answer,
                        None => continue,
                    }
                }
                Ok(()) = self.directory.changed() => {
                    FromEdge::Directory { directory: self.directory.borrow_and_update().clone() }
                }
                Ok(()) = asked.changed() => {
                    let now = *asked.borrow_and_update();
                    if now.log_level != level_told && let Some((order, level)) = now.log_level {
                        level_told = now.log_level;
                        self.sender.send(&FromEdge::LogLevel { level, order }).await?;
                    }
                    if was_drained || !now.drain {
                        continue;
                    }
                    was_drained = true;
                    FromEdge::Drain {
                        reconnect_in_ms: 0,
                        deadline_ms: grace.as_millis() as u64,
                        successor: false,
                    }
                }
                () = link.trust.probed() => match link.transport {
                    Transport::Quic => FromEdge::Ping,
                    Transport::Http2 => {
                        link.session.probe();
                        continue;
                    }
                },
                () = core.superseded.cancelled(), if !was_superseded => {
                    (was_drained, was_superseded) = (true, true);
                    move_over(core, link, grace)
                }
                () = draining.cancelled(), if !was_drained => {
                    was_drained = true;
                    drain(core.registry.count(), grace)
                }
            };
            self.sender.send(&message).await?;
        }
    }
}

/// Resolves when the link has shown no life for [`SILENCE`]. On a slow line a ping may take longer than that.
async fn silence(link: &Link) {
    let mut vitals = link.session.vitals();
    let mut heard_at = Instant::now();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = Instant::now();
        if vitals.look().lives {
            heard_at = now;
        } else if now >= heard_at + SILENCE {
            return;
        }
    }
}

/// Resolves when another link has taken this one's place and the connector has not said goodbye on it.
async fn abandoned(link: &Link) {
    link.replaced().await;
    tokio::time::sleep(GOODBYE_WITHIN).await;
    if link.has_said_goodbye() {
        std::future::pending::<()>().await;
    }
}

fn answer(core: &Core, link: &Arc<Link>, message: FromConnector) -> Option<FromEdge> {
    match message {
        FromConnector::Ping { sequence, rtt_us } => {
            if rtt_us.is_some_and(|rtt_us| link.set_rtt(rtt_us)) {
                core.registry.renew(link, &core.unreported);
            }
            Some(FromEdge::Pong { sequence })
        }
        FromConnector::Goodbye => {
            core.registry.say_goodbye(link);
            None
        }
        FromConnector::Facts(facts) => {
            link.set_facts(facts);
            core.registry.renew(link, &core.unreported);
            None
        }
        FromConnector::Hello(_) | FromConnector::Unknown => None,
    }
}

/// Not every connector may come to the other edges in the same moment.
fn drain(links: usize, grace: Duration) -> FromEdge {
    FromEdge::Drain {
        reconnect_in_ms: smear(links, grace).as_millis() as u64,
        deadline_ms: grace.as_millis() as u64,
        successor: false,
    }
}

/// Another process has taken this edge's place. A tunnel's first link moves there at once, for the clients that
/// come there; the others stay until the clients that are here have gone.
fn move_over(core: &Core, link: &Arc<Link>, grace: Duration) -> FromEdge {
    let tunnel = core.registry.get(link.key.tunnel);
    let is_first = tunnel.is_none_or(|tunnel| tunnel.is_first(link));
    let stays = if is_first { Duration::ZERO } else { OVERLAP.min(grace / 4) };
    let reconnect_in = stays + smear(core.registry.count(), grace);
    FromEdge::Drain {
        reconnect_in_ms: reconnect_in.as_millis() as u64,
        deadline_ms: grace.as_millis() as u64,
        successor: true,
    }
}

fn smear(links: usize, grace: Duration) -> Duration {
    let links = u32::try_from(links).unwrap_or(u32::MAX);
    let most = SMEAR_PER_LINK.saturating_mul(links).min(LONGEST_SMEAR).min(grace / 4);
    Duration::from_millis(rand::rng().random_range(0..=most.as_millis() as u64))
}
