//! The system's random generator: the one place where randomness comes from.

use uuid::Uuid;
use zeroize::Zeroizing;

/// Random bytes that only the system's generator can draw; zeroed on drop.
pub(crate) fn bytes<const N: usize>() -> Zeroizing<[u8; N]> {
    let mut bytes = Zeroizing::new([0; N]);
    aws_lc_rs::rand::fill(bytes.as_mut_slice()).expect("the system's random generator works");
    bytes
}

/// A fresh id, ordered by the time at which it was made.
pub(crate) fn id<T: From<Uuid>>() -> T {
    Uuid::now_v7().into()
}
