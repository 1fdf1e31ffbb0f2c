//! The frame of the OpenAPI document: title, ways to authenticate, and the problem that every
//! operation can answer with.

use http::Method;
use utoipa::{
    OpenApi as _, PartialSchema as _,
    openapi::{
        Components, Content, Info, ObjectBuilder, OpenApi, Ref, RefOr, Response, ResponseBuilder,
        path::{Operation, Parameter, ParameterBuilder, ParameterIn, PathItem},
        schema::Type,
        security::{
            ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
        },
    },
};

use super::{
    idempotency,
    problem::{ProblemBody, UsedBy},
};

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
    components.schemas.insert("UsedBy".to_owned(), UsedBy::schema());
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

/// Adds to each operation what it can be refused with.
pub(super) fn finish(mut document: OpenApi) -> OpenApi {
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in operations(item) {
            if method == Method::POST && !is_open(operation) {
                operation.parameters.get_or_insert_default().push(RefOr::T(idempotency_key()));
            }
            for (status, codes) in refusals(path, method, operation) {
                let responses = &mut operation.responses.responses;
                responses.entry(status.to_owned()).or_insert_with(|| problem(codes));
            }
            let rest = "Any other problem, such as `internal`, `timeout` or `storage_full`.";
            operation.responses.responses.insert("default".to_owned(), problem(rest));
        }
    }
    document
}

/// Does it need neither session nor key?
fn is_open(operation: &Operation) -> bool {
    let needs = operation.security.as_ref();
    needs.is_some_and(|needs| needs.iter().all(|need| *need == SecurityRequirement::default()))
}

fn idempotency_key() -> Parameter {
    let text = ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(idempotency::MAX_KEY))
        .build();
    ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .description(Some(
            "With the same key the same request is done once, within 24 hours; the first answer is \
             told again, unless it held a secret (409 `done_before`).",
        ))
        .schema(Some(text))
        .build()
}

fn problem(description: &str) -> RefOr<Response> {
    let problem = Content::new(Some(RefOr::Ref(Ref::from_schema_name("Problem"))));
    let response = ResponseBuilder::new()
        .description(description)
        .content("application/problem+json", problem)
        .build();
    RefOr::T(response)
}

/// Status codes with the problems' codes, as far as they follow from what an operation is.
fn refusals(
    path: &str,
    method: Method,
    operation: &Operation,
) -> Vec<(&'static str, &'static str)> {
    let is_open = is_open(operation);
    let has = |name: &str| {
        operation.parameters.iter().flatten().any(|parameter| match parameter {
            RefOr::T(parameter) => parameter.name == name,
            RefOr::Ref(_) => false,
        })
    };
    let is_change = method != Method::GET;
    let mut refusals = vec![("400", "`bad_query`")];
    match (is_open, is_change) {
        (true, _) => {}
        (false, false) => {
            refusals.extend([("401", "`unauthenticated`"), ("403", "`forbidden`, `disabled`")]);
        }
        (false, true) => refusals
            .extend([("401", "`unauthenticated`"), ("403", "`forbidden`, `disabled`, `bad_csrf`")]),
    }
    if path.contains('{') {
        refusals.push(("404", "`not_found`"));
    }
    if has("force") {
        refusals.push(("409", "`in_use`"));
    } else if is_change && !is_open {
        refusals.push(("409", "`conflict`, `no_edge`, `key_in_use`, `done_before`"));
    }
    if has("If-Match") {
        refusals.push(("412", "`stale`"));
    }
    if operation.request_body.is_some() {
        refusals.extend([("413", "`too_large`"), ("422", "`invalid`, `key_reused`")]);
    }
    let guarded =
        ["/api/v1/session", "/api/v1/session/link", "/api/v1/setup", "/api/v1/setup/link"];
    if is_open && is_change && guarded.contains(&path) {
        refusals.extend([("401", "`bad_login`"), ("403", "`disabled`"), ("410", "`bad_link`")]);
        refusals.push(("429", "`too_many_logins`"));
    }
    let hashing = ["/api/v1/session", "/api/v1/setup", "/api/v1/me/password", "/api/v1/tenants"];
    let is_of_users = path.starts_with("/api/v1/users") && operation.request_body.is_some();
    if is_change && operation.request_body.is_some() && (hashing.contains(&path) || is_of_users) {
        refusals.push(("503", "`busy`"));
    }
    match path {
        "/api/v1/me/password" => refusals.push(("429", "`too_many_logins`")),
        "/api/v1/events" => refusals.push(("429", "`too_many_streams`")),
        "/api/v1/workflows/{id}/runs" if is_change => {
            refusals.push(("429", "`too_many_runs`"));
        }
        _ => {}
    }
    refusals
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (Method, &mut Operation)> {
    [
        (Method::GET, &mut item.get),
        (Method::PUT, &mut item.put),
        (Method::POST, &mut item.post),
        (Method::PATCH, &mut item.patch),
        (Method::DELETE, &mut item.delete),
    ]
    .into_iter()
    .filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}
