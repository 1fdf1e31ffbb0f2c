//! What handlers ask of a request: a JSON body, path and query that fit, and who is asking. Whatever
//! does not fit becomes a [`Problem`].

use std::{
    fmt,
    marker::PhantomData,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    extract::{FromRequest, FromRequestParts, Request, rejection::JsonRejection},
    response::{IntoResponse, Response},
};
use http::{StatusCode, header, request::Parts};
use protocol::{
    access,
    credential::ApiKey,
    id::{ApiKeyId, TeamId, TenantId, UserId},
};
use room::{Place, Source};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::problem::Problem;
use crate::{
    app::{App, Shared},
    auth::{
        password::Asker,
        session::{self, SessionId},
    },
    failures::Failure,
    store::{
        self, Change, Read,
        audit::{Actor, Entry},
        stamp::{Stamp, Stamped},
        user::{Permission, User},
    },
};

/// A JSON body.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Shared> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &Shared) -> Result<Self, Problem> {
        match axum::Json::<Object<T>>::from_request(request, app).await {
            Ok(axum::Json(Object(value))) => Ok(Self(value)),
            Err(JsonRejection::BytesRejection(error))
                if error.status() == StatusCode::PAYLOAD_TOO_LARGE =>
            {
                Err(Problem::too_large(
                    "a request's body has at most 1 MiB, that of a login 16 KiB",
                ))
            }
            Err(error) => Err(Problem::invalid(error.body_text())),
        }
    }
}

/// Something that has the form of an object: a derived `Deserialize` takes an array of its fields as well.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData)).map(Self)
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

/// Parts of the path. What cannot be a name or an id names nothing: 404.
pub(crate) struct Path<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Shared> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Problem> {
        match axum::extract::Path::from_request_parts(parts, app).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(_) => Err(Problem::not_found("thing")),
        }
    }
}

/// The query.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<Shared> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Problem> {
        match axum::extract::Query::from_request_parts(parts, app).await {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            Err(error) => Err(Problem::bad_query(error.body_text())),
        }
    }
}

/// Who is asking, proven by a session or an API key.
pub(crate) struct Caller {
    pub(crate) user: User,
    /// With an API key there is none.
    pub(crate) session: Option<SessionId>,
    /// With a session there is none.
    pub(crate) key: Option<ApiKeyId>,
    /// From where the request comes.
    pub(crate) source: Source,
}

/// From where a request comes, and by which program.
pub(crate) struct Client {
    ip: IpAddr,
    /// In the program's own words.
    pub(crate) user_agent: String,
}

/// The other end of a connection, as `api::serve` notes it.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    place: Arc<Place>,
}

impl Peer {
    pub(crate) fn new(address: SocketAddr, place: Arc<Place>) -> Self {
        Self { address, place }
    }

    fn of(parts: &Parts) -> &Self {
        parts.extensions.get().expect("every request comes over a connection, which notes its peer")
    }
}

/// Longest description of a program that is kept, in characters.
const MAX_USER_AGENT: usize = 256;

impl FromRequestParts<Shared> for Client {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, Problem> {
        let ip = Peer::of(parts).address.ip().to_canonical();
        let words = parts.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
        let user_agent = words.unwrap_or_default().chars().take(MAX_USER_AGENT).collect();
        Ok(Self { ip, user_agent })
    }
}

impl Client {
    /// Its address.
    pub(crate) fn ip(&self) -> IpAddr {
        self.ip
    }

    /// Its address, for people.
    pub(crate) fn address(&self) -> String {
        self.ip.to_string()
    }

    /// What it shares with others behind the same address.
    pub(crate) fn source(&self) -> Source {
        self.ip.into()
    }
}

impl FromRequestParts<Shared> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Problem> {
        let peer = Peer::of(parts);
        let (ip, source) = (peer.address.ip().to_canonical(), peer.address.ip().into());
        if let Some(value) = parts.headers.get(header::AUTHORIZATION) {
            let (user, key) = by_key(app, value.as_bytes(), ip).await?;
            peer.place.prove();
            return Ok(Self { user, session: None, key: Some(key), source });
        }
        let session = SessionId::from_headers(&parts.headers, app.secure_cookies)
            .ok_or_else(|| Problem::unauthenticated("there is neither a session nor an API key"))?;
        let user = by_session(app, &session).await?;
        peer.place.prove();
        if !parts.method.is_safe() && !session.allows(&parts.headers) {
            return Err(Problem::bad_csrf());
        }
        Ok(Self { user, session: Some(session), key: None, source })
    }
}

