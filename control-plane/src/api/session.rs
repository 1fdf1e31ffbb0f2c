//! Logging in and out, and who one is.

use axum::{extract::State, response::IntoResponse};
use http::{StatusCode, header};
use protocol::id::{TeamId, TenantId, UserId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use zeroize::Zeroizing;

use super::{
    extract::{Caller, Client, Json, Path, Query},
    list::{List, Paging},
    no_content,
    problem::Problem,
    timestamp::Timestamp,
    users::new_password,
};
use crate::{
    app::{App, Shared},
    auth::{
        backoff::Account,
        password::{self, Asker},
        session::{self, SessionId},
    },
    failures::Failure,
    options::MAX_PASSWORD,
    store::{
        self, Change,
        audit::{Actor, Entry},
        page::{Position, Slice},
        session::Session,
        user::{Permission, User},
    },
};

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(log_in, log_out))
        .routes(routes!(who_am_i))
        .routes(routes!(change_password))
        .routes(routes!(list_sessions))
        .routes(routes!(end_session))
}

/// What it takes to log in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct LogIn {
    /// E-mail address.
    email: String,
    /// Password.
    #[schema(value_type = String, format = Password)]
    password: Zeroizing<String>,
}

/// What a session needs to know.
#[derive(Serialize, ToSchema)]
pub(super) struct LoggedIn {
    /// For the header `Postern-CSRF`, with everything but GET.
    csrf_token: String,
}

/// Begins a session.
#[utoipa::path(
    post, path = "/api/v1/session", tag = "session", request_body = LogIn, security(()),
    responses((status = 200, description = "Logged in; the cookie is set.", body = LoggedIn)),
)]
async fn log_in(
    State(app): State<Shared>,
    client: Client,
    Json(body): Json<LogIn>,
) -> Result<impl IntoResponse, Problem> {
    if body.password.len() > MAX_PASSWORD || body.email.len() > MAX_PASSWORD {
        return Err(Problem::bad_login());
    }
    let (email, now_ms) = (body.email.trim().to_lowercase(), app.clock.now_ms());
    let source = client.source();
    let account = Account::Login(email.clone());
    let begun = app.logins.begin(account, source, now_ms).map_err(Problem::too_many_logins)?;
    let mut db = app.store.read().await?;
    let user = store::user::by_email(&mut db, &email).await?;
    let is_known = match &user {
        Some(user) => store::login_source::is_known(&mut db, user.id, source, now_ms).await?,
        None => false,
    };
    drop(db);
    let begun = match is_known {
        true => begun,
        false => begun.charge_account(now_ms).map_err(Problem::too_many_logins)?,
    };
    let hash = user.as_ref().and_then(User::password_hash);
    let asker = Asker::Stranger(source);
    let is_right = match app.passwords.verify(body.password, hash, asker).await {
        // It was no failure of whoever tried.
        Err(password::Error::Busy) => {
            begun.take_back();
            return Err(password::Error::Busy.into());
        }
        verified => verified?,
    };
    let Some(user) = user.as_ref().filter(|_| is_right) else {
        let reason = if user.is_some() { "wrong_password" } else { "unknown_account" };
        let tenant = user.map(|user| user.tenant);
        let (action, ip) = ("session.fail", client.ip());
        app.failures.note(Failure { tenant, action, subject: email, ip, reason });
        return Err(Problem::bad_login());
    };
    begun.succeeded();
    if user.about.disabled_ms.is_some() {
        let (tenant, action, ip) = (Some(user.tenant), "session.fail", client.ip());
        app.failures.note(Failure { tenant, action, subject: email, ip, reason: "disabled" });
        return Err(Problem::disabled());
    }
    let change = app.store.record().await?;
    begin(&app, change, user.clone(), &client, "session.begin").await
}

