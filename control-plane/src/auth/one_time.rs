//! Secrets of links that work once. The secret stands in the link's fragment, which browsers send to
//! nobody; the page sends the secret in a request's body.

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use crate::random;

/// A set-up link is good for that long: 24 hours. Each start prints a new one until it is used.
pub(crate) const SET_UP_MS: u64 = 24 * 60 * 60 * 1000;
/// A sign-in link is good for that long: one hour, for whoever looks at the terminal now.
pub(crate) const SIGN_IN_MS: u64 = 60 * 60 * 1000;

/// A link's secret.
pub(crate) struct LinkSecret(Zeroizing<String>);

impl LinkSecret {
    /// A fresh one, of 256 random bits.
    pub(crate) fn draw() -> Self {
        Self(Zeroizing::new(URL_SAFE_NO_PAD.encode(random::bytes::<32>().as_slice())))
    }

    /// As someone sent it.
    pub(crate) fn new(text: Zeroizing<String>) -> Self {
        Self(text)
    }

    /// Under which it is stored.
    pub(crate) fn digest(&self) -> String {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"postern one-time link v1\0");
        context.update(self.0.as_bytes());
        URL_SAFE_NO_PAD.encode(context.finish())
    }

    /// The text, for the one to whom the link is shown.
    pub(crate) fn into_text(self) -> Zeroizing<String> {
        self.0
    }
}
