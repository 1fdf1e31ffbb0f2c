//! The first calls to an origin: one of them dials, the others wait for what comes of it. If the one that
//! dials is given up, the next one does.

use std::sync::{Arc, Mutex, Weak};

use protocol::{
    phases::Phases,
    refusal::{Refusal, Source},
};
use tokio::sync::OnceCell;

use super::Sender;
use crate::origin::{
    self, Origin,
    connect::{ByDestination, Destination},
    settings::{Settings, Terms},
};

/// What is being dialled. Whoever waits holds it, so there is no more of it than requests.
#[derive(Default)]
pub(in crate::origin) struct FirstCalls(Mutex<ByDestination<Weak<FirstCall>>>);

struct FirstCall {
    settings: Option<Arc<Settings>>,
    /// A connection if the origin speaks HTTP/2.
    outcome: OnceCell<Result<Option<Sender>, Refusal>>,
}

impl FirstCalls {
    /// The one that is under way, or a new one.
    fn join(&self, destination: &Destination, settings: Option<&Arc<Settings>>) -> Arc<FirstCall> {
        let mut calls = self.0.lock().expect("no panic while locked");
        let under_way = calls.get(destination).and_then(Weak::upgrade).filter(|call| {
            !call.outcome.initialized()
                && call.settings.as_ref().map(Arc::as_ptr) == settings.map(Arc::as_ptr)
        });
        under_way.unwrap_or_else(|| {
            calls.retain(|_, call| call.strong_count() > 0);
            let call =
                Arc::new(FirstCall { settings: settings.cloned(), outcome: OnceCell::new() });
            calls.insert(destination.clone(), Arc::downgrade(&call));
            call
        })
    }
}

impl Origin {
    /// A connection to an origin that is to be spoken to over HTTP/2 and to which there is none.
    pub(in crate::origin) async fn call_first(
        &self,
        destination: &Destination,
        terms: &Terms,
    ) -> Result<(origin::Sender, Phases), Refusal> {
        let call = self.pool.0.first_calls.join(destination, terms.settings.as_ref());
        let mut own = None;
        let dial = async || {
            let dialled = self.dial(destination, terms, true).await;
            let outcome = match &dialled {
                Ok((origin::Sender::Http2(sender), _)) => Ok(Some(sender.clone())),
                Ok((origin::Sender::Http1(_), _)) => Ok(None),
                Err(refusal) => Err(refusal.clone()),
            };
            own = Some(dialled);
            outcome
        };
        let outcome = call.outcome.get_or_init(dial).await;
        if let Some(own) = own {
            return own;
        }
        match outcome {
            Ok(Some(sender)) if sender.suits(terms) => {
                Ok((origin::Sender::Http2(sender.clone()), Phases::default()))
            }
            Err(refusal) if refusal.code.source() == Source::Origin => Err(refusal.clone()),
            // HTTP/1.1 carries one request at a time, and what a policy says to one request is not what it
            // says to another.
            Ok(_) | Err(_) => self.dial(destination, terms, true).await,
        }
    }
}