async fn by_key(app: &App, authorization: &[u8], ip: IpAddr) -> Result<(User, ApiKeyId), Problem> {
    let refused = |tenant, key: Option<ApiKeyId>, reason| {
        let subject = key.map(|key| key.to_string()).unwrap_or_default();
        app.failures.note(Failure { tenant, action: "api_key.fail", subject, ip, reason });
        Problem::unauthenticated("the API key is not valid, or was revoked")
    };
    let text = authorization
        .split_at_checked(b"Bearer ".len())
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"Bearer "))
        .and_then(|(_, key)| std::str::from_utf8(key.trim_ascii()).ok())
        .ok_or_else(|| refused(None, None, "malformed"))?;
    let key = ApiKey::decode(text).map_err(|_| refused(None, None, "malformed"))?;
    let mut db = app.store.read().await?;
    let row = store::api_key::find(&mut db, key.id).await?;
    let row = row.ok_or_else(|| refused(None, Some(key.id), "unknown"))?;
    let user = store::user::by_id(&mut db, row.user).await?;
    let user = user.ok_or_else(|| refused(None, Some(key.id), "unknown"))?;
    drop(db);
    if !row.digest.matches(&key.secret) {
        return Err(refused(Some(user.tenant), Some(key.id), "wrong_secret"));
    }
    if row.revoked_ms.is_some() {
        return Err(refused(Some(user.tenant), Some(key.id), "revoked"));
    }
    if user.about.disabled_ms.is_some() {
        let _ = refused(Some(user.tenant), Some(key.id), "disabled");
        return Err(Problem::disabled());
    }
    let now_ms = app.clock.now_ms();
    if row.last_used_ms.is_none_or(|at| now_ms.saturating_sub(at) > session::TOUCH_MS) {
        let mut db = app.store.write().await?;
        store::api_key::touch(&mut db, row.id, now_ms).await?;
        db.commit().await?;
    }
    Ok((user, row.id))
}

async fn by_session(app: &App, id: &SessionId) -> Result<User, Problem> {
    let over = || Problem::unauthenticated("the session is over");
    let digest = id.digest();
    let mut db = app.store.read().await?;
    let row = store::session::find(&mut db, &digest).await?.ok_or_else(over)?;
    let now_ms = app.clock.now_ms();
    let idle_ms = now_ms.saturating_sub(row.last_used_ms);
    if row.is_over(now_ms) {
        return Err(over());
    }
    let user = store::user::by_id(&mut db, row.user).await?.ok_or_else(over)?;
    drop(db);
    if idle_ms > session::TOUCH_MS {
        let mut db = app.store.write().await?;
        store::session::touch(&mut db, &digest, now_ms).await?;
        db.commit().await?;
    }
    Ok(user)
}

impl Caller {
    /// For work on a password on the caller's behalf.
    pub(crate) fn asker(&self) -> Asker {
        Asker::Known(self.source)
    }

    pub(crate) fn tenant(&self) -> TenantId {
        self.user.tenant
    }

    pub(crate) fn must_be_owner(&self) -> Result<(), Problem> {
        if self.user.is_owner {
            return Ok(());
        }
        Err(Problem::forbidden("only owners of the tenant may do this"))
    }

    /// Owners of the first tenant look after edges and tenants.
    pub(crate) fn must_be_operator(&self) -> Result<(), Problem> {
        if self.user.is_owner && self.user.is_operator_tenant {
            return Ok(());
        }
        Err(Problem::forbidden("only the deployment's operators may do this"))
    }

    pub(crate) fn may(&self, permission: Permission) -> bool {
        self.user.is_owner || self.user.permissions.contains(&permission)
    }

    pub(crate) fn must_manage_tunnels(&self) -> Result<(), Problem> {
        if self.may(Permission::TunnelManage) {
            return Ok(());
        }
        Err(Problem::forbidden("this needs the permission TUNNEL_MANAGE"))
    }

    /// Members act for their team, and owners for every team.
    pub(crate) async fn must_act_for(
        &self,
        db: &mut impl Read,
        team: TeamId,
    ) -> Result<(), Problem> {
        if self.user.is_owner || store::team::of_user(db, self.user.id).await?.contains(&team) {
            return Ok(());
        }
        Err(Problem::forbidden("only members of the team may do this"))
    }

    /// Whose teams the caller sees and acts for; owners see all, and act for all.
    pub(crate) fn own_only(&self) -> Option<UserId> {
        Some(self.user.id).filter(|_| !self.user.is_owner)
    }

    /// Towards a tunnel's access list, as a member of a team.
    pub(crate) fn as_member(&self, team: TeamId) -> access::Caller {
        access::Caller { tenant: self.tenant(), team, workflow: None }
    }

    /// Stamps something that the caller has made or changed.
    pub(crate) async fn stamp(
        &self,
        app: &App,
        db: &mut Change,
        what: Stamped,
        id: impl ToString,
    ) -> store::Result<Stamp> {
        store::stamp::set(db, what, id, self.user.id, app.clock.now_ms()).await
    }

    pub(crate) fn actor(&self) -> Actor {
        Actor::User { id: self.user.id, email: self.user.email.clone() }
    }

    /// An audit entry about what the caller does in its tenant.
    pub(crate) fn entry(
        &self,
        app: &App,
        action: &'static str,
        subject: impl ToString,
        detail: serde_json::Value,
    ) -> Entry {
        Entry {
            tenant: self.tenant(),
            actor: self.actor(),
            action,
            subject: subject.to_string(),
            detail,
            at_ms: app.clock.now_ms(),
        }
    }
}

/// Texts that people choose: not empty, not endless, no control characters.
pub(crate) fn display_text(text: &str, what: &str) -> Result<String, Problem> {
    let text = text.trim();
    if text.is_empty() || text.len() > 128 || text.chars().any(char::is_control) {
        return Err(Problem::invalid(format!(
            "{what} must have 1 to 128 bytes and no control characters"
        )));
    }
    Ok(text.to_owned())
}
