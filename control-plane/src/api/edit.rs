//! Editing: which version of a thing an answer shows, and which one a change expects.

use std::collections::HashMap;

use axum::{
    extract::FromRequestParts,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, header, request::Parts};
use protocol::id::UserId;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::{extract::Json, problem::Problem, timestamp::Timestamp};
use crate::{
    app::Shared,
    store::{self, Read, names::Kind, stamp::Stamp},
};

/// Who last changed it, and when.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Edited {
    updated_at: Timestamp,
    /// A user of the tenant; nobody, if it was the deployment itself.
    #[schema(value_type = Option<Uuid>)]
    updated_by: Option<UserId>,
    /// The user's name, if the user is still there.
    updated_by_name: Option<String>,
    /// The version, for `If-Match`.
    etag: String,
}

impl Edited {
    pub(super) fn at_ms(&self) -> u64 {
        self.updated_at.0
    }
}

/// The names of those who last changed some things.
pub(super) struct Editors(HashMap<String, String>);

impl Editors {
    pub(super) async fn of(db: &mut impl Read, stamps: Vec<Stamp>) -> store::Result<Self> {
        let ids = stamps.into_iter().filter_map(|stamp| Some(stamp.updated_by?.to_string()));
        let names = store::names::of(db, Kind::User, ids.collect()).await?;
        Ok(Self(names))
    }

    pub(super) fn edited(&self, stamp: Stamp) -> Edited {
        let by = stamp.updated_by;
        Edited {
            updated_at: Timestamp(stamp.updated_ms),
            updated_by: by,
            updated_by_name: by.and_then(|by| self.0.get(&by.to_string()).cloned()),
            etag: etag(stamp),
        }
    }
}

/// An answer that shows one version of a thing.
pub(super) struct Versioned<T>(pub(super) Stamp, pub(super) T);

impl<T: Serialize> IntoResponse for Versioned<T> {
    fn into_response(self) -> Response {
        let mut response = Json(self.1).into_response();
        let etag = HeaderValue::try_from(etag(self.0)).expect("digits in quotes");
        response.headers_mut().insert(header::ETAG, etag);
        response
    }
}

fn etag(stamp: Stamp) -> String {
    format!("\"{}\"", stamp.revision)
}

/// Which version a change expects.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub(super) struct IfMatch {
    /// The `ETag` of the version to be changed. With another one the answer is 412, and nothing changes.
    /// Without this header the change is made whatever the version is.
    #[param(rename = "If-Match", value_type = Option<String>)]
    header: Option<String>,
}

impl FromRequestParts<Shared> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, Problem> {
        let values = parts.headers.get_all(header::IF_MATCH).iter();
        let values: Result<Vec<_>, _> = values.map(|value| value.to_str()).collect();
        let values = values.map_err(|_| Problem::invalid("If-Match is no list of ETags"))?;
        Ok(Self { header: (!values.is_empty()).then(|| values.join(",")) })
    }
}

impl IfMatch {
    /// Is the thing still what the caller has seen?
    pub(super) async fn check(&self, db: &mut impl Read, stamp: Stamp) -> Result<(), Problem> {
        let Some(header) = &self.header else { return Ok(()) };
        let current = etag(stamp);
        let fits = |tag: &str| tag.trim() == "*" || tag.trim() == current;
        if header.split(',').any(fits) {
            return Ok(());
        }
        let editors = Editors::of(db, vec![stamp]).await?;
        Err(Problem::stale(editors.edited(stamp).updated_by_name.as_deref()))
    }
}
