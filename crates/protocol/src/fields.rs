//! Which header fields may pass. Edge and connector both clean what they forward, in both directions:
//! first the fields that `Connection` nominates, then everything hop-by-hop, then every name that
//! Postern itself gives a meaning to, so that nobody outside can speak in its place.

use http::{HeaderMap, HeaderName, HeaderValue, header, header::InvalidHeaderValue};

/// Response header of a refusal: its code ([`crate::refusal::Code`]).
pub const ERROR: HeaderName = HeaderName::from_static("postern-error");
/// Response header of a refusal: whose fault it is ([`crate::refusal::Source`]).
pub const ERROR_SOURCE: HeaderName = HeaderName::from_static("postern-error-source");
/// Response header: how long each phase took ([`crate::phases`]).
pub const PHASES: HeaderName = HeaderName::from_static(crate::phases::HEADER);

/// Removes what must not be forwarded. Leaves end-to-end fields as they are; values of one name keep
/// their order.
pub fn strip(fields: &mut HeaderMap) {
    let mut gone: Vec<HeaderName> = fields.keys().filter(|name| must_go(name)).cloned().collect();
    if gone.is_empty() {
        return;
    }
    let keeps_te = wants_trailers(fields);
    if gone.contains(&header::CONNECTION) {
        gone.extend(nominated(fields));
    }
    for name in gone {
        fields.remove(name);
    }
    if keeps_te {
        fields.insert(header::TE, HeaderValue::from_static("trailers"));
    }
}

/// Removes from trailers what must not be forwarded, and what frames or routes a message, which trailers
/// may not (RFC 9110 §6.5.1).
pub fn strip_trailers(trailers: &mut HeaderMap) {
    const FRAMING: [HeaderName; 4] =
        [header::CONTENT_LENGTH, header::HOST, header::MAX_FORWARDS, header::TRAILER];
    strip(trailers);
    // What a request says of its own trailers is no trailer.
    trailers.remove(header::TE);
    for name in FRAMING {
        trailers.remove(name);
    }
}

/// Makes the fields of one name one field, its values joined by `separator` in their order; returns it.
pub fn join(fields: &mut HeaderMap, name: &HeaderName, separator: &[u8]) -> Option<HeaderValue> {
    let mut values = fields.get_all(name).iter();
    let first = values.next()?;
    if values.next().is_none() {
        return Some(first.clone());
    }
    let values: Vec<&[u8]> = fields.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    let joined = HeaderValue::from_bytes(&values.join(separator));
    let joined = joined.expect("values that are joined by what may stand in one are one");
    fields.insert(name, joined.clone());
    Some(joined)
}

/// Does `TE` say that trailers are welcome?
pub fn wants_trailers(fields: &HeaderMap) -> bool {
    let says_so = |value: &HeaderValue| {
        let parts = value.as_bytes().split(|byte| *byte == b',');
        parts.map(<[u8]>::trim_ascii).any(|part| part.eq_ignore_ascii_case(b"trailers"))
    };
    fields.get_all(header::TE).iter().any(says_so)
}

/// Is there anything that [`strip`] would remove?
pub fn must_strip(fields: &HeaderMap) -> bool {
    fields.keys().any(must_go)
}

/// The fields that `Connection` names.
fn nominated(fields: &HeaderMap) -> Vec<HeaderName> {
    let mut names = Vec::new();
    for value in fields.get_all(header::CONNECTION) {
        // What is almost always said names no field, or one that goes anyway.
        if matches!(value.as_bytes(), b"keep-alive" | b"close") {
            continue;
        }
        let options = value.to_str().unwrap_or_default().split(',');
        names.extend(options.filter_map(|name| name.trim().parse::<HeaderName>().ok()));
    }
    names
}

/// Makes `Host` say this and nothing else; most often it does already.
///
/// # Errors
/// If it cannot stand in a field.
pub fn set_host(fields: &mut HeaderMap, host: &str) -> Result<(), InvalidHeaderValue> {
    let mut said = fields.get_all(header::HOST).iter();
    if said.next().is_some_and(|said| said == host) && said.next().is_none() {
        return Ok(());
    }
    fields.insert(header::HOST, HeaderValue::from_str(host)?);
    Ok(())
}

