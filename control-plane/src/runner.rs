//! Runs workflows: takes their actions one after the other, and keeps what came of each. A run ends
//! with its first action that gets no answer. So many runs are under way at once, so many wait, and no
//! more are taken.

use std::sync::Arc;

use protocol::access::Caller;
use tokio::sync::{Semaphore, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

mod direct;
mod exchange;
mod gateway;
mod http_action;

use crate::{
    action::{Action, ActionResult},
    app::App,
    random,
    store::{
        self,
        run::{Run, Status},
        workflow::Workflow,
    },
};

/// Runs under way at once.
const AT_ONCE: usize = 32;
/// Runs that wait for room.
const WAITING: usize = 256;
/// Runs that are kept of each workflow.
const KEPT: u32 = 1_000;

/// No room for another run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{AT_ONCE} runs are under way and {WAITING} wait: no room for another")]
pub(crate) struct Full;

/// Why a run was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Full(#[from] Full),
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// Owns the runs that are under way.
pub(crate) struct Runner {
    tasks: TaskTracker,
    /// Ends runs that outlive the soft end of the control plane.
    kill: CancellationToken,
    room: Arc<Semaphore>,
    places: Arc<Semaphore>,
}

impl Runner {
    pub(crate) fn new() -> Self {
        Self {
            tasks: TaskTracker::new(),
            kill: CancellationToken::new(),
            room: Arc::new(Semaphore::new(AT_ONCE)),
            places: Arc::new(Semaphore::new(AT_ONCE + WAITING)),
        }
    }

    /// Starts a run. The receiver gets it once it has finished.
    pub(crate) async fn start(
        &self,
        app: &Arc<App>,
        workflow: Workflow,
    ) -> Result<(Run, oneshot::Receiver<Run>), Error> {
        let place = self.places.clone().try_acquire_owned().map_err(|_| Full)?;
        let run = Run {
            id: random::id(),
            tenant: workflow.tenant,
            team: workflow.team,
            workflow: workflow.id,
            status: Status::Queued,
            results: Vec::new(),
            created_ms: app.clock.now_ms(),
            finished_ms: None,
        };
        let mut db = app.store.write().await?;
        store::run::insert(&mut db, &run, app.peers.me()).await?;
        store::run::trim(&mut db, workflow.id, KEPT).await?;
        app.store.commit_run(db, &run).await?;
        let (finished, receiver) = oneshot::channel();
        let (app, room, kill) = (app.clone(), self.room.clone(), self.kill.clone());
        let mut task_run = run.clone();
        self.tasks.spawn(async move {
            let _place = place;
            let work = async {
                let _room = room.acquire().await.expect("the semaphore is never closed");
                execute(&app, &workflow, &mut task_run).await;
            };
            if kill.run_until_cancelled(work).await.is_some() {
                // Nobody may be waiting.
                let _ = finished.send(task_run);
            }
        });
        Ok((run, receiver))
    }

    /// Waits for the runs under way; those that do not end in time are cut, and count as interrupted
    /// from the next start on.
    pub(crate) async fn close(&self, patience: std::time::Duration) {
        self.tasks.close();
        if tokio::time::timeout(patience, self.tasks.wait()).await.is_err() {
            self.kill.cancel();
            self.tasks.wait().await;
        }
    }
}

async fn execute(app: &App, workflow: &Workflow, run: &mut Run) {
    run.status = Status::Running;
    keep(app, run).await;
    let caller = Caller { tenant: run.tenant, team: run.team, workflow: Some(run.workflow) };
    let mut status = Status::Succeeded;
    for action in &workflow.actions {
        let result = take(app, &caller, action).await;
        let is_refused = result.refusal.is_some();
        run.results.push(result);
        if is_refused {
            status = Status::Failed;
            break;
        }
        if run.results.len() < workflow.actions.len() {
            keep(app, run).await;
        }
    }
    run.status = status;
    run.finished_ms = Some(app.clock.now_ms());
    keep(app, run).await;
    tracing::info!(run = %run.id, workflow = %run.workflow, status = ?run.status, "a run has ended");
}

async fn take(app: &App, caller: &Caller, action: &Action) -> ActionResult {
    match action {
        Action::Http(http) => http_action::take(app, caller, http).await,
    }
}

async fn keep(app: &App, run: &Run) {
    let stored = async {
        let mut db = app.store.write().await?;
        store::run::update(&mut db, run).await?;
        app.store.commit_run(db, run).await
    };
    if let Err(error) = stored.await {
        let error = &error as &dyn std::error::Error;
        tracing::error!(run = %run.id, error, "a run's result was not stored");
    }
}
