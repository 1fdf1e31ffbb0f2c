//! The console's files, as `make console` has built them: embedded in release builds, read from
//! `admin-web/dist` in debug builds. A program that was built without them says how to build them.
//!
//! The build names each asset by its content and puts compressed forms next to it: `.br` and `.gz`.
//! Assets may therefore be cached for ever. `index.html` is never cached, since it names the assets,
//! and carries a fresh nonce with each answer: the component library's style elements need one.

use axum::response::{IntoResponse, Response};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};

use crate::{api::problem::Problem, random};

/// The built files.
#[derive(rust_embed::Embed)]
#[folder = "../admin-web/dist"]
struct Files;

/// What stands in `index.html` for the nonce.
const NONCE: &str = "{{nonce}}";
/// Paths below this one are assets; all others are pages, or files that keep their names.
const ASSETS: &str = "assets/";
const FOR_EVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");
/// What the console does not use, no script in it may use.
const NO_PERMISSIONS: HeaderValue = HeaderValue::from_static(
    "accelerometer=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), \
     magnetometer=(), microphone=(), payment=(), publickey-credentials-get=(), usb=()",
);
const NOT_BUILT: &str = "<!doctype html><html lang=en><meta charset=utf-8>\
<title>Postern</title><h1>This program was built without its console</h1>\
<p>The API works: see <code>docs/openapi.json</code>. To build the console, install Node 20 or later, run \
<code>make console</code>, and build the program again. <code>make demo</code> does all of it.</p></html>\n";

/// Answers with a file of the console, or with the page that shows any other path.
pub(crate) fn serve<B>(request: &Request<B>) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Problem::not_found("path").into_response();
    }
    let path = request.uri().path().trim_start_matches('/');
    if let Some(response) = file(path, request.headers()) {
        return response;
    }
    if path.starts_with(ASSETS) {
        return Problem::not_found("path").into_response();
    }
    index()
}

fn file(path: &str, headers: &HeaderMap) -> Option<Response> {
    if path.is_empty() || path == "index.html" || path.starts_with('.') {
        return None;
    }
    let plain = Files::get(path)?;
    let encoded = ["br", "gzip"].into_iter().filter(|coding| accepts(headers, coding));
    let mut encoded = encoded.filter_map(|coding| {
        let extension = if coding == "gzip" { "gz" } else { coding };
        Some((coding, Files::get(&format!("{path}.{extension}"))?))
    });
    let (coding, content) = match encoded.next() {
        Some((coding, content)) => (Some(coding), content),
        None => (None, plain),
    };
    let mut response = content.data.into_owned().into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, media_type(path));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if let Some(coding) = coding {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding));
    }
    if path.starts_with(ASSETS) {
        headers.insert(header::CACHE_CONTROL, FOR_EVER);
    }
    Some(response)
}

fn index() -> Response {
    let nonce = STANDARD.encode(random::bytes::<16>().as_slice());
    let (status, page) = match Files::get("index.html") {
        Some(file) => (StatusCode::OK, String::from_utf8_lossy(&file.data).replace(NONCE, &nonce)),
        None => (StatusCode::SERVICE_UNAVAILABLE, NOT_BUILT.to_owned()),
    };
    let mut response = (status, page).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    let policy = content_security_policy(&nonce);
    let policy = HeaderValue::from_str(&policy).expect("a nonce is base64");
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(PERMISSIONS_POLICY, NO_PERMISSIONS);
    headers.insert("cross-origin-opener-policy", HeaderValue::from_static("same-origin"));
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    response
}

/// Scripts and styles come from this host alone. Style elements that scripts make need the nonce;
/// `style` attributes in markup, inline scripts and `eval` do not work at all.
fn content_security_policy(nonce: &str) -> String {
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; \
         img-src 'self' data:; font-src 'self'; connect-src 'self'; form-action 'self'; \
         base-uri 'none'; frame-ancestors 'none'"
    )
}

/// Does the client take this coding? A weight of zero means that it does not.
fn accepts(headers: &HeaderMap, coding: &str) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).iter();
    let mut offers = values.filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(','));
    offers.any(|offer| {
        let (name, weight) = offer.split_once(';').unwrap_or((offer, ""));
        let weight = weight.trim().strip_prefix("q=").and_then(|q| q.parse::<f32>().ok());
        name.trim().eq_ignore_ascii_case(coding) && weight != Some(0.0)
    })
}

fn media_type(path: &str) -> HeaderValue {
    HeaderValue::from_static(match path.rsplit('.').next().unwrap_or_default() {
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "woff2" => "font/woff2",
        "json" => "application/json",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coding_with_weight_zero_is_not_accepted() {
        for (offered, coding, is_accepted) in [
            ("gzip, deflate, br", "br", true),
            ("gzip;q=0.5, br;q=0", "br", false),
            ("gzip;q=0.5, br;q=0", "gzip", true),
            ("identity", "gzip", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(offered));
            assert_eq!(accepts(&headers, coding), is_accepted, "{offered}: {coding}");
        }
    }
}