/// Begins a session as the last part of a change.
pub(super) async fn begin(
    app: &App,
    mut change: Change,
    user: User,
    client: &Client,
    action: &'static str,
) -> Result<impl IntoResponse + use<>, Problem> {
    let (id, now_ms) = (SessionId::draw(), app.clock.now_ms());
    let row = Session {
        user: user.id,
        address: client.address(),
        user_agent: client.user_agent.clone(),
        created_ms: now_ms,
        last_used_ms: now_ms,
    };
    store::session::insert(&mut change, &id.digest(), &row).await?;
    store::user::came_in(&mut change, user.id, now_ms).await?;
    store::login_source::used(&mut change, user.id, client.source(), now_ms).await?;
    let entry = Entry {
        tenant: user.tenant,
        actor: Actor::User { id: user.id, email: user.email.clone() },
        action,
        subject: user.email,
        detail: serde_json::Value::Null,
        at_ms: now_ms,
    };
    change.commit(entry).await?;
    let cookie = [(header::SET_COOKIE, id.cookie(app.secure_cookies))];
    Ok((cookie, Json(LoggedIn { csrf_token: id.csrf() })))
}

/// Ends the session.
#[utoipa::path(
    delete, path = "/api/v1/session", tag = "session",
    responses((status = 204, description = "Logged out.")),
)]
async fn log_out(State(app): State<Shared>, caller: Caller) -> Result<impl IntoResponse, Problem> {
    if let Some(id) = &caller.session {
        let mut change = app.store.record().await?;
        store::session::delete(&mut change, &id.digest()).await?;
        let email = caller.user.email.clone();
        change.commit(caller.entry(&app, "session.end", email, serde_json::Value::Null)).await?;
    }
    let cookie = [(header::SET_COOKIE, session::no_cookie(app.secure_cookies))];
    Ok((StatusCode::NO_CONTENT, cookie))
}

/// Who is asking.
#[derive(Serialize, ToSchema)]
struct Me {
    #[schema(value_type = Uuid)]
    id: UserId,
    email: String,
    /// What people call them; may be empty.
    name: String,
    #[schema(value_type = Uuid)]
    tenant: TenantId,
    /// Owners may do everything in their tenant.
    is_owner: bool,
    /// Operators look after edges and tenants.
    is_operator: bool,
    permissions: Vec<Permission>,
    /// Teams that the user is a member of.
    #[schema(value_type = Vec<Uuid>)]
    teams: Vec<TeamId>,
    /// For the header `Postern-CSRF`; with an API key there is none.
    csrf_token: Option<String>,
}

/// Who is asking.
#[utoipa::path(
    get, path = "/api/v1/me", tag = "session",
    responses((status = 200, description = "The user.", body = Me)),
)]
async fn who_am_i(State(app): State<Shared>, caller: Caller) -> Result<Json<Me>, Problem> {
    let mut db = app.store.read().await?;
    let teams = store::team::of_user(&mut db, caller.user.id).await?;
    Ok(Json(Me {
        id: caller.user.id,
        tenant: caller.tenant(),
        is_owner: caller.user.is_owner,
        is_operator: caller.must_be_operator().is_ok(),
        csrf_token: caller.session.as_ref().map(SessionId::csrf),
        email: caller.user.email,
        name: caller.user.about.name,
        permissions: caller.user.permissions.into_iter().collect(),
        teams: teams.into_iter().collect(),
    }))
}

/// A change of one's own password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChangePassword {
    /// The one that counts now.
    #[schema(value_type = String, format = Password)]
    current: Zeroizing<String>,
    /// The one that is to count.
    #[schema(value_type = String, format = Password)]
    new: Zeroizing<String>,
}

