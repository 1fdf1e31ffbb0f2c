//! Who is asking: passwords, sessions and API keys.

pub(crate) mod backoff;
pub(crate) mod one_time;
pub(crate) mod password;
pub(crate) mod session;