/// Removes every `Postern-*` field, and its twins with underscores, and nothing else.
pub fn strip_internal(fields: &mut HeaderMap) {
    let is_internal = |name: &&HeaderName| is_internal(name.as_str());
    let internal: Vec<HeaderName> = fields.keys().filter(is_internal).cloned().collect();
    for name in internal {
        fields.remove(name);
    }
}

/// Is it meaningful for one connection only (RFC 9110 §7.6.1, and what proxies have always treated so),
/// or is it `Postern-*` or a twin with underscores, which some servers fold together? Of `TE`,
/// `trailers` may pass.
fn must_go(name: &HeaderName) -> bool {
    let name = name.as_str();
    matches!(
        name,
        "connection"
            | "http2-settings"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "transfer-encoding"
            | "upgrade"
    ) || is_internal(name)
}

fn is_internal(name: &str) -> bool {
    matches!(name.as_bytes(), [b'p', b'o', b's', b't', b'e', b'r', b'n', b'-' | b'_', ..])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What passes, sorted by name.
    fn stripped(fields: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        strip(&mut map);
        let passed = map.iter().map(|(n, v)| (n.to_string(), v.to_str().unwrap().to_owned()));
        let mut passed: Vec<_> = passed.collect();
        passed.sort();
        passed
    }

    #[test]
    fn only_end_to_end_fields_pass() {
        let passed = stripped(&[
            ("Accept", "*/*"),
            ("Connection", "close, X-Secret"),
            ("Connection", "x-other"),
            ("X-Secret", "1"),
            ("X-Other", "1"),
            ("Keep-Alive", "5"),
            ("Proxy-Authorization", "Basic x"),
            ("Proxy-Connection", "keep-alive"),
            ("Transfer-Encoding", "chunked"),
            ("Upgrade", "h2c"),
            ("HTTP2-Settings", "AA"),
            ("Cookie", "a=b"),
            ("TE", "gzip, trailers"),
            ("Trailer", "x-sum"),
        ]);
        let names: Vec<&str> = passed.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["accept", "cookie", "te", "trailer"]);
        assert_eq!(passed[2].1, "trailers");
    }

    #[test]
    fn nobody_outside_speaks_in_posterns_place() {
        let passed = stripped(&[
            ("Postern-Error", "x"),
            ("POSTERN_ERROR", "x"),
            ("postern_phases", "x"),
            ("Postern-Phases", "x"),
            ("Posterns", "mine"),
            ("X-Postern-Error", "mine"),
        ]);
        let names: Vec<&str> = passed.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["posterns", "x-postern-error"]);
    }

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        map
    }

    #[test]
    fn trailers_frame_and_route_nothing() {
        let mut trailers = map(&[
            ("x-sum", "1"),
            ("connection", "x-dropped"),
            ("x-dropped", "1"),
            ("keep-alive", "1"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("content-length", "5"),
            ("host", "a"),
            ("trailer", "x-sum"),
            ("postern-error", "forged"),
            ("grpc-status", "0"),
        ]);
        strip_trailers(&mut trailers);
        assert_eq!(trailers, map(&[("x-sum", "1"), ("grpc-status", "0")]));
    }

    #[test]
    fn fields_of_one_name_are_joined_in_their_order() {
        let mut fields = map(&[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("cookie", "c")]);
        assert_eq!(join(&mut fields, &header::COOKIE, b"; ").unwrap(), "a=1; b=2; c");
        assert_eq!(fields, map(&[("cookie", "a=1; b=2; c"), ("x", "y")]));
        assert_eq!(join(&mut fields, &HeaderName::from_static("x"), b", ").unwrap(), "y");
        assert_eq!(join(&mut fields, &header::UPGRADE, b", "), None);
    }

    #[test]
    fn one_host_is_said() {
        for said in [&[][..], &["a:80"], &["b"], &["a:80", "b"], &["a:80", "a:80"]] {
            let fields = said.iter().map(|host| (header::HOST, HeaderValue::from_static(host)));
            let mut map = HeaderMap::new();
            fields.for_each(|(name, value)| {
                map.append(name, value);
            });
            set_host(&mut map, "a:80").unwrap();
            assert_eq!(map.get_all(header::HOST).iter().collect::<Vec<_>>(), ["a:80"], "{said:?}");
        }
    }

    #[test]
    fn a_nominated_internal_field_is_gone_too() {
        assert!(stripped(&[("Connection", "postern-error"), ("Postern-Error", "x")]).is_empty());
    }
}