/// Changes one's own password and ends all of one's sessions.
#[utoipa::path(
    put, path = "/api/v1/me/password", tag = "session", request_body = ChangePassword,
    responses((status = 204, description = "Changed; log in again.")),
)]
async fn change_password(
    State(app): State<Shared>,
    caller: Caller,
    client: Client,
    Json(body): Json<ChangePassword>,
) -> Result<StatusCode, Problem> {
    let email = caller.user.email.as_str();
    new_password(&body.new)?;
    let (account, now_ms) = (Account::Password(caller.user.id), app.clock.now_ms());
    let begun = app.logins.begin(account, caller.source, now_ms);
    let begun = begun.and_then(|begun| begun.charge_account(now_ms));
    let begun = begun.map_err(Problem::too_many_logins)?;
    let hash = caller.user.password_hash();
    let is_right = match app.passwords.verify(body.current, hash, caller.asker()).await {
        Err(password::Error::Busy) => {
            begun.take_back();
            return Err(password::Error::Busy.into());
        }
        verified => verified?,
    };
    if !is_right {
        app.failures.note(Failure {
            tenant: Some(caller.tenant()),
            action: "session.fail",
            subject: email.to_owned(),
            ip: client.ip(),
            reason: "wrong_current_password",
        });
        return Err(Problem::bad_login());
    }
    begun.succeeded();
    let hash = app.passwords.hash(body.new, caller.asker()).await?;
    let mut change = app.store.change().await?;
    store::user::set_password(&mut change, caller.user.id, &hash).await?;
    store::session::delete_of(&mut change, caller.user.id).await?;
    store::one_time_link::delete_of(&mut change, caller.user.id).await?;
    change.commit(caller.entry(&app, "user.password", email, serde_json::Value::Null)).await?;
    no_content()
}

/// A session of one's own.
#[derive(Serialize, ToSchema)]
struct SessionView {
    /// For ending it; tells nothing of the cookie.
    id: String,
    /// Is it the one that asks?
    is_current: bool,
    /// From where it began.
    address: String,
    /// By which program, in its own words.
    user_agent: String,
    created_at: Timestamp,
    /// To a minute.
    last_used_at: Timestamp,
    /// When it ends if it is not used again before.
    expires_at: Timestamp,
}

/// Lists one's own sessions, the latest used first.
#[utoipa::path(
    get, path = "/api/v1/me/sessions", tag = "session", params(Paging),
    responses((status = 200, description = "A page of sessions.", body = List<SessionView>)),
)]
async fn list_sessions(
    State(app): State<Shared>,
    caller: Caller,
    Query(paging): Query<Paging>,
) -> Result<Json<List<SessionView>>, Problem> {
    let (page, order) = paging.newest_first(store::session::BY_USE)?;
    let now_ms = app.clock.now_ms();
    let mut db = app.store.read().await?;
    let mut sessions = store::session::list(&mut db, caller.user.id).await?;
    sessions.retain(|(_, session)| !session.is_over(now_ms));
    let current = caller.session.as_ref().map(SessionId::digest);
    let view = |(digest, session): (String, Session)| SessionView {
        id: session::public_id(&digest),
        is_current: current.as_ref() == Some(&digest),
        expires_at: Timestamp(session.ends_ms()),
        address: session.address,
        user_agent: session.user_agent,
        created_at: Timestamp(session.created_ms),
        last_used_at: Timestamp(session.last_used_ms),
    };
    let place = |(digest, session): &(String, Session)| {
        Position::new(session.last_used_ms, session::public_id(digest))
    };
    Ok(Json(List::new(Slice::of(sessions, &page, place).map(view), &order)))
}

/// Ends one of one's own sessions.
#[utoipa::path(
    delete, path = "/api/v1/me/sessions/{id}", tag = "session",
    params(("id" = String, Path, description = "The session.")),
    responses((status = 204, description = "Ended.")),
)]
async fn end_session(
    State(app): State<Shared>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let mut change = app.store.record().await?;
    let sessions = store::session::list(&mut change, caller.user.id).await?;
    let digest = sessions.into_iter().map(|(digest, _)| digest);
    let digest = digest.into_iter().find(|digest| session::public_id(digest) == id);
    let digest = digest.ok_or_else(|| Problem::not_found("session"))?;
    store::session::delete(&mut change, &digest).await?;
    let email = caller.user.email.clone();
    change.commit(caller.entry(&app, "session.end", email, serde_json::Value::Null)).await?;
    no_content()
}
