//! Which header fields may pass. Edge and connector both clean what they forward, in both directions:
//! first the fields that `Connection` nominates, then everything hop-by-hop, then every name that
//! Postern itself gives a meaning to, so that nobody outside can speak in its place.

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// Response header of a refusal: its code ([`crate::refusal::Code`]).
pub const ERROR: HeaderName = HeaderName::from_static("postern-error");
/// Response header of a refusal: whose fault it is ([`crate::refusal::Source`]).
pub const ERROR_SOURCE: HeaderName = HeaderName::from_static("postern-error-source");
/// Response header: how long each phase took ([`crate::phases`]).
pub const PHASES: HeaderName = HeaderName::from_static(crate::phases::HEADER);

/// Meaningful for one connection only (RFC 9110 §7.6.1, and what proxies have always treated so).
/// `TE` is handled apart: `trailers` may pass.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
];

/// Removes what must not be forwarded. Leaves end-to-end fields as they are; values of one name keep
/// their order.
pub fn strip(fields: &mut HeaderMap) {
    strip_hop_by_hop(fields);
    strip_internal(fields);
}

/// Removes what belongs to one connection only: fields that `Connection` nominates and the known ones.
pub fn strip_hop_by_hop(fields: &mut HeaderMap) {
    let keeps_te = fields.get(header::TE).is_some_and(wants_trailers);
    if fields.contains_key(header::CONNECTION) {
        let nominated: Vec<HeaderName> = fields
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            .collect();
        for name in nominated {
            fields.remove(name);
        }
    }
    for name in HOP_BY_HOP {
        fields.remove(name);
    }
    fields.remove(header::TE);
    if keeps_te {
        fields.insert(header::TE, HeaderValue::from_static("trailers"));
    }
}

/// Removes every `Postern-*` field, and its twins with underscores, which some servers fold together.
pub fn strip_internal(fields: &mut HeaderMap) {
    if !fields.keys().any(is_internal) {
        return;
    }
    let internal: Vec<HeaderName> =
        fields.keys().filter(|name| is_internal(name)).cloned().collect();
    for name in internal {
        fields.remove(name);
    }
}

fn is_internal(name: &HeaderName) -> bool {
    matches!(name.as_str().as_bytes(), [b'p', b'o', b's', b't', b'e', b'r', b'n', b'-' | b'_', ..])
}

fn wants_trailers(value: &HeaderValue) -> bool {
    let Ok(value) = value.to_str() else { return false };
    value.split(',').any(|part| part.trim().eq_ignore_ascii_case("trailers"))
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

    #[test]
    fn a_nominated_internal_field_is_gone_too() {
        assert!(stripped(&[("Connection", "postern-error"), ("Postern-Error", "x")]).is_empty());
    }
}
