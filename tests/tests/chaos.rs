//! The short form of `make chaos`: what needs no long wait, once, at a modest rate. Only counts are judged;
//! how long things take on a busy machine is for `make chaos` to say. Needs root.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use postern_tests::chaos::{events::Event, play, report, stage::Length};
use protocol::presence::Transport;

/// Of the full rate.
const SHARE: f64 = 0.2;

async fn nothing_is_lost_but_what_was_under_way_at_a_death(carrier: Transport) {
    let rows = play(&EVENTS, Some(carrier), Length::Short, SHARE, 1).await.unwrap();
    println!("{}", report::table(&rows).text());
    let bad: Vec<_> =
        rows.iter().filter(|row| !row.counts_hold()).map(|row| row.facts.key).collect();
    assert!(bad.is_empty(), "over {}: {bad:?}", carrier.as_str());
}

const EVENTS: [Event; 9] = [
    Event::Steady,
    Event::SilentOrigin,
    Event::EdgeKilled,
    Event::EdgeStopped,
    Event::ConnectorKilled,
    Event::ConnectorsRolling,
    Event::ControlPlaneAway,
    Event::Loss,
    Event::NarrowLine,
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_but_what_was_under_way_at_a_death_over_quic() {
    nothing_is_lost_but_what_was_under_way_at_a_death(Transport::Quic).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_but_what_was_under_way_at_a_death_over_http2() {
    nothing_is_lost_but_what_was_under_way_at_a_death(Transport::Http2).await;
}
