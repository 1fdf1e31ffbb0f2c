//! What went wrong with an origin, as a refusal that says whose fault it is.

use std::{error::Error, io, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use http_body_util::Full;
use protocol::{
    fields,
    refusal::{Code, Refusal},
};

use super::{connect::Destination, diagnosis, http2};

pub(super) fn dns(destination: &Destination, error: &io::Error) -> Refusal {
    Refusal::new(Code::OriginDns, format!("{}: {error}", destination.host))
}

pub(super) fn tcp(destination: &Destination, error: &io::Error) -> Refusal {
    let code = match error.kind() {
        io::ErrorKind::ConnectionRefused => Code::OriginRefused,
        io::ErrorKind::TimedOut => Code::OriginTimeout,
        _ => Code::OriginUnreachable,
    };
    Refusal::new(code, format!("{}: {error}", destination.authority()))
}

pub(super) fn tls(destination: &Destination, error: &io::Error) -> Refusal {
    Refusal::new(Code::OriginTls, format!("{}: {error}", destination.authority()))
}

pub(super) fn late(destination: &Destination, what: &str, limit: Duration) -> Refusal {
    let (authority, seconds) = (destination.authority(), limit.as_secs());
    Refusal::new(Code::OriginTimeout, format!("{authority}: {what} took more than {seconds} s"))
}

/// The origin has taken nothing of a request's body for so long.
pub(super) fn stuck(destination: &Destination, limit: Duration) -> Refusal {
    let (authority, seconds) = (destination.authority(), limit.as_secs());
    let detail = format!("{authority}: it has taken nothing of the request's body for {seconds} s");
    Refusal::new(Code::OriginTimeout, detail)
}

/// A request was sent, or begun, and no answer came of it; `seen` is the start of what came instead.
pub(super) fn http(destination: &Destination, error: &hyper::Error, seen: &[u8]) -> Refusal {
    let fault = if error.is_parse_too_large() || http2::is_oversize(error) {
        Some(diagnosis::too_large())
    } else if error.is_parse() {
        diagnosis::fault(seen)
    } else {
        None
    };
    if let Some(fault) = fault {
        let detail = format!("{}: {fault}", destination.authority());
        return Refusal::new(Code::OriginGarbage, detail);
    }
    let code = if error.is_parse() { Code::OriginGarbage } else { Code::OriginReset };
    let cause = error.source().map(|source| format!(": {source}")).unwrap_or_default();
    Refusal::new(code, format!("{}: {error}{cause}", destination.authority()))
}

/// The response that tells a refusal over the link.
pub(super) fn response(refusal: &Refusal) -> Response<Full<Bytes>> {
    let code = refusal.code;
    let mut response = Response::new(Full::from(refusal.to_problem().to_string()));
    *response.status_mut() = code.status();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(fields::ERROR, HeaderValue::from_static(code.as_str()));
    headers.insert(fields::ERROR_SOURCE, HeaderValue::from_static(code.source().as_str()));
    response
}
