//! `Max-Forwards` on OPTIONS and TRACE (RFC 9110 §7.6.2): each proxy takes one off, and the one that finds 0 answers.

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header, request::Parts};

/// Takes one off; true if the request ends here.
pub(crate) fn count_down(head: &mut Parts) -> bool {
    if !matches!(head.method, Method::OPTIONS | Method::TRACE) {
        return false;
    }
    let left = head.headers.get(header::MAX_FORWARDS);
    let Some(left) = left.and_then(|left| left.to_str().ok()?.parse::<u64>().ok()) else {
        return false;
    };
    let Some(left) = left.checked_sub(1) else { return true };
    head.headers.insert(header::MAX_FORWARDS, HeaderValue::from(left));
    false
}

/// The answer to a request that ends here.
pub(crate) fn answer(head: &Parts) -> Response<Option<Bytes>> {
    if head.method == Method::TRACE {
        let mut response = Response::new(Some(trace(head).into()));
        let kind = HeaderValue::from_static("message/http");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        return response;
    }
    let mut response = Response::new(None);
    *response.status_mut() = StatusCode::NO_CONTENT;
    let methods =
        HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE, CONNECT");
    response.headers_mut().insert(header::ALLOW, methods);
    response
}

/// The request as it came, without what is secret (RFC 9110 §9.3.8).
fn trace(head: &Parts) -> Vec<u8> {
    const SECRET: [header::HeaderName; 3] =
        [header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION];
    let mut text = format!("TRACE {} HTTP/1.1\r\n", head.uri).into_bytes();
    for (name, value) in &head.headers {
        if !SECRET.contains(name) {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                text.extend_from_slice(part);
            }
        }
    }
    text.extend_from_slice(b"\r\n");
    text
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn head(method: &str, left: &'static str) -> Parts {
        let request =
            Request::builder().method(method).uri("http://a/").header("max-forwards", left);
        request.header("cookie", "secret").header("x-a", "1").body(()).unwrap().into_parts().0
    }

    #[test]
    fn the_last_proxy_answers_and_the_others_count_down() {
        for (method, left, ends, rest) in [
            ("OPTIONS", "0", true, "0"),
            ("OPTIONS", "1", false, "0"),
            ("TRACE", "10", false, "9"),
            ("TRACE", "0", true, "0"),
            ("GET", "0", false, "0"),
            ("OPTIONS", "many", false, "many"),
        ] {
            let mut head = head(method, left);
            assert_eq!(count_down(&mut head), ends, "{method} {left}");
            assert_eq!(head.headers["max-forwards"], rest, "{method} {left}");
        }
        let traced = answer(&head("TRACE", "0")).into_body().unwrap();
        assert_eq!(traced, "TRACE http://a/ HTTP/1.1\r\nmax-forwards: 0\r\nx-a: 1\r\n\r\n");
        assert_eq!(answer(&head("OPTIONS", "0")).status(), StatusCode::NO_CONTENT);
    }
}
