//! Futures that are made where they stay.

use std::pin::Pin;

/// What `Box::pin(make())` gives, with the room taken before the future is made: of a large one, only what it
/// begins with is written then. Made first, all of it would be copied.
pub fn boxed<F: Future>(make: impl FnOnce() -> F) -> Pin<Box<F>> {
    let room = Box::new_uninit();
    Box::into_pin(Box::write(room, make()))
}
