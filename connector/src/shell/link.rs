//! One live link: a task that takes its requests and serves each in a task of its own, and a task for
//! its control stream. Both end with the link, and the requests with them.

use std::{sync::Arc, time::Duration};

use link::{
    CloseReason, Inbound, LinkError, Vitals, boxed,
    control::{ControlReceiver, ControlSender},
    dial::Dialled,
};
use protocol::control::{Facts, FromConnector, FromEdge};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
    time::Instant,
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    log::FromCloud,
    metrics::{Meter, Outcome},
    origin::Origin,
    outlet::describe,
    supervisor::{Input, LinkId},
};

/// Requests that left the edge before it heard the goodbye are still served; later ones are not begun,
/// and go elsewhere.
const GOODBYE_HEARD: Duration = Duration::from_secs(2);

/// What the shell wants of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Serving,
    Leaving,
    Closed(CloseReason),
}

/// A link's strings.
pub(super) struct Handle {
    pub(super) stage: watch::Sender<Stage>,
    /// Holds one ping: if that has not left when the next is due, the link is as good as silent.
    pub(super) pings: mpsc::Sender<FromConnector>,
    /// The edge's signs of life.
    pub(super) vitals: Vitals,
}

/// What every link shares.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) meter: Arc<Meter>,
    /// One permit for each request under way.
    pub(super) capacity: Arc<Semaphore>,
    pub(super) reports: mpsc::Sender<Input>,
    /// What every edge is told, once more when it changes.
    pub(super) facts: watch::Receiver<Facts>,
    pub(super) log_level: Option<FromCloud>,
}

/// The strings, and the task that they move; it ends with the link and says why.
pub(super) fn start(
    id: LinkId,
    dialled: Dialled,
    origin: Origin,
    shared: Shared,
) -> (Handle, impl Future<Output = (LinkId, String)> + Send + 'static) {
    let (stage_sender, stage) = watch::channel(Stage::Serving);
    let (ping_sender, pings) = mpsc::channel(1);
    let Dialled { inbound, control_sender, control_receiver, vitals, .. } = dialled;
    let control = Control {
        id,
        sender: control_sender,
        receiver: control_receiver,
        stage: stage.clone(),
        pings,
        reports: shared.reports.clone(),
        facts: shared.facts.clone(),
        log_level: shared.log_level.clone(),
    };
    let task = async move { (id, serve(inbound, control, stage, origin, shared).await) };
    (Handle { stage: stage_sender, pings: ping_sender, vitals }, task)
}

async fn serve(
    mut inbound: Inbound,
    control: Control,
    mut stage: watch::Receiver<Stage>,
    origin: Origin,
    shared: Shared,
) -> String {
    let mut control = AbortOnDropHandle::new(tokio::spawn(control.run()));
    let mut exchanges = JoinSet::new();
    let mut left_at = None;
    loop {
        tokio::select! {
            arrival = inbound.accept() => {
                let Some(arrival) = arrival else { break };
                let is_late = left_at.is_some_and(|at: Instant| at.elapsed() >= GOODBYE_HEARD);
                let permit = shared.capacity.clone().try_acquire_owned().ok();
                let Some(permit) = permit.filter(|_| !is_late) else {
                    arrival.reject();
                    shared.meter.outcome(Outcome::Rejected);
                    continue;
                };
                let origin = origin.clone();
                // Nobody waits for them to end, so that an end wakes nobody.
                while exchanges.try_join_next().is_some() {}
                // Boxed, because a future is moved several times while it becomes a task.
                exchanges.spawn(boxed(|| async move {
                    let _permit = permit;
                    // An edge that gave up in the middle of a head has asked for nothing.
                    if let Ok(exchange) = arrival.exchange().await {
                        origin.serve(exchange).await;
                    }
                }));
            }
            changed = stage.changed() => {
                let now = *stage.borrow_and_update();
                match now {
                    Stage::Serving => {}
                    Stage::Leaving => left_at = Some(Instant::now()),
                    Stage::Closed(reason) => {
                        inbound.close(reason);
                        return format!("closed: {}", reason.as_str());
                    }
                }
                if changed.is_err() {
                    break;
                }
            }
            ended = &mut control => {
                inbound.close(CloseReason::Unresponsive);
                return ended.unwrap_or_else(|_| "the control stream's task ended".into());
            }
        }
    }
    // The control stream ends with the link, and knows better why.
    let ended = tokio::time::timeout(GOODBYE_HEARD, control).await;
    ended.ok().and_then(Result::ok).unwrap_or_else(|| "the connection ended".into())
}

struct Control {
    id: LinkId,
    sender: ControlSender<FromConnector>,
    receiver: ControlReceiver<FromEdge>,
    stage: watch::Receiver<Stage>,
    pings: mpsc::Receiver<FromConnector>,
    reports: mpsc::Sender<Input>,
    facts: watch::Receiver<Facts>,
    log_level: Option<FromCloud>,
}

impl Control {
    /// Passes messages both ways until the stream ends; says why it did.
    async fn run(mut self) -> String {
        match self.pass().await {
            Ok(()) => "the edge closed the link".into(),
            Err(error) => describe(&error),
        }
    }

    async fn pass(&mut self) -> Result<(), LinkError> {
        // The edge takes the first message for a sign that this link is kept, and only such a link is pinged.
        let mut is_kept = false;
        loop {
            tokio::select! {
                message = self.receiver.receive() => {
                    let Some(message) = message? else { return Ok(()) };
                    if let Some(input) = self.understand(message) {
                        // The shell is gone, and this task is about to be.
                        let _ = self.reports.send(input).await;
                    }
                }
                Some(ping) = self.pings.recv() => {
                    self.sender.send(&ping).await?;
                    is_kept = true;
                }
                Ok(()) = self.facts.changed(), if is_kept => {
                    let facts = self.facts.borrow_and_update().clone();
                    self.sender.send(&FromConnector::Facts(facts)).await?;
                }
                Ok(()) = self.stage.changed() => {
                    if *self.stage.borrow_and_update() == Stage::Leaving {
                        self.sender.send(&FromConnector::Goodbye).await?;
                    }
                }
                else => return Ok(()),
            }
        }
    }

    fn understand(&self, message: FromEdge) -> Option<Input> {
        let link = self.id;
        match message {
            FromEdge::Pong { sequence } => Some(Input::Pong { link, sequence }),
            FromEdge::Directory { directory } => Some(Input::Directory(directory)),
            FromEdge::Drain { reconnect_in_ms, deadline_ms, successor } => Some(Input::Drain {
                link,
                successor,
                reconnect_in: Duration::from_millis(reconnect_in_ms),
                deadline: Duration::from_millis(deadline_ms),
            }),
            FromEdge::LogLevel { level, order } => {
                if let Some(log_level) = &self.log_level {
                    log_level.obey(level, order);
                }
                None
            }
            FromEdge::Welcome { .. }
            | FromEdge::Registered { .. }
            | FromEdge::Refused(_)
            | FromEdge::Ping
            | FromEdge::Unknown => None,
        }
    }
}
