//! Runs: executions of workflows, with what came of each action.

use std::time::Duration;

use axum::extract::State;
use http::StatusCode;
use protocol::id::{RunId, WorkflowId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    extract::{Caller, Json, Path, Query},
    list::{List, Paging},
    problem::Problem,
    timestamp::Timestamp,
    workflows,
};
use crate::{
    action::{ActionResult, Outcome},
    app::Shared,
    runner,
    store::{
        self,
        run::{Run, Status, Summary},
    },
};

/// Longest wait for a run, in seconds.
const MAX_WAIT_S: u64 = 60;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(list_runs, start_run)).routes(routes!(get_run))
}

/// A run.
#[derive(Serialize, ToSchema)]
struct RunView {
    #[schema(value_type = Uuid)]
    id: RunId,
    #[schema(value_type = Uuid)]
    workflow: WorkflowId,
    status: Status,
    /// What came of each action that was taken, in order.
    actions: Vec<ActionResult>,
    created_at: Timestamp,
    finished_at: Option<Timestamp>,
}

impl From<Run> for RunView {
    fn from(run: Run) -> Self {
        Self {
            id: run.id,
            workflow: run.workflow,
            status: run.status,
            actions: run.results,
            created_at: Timestamp(run.created_ms),
            finished_at: run.finished_ms.map(Timestamp),
        }
    }
}

/// A run as lists show it.
#[derive(Serialize, ToSchema)]
struct RunSummary {
    #[schema(value_type = Uuid)]
    id: RunId,
    #[schema(value_type = Uuid)]
    workflow: WorkflowId,
    status: Status,
    /// What came of each action that was taken, in order, without the answers.
    outcomes: Vec<Outcome>,
    created_at: Timestamp,
    finished_at: Option<Timestamp>,
}

impl From<Summary> for RunSummary {
    fn from(run: Summary) -> Self {
        Self {
            id: run.id,
            workflow: run.workflow,
            status: run.status,
            outcomes: run.outcomes,
            created_at: Timestamp(run.created_ms),
            finished_at: run.finished_ms.map(Timestamp),
        }
    }
}

/// How to start.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Start {
    /// Seconds to wait for the run to finish, at most 60; without it the answer comes at once.
    #[serde(default)]
    wait: u64,
}

/// Which of them.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ListRuns {
    /// Only runs that have come that far.
    #[param(inline)]
    status: Option<Status>,
}

/// Starts a run.
#[utoipa::path(
    post, path = "/api/v1/workflows/{id}/runs", tag = "workflows",
    params(("id" = Uuid, Path, description = "The workflow."), Start),
    responses(
        (status = 200, description = "The run has finished.", body = RunView),
        (status = 202, description = "The run is under way.", body = RunView),
    ),
)]
async fn start_run(
    State(app): State<Shared>,
    caller: Caller,
    Path(id): Path<WorkflowId>,
    Query(Start { wait }): Query<Start>,
) -> Result<(StatusCode, Json<RunView>), Problem> {
    if wait > MAX_WAIT_S {
        return Err(Problem::invalid(format!("wait is at most {MAX_WAIT_S} seconds")));
    }
    let mut db = app.store.read().await?;
    let workflow = workflows::find(&mut db, &caller, id).await?;
    drop(db);
    let (run, finished) = app.runner.start(&app, workflow).await?;
    let patience = Duration::from_secs(wait);
    if wait > 0
        && let Ok(Ok(run)) = tokio::time::timeout(patience, finished).await
    {
        return Ok((StatusCode::OK, Json(run.into())));
    }
    Ok((StatusCode::ACCEPTED, Json(run.into())))
}

/// Lists a workflow's runs, newest first.
#[utoipa::path(
    get, path = "/api/v1/workflows/{id}/runs", tag = "workflows",
    params(("id" = Uuid, Path, description = "The workflow."), Paging, ListRuns),
    responses((status = 200, description = "A page of runs.", body = List<RunSummary>)),
)]
async fn list_runs(
    State(app): State<Shared>,
    caller: Caller,
    Path(id): Path<WorkflowId>,
    Query(paging): Query<Paging>,
    Query(ListRuns { status }): Query<ListRuns>,
) -> Result<Json<List<RunSummary>>, Problem> {
    let (page, order) = paging.newest_first(store::run::BY_TIME)?;
    let mut db = app.store.read().await?;
    workflows::find(&mut db, &caller, id).await?;
    let runs = store::run::page(&mut db, id, status, &page).await?;
    Ok(Json(List::new(runs.map(RunSummary::from), &order)))
}

/// Shows a run.
#[utoipa::path(
    get, path = "/api/v1/runs/{id}", tag = "workflows",
    params(("id" = Uuid, Path, description = "The run.")),
    responses((status = 200, description = "The run.", body = RunView)),
)]
async fn get_run(
    State(app): State<Shared>,
    caller: Caller,
    Path(id): Path<RunId>,
) -> Result<Json<RunView>, Problem> {
    let mut db = app.store.read().await?;
    let run = store::run::find(&mut db, caller.tenant(), id).await?;
    let run = run.ok_or_else(|| Problem::not_found("run"))?;
    caller.must_act_for(&mut db, run.team).await?;
    Ok(Json(run.into()))
}

impl From<runner::Error> for Problem {
    fn from(error: runner::Error) -> Self {
        match error {
            runner::Error::Full(full) => Self::too_many_runs(full.to_string()),
            runner::Error::Store(error) => error.into(),
        }
    }
}
