//! Clients that never stop asking: what must lose no request runs below them.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::{sync::watch, task::JoinSet};

use crate::{origin::HELLO, world::World};

/// Clients of one gateway.
const CLIENTS: usize = 8;
/// What every second request carries. It is no GET, so nothing may send it twice.
const BODY: &str = "once and no more";

/// Clients that send one request after the other until they are stopped; each must succeed.
pub struct Traffic {
    clients: JoinSet<()>,
    stop: Arc<AtomicBool>,
    answered: watch::Sender<u64>,
}

impl Traffic {
    /// Starts them at the gateway of a region.
    ///
    /// # Errors
    /// If a client cannot be made.
    pub fn start(world: &World, region: usize, token: &str) -> anyhow::Result<Self> {
        let (stop, answered) = (Arc::<AtomicBool>::default(), watch::Sender::default());
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            let client = world.client(region, token)?;
            let [hello, echo] = ["/hello", "/echo"].map(|path| world.origin.url(path));
            let (stop, answered) = (stop.clone(), answered.clone());
            clients.spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    succeeds(client.get(&hello), HELLO).await;
                    succeeds(client.post(&echo).body(BODY), BODY).await;
                    answered.send_modify(|answered| *answered += 2);
                }
            });
        }
        Ok(Self { clients, stop, answered })
    }

    /// Waits until so many more requests were answered.
    ///
    /// # Panics
    /// If one of them failed.
    pub async fn goes_on_for(&mut self, requests: u64) {
        let mut answered = self.answered.subscribe();
        let enough = *answered.borrow() + requests;
        tokio::select! {
            Some(ended) = self.clients.join_next() => panic!("a request failed: {ended:?}"),
            all = answered.wait_for(|answered| *answered >= enough) => {
                drop(all.expect("the sender is here"));
            }
        }
    }

    /// Ends it, and tells how many requests were answered.
    ///
    /// # Panics
    /// If one of them failed.
    pub async fn stop(self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        self.clients.join_all().await;
        *self.answered.borrow()
    }
}

async fn succeeds(request: reqwest::RequestBuilder, wanted: &str) {
    let answer = request.send().await.unwrap_or_else(|error| panic!("no answer: {error:?}"));
    let (status, headers) = (answer.status(), answer.headers().clone());
    let text = answer.text().await;
    let text = text.unwrap_or_else(|error| panic!("{status} {headers:?} broke off: {error:?}"));
    assert!(status == 200 && text == wanted, "{status} {headers:?} {text}");
}
