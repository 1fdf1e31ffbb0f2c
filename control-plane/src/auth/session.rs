//! Sessions of people: an unguessable id in a cookie that scripts cannot read, and for whatever
//! changes something a second value, derived from it, in a header that no foreign page can send.

use aws_lc_rs::{constant_time, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderName, header};
use zeroize::Zeroizing;

use crate::random;

/// A session that is not used for that long is over: 30 minutes.
pub(crate) const IDLE_MS: u64 = 30 * 60 * 1000;
/// A session is over after that long in any case: 12 hours.
pub(crate) const ABSOLUTE_MS: u64 = 12 * 60 * 60 * 1000;
/// Use is noted at most once in that long, so that reading does not mean writing.
pub(crate) const TOUCH_MS: u64 = 60 * 1000;

/// Header with the CSRF token; asked for with sessions wherever something changes.
pub(crate) const CSRF: HeaderName = HeaderName::from_static("postern-csrf");

/// A session's id: what the cookie holds.
pub(crate) struct SessionId(Zeroizing<String>);

impl SessionId {
    /// A fresh one.
    pub(crate) fn draw() -> Self {
        Self(Zeroizing::new(URL_SAFE_NO_PAD.encode(random::bytes::<32>().as_slice())))
    }

    /// The one in a request's cookie.
    pub(crate) fn from_headers(headers: &HeaderMap, is_secure: bool) -> Option<Self> {
        let name = cookie_name(is_secure);
        let cookies =
            headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs =
            cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.split_once('='));
        let (_, id) = pairs.find(|(key, _)| key.trim() == name)?;
        Some(Self(Zeroizing::new(id.trim().to_owned())))
    }

    /// Under which it is stored.
    pub(crate) fn digest(&self) -> String {
        self.derive(b"postern session v1\0")
    }

    /// What the CSRF header must hold.
    pub(crate) fn csrf(&self) -> String {
        self.derive(b"postern csrf v1\0")
    }

    /// True if a request's CSRF header fits.
    pub(crate) fn allows(&self, headers: &HeaderMap) -> bool {
        let Some(token) = headers.get(CSRF) else { return false };
        let expected = self.csrf();
        constant_time::verify_slices_are_equal(token.as_bytes(), expected.as_bytes()).is_ok()
    }

    /// The cookie that begins the session.
    pub(crate) fn cookie(&self, is_secure: bool) -> String {
        cookie(&self.0, ABSOLUTE_MS / 1000, is_secure)
    }

    fn derive(&self, domain: &[u8]) -> String {
        derive(domain, self.0.as_bytes())
    }
}

/// Under which the owner of a session knows it, made from its digest.
pub(crate) fn public_id(digest: &str) -> String {
    derive(b"postern session name v1\0", digest.as_bytes())
}

fn derive(domain: &[u8], secret: &[u8]) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(domain);
    context.update(secret);
    URL_SAFE_NO_PAD.encode(context.finish())
}

/// The cookie that ends a session.
pub(crate) fn no_cookie(is_secure: bool) -> String {
    cookie("", 0, is_secure)
}

/// `__Host-` binds the cookie to this very host; browsers accept it over HTTPS only.
fn cookie_name(is_secure: bool) -> &'static str {
    if is_secure { "__Host-postern" } else { "postern" }
}

fn cookie(value: &str, max_age_s: u64, is_secure: bool) -> String {
    let name = cookie_name(is_secure);
    let secure = if is_secure { "; Secure" } else { "" };
    format!("{name}={value}; Path=/; Max-Age={max_age_s}; HttpOnly; SameSite=Lax{secure}")
}
