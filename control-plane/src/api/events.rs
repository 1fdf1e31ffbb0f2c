//! Server-sent events: what has changed, as far as the viewer may see it. They say what to look up
//! again; the answers come from the other operations.

use std::{
    collections::{BTreeSet, VecDeque},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};

use axum::{
    extract::State,
    response::{
        IntoResponse,
        sse::{Event, Sse},
    },
};
use futures_util::stream;
use http::HeaderMap;
use protocol::{
    access::Decision,
    id::{ApiKeyId, RunId, TeamId, WorkflowId},
    name::TunnelName,
};
use serde::Serialize;
use tokio::{sync::broadcast::error::RecvError, time::Interval};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{extract::Caller, problem::Problem};
use crate::{
    app::Shared,
    events::{Events, MAX_REPLAY, News, Subscription, TunnelNews},
    store::{
        self,
        audit::{Actor, Recorded},
        run::{RunNews, Status},
        user::{Permission, User},
    },
};

/// How often a silent stream says that it is alive, and whether its session still is.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// After a break, browsers try again that soon.
const RETRY: Duration = Duration::from_secs(1);
/// Entries that are told once more after a break: two changes that were stored at almost the same
/// time may have been told in the other order.
const OVERLAP: u64 = 8;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(watch))
}

/// Watches what changes, as server-sent events, as far as the caller may see it. Each event says what
/// to look up again: `change` (an audit entry's `action` and `subject`; the event's id is the entry's
/// number), `presence` (`tunnels` whose links or health changed), `edges`, `run` (`workflow`, `run`,
/// `status`), `usable_tunnels`, `resync` (everything). The stream begins with `hello` and ends with
/// `bye` and its `reason`: `session_ended` or `stopping`. With `Last-Event-ID` it goes on where the one
/// before broke off.
#[utoipa::path(
    get, path = "/api/v1/events", tag = "events",
    params(("Last-Event-ID" = Option<u64>, Header, description = "The id of the last event seen.")),
    responses((status = 200, description = "The events, without end.", body = String,
        content_type = "text/event-stream")),
)]
async fn watch(
    State(app): State<Shared>,
    caller: Caller,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Problem> {
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse::<u64>().ok());
    let mut db = app.store.read().await?;
    let newest = store::audit::newest(&mut db, caller.tenant()).await?;
    let teams = store::team::of_user(&mut db, caller.user.id).await?;
    let subscription = Events::subscribe(&app, caller.tenant(), caller.user.id, newest)
        .map_err(|_| Problem::too_many_streams())?;
    let proof = match (&caller.session, caller.key) {
        (Some(session), _) => Proof::Session(session.digest()),
        (None, Some(key)) => Proof::Key(key),
        (None, None) => return Err(Problem::unauthenticated("there is no session")),
    };
    let mut heartbeat = tokio::time::interval(HEARTBEAT);
    heartbeat.reset();
    let mut watcher = Watcher {
        app: app.clone(),
        subscription,
        viewer: Viewer { user: caller.user, teams },
        usable: None,
        proof,
        heartbeat,
        told: newest,
        queue: VecDeque::new(),
        is_over: false,
    };
    let hello = Event::default().event("hello").retry(RETRY);
    watcher.queue.push_back(hello.id(newest.to_string()).data("{}"));
    watcher.usable = Some(watcher.usable_now(&mut db).await?);
    if let Some(last) = last {
        watcher.replay(&mut db, last, newest).await?;
    }
    drop(db);
    let events = stream::unfold(watcher, |mut watcher| async {
        let event = watcher.next().await?;
        Some((Ok::<_, Infallible>(event), watcher))
    });
    Ok(([("x-accel-buffering", "no")], Sse::new(events)))
}

/// By what the viewer has come in.
enum Proof {
    Session(String),
    Key(ApiKeyId),
}

/// Who watches, as of late.
struct Viewer {
    user: User,
    teams: BTreeSet<TeamId>,
}

