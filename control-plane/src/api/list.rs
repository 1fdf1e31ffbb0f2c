//! What all lists have in common: pages, their order, and a query without anything unknown in it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use axum::{
    extract::{MatchedPath, Request},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::Method;
use serde::{Deserialize, Serialize};
use utoipa::{
    IntoParams, ToSchema,
    openapi::{OpenApi, RefOr, path::ParameterIn},
};

use super::problem::Problem;
use crate::store::page::{Column, Page, Position, Slice};

/// Items on a page, at most.
const MAX_LIMIT: u32 = 500;
/// Items on a page if the query does not say.
const LIMIT: u32 = 100;
/// Longest text to search for, in bytes.
const MAX_SEARCH: usize = 128;

/// One page of a list.
#[derive(Serialize, ToSchema)]
pub(super) struct List<T> {
    items: Vec<T>,
    /// The `cursor` of the page after this one, if there are more items.
    next: Option<String>,
}

impl<T> List<T> {
    pub(super) fn new(slice: Slice<T>, order: &Order) -> Self {
        Self { items: slice.items, next: order.next(slice.end) }
    }
}

/// Which page.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Paging {
    /// Items on a page, at most.
    #[param(minimum = 1, maximum = 500, default = 100)]
    limit: Option<u32>,
    /// The `next` of the page before. The other parameters must be the same as for that page.
    #[param(max_length = 1024)]
    cursor: Option<String>,
}

/// In which order a list comes, for its cursors.
pub(super) struct Order {
    sort: String,
}

/// What a cursor holds.
#[derive(Serialize, Deserialize)]
struct Cursor {
    sort: String,
    #[serde(flatten)]
    after: Position,
}

impl Paging {
    /// The page of a list that can be ordered by these columns, the first of which is meant where the
    /// query does not say. A `-` before a column's name turns the order round.
    pub(super) fn page(
        &self,
        sort: Option<&str>,
        columns: &'static [Column],
    ) -> Result<(Page, Order), Problem> {
        let sort = sort.unwrap_or(columns[0].name);
        let (is_descending, name) = match sort.strip_prefix('-') {
            Some(name) => (true, name),
            None => (false, sort),
        };
        let column = columns.iter().find(|column| column.name == name).ok_or_else(|| {
            let names: Vec<_> = columns.iter().map(|column| column.name).collect();
            let names = names.join(", ");
            Problem::bad_query(format!("sort is one of {names}, with - before it for descending"))
        })?;
        let order = Order { sort: sort.to_owned() };
        let after = self.after(sort, column)?;
        Ok((Page { limit: self.limit()?, column, is_descending, after }, order))
    }

    /// The same for a list whose newest items come first, whatever the query says.
    pub(super) fn newest_first(&self, column: &'static Column) -> Result<(Page, Order), Problem> {
        let sort = format!("-{}", column.name);
        let after = self.after(&sort, column)?;
        let page = Page { limit: self.limit()?, column, is_descending: true, after };
        Ok((page, Order { sort }))
    }

    fn limit(&self) -> Result<usize, Problem> {
        match self.limit.unwrap_or(LIMIT) {
            limit @ 1..=MAX_LIMIT => Ok(limit as usize),
            _ => Err(Problem::bad_query(format!("limit is 1 to {MAX_LIMIT}"))),
        }
    }

    fn after(&self, sort: &str, column: &Column) -> Result<Option<Position>, Problem> {
        let Some(cursor) = &self.cursor else { return Ok(None) };
        let json = URL_SAFE_NO_PAD.decode(cursor).ok();
        let cursor: Option<Cursor> = json.and_then(|json| serde_json::from_slice(&json).ok());
        match cursor {
            Some(cursor) if cursor.sort == sort && column.fits(&cursor.after.key) => {
                Ok(Some(cursor.after))
            }
            Some(_) => Err(Problem::bad_query("the cursor is of a list in another order")),
            None => Err(Problem::bad_query("the cursor is no `next` of a page of this list")),
        }
    }
}

impl Order {
    fn next(&self, end: Option<Position>) -> Option<String> {
        let cursor = Cursor { sort: self.sort.clone(), after: end? };
        let json = serde_json::to_vec(&cursor).expect("a cursor is plain data");
        Some(URL_SAFE_NO_PAD.encode(json))
    }
}

/// A text to search for; none if it is blank.
pub(super) fn search(text: Option<&str>) -> Result<Option<&str>, Problem> {
    let text = text.map(str::trim).filter(|text| !text.is_empty());
    if text.is_some_and(|text| text.len() > MAX_SEARCH) {
        return Err(Problem::bad_query(format!("search has at most {MAX_SEARCH} bytes")));
    }
    Ok(text)
}

/// The parameters that each operation's query may have, by method and path.
pub(super) type Parameters = Arc<HashMap<(Method, String), BTreeSet<String>>>;

pub(super) fn parameters(document: &OpenApi) -> Parameters {
    let mut known = HashMap::new();
    for (path, item) in &document.paths.paths {
        let operations = [
            (Method::GET, &item.get),
            (Method::PUT, &item.put),
            (Method::POST, &item.post),
            (Method::PATCH, &item.patch),
            (Method::DELETE, &item.delete),
        ];
        for (method, operation) in operations {
            let Some(operation) = operation else { continue };
            let parameters = operation.parameters.iter().flatten();
            let query = parameters.filter_map(|parameter| match parameter {
                RefOr::T(p) if matches!(p.parameter_in, ParameterIn::Query) => Some(p.name.clone()),
                RefOr::T(_) | RefOr::Ref(_) => None,
            });
            known.insert((method, path.clone()), query.collect());
        }
    }
    Arc::new(known)
}

/// Refuses a query with a parameter that the operation does not have, or has twice.
pub(super) async fn only_known(known: Parameters, request: Request, next: Next) -> Response {
    match check(&known, &request) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

fn check(known: &Parameters, request: &Request) -> Result<(), Problem> {
    let Some(query) = request.uri().query() else { return Ok(()) };
    let Some(path) = request.extensions().get::<MatchedPath>() else { return Ok(()) };
    let method = match request.method() {
        &Method::HEAD => Method::GET,
        method => method.clone(),
    };
    let Some(known) = known.get(&(method, path.as_str().to_owned())) else { return Ok(()) };
    let mut seen = BTreeSet::new();
    for (name, _) in form_urlencoded::parse(query.as_bytes()) {
        if !known.contains(&*name) {
            let known: Vec<_> = known.iter().map(String::as_str).collect();
            let known = match known.is_empty() {
                true => "this operation has none".to_owned(),
                false => format!("this operation has {}", known.join(", ")),
            };
            return Err(Problem::bad_query(format!("there is no parameter {name:?}; {known}")));
        }
        if !seen.insert(name.clone()) {
            return Err(Problem::bad_query(format!("the parameter {name} is there twice")));
        }
    }
    Ok(())
}
