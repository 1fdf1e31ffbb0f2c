//! The frame of the OpenAPI document: title, ways to authenticate, and the problem that every
//! operation can answer with.

use utoipa::{
    OpenApi as _, PartialSchema as _,
    openapi::{
        Components, Content, Info, OpenApi, Ref, RefOr, ResponseBuilder,
        path::{Operation, PathItem},
        security::{
            ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
        },
    },
};

use super::problem::ProblemBody;

#[derive(utoipa::OpenApi)]
struct Base;

pub(super) fn base() -> OpenApi {
    let mut document = Base::openapi();
    document.info = Info::new("Postern", env!("CARGO_PKG_VERSION"));
    document.info.description = Some(
        "Who may use which tunnel, and how well each tunnel is. Errors are problem+json with a \
         documented code. Sessions send the header Postern-CSRF with everything but GET."
            .to_owned(),
    );
    let components = document.components.get_or_insert_with(Components::default);
    components.schemas.insert("Problem".to_owned(), ProblemBody::schema());
    components.add_security_scheme(
        "api_key",
        SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build()),
    );
    let cookie = ApiKeyValue::with_description("postern", "Set by POST /api/v1/session.");
    components.add_security_scheme("session", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
    document.security = Some(vec![
        SecurityRequirement::new::<_, _, &str>("api_key", []),
        SecurityRequirement::new::<_, _, &str>("session", []),
    ]);
    document
}

/// Adds to each operation what holds for all.
pub(super) fn finish(mut document: OpenApi) -> OpenApi {
    for item in document.paths.paths.values_mut() {
        for operation in operations(item) {
            let problem = Content::new(Some(RefOr::Ref(Ref::from_schema_name("Problem"))));
            let response = ResponseBuilder::new()
                .description("A problem; its code says which.")
                .content("application/problem+json", problem)
                .build();
            operation.responses.responses.insert("default".to_owned(), RefOr::T(response));
        }
    }
    document
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete]
        .into_iter()
        .filter_map(Option::as_mut)
}
