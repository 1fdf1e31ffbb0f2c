//! Whose request is it, and may it use the tunnel? Everything is judged here and now, by what the feed
//! has told: no question goes out.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::{HeaderMap, HeaderValue, header};
use protocol::{
    credential::ProxyToken,
    feed::FeedTunnel,
    refusal::{Code, Refusal},
};
use zeroize::Zeroizing;

use crate::{
    gateway::capability::Capabilities,
    knowledge::{Grant, Knowledge, State},
};

/// Longest credentials that are looked at, in bytes; a capability has some 700.
const MAX_CREDENTIALS: usize = 8 * 1024;
/// As `Basic` writes it (RFC 7617), with or without the padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Judges who calls.
#[derive(Debug, Default)]
pub(crate) struct Callers {
    capabilities: Capabilities,
}

/// The credentials that came last on a client's connection, and what they gave. Clients send the same
/// ones with each request: as long as the feed has not changed either, they need not be read again.
#[derive(Default)]
pub(crate) struct LastCaller(Mutex<Option<Judged>>);

impl fmt::Debug for LastCaller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LastCaller").finish_non_exhaustive()
    }
}

/// Why a request may not use a tunnel.
#[derive(Debug)]
pub(crate) struct Denied {
    pub(crate) refusal: Refusal,
    /// Who asked for what, where both are known and the tunnel is of the caller's own tenant.
    pub(crate) grant: Option<Box<Grant>>,
}

impl<E: Into<Refusal>> From<E> for Denied {
    fn from(refusal: E) -> Self {
        Self { refusal: refusal.into(), grant: None }
    }
}

struct Judged {
    /// A copy: the field itself would keep alive all that was read with it.
    credentials: Zeroizing<Box<[u8]>>,
    generation: u64,
    /// Seconds since 1970.
    until: u64,
    grant: Grant,
}

impl LastCaller {
    fn recall(&self, credentials: &HeaderValue, generation: u64, now: u64) -> Option<Grant> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = last.as_ref()?;
        let holds = last.generation == generation
            && now < last.until
            && **last.credentials == *credentials.as_bytes();
        holds.then_some(last.grant)
    }

    fn remember(&self, judged: Judged) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(judged);
    }
}

impl Callers {
    /// The right to use a tunnel that the request's credentials give.
    pub(crate) fn judge(
        &self,
        knowledge: &Knowledge,
        headers: &HeaderMap,
        last: &LastCaller,
        now: SystemTime,
    ) -> Result<Grant, Denied> {
        if knowledge.is_stale(now) {
            return Err(Code::FeedStale.into());
        }
        let mut values = headers.get_all(header::PROXY_AUTHORIZATION).iter();
        let value = values.next().ok_or(Code::NoCredentials)?;
        if values.next().is_some() || value.len() > MAX_CREDENTIALS {
            return Err(bad_credentials().into());
        }
        let seconds = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let state = knowledge.read();
        let generation = state.feed().generation;
        if let Some(grant) = last.recall(value, generation, seconds) {
            return Ok(grant);
        }
        let credentials = Credentials::read(value)?;
        let judged = if credentials.token().starts_with(ProxyToken::PREFIX) {
            proxy_token(&credentials, &state, seconds)
        } else {
            self.capability(&credentials, &state, seconds)
        };
        let (grant, until) = judged
            .map_err(|refusal| if knowledge.is_current() { refusal } else { not_heard_yet() })?;
        state.judge(&grant).map_err(|code| Denied {
            refusal: code.into(),
            grant: (code == Code::AccessDenied).then(|| Box::new(grant)),
        })?;
        let credentials = Zeroizing::new(value.as_bytes().into());
        last.remember(Judged { credentials, generation, until, grant });
        Ok(grant)
    }

    /// The grant, and until when it holds.
    fn capability(
        &self,
        credentials: &Credentials,
        state: &State,
        now: u64,
    ) -> Result<(Grant, u64), Refusal> {
        let verified = self.capabilities.verify(credentials.token(), state, now);
        let (caller, tunnel, until) = verified.ok_or_else(bad_credentials)?;
        let named = named(state, caller.tenant, credentials.tunnel())?;
        if named.id != tunnel {
            let detail = "the token is for another tunnel than the one that the user name names";
            return Err(Refusal::new(Code::BadCredentials, detail));
        }
        Ok((Grant { tunnel, caller, token: None, response_timeout: None }, until))
    }
}

/// The grant, and until when it holds.
fn proxy_token(
    credentials: &Credentials,
    state: &State,
    now: u64,
) -> Result<(Grant, u64), Refusal> {
    let token = ProxyToken::decode(credentials.token()).map_err(|_| bad_credentials())?;
    let known = state.feed().proxy_tokens.get(&token.id).ok_or_else(bad_credentials)?;
    if !known.digest.matches(&token.secret) || known.expires_at <= now {
        return Err(bad_credentials());
    }
    let caller = known.caller();
    let tunnel = named(state, caller.tenant, credentials.tunnel())?.id;
    let response_timeout = known.response_timeout_s.map(|s| Duration::from_secs(s.into()));
    let grant = Grant { tunnel, caller, token: Some(token.id), response_timeout };
    Ok((grant, known.expires_at))
}

fn named<'a>(
    state: &'a State,
    tenant: protocol::id::TenantId,
    name: &str,
) -> Result<&'a FeedTunnel, Refusal> {
    state.tunnel_named(tenant, name).ok_or_else(|| Code::UnknownTunnel.into())
}

fn bad_credentials() -> Refusal {
    Code::BadCredentials.into()
}

/// What an edge that has just started does not know may be newer than what it remembers.
fn not_heard_yet() -> Refusal {
    Refusal::new(Code::EdgeUnavailable, "this edge has not heard the control plane since its start")
}

/// What `Proxy-Authorization` holds: `tunnel:token`.
struct Credentials {
    text: Zeroizing<String>,
    colon: usize,
}

impl Credentials {
    fn read(value: &HeaderValue) -> Result<Self, Refusal> {
        let malformed = || Refusal::new(Code::BadCredentials, "Basic credentials were expected");
        let value = value.to_str().map_err(|_| malformed())?;
        let (scheme, encoded) = value.split_once(' ').ok_or_else(malformed)?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return Err(malformed());
        }
        let decoded = BASE64.decode(encoded.trim()).map_err(|_| malformed())?;
        let text = String::from_utf8(decoded).map(Zeroizing::new).map_err(|_| malformed())?;
        let colon = text.find(':').ok_or_else(malformed)?;
        Ok(Self { text, colon })
    }

    fn tunnel(&self) -> &str {
        &self.text[..self.colon]
    }

    fn token(&self) -> &str {
        &self.text[self.colon + 1..]
    }
}

#[cfg(test)]
mod tests;
