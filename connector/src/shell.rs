//! The supervisor's hands: executes its effects, tells it what happened, and decides nothing but which
//! worker a link lives on.

mod link;
mod say;

use std::{collections::HashMap, sync::Arc, time::Duration};

use ::link::{
    dial::{Dialled, Identity},
    workers::{Place, Spread, Worker, Workers},
};
use protocol::{
    address::HostPort,
    control::{Facts, FromConnector},
};
use tokio::{
    runtime,
    sync::{Semaphore, mpsc, watch},
    task::{AbortHandle, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use self::link::{Handle, Shared, Stage};
use crate::{
    log::FromCloud,
    metrics::{LinkMeter, Meter},
    origin::Origin,
    outlet::{NoLink, Outlet},
    supervisor::{Effect, Input, LinkId, Supervisor, View},
};

/// Requests under way at once, over all links: four links of 1,000 can be full together. Each holds two windows
/// of at most 512 KiB, and nearly always far less.
const MAX_REQUESTS: usize = 4_096;
/// Reports from links that wait to be told to the supervisor, which takes microseconds for each.
const REPORTS: usize = 64;

/// For the packets that tell edges of closed links: they leave in tasks of the carrier's own, and
/// without them an edge would take the silence for an outage.
pub(crate) const FAREWELL: Duration = Duration::from_millis(100);

/// Who dials, and what it tells of itself, which changes.
pub(crate) struct Caller {
    pub(crate) identity: Identity,
    pub(crate) facts: watch::Receiver<Facts>,
    /// If the cloud may change how much is logged.
    pub(crate) log_level: Option<FromCloud>,
}

/// A worker with what its links need there. All of a link stays with its worker, from its dial to its last
/// request, and so do the connections to origins that its requests use.
struct Home {
    runtime: runtime::Handle,
    outlet: Arc<Outlet>,
    origin: Origin,
}

impl Home {
    fn new(worker: &Worker, outlet: &Outlet, origin: &Origin) -> Self {
        let (outlet, origin) = (Arc::new(outlet.apart()), origin.apart());
        Self { runtime: worker.runtime.clone(), outlet, origin }
    }
}

pub(crate) struct Shell {
    supervisor: Supervisor,
    started: Instant,
    homes: Vec<Home>,
    /// By the edge's address: an edge spreads its requests over its links, and so over their workers.
    spread: Spread<HostPort>,
    /// Added to the lanes of places, so that not all connectors come to the same workers of an edge; with few
    /// enough of those the sum fits a byte.
    first_lane: u8,
    identity: Identity,
    shared: Shared,
    reports: mpsc::Receiver<Input>,
    dials: JoinSet<(LinkId, Place<HostPort>, Result<Dialled, NoLink>)>,
    dialling: HashMap<LinkId, AbortHandle>,
    links: HashMap<LinkId, Handle>,
    tasks: JoinSet<(LinkId, String)>,
    view: watch::Sender<View>,
    meter: LinkMeter,
}

impl Shell {
    pub(crate) fn new(
        supervisor: Supervisor,
        workers: &Workers,
        outlet: &Outlet,
        origin: &Origin,
        caller: Caller,
        meter: Arc<Meter>,
    ) -> Self {
        let (sender, reports) = mpsc::channel(REPORTS);
        let home = |worker| Home::new(worker, outlet, origin);
        let homes = workers.iter().map(home).collect();
        let capacity = Arc::new(Semaphore::new(MAX_REQUESTS));
        Self {
            view: watch::Sender::new(supervisor.view()),
            supervisor,
            started: Instant::now(),
            homes,
            spread: Spread::new(workers),
            first_lane: rand::random_range(0..128),
            identity: caller.identity,
            shared: Shared {
                meter,
                capacity,
                reports: sender,
                facts: caller.facts,
                log_level: caller.log_level,
            },
            reports,
            dials: JoinSet::new(),
            dialling: HashMap::new(),
            links: HashMap::new(),
            tasks: JoinSet::new(),
            meter: LinkMeter::default(),
        }
    }

    /// The slots, as they change.
    pub(crate) fn view(&self) -> watch::Receiver<View> {
        self.view.subscribe()
    }

    /// The moment from which the view counts.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// Keeps links up until `shutdown`, then lets them finish for at most `grace`.
    pub(crate) async fn run(mut self, shutdown: CancellationToken, grace: Duration) {
        let mut input = Input::Timer;
        loop {
            self.tell(input);
            if self.supervisor.is_finished() {
                break;
            }
            input = self.next(&shutdown, grace).await;
        }
        while self.tasks.join_next().await.is_some() {}
        tokio::time::sleep(FAREWELL).await;
    }

    async fn next(&mut self, shutdown: &CancellationToken, grace: Duration) -> Input {
        let deadline = self.supervisor.deadline().map(|at| self.started + at);
        let is_leaving = self.view.borrow().is_leaving;
        tokio::select! {
            () = shutdown.cancelled(), if !is_leaving => Input::Shutdown(grace),
            Some(report) = self.reports.recv() => report,
            Some((link, detail)) = finished(&mut self.tasks) => {
                self.links.remove(&link);
                Input::Lost { link, detail }
            }
            Some((link, place, dialled)) = finished(&mut self.dials) => {
                self.dialling.remove(&link);
                self.dialled(link, place, dialled)
            }
            () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now)),
                if deadline.is_some() => Input::Timer,
        }
    }

    fn dialled(
        &mut self,
        link: LinkId,
        place: Place<HostPort>,
        dialled: Result<Dialled, NoLink>,
    ) -> Input {
        match dialled {
            Ok(mut dialled) => {
                let directory = std::mem::take(&mut dialled.directory);
                let (edge, region) = (dialled.edge, dialled.region.clone());
                let home = &self.homes[place.worker().index()];
                let (handle, task) =
                    link::start(link, dialled, home.origin.clone(), self.shared.clone());
                self.links.insert(link, handle);
                let task = async move {
                    let _place = place;
                    task.await
                };
                self.tasks.spawn_on(task, &home.runtime);
                Input::Registered { link, edge, region, directory }
            }
            Err(NoLink::Refused(refusal)) => {
                self.meter.dial_refused(refusal.code);
                Input::Refused { link, refusal }
            }
            Err(NoLink::Failed(failure)) => {
                self.meter.dial_failed(failure.kind);
                tracing::debug!(
                    kind = failure.kind.as_str(),
                    detail = failure.detail,
                    "dial failed"
                );
                Input::Failed { link, failure }
            }
        }
    }

    fn tell(&mut self, input: Input) {
        for (link, handle) in &mut self.links {
            let look = handle.vitals.look();
            if look.lives || look.lingers {
                self.supervisor.shows_life(*link);
            }
        }
        let now = self.started.elapsed();
        let effects = self.supervisor.handle(now, input, &mut rand::rng());
        for effect in effects {
            self.execute(effect);
        }
        let view = self.supervisor.view();
        self.view.send_if_modified(|shown| {
            let is_news = *shown != view;
            if is_news {
                self.meter.view(&view);
                *shown = view;
            }
            is_news
        });
    }

    fn execute(&mut self, effect: Effect) {
        match effect {
            Effect::Dial { link, slot, target, transport } => {
                tracing::debug!(slot, %target, transport = transport.as_str(), "dialling");
                let place = self.spread.settle(target.clone());
                let home = &self.homes[place.worker().index()];
                let outlet = home.outlet.clone();
                let lane = self.first_lane + place.lane();
                let facts = self.shared.facts.borrow().clone();
                let identity = Identity { facts, ..self.identity.clone() };
                let dial = async move {
                    let dialled = outlet.dial(&identity, &target, transport, slot, lane).await;
                    (link, place, dialled)
                };
                let task = self.dials.spawn_on(dial, &home.runtime);
                self.dialling.insert(link, task);
            }
            Effect::Cancel(link) => {
                if let Some(task) = self.dialling.remove(&link) {
                    task.abort();
                }
            }
            Effect::Ping { link, sequence, rtt } => {
                let rtt_us = rtt.and_then(|rtt| u64::try_from(rtt.as_micros()).ok());
                if let Some(link) = self.links.get(&link) {
                    // A full channel is a link on which nothing moves: the missing pong will tell.
                    let _ = link.pings.try_send(FromConnector::Ping { sequence, rtt_us });
                }
            }
            Effect::Retire(link) => self.stage(link, Stage::Leaving),
            Effect::Close(link, reason) => self.stage(link, Stage::Closed(reason)),
            Effect::Say(event) => {
                self.meter.event(&event);
                say::say(&event);
            }
        }
    }

    fn stage(&self, link: LinkId, stage: Stage) {
        if let Some(link) = self.links.get(&link) {
            link.stage.send_replace(stage);
        }
    }
}

/// What the next task has come to; those that were aborted tell nothing. Cancel-safe.
async fn finished<T: 'static>(tasks: &mut JoinSet<T>) -> Option<T> {
    loop {
        if let Ok(output) = tasks.join_next().await? {
            return Some(output);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dial_that_was_cancelled_does_not_hide_the_one_that_succeeded() {
        let mut dials = JoinSet::new();
        dials.spawn(std::future::pending()).abort();
        tokio::task::yield_now().await;
        dials.spawn(async { "up" });
        assert_eq!(finished(&mut dials).await, Some("up"));
        assert_eq!(finished(&mut dials).await, None);
    }
}
