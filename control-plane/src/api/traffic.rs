//! What went through a tunnel, and what was refused.

use std::collections::{BTreeMap, btree_map::Entry};

use axum::extract::State;
use protocol::{
    name::TunnelName,
    refusal::Code,
    traffic::{Counts, Failure, LATENCY_BOUNDS_MS, LATENCY_CLASSES},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    extract::{Caller, Json, Path, Query},
    problem::Problem,
    timestamp::Timestamp,
    tunnels,
};
use crate::{
    app::Shared,
    store::{self, traffic::Step},
};

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(get_traffic)).routes(routes!(list_failures))
}

/// How far back.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
enum Span {
    /// An hour, by the minute.
    #[default]
    #[serde(rename = "1h")]
    Hour,
    /// A day, by the minute.
    #[serde(rename = "24h")]
    Day,
    /// 30 days, by the hour.
    #[serde(rename = "30d")]
    Month,
}

impl Span {
    fn step(self) -> Step {
        match self {
            Self::Hour | Self::Day => Step::Minute,
            Self::Month => Step::Hour,
        }
    }

    fn steps(self) -> u64 {
        match self {
            Self::Hour => 60,
            Self::Day => 24 * 60,
            Self::Month => 30 * 24,
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Asked {
    /// `1h`, `24h` or `30d`; an hour, if it is not given.
    #[serde(default)]
    #[param(inline)]
    span: Span,
}

/// What went through a tunnel.
#[derive(Debug, Serialize, ToSchema)]
struct TrafficView {
    /// Length of a step, in seconds.
    step_s: u64,
    /// When the first step began.
    from: Timestamp,
    /// When the last step ends.
    to: Timestamp,
    /// Upper bounds of the classes of latency, in milliseconds. There is one class more, without a bound.
    latency_bounds_ms: Vec<u32>,
    /// The steps in which something went through, oldest first.
    steps: Vec<StepView>,
}

/// What went through in one step.
#[derive(Debug, Serialize, ToSchema)]
struct StepView {
    /// When it began.
    at: Timestamp,
    /// Requests that were answered by their origin.
    answered: u64,
    /// Requests whose client went away.
    client_gone: u64,
    /// Refusals, by their code.
    refused: BTreeMap<String, u64>,
    /// Bytes to origins.
    bytes_up: u64,
    /// Bytes from origins.
    bytes_down: u64,
    /// Answers by how long they took to begin, in the classes of `latency_bounds_ms`.
    latency: Vec<u64>,
}

impl StepView {
    fn new(start_s: u64, counts: Counts) -> Self {
        let Counts { outcomes: mut refused, bytes_up, bytes_down, mut latency } = counts;
        let mut take = |outcome| refused.remove(outcome).unwrap_or(0);
        let (answered, client_gone) = (take("ok"), take("client_gone"));
        latency.resize(LATENCY_CLASSES, 0);
        let at = Timestamp(start_s * 1_000);
        Self { at, answered, client_gone, refused, bytes_up, bytes_down, latency }
    }
}

/// Shows what went through a tunnel, by the minute or the hour. Edges report every few seconds; figures that a
/// broken connection takes along are lost.
#[utoipa::path(
    get, path = "/api/v1/admin/tunnel/{name}/traffic", tag = "tunnels",
    params(("name" = String, Path, description = "The tunnel's name."), Asked),
    responses((status = 200, description = "What went through.", body = TrafficView)),
)]
async fn get_traffic(
    State(app): State<Shared>,
    caller: Caller,
    Path(name): Path<TunnelName>,
    Query(Asked { span }): Query<Asked>,
) -> Result<Json<TrafficView>, Problem> {
    caller.must_manage_tunnels()?;
    let mut db = app.store.read().await?;
    let tunnel = tunnels::find(&mut db, &caller, &name).await?;
    let step = span.step();
    let last_s = step.start(app.clock.now_ms() / 1_000);
    let from_s = last_s.saturating_sub((span.steps() - 1) * step.seconds());
    let stored = store::traffic::since(&mut db, tunnel.id, step, from_s).await?;
    let mut steps: BTreeMap<u64, Counts> = stored.into_iter().collect();
    for (minute_s, counts) in app.traffic.unstored(tunnel.id) {
        steps.entry(step.start(minute_s)).or_default().add(&counts);
    }
    Ok(Json(TrafficView {
        step_s: step.seconds(),
        from: Timestamp(from_s * 1_000),
        to: Timestamp((last_s + step.seconds()) * 1_000),
        latency_bounds_ms: LATENCY_BOUNDS_MS.to_vec(),
        steps: steps.into_iter().map(|(start_s, counts)| StepView::new(start_s, counts)).collect(),
    }))
}

/// A request that was refused, or whose answer broke off.
#[derive(Debug, Serialize, ToSchema)]
struct FailureView {
    /// When it ended.
    at: Timestamp,
    /// The refusal's code.
    code: String,
    /// What the code means.
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'static str>,
    /// Whose fault it is: `client`, `edge`, `connector` or `origin`.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'static str>,
    /// What was particular about this one.
    detail: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<&'static str>,
    /// Host and port that were asked for.
    destination: String,
    /// The team that asked.
    team: String,
    /// Its name, if it is still there.
    #[serde(skip_serializing_if = "Option::is_none")]
    team_name: Option<String>,
    /// Its workflow, if it was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    workflow: Option<String>,
    /// The proxy token, if it was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    /// How long each part took, in microseconds: `policy=12, edge=30, link=800`. Empty if nothing was measured.
    phases: String,
}

/// Refusals, newest first.
#[derive(Serialize, ToSchema)]
struct Failures {
    items: Vec<FailureView>,
}

/// Lists the latest 100 requests of a tunnel that were refused, or whose answers broke off.
#[utoipa::path(
    get, path = "/api/v1/admin/tunnel/{name}/failures", tag = "tunnels",
    params(("name" = String, Path, description = "The tunnel's name.")),
    responses((status = 200, description = "The refusals, newest first.", body = Failures)),
)]
async fn list_failures(
    State(app): State<Shared>,
    caller: Caller,
    Path(name): Path<TunnelName>,
) -> Result<Json<Failures>, Problem> {
    caller.must_manage_tunnels()?;
    let mut db = app.store.read().await?;
    let tunnel = tunnels::find(&mut db, &caller, &name).await?;
    let mut names = BTreeMap::new();
    let mut items = Vec::new();
    for failure in store::traffic::failures(&mut db, tunnel.id).await? {
        let team_name = match names.entry(failure.team) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let team = store::team::find(&mut db, tunnel.tenant, failure.team).await?;
                new.insert(team.map(|team| team.name))
            }
        };
        items.push(view(failure, team_name.clone()));
    }
    Ok(Json(Failures { items }))
}

fn view(failure: Failure, team_name: Option<String>) -> FailureView {
    let known: Option<Code> = failure.code.parse().ok();
    FailureView {
        at: Timestamp(failure.at_ms),
        title: known.map(Code::title),
        source: known.map(|code| code.source().as_str()),
        fix: known.map(Code::fix),
        code: failure.code,
        detail: failure.detail,
        destination: failure.destination,
        team: failure.team.to_string(),
        team_name,
        workflow: failure.workflow.map(|id| id.to_string()),
        token: failure.token.map(|id| id.to_string()),
        phases: failure.phases,
    }
}
