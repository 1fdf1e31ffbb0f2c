//! What the edge knows, how it comes to know it, and what it does without the control plane.

use std::time::{Duration, SystemTime};

use edge::{Edge, StartError};
use http::Request;
use protocol::feed::{FeedMessage, Item};
use zeroize::Zeroizing;

use crate::{
    client::{Whole, body, fetch, get},
    connector::{CARRIERS, Connector},
    control_plane::{ControlPlane, line},
    world::{World, closed_tunnel, items, options, patiently, tunnel},
};

#[tokio::test]
async fn an_edge_joins_once_and_starts_again_without_a_token() {
    let mut world = World::new().await;
    world.stop().await;
    world.options.join_token = None;
    world.start().await;
    world.control_plane.until(|heard| heard.resets == 2).await;
    assert_eq!(world.control_plane.joined(), 1);
}

#[tokio::test]
async fn an_edge_without_an_identity_needs_a_token_that_is_whole_and_accepted() {
    let control_plane = ControlPlane::start(vec![]).await;
    let data_dir = tempfile::tempdir().unwrap();
    let start = async |token: Option<String>| {
        let mut options = options(data_dir.path());
        options.join_token = token.map(|token| Zeroizing::new(token).into());
        patiently(Edge::bind(options)).await.err()
    };
    assert!(matches!(start(None).await, Some(StartError::NoToken)));
    let token = control_plane.join_token();
    let cut = token[..token.len() - 1].to_owned();
    assert!(matches!(start(Some(cut)).await, Some(StartError::Join(_))));
    assert!(start(Some(token)).await.is_none());
}

#[tokio::test]
async fn an_edge_that_has_moved_needs_a_new_token() {
    let mut world = World::new().await;
    world.stop().await;
    world.options.join_token = None;
    world.options.address = Some("elsewhere.example:7844".parse().unwrap());
    let error = patiently(Edge::bind(world.options.clone())).await.err().unwrap();
    assert!(matches!(error, StartError::Moved { .. }), "{error}");
}

#[tokio::test]
async fn a_first_start_waits_for_the_control_plane() {
    let mut control_plane = ControlPlane::start(vec![]).await;
    control_plane.pause().await;
    let data_dir = tempfile::tempdir().unwrap();
    let mut options = options(data_dir.path());
    options.join_token = Some(Zeroizing::new(control_plane.join_token()).into());
    let (edge, ()) = tokio::join!(patiently(Edge::bind(options)), control_plane.resume());
    assert_eq!(edge.unwrap().id(), protocol::id::EdgeId::from_bytes([1; 16]));
}

