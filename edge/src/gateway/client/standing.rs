//! What a client's connection may take before it has shown a credential: a place among the gateway's strangers, and so
//! many bytes. Whoever needs more for its head takes one of few further places.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use room::{Place, Room};

/// What every stranger may send, in bytes: an ordinary head is a tenth of it.
const ORDINARY: usize = 16 * 1024;

#[derive(Debug)]
pub(crate) struct Standing {
    /// The same as the place's, where every request asks.
    is_proven: AtomicBool,
    place: Weak<Place>,
    heard: AtomicUsize,
    long_heads: Arc<Room>,
    long_head: Mutex<Option<Place>>,
}

impl Standing {
    pub(crate) fn new(place: &Arc<Place>, long_heads: Arc<Room>) -> Self {
        Self {
            is_proven: AtomicBool::new(false),
            place: Arc::downgrade(place),
            heard: AtomicUsize::new(0),
            long_heads,
            long_head: Mutex::default(),
        }
    }

    /// The client has shown a credential that counts.
    pub(crate) fn prove(&self) {
        if self.is_proven.load(Ordering::Relaxed) {
            return;
        }
        self.is_proven.store(true, Ordering::Relaxed);
        if let Some(place) = self.place.upgrade() {
            place.prove();
        }
        *self.long_head.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The client has sent `count` bytes.
    ///
    /// # Errors
    /// When a stranger has sent more than there is room for.
    pub(crate) fn hears(&self, count: usize) -> io::Result<()> {
        if self.is_proven.load(Ordering::Relaxed) {
            return Ok(());
        }
        let heard = self.heard.fetch_add(count, Ordering::Relaxed) + count;
        if heard <= ORDINARY {
            return Ok(());
        }
        let mut long_head = self.long_head.lock().unwrap_or_else(PoisonError::into_inner);
        if long_head.is_none() {
            let place = self.place.upgrade().and_then(|place| place.also_in(&self.long_heads));
            *long_head =
                Some(place.ok_or_else(|| io::Error::other("too many long heads at once"))?);
        }
        Ok(())
    }
}
