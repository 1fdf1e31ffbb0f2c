//! Links that work once: by the set-up link the first owner chooses a password, and a sign-in link
//! lets whoever holds it in without one.

use axum::{extract::State, response::IntoResponse};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use zeroize::Zeroizing;

use super::{
    extract::{Caller, Client, Json},
    problem::Problem,
    session::{LoggedIn, begin},
    timestamp::Timestamp,
    users::new_password,
};
use crate::{
    app::{App, Shared},
    auth::{
        backoff::Account,
        one_time::{LinkSecret, SIGN_IN_MS},
        password::Asker,
    },
    failures::Failure,
    store::{
        self, Read,
        one_time_link::{self, OneTimeLink, Purpose},
        user::User,
    },
};

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(show_set_up_link))
        .routes(routes!(set_up))
        .routes(routes!(sign_in_by_link))
        .routes(routes!(create_sign_in_link))
}

/// A link's secret.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ByLink {
    /// What stands behind the `#` of the link.
    #[schema(value_type = String, format = Password, max_length = 128)]
    secret: Zeroizing<String>,
}

/// For whom a set-up link is.
#[derive(Serialize, ToSchema)]
struct SetUpLink {
    email: String,
    expires_at: Timestamp,
}

/// A first password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SetUp {
    /// What stands behind the `#` of the link.
    #[schema(value_type = String, format = Password, max_length = 128)]
    secret: Zeroizing<String>,
    #[schema(value_type = String, format = Password, min_length = 8, max_length = 256)]
    password: Zeroizing<String>,
}

/// A link that signs in once.
#[derive(Serialize, ToSchema)]
struct SignInLink {
    /// Stands behind the `#` of the console's `/sign-in#…`.
    secret: String,
    expires_at: Timestamp,
}

/// Shows for whom a set-up link is, and whether the link still works.
#[utoipa::path(
    post, path = "/api/v1/setup/link", tag = "session", request_body = ByLink, security(()),
    responses((status = 200, description = "The link works.", body = SetUpLink)),
)]
async fn show_set_up_link(
    State(app): State<Shared>,
    client: Client,
    Json(body): Json<ByLink>,
) -> Result<Json<SetUpLink>, Problem> {
    let mut db = app.store.read().await?;
    let (link, user) = find(&app, &mut db, &client, body.secret, Purpose::SetUp).await?.1;
    Ok(Json(SetUpLink { email: user.email, expires_at: Timestamp(link.expires_ms) }))
}

/// Sets the first password by a set-up link, and begins a session. The link works once.
#[utoipa::path(
    post, path = "/api/v1/setup", tag = "session", request_body = SetUp, security(()),
    responses((status = 200, description = "Set, and logged in; the cookie is set.",
        body = LoggedIn)),
)]
async fn set_up(
    State(app): State<Shared>,
    client: Client,
    Json(body): Json<SetUp>,
) -> Result<impl IntoResponse, Problem> {
    new_password(&body.password)?;
    // The link is checked before argon2 takes its time, and once more where nobody can come between.
    let secret = body.secret.clone();
    let mut db = app.store.read().await?;
    find(&app, &mut db, &client, secret, Purpose::SetUp).await?;
    drop(db);
    let hash = app.passwords.hash(body.password, Asker::Known(client.source())).await?;
    let mut change = app.store.change().await?;
    let (_, (_, user)) = find(&app, &mut change, &client, body.secret, Purpose::SetUp).await?;
    store::user::set_password(&mut change, user.id, &hash).await?;
    one_time_link::delete_of(&mut change, user.id).await?;
    store::session::delete_of(&mut change, user.id).await?;
    begin(&app, change, user, &client, "user.set_up").await
}

/// Begins a session by a sign-in link. The link works once.
#[utoipa::path(
    post, path = "/api/v1/session/link", tag = "session", request_body = ByLink, security(()),
    responses((status = 200, description = "Logged in; the cookie is set.", body = LoggedIn)),
)]
async fn sign_in_by_link(
    State(app): State<Shared>,
    client: Client,
    Json(body): Json<ByLink>,
) -> Result<impl IntoResponse, Problem> {
    // Nobody waits for a stranger: the link is checked before anything is written, and once more where nobody can
    // come between.
    let mut db = app.store.read().await?;
    find(&app, &mut db, &client, body.secret.clone(), Purpose::SignIn).await?;
    drop(db);
    let mut change = app.store.record().await?;
    let (digest, (_, user)) =
        find(&app, &mut change, &client, body.secret, Purpose::SignIn).await?;
    one_time_link::delete(&mut change, &digest).await?;
    begin(&app, change, user, &client, "session.begin").await
}

/// Makes a link that signs the caller in once, within an hour.
#[utoipa::path(
    post, path = "/api/v1/me/sign-in-links", tag = "session",
    responses((status = 201, description = "The link, shown this once.", body = SignInLink)),
)]
async fn create_sign_in_link(
    State(app): State<Shared>,
    caller: Caller,
) -> Result<(StatusCode, Json<SignInLink>), Problem> {
    let secret = LinkSecret::draw();
    let link = OneTimeLink { user: caller.user.id, expires_ms: app.clock.now_ms() + SIGN_IN_MS };
    let mut change = app.store.change().await?;
    one_time_link::insert(&mut change, &secret.digest(), Purpose::SignIn, &link).await?;
    let email = caller.user.email.clone();
    change.commit(caller.entry(&app, "user.sign_in_link", email, serde_json::Value::Null)).await?;
    let created = SignInLink {
        secret: secret.into_text().to_string(),
        expires_at: Timestamp(link.expires_ms),
    };
    Ok((StatusCode::CREATED, Json(created)))
}

/// The link with that secret, and its digest. Wrong secrets make their sender wait, like wrong
/// passwords; nobody else waits.
async fn find(
    app: &App,
    db: &mut impl Read,
    client: &Client,
    secret: Zeroizing<String>,
    purpose: Purpose,
) -> Result<(String, (OneTimeLink, User)), Problem> {
    let now_ms = app.clock.now_ms();
    let begun = app.logins.begin(Account::Link, client.source(), now_ms);
    let begun = begun.map_err(Problem::too_many_logins)?;
    let digest = LinkSecret::new(secret).digest();
    let refused = || {
        let (action, ip, reason) = ("one_time_link.fail", client.ip(), "unknown_or_used");
        app.failures.note(Failure { tenant: None, action, subject: String::new(), ip, reason });
        Problem::bad_link()
    };
    let link = one_time_link::find(db, &digest, purpose, now_ms).await?.ok_or_else(refused)?;
    let user = store::user::by_id(db, link.user).await?.ok_or_else(refused)?;
    begun.succeeded();
    Ok((digest, (link, user)))
}
