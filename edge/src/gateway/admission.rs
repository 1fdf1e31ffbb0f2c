//! Is this a request that a proxy can serve? Judged before anything else, from the head alone.

use http::{
    HeaderMap, HeaderValue, Method, Version, header,
    request::Parts,
    uri::{Authority, Scheme},
};
use protocol::{
    address::{parse_port, split_authority},
    fields, framing,
    head::MESSAGE_FIELDS,
    refusal::{Code, Refusal},
};

use crate::gateway::max_forwards;

/// Most bytes of all header fields together, each counted as its name, its value and 32 bytes
/// (RFC 9113 §6.5.2).
const MAX_FIELDS_SIZE: usize = 64 * 1024;
/// Longest target, in bytes.
const MAX_TARGET: usize = 16 * 1024;

/// What the client wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// A request and its response.
    Message,
    /// A request that ends here: it may not be forwarded any more.
    Here,
    /// Bytes both ways, to `host:port`.
    Connect,
    /// Bytes both ways, after an upgrade to one of these protocols.
    Upgrade(HeaderValue),
}

/// Makes a head canonical before it is judged: one Content-Length or none, which is returned, and one `Cookie`,
/// which HTTP/2 may split (RFC 9113 §8.2.3).
pub(crate) fn settle(head: &mut Parts) -> Result<Option<u64>, Refusal> {
    if head.version == Version::HTTP_2 {
        fields::join(&mut head.headers, &header::COOKIE, b"; ");
    }
    framing::settle_length(&mut head.headers)
        .map_err(|error| Refusal::new(Code::BadRequest, error.to_string()))
}

/// Judges a request's head; `has_body` tells whether anything follows it.
pub(crate) fn admit(head: &mut Parts, has_body: bool) -> Result<Target, Refusal> {
    limit(head)?;
    framing::is_chunked(&head.headers)
        .map_err(|error| Refusal::new(Code::BadRequest, error.to_string()))?;
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
        if has_body {
            let detail = "a CONNECT has no content, and this one announces some";
            return Err(Refusal::new(Code::BadRequest, detail));
        }
        let detail = "CONNECT needs a host and a port, and nothing else";
        return (has_port && head.uri.scheme().is_none())
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
    if max_forwards::count_down(head) {
        return Ok(Target::Here);
    }
    Ok(upgrade(head).map_or(Target::Message, Target::Upgrade))
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
    let count = head.headers.len();
    if count > MESSAGE_FIELDS {
        let detail = format!("the request has {count} header fields; {MESSAGE_FIELDS} pass");
        return Err(Refusal::new(Code::HeadersTooLarge, detail));
    }
    let size = size(&head.headers);
    if size > MAX_FIELDS_SIZE {
        let detail = format!(
            "the request's header fields have {size} bytes, counted as HTTP/2 does; \
             {MAX_FIELDS_SIZE} pass"
        );
        return Err(Refusal::new(Code::HeadersTooLarge, detail));
    }
    Ok(())
}

/// The protocols that an HTTP/1.1 client offers to switch to, in its order. `h2c` is none that a tunnel could
/// carry: such a client is served without it, as RFC 9110 §7.8 allows.
fn upgrade(head: &Parts) -> Option<HeaderValue> {
    if head.version != Version::HTTP_11 || !head.headers.contains_key(header::UPGRADE) {
        return None;
    }
    let mut connection = head.headers.get_all(header::CONNECTION).iter();
    let asks = connection.any(|value| {
        let Ok(value) = value.to_str() else { return false };
        value.split(',').any(|option| option.trim().eq_ignore_ascii_case("upgrade"))
    });
    let offered = head.headers.get_all(header::UPGRADE).iter();
    let offered = offered.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let offered = offered.map(<[u8]>::trim_ascii);
    let offered: Vec<&[u8]> =
        offered.filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case(b"h2c")).collect();
    let offer = HeaderValue::from_bytes(&offered.join(&b", "[..])).ok();
    offer.filter(|offer| asks && !offer.is_empty())
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn judge(request: http::request::Builder) -> Result<Target, Code> {
        let (mut head, ()) = request.body(()).unwrap().into_parts();
        admit(&mut head, false).map_err(|refusal| refusal.code)
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
            ("CONNECT", "http://wiki.corp:80/", Err(Code::BadTarget)),
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
        assert_eq!(judge(fields(256)), Ok(Target::Message));
        assert_eq!(judge(fields(257)), Err(Code::HeadersTooLarge));
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
    fn an_upgrade_offers_protocols_that_connection_names() {
        let ask = |method: &str, connection: &str, offers: &[&str]| {
            let request = Request::builder().method(method).uri("http://a/");
            let request = request.header("connection", connection);
            judge(offers.iter().fold(request, |request, offer| request.header("upgrade", *offer)))
        };
        let offered = |offer| Ok(Target::Upgrade(HeaderValue::from_static(offer)));
        assert_eq!(ask("GET", "keep-alive, Upgrade", &["websocket"]), offered("websocket"));
        assert_eq!(ask("POST", "Upgrade", &["SPDY/3.1"]), offered("SPDY/3.1"));
        assert_eq!(ask("PUT", "upgrade", &["a", "b/2"]), offered("a, b/2"));
        assert_eq!(ask("GET", "upgrade", &["a,h2c", ", b"]), offered("a, b"));
        assert_eq!(ask("GET", "keep-alive", &["websocket"]), Ok(Target::Message));
        assert_eq!(ask("GET", "Upgrade, HTTP2-Settings", &["h2c"]), Ok(Target::Message));
        assert_eq!(ask("GET", "upgrade", &[]), Ok(Target::Message));
        assert_eq!(ask("GET", "upgrade", &[" "]), Ok(Target::Message));
    }

    #[test]
    fn a_head_is_settled_before_it_is_judged() {
        let settled = |version: Version, said: &[(&str, &str)]| {
            let request = Request::get("http://a/").version(version);
            let request =
                said.iter().fold(request, |request, (name, value)| request.header(*name, *value));
            let (mut head, ()) = request.body(()).unwrap().into_parts();
            let length = settle(&mut head).map_err(|refusal| refusal.code);
            (length, head.headers.get_all("cookie").iter().cloned().collect::<Vec<_>>())
        };
        let cookies = [("cookie", "a=1"), ("cookie", "b=2"), ("content-length", "007")];
        let (length, joined) = settled(Version::HTTP_2, &cookies);
        assert_eq!((length, joined), (Ok(Some(7)), vec![HeaderValue::from_static("a=1; b=2")]));
        assert_eq!(settled(Version::HTTP_11, &cookies).1.len(), 2, "HTTP/1.1 splits nothing");
        let lengths = [("content-length", "7"), ("content-length", "8")];
        assert_eq!(settled(Version::HTTP_2, &lengths).0, Err(Code::BadRequest));
    }

    #[test]
    fn a_connect_has_no_content() {
        let request = Request::builder().method("CONNECT").uri("wiki.corp:443");
        let (mut head, ()) = request.body(()).unwrap().into_parts();
        assert_eq!(admit(&mut head, true).map_err(|refusal| refusal.code), Err(Code::BadRequest));
    }
}