/// One stream.
struct Watcher {
    app: Shared,
    subscription: Subscription,
    viewer: Viewer,
    /// The tunnels that the viewer could pick when last looked up.
    usable: Option<BTreeSet<TunnelName>>,
    proof: Proof,
    heartbeat: Interval,
    /// Entries up to this one are told already.
    told: u64,
    queue: VecDeque<Event>,
    is_over: bool,
}

#[derive(Serialize)]
struct Change<'a> {
    action: &'a str,
    subject: &'a str,
}

#[derive(Serialize)]
struct Presence<'a> {
    tunnels: Vec<&'a TunnelName>,
}

#[derive(Serialize)]
struct RunBody {
    workflow: WorkflowId,
    run: RunId,
    status: Status,
}

#[derive(Serialize)]
struct Bye {
    reason: &'static str,
}

impl Watcher {
    /// The next event; `None` after the last one.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Some(event);
            }
            if self.is_over {
                return None;
            }
            tokio::select! {
                news = self.subscription.news.recv() => match news {
                    Ok(news) => self.take(news).await,
                    Err(RecvError::Lagged(_)) => self.push("resync", &()),
                    Err(RecvError::Closed) => self.end("stopping"),
                },
                _ = self.heartbeat.tick() => {
                    self.push("alive", &());
                    self.look_again().await;
                }
            }
        }
    }

    /// Tells the entries that the stream before did not tell.
    async fn replay(
        &mut self,
        db: &mut store::Reader,
        last: u64,
        newest: u64,
    ) -> Result<(), Problem> {
        let tenant = self.viewer.user.tenant;
        // A database that was restored from a backup is behind its readers.
        let is_countable = last <= newest && newest - last < u64::from(MAX_REPLAY);
        if !is_countable {
            self.push("resync", &());
            return Ok(());
        }
        let from = last.saturating_sub(OVERLAP);
        for entry in store::audit::after(db, tenant, from, 2 * MAX_REPLAY).await? {
            if entry.sequence <= newest {
                self.tell_change(&entry);
            }
        }
        Ok(())
    }

    async fn take(&mut self, news: News) {
        match news {
            News::Changed(entry) if entry.sequence <= self.told => {}
            News::Changed(entry) => self.take_change(&entry).await,
            News::Presence(tunnels) => {
                let visible = tunnels.iter().filter(|tunnel| self.viewer.sees_tunnel(tunnel));
                let tunnels: Vec<_> = visible.map(|tunnel| &tunnel.name).collect();
                if !tunnels.is_empty() {
                    self.push("presence", &Presence { tunnels });
                }
            }
            News::Edges if self.viewer.is_operator() => self.push("edges", &()),
            News::Edges => {}
            News::Run(run) if self.viewer.acts_for(run.team) => {
                let RunNews { workflow, run, status, .. } = run;
                self.push("run", &RunBody { workflow, run, status });
            }
            News::Run(_) => {}
            News::Resync => {
                self.push("resync", &());
                self.look_again().await;
            }
        }
    }

    async fn take_change(&mut self, entry: &Arc<Recorded>) {
        self.told = entry.sequence;
        let area = entry.action.split('.').next().unwrap_or_default();
        // These may end the session, or change what the viewer sees.
        if matches!(area, "session" | "user" | "team" | "api_key") {
            self.look_again().await;
        }
        self.tell_change(entry);
        if matches!(area, "tunnel" | "team") {
            self.compare_usable().await;
        }
    }

    fn tell_change(&mut self, entry: &Recorded) {
        if self.viewer.sees_change(entry) && !self.is_over {
            let change = Change { action: &entry.action, subject: &entry.subject };
            let event = event("change", &change).id(entry.sequence.to_string());
            self.queue.push_back(event);
        }
    }

    /// Is the session still there, and what may its user see now?
    async fn look_again(&mut self) {
        match self.viewer_now().await {
            Ok(Some(viewer)) => self.viewer = viewer,
            Ok(None) => self.end("session_ended"),
            Err(error) => {
                tracing::warn!(error = error.as_source(), "an event stream was not looked after");
                // The client comes again, and is told then.
                self.is_over = true;
            }
        }
    }

    async fn viewer_now(&self) -> store::Result<Option<Viewer>> {
        let mut db = self.app.store.read().await?;
        let is_valid = match &self.proof {
            Proof::Session(digest) => store::session::find(&mut db, digest)
                .await?
                .is_some_and(|session| !session.is_over(self.app.clock.now_ms())),
            Proof::Key(key) => {
                let key = store::api_key::find(&mut db, *key).await?;
                key.is_some_and(|key| key.revoked_ms.is_none())
            }
        };
        if !is_valid {
            return Ok(None);
        }
        let user = store::user::by_id(&mut db, self.viewer.user.id).await?;
        let Some(user) = user.filter(|user| user.about.disabled_ms.is_none()) else {
            return Ok(None);
        };
        let teams = store::team::of_user(&mut db, user.id).await?;
        Ok(Some(Viewer { user, teams }))
    }

    /// Tells users without TUNNEL_MANAGE when the tunnels that they can pick are others than before,
    /// and nothing else about tunnels.
    async fn compare_usable(&mut self) {
        if self.viewer.manages_tunnels() {
            return;
        }
        let looked_up = async {
            let mut db = self.app.store.read().await?;
            self.usable_now(&mut db).await
        };
        let usable = looked_up.await.ok();
        if self.usable != usable {
            self.usable = usable;
            self.push("usable_tunnels", &());
        }
    }

    async fn usable_now(&self, db: &mut store::Reader) -> store::Result<BTreeSet<TunnelName>> {
        let tunnels = store::tunnel::list(db, self.viewer.user.tenant).await?;
        let news = tunnels.into_iter().map(|tunnel| TunnelNews {
            tenant: tunnel.tenant,
            name: tunnel.name,
            access: tunnel.access,
        });
        Ok(news.filter(|tunnel| self.viewer.may_use(tunnel)).map(|tunnel| tunnel.name).collect())
    }

    fn push(&mut self, name: &str, data: &impl Serialize) {
        self.queue.push_back(event(name, data));
    }

    fn end(&mut self, reason: &'static str) {
        self.push("bye", &Bye { reason });
        self.is_over = true;
    }
}

