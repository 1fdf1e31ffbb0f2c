//! What runs here.

use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    extract::{Caller, Json},
    problem::Problem,
};
use crate::app::Shared;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(about))
}

/// What runs here.
#[derive(Serialize, ToSchema)]
struct About {
    /// Of the control plane.
    version: &'static str,
}

/// Tells the version, to whoever is logged in.
#[utoipa::path(
    get, path = "/api/v1/about", tag = "about",
    responses((status = 200, description = "What runs here.", body = About)),
)]
async fn about(_: Caller) -> Result<Json<About>, Problem> {
    Ok(Json(About { version: env!("CARGO_PKG_VERSION") }))
}
