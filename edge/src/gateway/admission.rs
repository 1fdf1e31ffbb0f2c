//! Is this a request that a proxy can serve? Judged before anything else, from the head alone.

use http::{
    HeaderMap, HeaderValue, Method, Version, header,
    request::Parts,
    uri::{Authority, Scheme},
};
use protocol::{
    address::{parse_port, split_authority},
    refusal::{Code, Refusal},
};

/// Most header fields, and their size together, each counted as its name, its value and 32 bytes
/// (RFC 9113 §6.5.2).
const MAX_FIELDS: usize = 96;
const MAX_FIELDS_SIZE: usize = 64 * 1024;
/// Longest target, in bytes.
const MAX_TARGET: usize = 16 * 1024;

/// What the client wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// A request and its response.
    Message,
    /// Bytes both ways, to `host:port`.
    Connect,
    /// Bytes both ways, after an upgrade to this protocol.
    Upgrade(HeaderValue),
}

/// Judges a request's head; `has_body` tells whether anything follows it.
pub(crate) fn admit(head: &Parts, has_body: bool) -> Result<Target, Refusal> {
    limit(head)?;
    let mut codings = head.headers.get_all(header::TRANSFER_ENCODING).iter();
    if !codings.all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
        return Err(Refusal::new(
            Code::BadRequest,
            "the one transfer coding that passes is chunked",
        ));
    }
    let authority = head.uri.authority().map_or("", Authority::as_str);
    let (host, port) = split_authority(authority);
    if host.is_empty() {
        return Err(Code::BadTarget.into());
    }
    if authority.contains('@') {
        let detail = "the target names a user; credentials belong into Authorization";
        return Err(Refusal::new(Code::BadTarget, detail));
    }
    let has_port = parse_port(port).is_some();
    let extended = head.extensions.get::<hyper::ext::Protocol>();
    if head.method == Method::CONNECT && extended.is_none() {
        let detail = "CONNECT needs a host and a port";
        return has_port
            .then_some(Target::Connect)
            .ok_or_else(|| Refusal::new(Code::BadTarget, detail));
    }
    let is_http = [Scheme::HTTP, Scheme::HTTPS].iter().any(|s| head.uri.scheme() == Some(s));
    if !is_http || !(has_port || port.is_empty()) {
        return Err(Code::BadTarget.into());
    }
    if let Some(extended) = extended {
        let protocol = HeaderValue::from_str(extended.as_str());
        return protocol.map(Target::Upgrade).map_err(|_| Code::BadRequest.into());
    }
    Ok(upgrade(head).filter(|_| !has_body).map_or(Target::Message, Target::Upgrade))
}

fn limit(head: &Parts) -> Result<(), Refusal> {
    let path = head.uri.path_and_query().map_or(0, |path| path.as_str().len());
    let authority = head.uri.authority().map_or(0, |authority| authority.as_str().len());
    if path + authority > MAX_TARGET {
        return Err(Code::UriTooLong.into());
    }
    let size = |fields: &HeaderMap| {
        fields.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum::<usize>()
    };
    if head.headers.len() > MAX_FIELDS || size(&head.headers) > MAX_FIELDS_SIZE {
        return Err(Code::HeadersTooLarge.into());
    }
    Ok(())
}