impl Viewer {
    fn is_operator(&self) -> bool {
        self.user.is_owner && self.user.is_operator_tenant
    }

    fn manages_tunnels(&self) -> bool {
        self.user.is_owner || self.user.permissions.contains(&Permission::TunnelManage)
    }

    fn acts_for(&self, team: TeamId) -> bool {
        self.user.is_owner || self.teams.contains(&team)
    }

    fn may_use(&self, tunnel: &TunnelNews) -> bool {
        let is_allowed = |team: &TeamId| {
            let caller =
                protocol::access::Caller { tenant: self.user.tenant, team: *team, workflow: None };
            tunnel.access.evaluate(tunnel.tenant, &caller) == Decision::Allowed
        };
        self.teams.iter().any(is_allowed)
    }

    fn sees_tunnel(&self, tunnel: &TunnelNews) -> bool {
        self.manages_tunnels() || self.may_use(tunnel)
    }

    /// Owners see all of their tenant; others what they manage, what their teams own, and what they
    /// did themselves.
    fn sees_change(&self, entry: &Recorded) -> bool {
        if self.user.is_owner {
            return true;
        }
        if entry.action.starts_with("tunnel.") {
            return self.manages_tunnels();
        }
        if matches!(&entry.actor, Actor::User { id, .. } if *id == self.user.id) {
            return true;
        }
        let team = match entry.action.starts_with("team.") {
            true => entry.subject.parse().ok(),
            false => entry.detail["team"].as_str().and_then(|team| team.parse().ok()),
        };
        team.is_some_and(|team| self.teams.contains(&team) || self.sees_teams(&entry.action))
    }

    /// Whoever manages tunnels sees all teams, to pick from them.
    fn sees_teams(&self, action: &str) -> bool {
        action.starts_with("team.") && self.manages_tunnels()
    }
}

fn event(name: &str, data: &impl Serialize) -> Event {
    let json = serde_json::to_string(data).expect("events are plain data");
    Event::default().event(name).data(json)
}
