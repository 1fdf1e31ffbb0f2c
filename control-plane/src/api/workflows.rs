//! Workflows: automations that a team owns, made of actions.

use axum::extract::State;
use http::StatusCode;
use protocol::{
    id::{TeamId, WorkflowId},
    name::TunnelName,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    edit::{Edited, Editors, IfMatch, Versioned},
    extract::{Caller, Json, Path, Query, display_text},
    list::{List, Paging, search},
    no_content,
    problem::Problem,
    teams,
    timestamp::Timestamp,
};
use crate::{
    action::{Action, MAX_ACTIONS},
    app::Shared,
    random,
    store::{
        self, Read,
        stamp::{Stamp, Stamped},
        workflow::{Summary, Workflow},
    },
};

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(list_workflows, create_workflow)).routes(routes!(
        get_workflow,
        update_workflow,
        delete_workflow
    ))
}

/// A workflow.
#[derive(Serialize, ToSchema)]
struct WorkflowView {
    #[schema(value_type = Uuid)]
    id: WorkflowId,
    /// The team that owns it.
    #[schema(value_type = Uuid)]
    team: TeamId,
    team_name: String,
    name: String,
    actions: Vec<Action>,
    created_at: Timestamp,
    #[serde(flatten)]
    edited: Edited,
}

impl WorkflowView {
    async fn new(db: &mut impl Read, workflow: Workflow) -> Result<Versioned<Self>, Problem> {
        let editors = Editors::of(db, vec![workflow.stamp]).await?;
        let team = store::team::find(db, workflow.tenant, workflow.team).await?;
        let view = Self {
            id: workflow.id,
            team: workflow.team,
            team_name: team.map(|team| team.name).unwrap_or_default(),
            name: workflow.name,
            actions: workflow.actions,
            created_at: Timestamp(workflow.created_ms),
            edited: editors.edited(workflow.stamp),
        };
        Ok(Versioned(workflow.stamp, view))
    }
}

/// A workflow as lists show it.
#[derive(Serialize, ToSchema)]
struct WorkflowSummary {
    #[schema(value_type = Uuid)]
    id: WorkflowId,
    /// The team that owns it.
    #[schema(value_type = Uuid)]
    team: TeamId,
    team_name: String,
    name: String,
    /// How many actions it has.
    action_count: u64,
    /// Names of the tunnels that its actions use.
    #[schema(value_type = Vec<String>)]
    tunnels: Vec<TunnelName>,
    created_at: Timestamp,
    #[serde(flatten)]
    edited: Edited,
}

impl WorkflowSummary {
    fn new(workflow: Summary, editors: &Editors) -> Self {
        Self {
            id: workflow.id,
            team: workflow.team,
            team_name: workflow.team_name,
            name: workflow.name,
            action_count: workflow.actions,
            tunnels: workflow.tunnels,
            created_at: Timestamp(workflow.created_ms),
            edited: editors.edited(workflow.stamp),
        }
    }
}

/// Which of them, in which order.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ListWorkflows {
    /// `name`, `created_at` or `updated_at`, with `-` before it for descending; `name` without it.
    sort: Option<String>,
    /// Only those whose name contains this; ASCII letters in either case.
    #[param(max_length = 128)]
    search: Option<String>,
    /// Only the workflows of this team.
    #[param(value_type = Option<Uuid>)]
    team: Option<TeamId>,
    /// Only workflows that use this tunnel.
    #[param(value_type = Option<String>)]
    tunnel: Option<TunnelName>,
}

/// A workflow to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateWorkflow {
    /// The team that is to own it.
    #[schema(value_type = Uuid)]
    team: TeamId,
    #[schema(min_length = 1, max_length = 128)]
    name: String,
    /// Taken one after the other, until one gets no answer.
    #[schema(min_items = 1, max_items = 100)]
    actions: Vec<Action>,
}

/// What can change of a workflow.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct UpdateWorkflow {
    /// The team that is to own it; the one that owns it, if this is left out. Its runs and its gateway
    /// tokens go with it.
    #[schema(value_type = Option<Uuid>)]
    team: Option<TeamId>,
    #[schema(min_length = 1, max_length = 128)]
    name: String,
    /// Taken one after the other, until one gets no answer.
    #[schema(min_items = 1, max_items = 100)]
    actions: Vec<Action>,
}

/// Lists the workflows of the caller's teams; owners see all.
#[utoipa::path(
    get, path = "/api/v1/workflows", tag = "workflows", params(Paging, ListWorkflows),
    responses((status = 200, description = "A page of workflows.", body = List<WorkflowSummary>)),
)]
async fn list_workflows(
    State(app): State<Shared>,
    caller: Caller,
    Query(paging): Query<Paging>,
    Query(query): Query<ListWorkflows>,
) -> Result<Json<List<WorkflowSummary>>, Problem> {
    let (page, order) = paging.page(query.sort.as_deref(), store::workflow::COLUMNS)?;
    let filter = store::workflow::Filter {
        of: caller.own_only(),
        team: query.team,
        tunnel: query.tunnel.as_ref(),
        search: search(query.search.as_deref())?,
    };
    let mut db = app.store.read().await?;
    let workflows = store::workflow::page(&mut db, caller.tenant(), &filter, &page).await?;
    let editors = Editors::of(&mut db, workflows.items.iter().map(|w| w.stamp).collect()).await?;
    let workflows = workflows.map(|workflow| WorkflowSummary::new(workflow, &editors));
    Ok(Json(List::new(workflows, &order)))
}