/// The protocol that an HTTP/1.1 client asks to switch to. `h2c` is none that a tunnel could carry:
/// such a client is served without it, as RFC 9110 §7.8 allows.
fn upgrade(head: &Parts) -> Option<HeaderValue> {
    if head.method != Method::GET || head.version != Version::HTTP_11 {
        return None;
    }
    let mut connection = head.headers.get_all(header::CONNECTION).iter();
    let asks = connection.any(|value| {
        let Ok(value) = value.to_str() else { return false };
        value.split(',').any(|option| option.trim().eq_ignore_ascii_case("upgrade"))
    });
    let mut protocols = head.headers.get_all(header::UPGRADE).iter();
    match (protocols.next(), protocols.next()) {
        (Some(protocol), None) if asks && !protocol.as_bytes().eq_ignore_ascii_case(b"h2c") => {
            Some(protocol.clone())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn judge(request: http::request::Builder) -> Result<Target, Code> {
        let (head, ()) = request.body(()).unwrap().into_parts();
        admit(&head, false).map_err(|refusal| refusal.code)
    }

    #[test]
    fn targets_are_absolute_urls_or_host_and_port() {
        for (method, target, expected) in [
            ("GET", "http://wiki.corp/", Ok(Target::Message)),
            ("GET", "http://wiki.corp", Ok(Target::Message)),
            ("POST", "https://[::1]:8443/a?b", Ok(Target::Message)),
            ("OPTIONS", "http://wiki.corp/%2e%2e/;x", Ok(Target::Message)),
            ("CONNECT", "wiki.corp:443", Ok(Target::Connect)),
            ("CONNECT", "[::1]:443", Ok(Target::Connect)),
            ("CONNECT", "wiki.corp", Err(Code::BadTarget)),
            ("CONNECT", "wiki.corp:0", Err(Code::BadTarget)),
            ("GET", "/", Err(Code::BadTarget)),
            ("GET", "wiki.corp:80", Err(Code::BadTarget)),
            ("GET", "http://user:password@wiki.corp/", Err(Code::BadTarget)),
            ("GET", "http://wiki.corp:99999/", Err(Code::BadTarget)),
            ("GET", "http://wiki.corp:0/", Err(Code::BadTarget)),
            ("GET", "http://wiki.corp:/", Err(Code::BadTarget)),
            ("CONNECT", "wiki.corp:70000", Err(Code::BadTarget)),
            ("GET", "ftp://wiki.corp/", Err(Code::BadTarget)),
        ] {
            assert_eq!(judge(Request::builder().method(method).uri(target)), expected, "{target}");
        }
    }

    #[test]
    fn heads_are_limited() {
        let of = |path: usize| Request::get(format!("http://a/{}", "x".repeat(path)));
        assert_eq!(judge(of(16_000)), Ok(Target::Message));
        assert_eq!(judge(of(16_384)), Err(Code::UriTooLong));

        let fields = |count: usize| {
            let empty = Request::get("http://a/");
            (0..count).fold(empty, |request, n| request.header(format!("x-{n}"), "1"))
        };
        assert_eq!(judge(fields(96)), Ok(Target::Message));
        assert_eq!(judge(fields(97)), Err(Code::HeadersTooLarge));
        let large = |size: usize| Request::get("http://a/").header("x", "v".repeat(size));
        assert_eq!(judge(large(65_000)), Ok(Target::Message));
        assert_eq!(judge(large(65_536)), Err(Code::HeadersTooLarge));
    }

    #[test]
    fn a_transfer_coding_that_would_be_lost_on_the_way_is_refused() {
        let coded =
            |coding: &str| judge(Request::post("http://a/").header("transfer-encoding", coding));
        assert_eq!(coded("chunked"), Ok(Target::Message));
        assert_eq!(coded("Chunked"), Ok(Target::Message));
        for odd in ["gzip, chunked", "gzip", "chunked, chunked", "xchunked", "identity"] {
            assert_eq!(coded(odd), Err(Code::BadRequest), "{odd}");
        }
    }

    #[test]
    fn an_upgrade_is_one_protocol_that_connection_names() {
        let ask = |connection: &str, upgrade: &str| {
            let request = Request::get("http://a/");
            judge(request.header("connection", connection).header("upgrade", upgrade))
        };
        let websocket = Ok(Target::Upgrade(HeaderValue::from_static("websocket")));
        assert_eq!(ask("keep-alive, Upgrade", "websocket"), websocket);
        assert_eq!(ask("keep-alive", "websocket"), Ok(Target::Message));
        assert_eq!(ask("Upgrade, HTTP2-Settings", "h2c"), Ok(Target::Message));
        let post = Request::post("http://a/").header("connection", "upgrade");
        assert_eq!(judge(post.header("upgrade", "websocket")), Ok(Target::Message));
    }
}