#[tokio::test]
async fn requests_links_and_restarts_go_on_while_the_control_plane_is_away() {
    let mut world = World::new().await;
    // The state is on disk some time after it is in force; only the disk shows when.
    let saved = world.options.data_dir.join("feed.json");
    patiently(async {
        while !saved.exists() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    world.control_plane.pause().await;
    for carrier in CARRIERS {
        let _held = Connector::new(&world, 1).dial(carrier, 0).await.unwrap();
        assert_eq!(fetch(&world, get("http://wiki.corp/")).await.status.as_u16(), 200);
    }
    world.stop().await;
    world.start().await;
    for carrier in CARRIERS {
        let _held = Connector::new(&world, 1).dial(carrier, 0).await.unwrap();
        assert_eq!(fetch(&world, get("http://wiki.corp/")).await.status.as_u16(), 200);
    }
    let held = Connector::new(&world, 7).dial(CARRIERS[0], 0).await.unwrap();
    world.control_plane.resume().await;
    let heard = world.control_plane.until(|heard| heard.links.len() == 1).await;
    assert_eq!(heard.resets, 2, "a new connection says everything again");
    held.break_down().await;
}

#[tokio::test]
async fn changes_that_were_missed_are_in_force_after_reconnecting() {
    let mut world = World::new().await;
    let _held = Connector::new(&world, 1).hold(&world, CARRIERS[0], 0).await;
    world.control_plane.pause().await;
    let generation = world.control_plane.announce(vec![Item::Tunnel(closed_tunnel())], vec![]);
    assert_eq!(fetch(&world, get("http://wiki.corp/")).await.status.as_u16(), 200);
    world.control_plane.resume().await;
    world.control_plane.until(|heard| heard.applied >= generation).await;
    assert_eq!(fetch(&world, get("http://wiki.corp/")).await.code(), "access_denied");
}

#[tokio::test]
async fn what_the_feed_should_never_say_changes_nothing() {
    let world = World::new().await;
    let _held = Connector::new(&world, 1).hold(&world, CARRIERS[0], 0).await;
    let items = |generation| line(&FeedMessage::Snapshot { generation, items: items() });
    let whole = String::from_utf8(items(9).to_vec()).unwrap();
    let lies = [
        line(&FeedMessage::Snapshot { generation: 0, items: vec![] }),
        line(&FeedMessage::Change { generation: 1, put: vec![], remove: vec![] }),
        "{\"type\":\"snapshot\"}\n".into(),
        whole.replacen("any_team", "no_team", 1).into(),
        whole.replacen("office", "OFFICE", 1).into(),
        format!("{}\n", &whole[..whole.len() / 2]).into(),
    ];
    for (n, lie) in lies.into_iter().enumerate() {
        world.control_plane.say(lie);
        // The edge gives up on such a feed, and asks again for what it lacks.
        world.control_plane.until(|heard| heard.resets >= n + 2).await;
        assert_eq!(fetch(&world, get("http://wiki.corp/")).await.status.as_u16(), 200);
        world.control_plane.put(Item::Tunnel(tunnel())).await;
    }
    world.control_plane.say("{\"type\":\"weather\",\"wind\":3}\n");
    world.control_plane.put(Item::Tunnel(closed_tunnel())).await;
    assert_eq!(fetch(&world, get("http://wiki.corp/")).await.code(), "access_denied");
}

#[tokio::test]
async fn a_feed_that_has_gone_quiet_is_dialled_again() {
    let world = World::new().await;
    world.control_plane.until(|heard| heard.resets == 2).await;
}

#[tokio::test]
async fn an_edge_that_has_not_heard_the_feed_for_too_long_refuses() {
    let mut world = World::with(|options| options.feed_max_age = Duration::from_secs(3_600)).await;
    let saved = world.options.data_dir.join("feed.json");
    patiently(async {
        while !saved.exists() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    world.control_plane.pause().await;
    world.stop().await;
    let long_ago = SystemTime::now() - Duration::from_secs(3_700);
    std::fs::File::options().write(true).open(&saved).unwrap().set_modified(long_ago).unwrap();
    world.start().await;

    let answer = fetch(&world, get("http://wiki.corp/")).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (503, "feed_stale"));
    assert_eq!(answer.header("retry-after"), "30");
    let error = Connector::new(&world, 1).dial(CARRIERS[0], 0).await.err().unwrap();
    assert_eq!(error.refusal().unwrap().code.as_str(), "feed_stale");
    assert_eq!(world.observe("/ready").await.status.as_u16(), 503);
    assert_eq!(world.observe("/healthz").await.status.as_u16(), 200);

    world.control_plane.resume().await;
    world.control_plane.put(Item::Tunnel(tunnel())).await;
    assert_eq!(world.observe("/ready").await.status.as_u16(), 200);
}

#[tokio::test]
async fn metrics_count_what_happens() {
    let world = World::new().await;
    let _held = Connector::new(&world, 1).hold(&world, CARRIERS[0], 0).await;
    fetch(&world, get("http://wiki.corp/")).await;
    fetch(&world, Request::get("http://wiki.corp/")).await;
    let request = get("http://wiki.corp/").method("POST").body(body("12345")).unwrap();
    Whole::of(crate::client::send(&world, request).await).await;
    let ready = world.observe("/ready").await.json();
    assert_eq!((&ready["ready"], &ready["links"]), (&true.into(), &1.into()));
    let text = world.observe("/metrics").await.body;
    let text = String::from_utf8_lossy(&text);
    for line in [
        "postern_edge_requests_total{outcome=\"ok\"} 2\n",
        "postern_edge_requests_total{outcome=\"no_credentials\"} 1\n",
        "postern_edge_requests_in_flight 0\n",
        "postern_edge_links{transport=\"quic\"} 1\n",
        "postern_edge_bytes_total{direction=\"up\"} 5\n",
        "postern_edge_phase_seconds_count{phase=\"policy\"} 2\n",
    ] {
        assert!(text.contains(line), "{line}{text}");
    }
}
