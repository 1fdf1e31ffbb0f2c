//! Connectors that fall silent, and those that only seem to.

use std::{
    sync::mpsc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use http_body_util::BodyExt;
use link::workers::Workers;
use protocol::presence::Transport;

use crate::{
    client::{Whole, empty, fetch, get, send},
    connector::{CARRIERS, Connector, Held},
    world::{World, patiently},
};

/// From then on an edge gives a silent link up whatever becomes of its requests.
const GIVEN_UP: Duration = Duration::from_secs(9);

/// A link of a connector with a thread of its own, which can be stopped as a process can: the system goes on
/// to take what comes for it.
struct Apart {
    workers: Workers,
    held: Option<Held>,
}

impl Apart {
    async fn hold(connector: Connector, world: &World, carrier: Transport) -> Self {
        let workers = Workers::start(2).unwrap();
        let runtime = &workers.iter().last().unwrap().runtime;
        let dialled = runtime.spawn(async move { connector.dial(carrier, 0).await.unwrap() });
        let held = Some(patiently(dialled).await.unwrap());
        world.metric_until(&gauge(carrier), 1).await;
        Self { workers, held }
    }

    /// Stops it, until what is returned is dropped.
    fn stop(&self) -> mpsc::Sender<()> {
        let (resume, stopped) = mpsc::channel::<()>();
        let runtime = &self.workers.iter().last().unwrap().runtime;
        // Ends in an error, when the other end is dropped.
        runtime.spawn(async move { stopped.recv().is_ok() });
        resume
    }

    /// Ends on its own thread, where the link lives.
    async fn end(mut self) {
        let held = self.held.take().unwrap();
        let runtime = self.workers.iter().last().unwrap().runtime.clone();
        runtime.spawn(async move { drop(held) }).await.unwrap();
    }
}

fn gauge(carrier: Transport) -> String {
    format!("postern_edge_links{{transport=\"{}\"}}", carrier.as_str())
}

#[tokio::test]
async fn a_connector_that_stops_holds_no_safe_request_up_while_another_is_well() {
    for carrier in CARRIERS {
        let world = World::new().await;
        let stopping = Apart::hold(Connector::new(&world, 1), &world, carrier).await;
        assert_eq!(fetch(&world, get("http://wiki.corp/")).await.status.as_u16(), 200);
        let _well = Connector::new(&world, 2).hold(&world, carrier, 0).await;
        let resume = stopping.stop();
        let stopped_at = Instant::now();
        let requests = (0..64).map(|_| fetch(&world, get("http://wiki.corp/")));
        for answer in join_all(requests).await {
            assert_eq!(answer.status.as_u16(), 200, "{carrier:?}");
        }
        // Half of them were sent to the connector that has stopped.
        assert!(stopped_at.elapsed() < GIVEN_UP, "{carrier:?}: after {:?}", stopped_at.elapsed());
        for _ in 0..64 {
            let request = get("http://wiki.corp/").method("POST").body(empty()).unwrap();
            let answer = Whole::of(send(&world, request).await).await;
            assert_eq!(answer.status.as_u16(), 200, "{carrier:?}: what is suspect is not picked");
        }
        world.metric_until(&gauge(carrier), 1).await;
        assert!(stopped_at.elapsed() < GIVEN_UP, "{carrier:?}: after {:?}", stopped_at.elapsed());
        drop(resume);
        stopping.end().await;
    }
}

#[tokio::test]
async fn what_must_not_be_sent_twice_waits_while_every_link_is_suspect() {
    for carrier in CARRIERS {
        let world = World::new().await;
        let stopping = Apart::hold(Connector::new(&world, 1), &world, carrier).await;
        let well = Connector::new(&world, 2).hold(&world, carrier, 0).await;
        let resume = stopping.stop();
        // The edge finds out by those that it sends to the connector that has stopped.
        let requests = (0..64).map(|_| fetch(&world, get("http://wiki.corp/")));
        join_all(requests).await;
        drop(well);
        world.metric_until(&gauge(carrier), 1).await;
        let request = get("http://wiki.corp/").method("POST").body(empty()).unwrap();
        let (answer, _another) = tokio::join!(send(&world, request), async {
            world.metric_until("postern_edge_requests_in_flight", 1).await;
            Connector::new(&world, 3).hold(&world, carrier, 0).await
        });
        assert_eq!(answer.status().as_u16(), 200, "{carrier:?}");
        drop(resume);
        stopping.end().await;
    }
}

#[tokio::test]
async fn a_connector_that_stops_for_a_moment_is_not_given_up() {
    for carrier in CARRIERS {
        let world = World::new().await;
        let stopping = Apart::hold(Connector::new(&world, 1), &world, carrier).await;
        let resume = stopping.stop();
        let stopped_at = Instant::now();
        let request = get("http://wiki.corp/").method("POST").body(empty()).unwrap();
        let (answer, ()) = tokio::join!(send(&world, request), async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            drop(resume);
        });
        // A machine that is slow stops it for longer.
        if stopped_at.elapsed() < Duration::from_secs(4) {
            assert_eq!(answer.status().as_u16(), 200, "{carrier:?}");
        }
        stopping.end().await;
    }
}

#[tokio::test]
async fn an_origin_that_takes_long_does_not_make_its_connector_suspect() {
    for carrier in CARRIERS {
        let world = World::new().await;
        let slow = Connector::new(&world, 1).hold(&world, carrier, 0).await;
        let request = get("http://wiki.corp/wait").method("POST").body(empty()).unwrap();
        let waiting = async {
            let answer = Whole::of(send(&world, request).await).await;
            (answer.status.as_u16(), answer.body)
        };
        let ((status, body), ()) = tokio::join!(waiting, async {
            slow.begun().await;
            let _well = Connector::new(&world, 2).hold(&world, carrier, 0).await;
            // Longer than it takes to give a silent link up.
            tokio::time::sleep(Duration::from_secs(5)).await;
            slow.go_on();
        });
        assert_eq!((status, &body[..]), (200, &b"waited"[..]), "{carrier:?}");
    }
}

#[tokio::test]
async fn whatever_arrives_is_as_good_as_a_ping() {
    let kept = async |carrier| {
        let world = World::new().await;
        let held = Connector::new(&world, 1).hold(&world, carrier, 0).await;
        let download = get("http://wiki.corp/endless").body(empty()).unwrap();
        let mut download = send(&world, download).await.into_body();
        held.begun().await;
        let started = Instant::now();
        while started.elapsed() < GIVEN_UP + Duration::from_secs(4) {
            let frame = patiently(download.frame()).await.unwrap();
            assert!(frame.is_ok(), "{carrier:?}: given up after {:?}", started.elapsed());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::join!(kept(CARRIERS[0]), kept(CARRIERS[1]));
}
