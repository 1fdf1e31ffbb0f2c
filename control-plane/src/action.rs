//! The actions that a workflow is made of, and what comes of them. An action's `type` says which kind
//! it is; today there is one, the HTTP request.

use std::{collections::BTreeMap, fmt};

use protocol::{name::TunnelName, phases::Phases, refusal::Refusal};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::api::timestamp::Timestamp;

/// Most actions of a workflow.
pub(crate) const MAX_ACTIONS: usize = 100;
/// Most header fields of a request.
const MAX_HEADERS: usize = 100;
/// Longest URL, in bytes.
const MAX_URL: usize = 16 * 1024;
/// Longest name of an action, in bytes.
const MAX_NAME: usize = 128;
/// Longest time that an action may take, in seconds.
const MAX_TIMEOUT_S: u64 = 300;
/// Largest part of a response's body that may be kept, in bytes.
const MAX_RESPONSE: u64 = 4 * 1024 * 1024;

/// One step of a workflow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Action {
    /// Sends an HTTP request.
    Http(HttpAction),
}

/// An HTTP request, directly or through a tunnel.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HttpAction {
    /// What the action is called in the run's results.
    pub(crate) name: String,
    /// Absolute `http://` or `https://` URL.
    pub(crate) url: String,
    /// Method, such as `GET`, the default.
    #[serde(default = "get")]
    pub(crate) method: String,
    /// Header fields of the request.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) headers: BTreeMap<String, String>,
    /// The request's body: text goes as it is, any other value as JSON; with the content type `form`
    /// an object goes as its fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) payload: Option<Value>,
    /// Media type of the payload, or one of `json`, `form`, `xml`, `text`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) content_type: Option<String>,
    /// Seconds that the whole request may take, 1 to 300.
    #[serde(default = "default_timeout")]
    #[schema(minimum = 1, maximum = 300)]
    pub(crate) timeout: u64,
    /// Name of the tunnel through which the request goes; without one it goes directly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "office")]
    pub(crate) use_tunnel: Option<TunnelName>,
    /// Bytes of the response's body that are kept, at most 4 MiB; what is longer is cut.
    #[serde(default = "default_response_limit")]
    #[schema(maximum = 4194304)]
    pub(crate) response_limit: u64,
    /// Certificates of authorities, PEM, that are trusted for `https` besides the public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca_certificates: Option<String>,
}

fn get() -> String {
    "GET".to_owned()
}

fn default_timeout() -> u64 {
    30
}

fn default_response_limit() -> u64 {
    256 * 1024
}

impl Action {
    /// Checks all that can be checked before it is taken.
    ///
    /// # Errors
    /// One sentence for the one who wrote it.
    pub(crate) fn validate(&self) -> Result<(), String> {
        match self {
            Self::Http(http) => http.validate(),
        }
    }
}

impl HttpAction {
    fn validate(&self) -> Result<(), String> {
        if self.name.is_empty() || self.name.len() > MAX_NAME {
            return Err(format!("an action's name must have 1 to {MAX_NAME} bytes"));
        }
        let name = &self.name;
        if self.url.len() > MAX_URL {
            return Err(format!("action {name:?}: the URL has more than {MAX_URL} bytes"));
        }
        self.uri().map_err(|reason| format!("action {name:?}: {reason}"))?;
        http::Method::from_bytes(self.method.as_bytes())
            .ok()
            .filter(|method| method != http::Method::CONNECT)
            .ok_or_else(|| format!("action {name:?}: the method is not valid"))?;
        if self.headers.len() > MAX_HEADERS {
            return Err(format!("action {name:?}: at most {MAX_HEADERS} header fields"));
        }
        for (field, value) in &self.headers {
            http::HeaderName::from_bytes(field.as_bytes())
                .map_err(|_| format!("action {name:?}: {field:?} is no header field's name"))?;
            http::HeaderValue::from_str(value)
                .map_err(|_| format!("action {name:?}: the value of {field} is not valid"))?;
        }
        if !(1..=MAX_TIMEOUT_S).contains(&self.timeout) {
            return Err(format!(
                "action {name:?}: the timeout must be 1 to {MAX_TIMEOUT_S} seconds"
            ));
        }
        if self.response_limit > MAX_RESPONSE {
            return Err(format!(
                "action {name:?}: the response limit is at most {MAX_RESPONSE} bytes"
            ));
        }
        if self.is_form() && !self.payload.as_ref().is_some_and(is_form_payload) {
            return Err(format!(
                "action {name:?}: a form's payload is text, or an object of texts and numbers"
            ));
        }
        if http::HeaderValue::from_str(self.media_type().unwrap_or_default()).is_err() {
            return Err(format!("action {name:?}: the content type is not valid"));
        }
        Ok(())
    }