/// Makes a workflow.
#[utoipa::path(
    post, path = "/api/v1/workflows", tag = "workflows", request_body = CreateWorkflow,
    responses((status = 201, description = "The workflow.", body = WorkflowView)),
)]
async fn create_workflow(
    State(app): State<Shared>,
    caller: Caller,
    Json(body): Json<CreateWorkflow>,
) -> Result<(StatusCode, Versioned<WorkflowView>), Problem> {
    validate(&body.actions)?;
    let mut change = app.store.change().await?;
    store::team::find(&mut change, caller.tenant(), body.team)
        .await?
        .ok_or_else(|| Problem::not_found("team"))?;
    caller.must_act_for(&mut change, body.team).await?;
    let mut workflow = Workflow {
        id: random::id(),
        tenant: caller.tenant(),
        team: body.team,
        name: display_text(&body.name, "the name")?,
        actions: body.actions,
        created_ms: app.clock.now_ms(),
        stamp: Stamp::default(),
    };
    store::workflow::insert(&mut change, &workflow).await?;
    workflow.stamp = caller.stamp(&app, &mut change, Stamped::Workflow, workflow.id).await?;
    let detail = serde_json::json!({ "name": &workflow.name, "team": workflow.team });
    let id = workflow.id;
    let view = WorkflowView::new(&mut change, workflow).await?;
    change.commit(caller.entry(&app, "workflow.create", id, detail)).await?;
    Ok((StatusCode::CREATED, view))
}

/// Shows a workflow.
#[utoipa::path(
    get, path = "/api/v1/workflows/{id}", tag = "workflows",
    params(("id" = Uuid, Path, description = "The workflow.")),
    responses((status = 200, description = "The workflow.", body = WorkflowView)),
)]
async fn get_workflow(
    State(app): State<Shared>,
    caller: Caller,
    Path(id): Path<WorkflowId>,
) -> Result<Versioned<WorkflowView>, Problem> {
    let mut db = app.store.read().await?;
    let workflow = find(&mut db, &caller, id).await?;
    WorkflowView::new(&mut db, workflow).await
}

/// Changes a workflow's name and actions, and moves it to another team.
#[utoipa::path(
    put, path = "/api/v1/workflows/{id}", tag = "workflows", request_body = UpdateWorkflow,
    params(("id" = Uuid, Path, description = "The workflow."), IfMatch),
    responses((status = 200, description = "The workflow.", body = WorkflowView)),
)]
async fn update_workflow(
    State(app): State<Shared>,
    caller: Caller,
    if_match: IfMatch,
    Path(id): Path<WorkflowId>,
    Json(body): Json<UpdateWorkflow>,
) -> Result<Versioned<WorkflowView>, Problem> {
    validate(&body.actions)?;
    let mut change = app.store.change().await?;
    let mut workflow = find(&mut change, &caller, id).await?;
    if_match.check(&mut change, workflow.stamp).await?;
    let from = workflow.team;
    if let Some(team) = body.team.filter(|team| *team != from) {
        teams::find(&mut change, &caller, team).await?;
        caller.must_act_for(&mut change, team).await?;
        store::workflow::change_team(&mut change, id, team).await?;
        workflow.team = team;
    }
    workflow.name = display_text(&body.name, "the name")?;
    workflow.actions = body.actions;
    store::workflow::update(&mut change, &workflow).await?;
    workflow.stamp = caller.stamp(&app, &mut change, Stamped::Workflow, id).await?;
    let mut detail = serde_json::json!({ "name": &workflow.name, "team": workflow.team });
    if workflow.team != from {
        detail["moved_from"] = serde_json::json!(from);
    }
    let view = WorkflowView::new(&mut change, workflow).await?;
    change.commit(caller.entry(&app, "workflow.update", id, detail)).await?;
    Ok(view)
}

/// Removes a workflow and its runs; its gateway tokens are revoked.
#[utoipa::path(
    delete, path = "/api/v1/workflows/{id}", tag = "workflows",
    params(("id" = Uuid, Path, description = "The workflow.")),
    responses((status = 204, description = "Removed.")),
)]
async fn delete_workflow(
    State(app): State<Shared>,
    caller: Caller,
    Path(id): Path<WorkflowId>,
) -> Result<StatusCode, Problem> {
    let mut change = app.store.change().await?;
    let workflow = find(&mut change, &caller, id).await?;
    let revoked = store::workflow::delete(&mut change, id, app.clock.now_ms()).await?;
    let detail = serde_json::json!({
        "name": workflow.name, "team": workflow.team, "revoked_proxy_tokens": revoked,
    });
    change.commit(caller.entry(&app, "workflow.delete", id, detail)).await?;
    no_content()
}

/// The workflow, if the caller may act for its team.
pub(super) async fn find(
    db: &mut impl Read,
    caller: &Caller,
    id: WorkflowId,
) -> Result<Workflow, Problem> {
    let workflow = store::workflow::find(db, caller.tenant(), id).await?;
    let workflow = workflow.ok_or_else(|| Problem::not_found("workflow"))?;
    caller.must_act_for(db, workflow.team).await?;
    Ok(workflow)
}

fn validate(actions: &[Action]) -> Result<(), Problem> {
    if actions.is_empty() || actions.len() > MAX_ACTIONS {
        return Err(Problem::invalid(format!("a workflow has 1 to {MAX_ACTIONS} actions")));
    }
    actions.iter().try_for_each(|action| action.validate().map_err(Problem::invalid))
}
