//! What runs here.

use axum::extract::State;
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
    /// Certificate (PEM) of the deployment's own authority, which signs for edges, and for console and
    /// gateways where they have no certificate in a file.
    authority: String,
}

/// Tells the version and the deployment's authority, to whoever is logged in.
#[utoipa::path(
    get, path = "/api/v1/about", tag = "about",
    responses((status = 200, description = "What runs here.", body = About)),
)]
async fn about(State(app): State<Shared>, _: Caller) -> Result<Json<About>, Problem> {
    let authority = app.authority.certificate_pem().to_owned();
    Ok(Json(About { version: env!("CARGO_PKG_VERSION"), authority }))
}