    /// The URL, parsed.
    ///
    /// # Errors
    /// What is wrong with it, in one sentence.
    pub(crate) fn uri(&self) -> Result<http::Uri, &'static str> {
        let uri: http::Uri = self.url.parse().map_err(|_| "the URL is not valid")?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err("the URL must begin with http:// or https://");
        }
        if uri.host().is_none_or(str::is_empty) {
            return Err("the URL has no host");
        }
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(
                "the URL must not hold a user name or password: send an Authorization header",
            );
        }
        Ok(uri)
    }

    /// Media type of the payload.
    pub(crate) fn media_type(&self) -> Option<&str> {
        let by_payload = match &self.payload {
            None => return None,
            Some(Value::String(_)) => "text/plain; charset=utf-8",
            Some(_) => "application/json",
        };
        Some(match self.content_type.as_deref() {
            None => by_payload,
            Some("json") => "application/json",
            Some("form") => "application/x-www-form-urlencoded",
            Some("xml") => "application/xml",
            Some("text") => "text/plain; charset=utf-8",
            Some(other) => other,
        })
    }

    fn is_form(&self) -> bool {
        self.content_type.as_deref() == Some("form")
    }

    /// The request's body.
    pub(crate) fn body(&self) -> Vec<u8> {
        match &self.payload {
            None => Vec::new(),
            Some(Value::String(text)) => text.clone().into_bytes(),
            Some(Value::Object(fields)) if self.is_form() => {
                let mut form = form_urlencoded::Serializer::new(String::new());
                for (name, value) in fields {
                    match value {
                        Value::String(text) => form.append_pair(name, text),
                        other => form.append_pair(name, &other.to_string()),
                    };
                }
                form.finish().into_bytes()
            }
            Some(value) => value.to_string().into_bytes(),
        }
    }
}

fn is_form_payload(payload: &Value) -> bool {
    match payload {
        Value::String(_) => true,
        Value::Object(fields) => fields
            .values()
            .all(|value| value.is_string() || value.is_number() || value.is_boolean()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => false,
    }
}

/// Without header fields and payload, which may hold credentials.
impl fmt::Debug for HttpAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpAction")
            .field("name", &self.name)
            .field("method", &self.method)
            .field("use_tunnel", &self.use_tunnel)
            .finish_non_exhaustive()
    }
}

/// What came of an action.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct ActionResult {
    /// The action's name.
    pub(crate) name: String,
    /// When it began.
    pub(crate) started_at: Timestamp,
    /// How long it took, microseconds.
    pub(crate) duration_us: u64,
    /// Gateways that were tried, in order, as `region host:port`; none without a tunnel.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) gateways: Vec<String>,
    /// How long each phase took, in microseconds, in order.
    pub(crate) phases: Vec<PhaseLength>,
    /// The origin's answer, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) response: Option<Answer>,
    /// What stood in the way, if there is none or it ended too early.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) refusal: Option<RefusalView>,
}

/// What came of one action, without what was answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Outcome {
    /// The action's name.
    pub(crate) name: String,
    /// Status code of the origin's answer, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<u16>,
    /// Documented code of what stood in the way, if anything did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<String>,
    /// What stood in the way, in one line for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) title: Option<String>,
}

impl From<&ActionResult> for Outcome {
    fn from(result: &ActionResult) -> Self {
        let refusal = result.refusal.as_ref();
        Self {
            name: result.name.clone(),
            status: result.response.as_ref().map(|response| response.status),
            code: refusal.map(|refusal| refusal.code.clone()),
            title: refusal.map(|refusal| refusal.title.clone()),
        }
    }
}

/// One phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct PhaseLength {
    /// Its name: `policy`, `edge`, `link`, `dns`, `tcp`, `tls`, `first_byte` or `body`.
    pub(crate) phase: String,
    /// Its length in microseconds.
    pub(crate) microseconds: u64,
}

impl PhaseLength {
    /// The phases that happened.
    pub(crate) fn list(phases: &Phases) -> Vec<Self> {
        let length = |(phase, microseconds): (protocol::phases::Phase, u64)| Self {
            phase: phase.as_str().to_owned(),
            microseconds,
        };
        phases.iter().map(length).collect()
    }
}

/// An origin's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Answer {
    /// Status code.
    pub(crate) status: u16,
    /// Header fields; values of one name are in order, bytes that are no text are replaced.
    pub(crate) headers: Vec<(String, String)>,
    /// The body: as text if it is valid UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) text: Option<String>,
    /// The body: as base64 if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) base64: Option<String>,
    /// True if the body was longer than what is kept.
    pub(crate) truncated: bool,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct RefusalView {
    /// Documented code.
    pub(crate) code: String,
    /// Whose fault it is: `client`, `edge`, `link`, `connector` or `origin`.
    pub(crate) source: String,
    /// Can the same action succeed later, and is it safe to take it again?
    pub(crate) retryable: bool,
    /// One line for people.
    pub(crate) title: String,
    /// What is particular about this case.
    pub(crate) detail: String,
    /// What to do about it.
    pub(crate) fix: String,
}

impl From<Refusal> for RefusalView {
    fn from(refusal: Refusal) -> Self {
        let code = refusal.code;
        Self {
            code: code.as_str().to_owned(),
            source: code.source().as_str().to_owned(),
            retryable: code.is_retryable(),
            title: code.title().to_owned(),
            detail: refusal.detail,
            fix: code.fix().to_owned(),
        }
    }
}
