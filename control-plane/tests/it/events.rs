//! The stream of events: who hears what, how it goes on after a break, and when it ends.

use std::time::Duration;

use control_plane::Clock;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    client::Client,
    test_edge::{TestEdge, link},
    world::World,
};

/// Longer than four heartbeats of a stream: with each of them its session is looked up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A listener.
struct Stream {
    body: Incoming,
    text: String,
    _connection: AbortOnDropHandle<()>,
}

#[derive(Debug, Clone, PartialEq)]
struct Event {
    name: String,
    id: Option<u64>,
    data: Value,
}

impl Stream {
    async fn open(client: &Client, last: Option<u64>) -> Self {
        let (status, stream) = Self::try_open(client, last).await;
        assert_eq!(status, 200);
        stream
    }

    async fn try_open(client: &Client, last: Option<u64>) -> (u16, Self) {
        let mut request = Request::get("/api/v1/events").header("host", "test");
        for (name, value) in &client.headers {
            request = request.header(*name, value);
        }
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let stream = TcpStream::connect(client.address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let connection = AbortOnDropHandle::new(tokio::spawn(async move {
            let _ = connection.await;
        }));
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let response = sender.send_request(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body();
        (status, Self { body, text: String::new(), _connection: connection })
    }

    /// The next event; `None` at the stream's end. Signs of life are left out.
    async fn next(&mut self) -> Option<Event> {
        tokio::time::timeout(PATIENCE, async {
            loop {
                while let Some((block, rest)) = self.text.split_once("\n\n") {
                    let event = parsed(block);
                    self.text = rest.to_owned();
                    if event.name != "alive" {
                        return Some(event);
                    }
                }
                let frame = self.body.frame().await?.unwrap().into_data().unwrap();
                self.text.push_str(std::str::from_utf8(&frame).unwrap());
            }
        })
        .await
        .expect("an event, or the end")
    }

    /// The next event of that name; what comes before is returned as well.
    async fn until(&mut self, name: &str) -> (Vec<Event>, Event) {
        let mut before = Vec::new();
        loop {
            let event = self.next().await.unwrap_or_else(|| panic!("no {name}: {before:?}"));
            if event.name == name {
                return (before, event);
            }
            before.push(event);
        }
    }

    async fn change(&mut self, action: &str) -> Event {
        loop {
            let (_, event) = self.until("change").await;
            if event.data["action"] == action {
                return event;
            }
        }
    }
}

fn parsed(block: &str) -> Event {
    let field = |name: &str| {
        let line = block.lines().find_map(|line| line.strip_prefix(name));
        line.map(|value| value.trim_start_matches(':').trim().to_owned())
    };
    Event {
        name: field("event").unwrap_or_default(),
        id: field("id").map(|id| id.parse().unwrap()),
        data: field("data").map_or(Value::Null, |data| serde_json::from_str(&data).unwrap()),
    }
}

async fn tunnel(world: &World, name: &str) {
    TestEdge::join(world, "region-a", "127.0.0.1:1".parse().unwrap()).await;
    world.owner.post("/api/v1/admin/tunnel", &json!({"name": name})).await.expect(201);
}

#[tokio::test]
async fn a_change_is_told_with_its_number_in_the_audit_log() {
    let world = World::start().await;
    let mut stream = Stream::open(&world.owner, None).await;
    assert_eq!(stream.next().await.unwrap().name, "hello");
    world.team("ops").await;
    let event = stream.change("team.create").await;
    let audit = world.owner.get("/api/v1/audit?action=team.create").await.expect(200);
    let entry = &audit["items"][0];
    assert_eq!(event.id, entry["sequence"].as_u64());
    assert_eq!(event.data["subject"], entry["subject"]);
}

#[tokio::test]
async fn after_a_break_the_stream_goes_on_where_it_broke_off() {
    let world = World::start().await;
    let mut stream = Stream::open(&world.owner, None).await;
    world.team("before").await;
    let seen = stream.change("team.create").await.id.unwrap();
    drop(stream);
    let missed = world.team("meanwhile").await;
    let mut stream = Stream::open(&world.owner, Some(seen)).await;
    loop {
        let event = stream.change("team.create").await;
        if event.data["subject"] == missed {
            assert_eq!(event.id, Some(seen + 1));
            break;
        }
    }
    // Of a database that was restored from a backup, or far behind: everything is looked up again.
    for last in [seen + 1_000, 0] {
        if last == 0 {
            for n in 0..200 {
                world.team(&format!("team {n}")).await;
            }
        }
        let mut stream = Stream::open(&world.owner, Some(last)).await;
        assert_eq!(stream.next().await.unwrap().name, "hello");
        assert_eq!(stream.next().await.unwrap().name, "resync", "{last}");
    }
}

#[tokio::test]
async fn presence_is_told_when_links_come_and_when_they_are_measured() {
    let world = World::start().await;
    let edge = TestEdge::join(&world, "region-a", "127.0.0.1:1".parse().unwrap()).await;
    world.owner.post("/api/v1/admin/tunnel", &json!({"name": "office"})).await.expect(201);
    let shown = world.owner.get("/api/v1/admin/tunnel/office").await.expect(200);
    let id = shown["id"].as_str().unwrap().parse().unwrap();
    let key = shown["secrets"][0]["key"].as_str().unwrap().parse().unwrap();
    let mut stream = Stream::open(&world.owner, None).await;
    let presence = edge.presence();
    let mut first = link(id, key, 1, 0);
    first.rtt_us = None;
    let report = |up, reset| protocol::presence::Report {
        applied_generation: 0,
        reset,
        up: vec![up],
        ..Default::default()
    };
    presence.report(report(first.clone(), true)).await;
    let (_, event) = stream.until("presence").await;
    assert_eq!(event.data, json!({"tunnels": ["office"]}));
    first.rtt_us = Some(1_500);
    presence.report(report(first, false)).await;
    stream.until("presence").await;
    let list = world.owner.get("/api/v1/admin/tunnel").await.expect(200);
    let summary = &list["items"][0];
    assert_eq!(summary["connectors"], 1);
    assert_eq!(summary["links"][0]["rtt_us"], 1_500);
    assert_eq!(summary["links"][0]["region"], "region-a");
}

#[tokio::test]
async fn members_hear_of_their_own_teams_and_of_nothing_else() {
    let world = World::start().await;
    let (user, member) = world.user("member@example.com", &[]).await;
    let (own, foreign) = (world.team("own").await, world.team("foreign").await);
    let path = format!("/api/v1/teams/{own}/members/{user}");
    world.owner.put(&path, &json!({})).await.expect(204);
    let mut stream = Stream::open(&member, None).await;
    let workflow = |team: &str| {
        let action = json!({"type": "http", "name": "a", "url": "http://example.com/"});
        json!({"team": team, "name": "w", "actions": [action]})
    };
    world.owner.post("/api/v1/workflows", &workflow(&foreign)).await.expect(201);
    world
        .owner
        .post("/api/v1/users", &json!({"email": "x@y.z", "password": "correct horse"}))
        .await
        .expect(201);
    tunnel(&world, "office").await;
    let mine = world.owner.post("/api/v1/workflows", &workflow(&own)).await.expect(201);
    let (before, event) = stream.until("change").await;
    assert_eq!(event.data, json!({"action": "workflow.create", "subject": mine["id"]}));
    let names: Vec<_> = before.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(names, ["hello", "usable_tunnels"], "a tunnel to pick, and no more: {before:?}");
    let other = world.other_tenant().await;
    let mut elsewhere = Stream::open(&other, None).await;
    assert_eq!(elsewhere.next().await.unwrap().name, "hello");
    world.team("unheard").await;
    other.post("/api/v1/teams", &json!({"name": "heard"})).await.expect(201);
    let event = elsewhere.next().await.unwrap();
    assert_eq!(event.data["action"], "team.create");
    let heard = other.get("/api/v1/teams").await.expect(200)["items"][0]["id"].clone();
    assert_eq!(event.data["subject"], heard, "nothing crosses tenants");
}

#[tokio::test]
async fn a_run_is_told_as_it_comes_further() {
    let world = World::start().await;
    let team = world.team("ops").await;
    let action = json!({"type": "http", "name": "a", "url": "http://127.0.0.1:1/"});
    let workflow = json!({"team": team, "name": "w", "actions": [action]});
    let workflow = world.owner.post("/api/v1/workflows", &workflow).await.expect(201);
    let mut stream = Stream::open(&world.owner, None).await;
    let path = format!("/api/v1/workflows/{}/runs", workflow["id"].as_str().unwrap());
    let run = world.owner.post(&path, &json!({})).await.expect(202);
    loop {
        let (_, event) = stream.until("run").await;
        assert_eq!(event.data["run"], run["id"]);
        if event.data["status"] == "failed" {
            break;
        }
    }
}

#[tokio::test]
async fn the_stream_ends_with_its_session() {
    let world = World::start().await;
    let (_, member) = world.user("member@example.com", &[]).await;
    let mut stream = Stream::open(&member, None).await;
    member.delete("/api/v1/session").await.expect(204);
    let (_, bye) = stream.until("bye").await;
    assert_eq!(bye.data["reason"], "session_ended");
    assert_eq!(stream.next().await, None);
    world.anonymous().get("/api/v1/events").await.expect_problem(401, "unauthenticated");
}

#[tokio::test]
async fn a_session_that_runs_out_ends_its_stream_though_nothing_changes() {
    let clock = Clock::manual(1_800_000_000_000);
    let world = World::start_with(clock.clone(), |_| {}).await;
    let mut stream = Stream::open(&world.owner, None).await;
    clock.advance(Duration::from_secs(31 * 60));
    let (_, bye) = stream.until("bye").await;
    assert_eq!(bye.data["reason"], "session_ended");
}

#[tokio::test]
async fn one_user_has_so_many_streams_and_no_more() {
    let world = World::start().await;
    let mut streams = Vec::new();
    for _ in 0..16 {
        streams.push(Stream::open(&world.owner, None).await);
    }
    world.owner.get("/api/v1/events").await.expect_problem(429, "too_many_streams");
    let (_, member) = world.user("member@example.com", &[]).await;
    drop(Stream::open(&member, None).await);
    streams.clear();
    crate::world::eventually("a place is free again", || async {
        (Stream::try_open(&world.owner, None).await.0 == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn streams_end_when_the_control_plane_stops() {
    let world = World::start().await;
    let mut stream = Stream::open(&world.owner, None).await;
    let (_, bye) = tokio::join!(world.stop(), stream.until("bye"));
    assert_eq!(bye.1.data["reason"], "stopping");
}
