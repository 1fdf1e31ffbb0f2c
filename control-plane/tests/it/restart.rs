//! What was acknowledged is there after a restart, and no secret is in the files.

use std::{
    collections::BTreeSet, fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration,
};

use control_plane::{Clock, ControlPlane};
use protocol::feed::{Applied, FeedMessage};
use serde_json::json;

use crate::{
    database::{Database, ENGINE, Engine},
    test_edge::{Feed, TestEdge},
    world::{PATIENCE, World, options, options_and_database},
};

#[tokio::test]
async fn a_second_start_finds_everything_as_it_was() {
    let world = World::start().await;
    let edge = TestEdge::join(&world, "east", "127.0.0.1:3128".parse().unwrap()).await;
    let team = world.team("ops").await;
    world.owner.post("/api/v1/admin/tunnel", &json!({"name": "office"})).await.expect(201);
    let access = json!({"mode": "teams", "teams": [team]});
    world.owner.put("/api/v1/admin/tunnel/office/access", &access).await.expect(200);
    let pin = world.join_token.ca_pin;
    let mut feed = edge.feed(None).await;
    feed.next().await;
    let before = feed.state.clone();
    drop((feed, edge));

    let world = world.restart().await;
    assert_eq!(world.join_token.ca_pin, pin);
    let shown = world.owner.get("/api/v1/admin/tunnel/office").await.expect(200);
    assert_eq!(shown["access"], access);
    let edge = TestEdge::join(&world, "east", "127.0.0.1:3128".parse().unwrap()).await;
    let mut feed = edge.feed(None).await;
    feed.next().await;
    assert_eq!(feed.state.tunnels, before.tunnels);
    assert_eq!(feed.state.token_keys, before.token_keys);
    assert_eq!(feed.state.edges, before.edges);
    assert!(feed.state.generation > before.generation);
}

#[tokio::test]
async fn edges_follow_a_database_that_was_restored_from_a_backup() {
    let world = World::start_with(Clock::manual(1_800_000_000_000), |_| {}).await;
    drop(TestEdge::join(&world, "east", "127.0.0.1:3128".parse().unwrap()).await);
    world.owner.post("/api/v1/admin/tunnel", &json!({"name": "kept"})).await.expect(201);
    let mut backup = None;
    let world = world.restart_after(|database, _| backup = Some(database.back_up())).await;
    world.owner.post("/api/v1/admin/tunnel", &json!({"name": "lost"})).await.expect(201);
    let edge = TestEdge::join(&world, "east", "127.0.0.1:3128".parse().unwrap()).await;
    let mut feed = edge.feed(None).await;
    feed.next().await;
    let mut known = feed.state.clone();
    assert_eq!(known.tunnels.len(), 2);
    drop((feed, edge));

    world.clock.advance(Duration::from_secs(1));
    let world = world.restart_after(|database, _| database.restore(&backup.unwrap())).await;
    let edge = TestEdge::join(&world, "east", "127.0.0.1:3128".parse().unwrap()).await;
    let message = edge.feed(Some(known.generation)).await.next().await;
    assert_eq!(known.apply(message), Applied::Changed, "it is news, though the database is older");
    assert_eq!(known.tunnels.len(), 1);
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (options, database) = options_and_database(&dir.path().join("data"));
    drop(ControlPlane::open(options.clone()).await.unwrap());
    let newer = "INSERT INTO _sqlx_migrations
                 (version, description, success, checksum, execution_time)
                 VALUES (9999, 'from the future', TRUE, '', 0)";
    assert_eq!(database.execute(newer).await, 1);
    let error = ControlPlane::open(options).await.err().unwrap();
    let error = format!("{error:#}");
    assert!(error.contains("newer version") && error.contains("9999"), "{error}");
}

#[tokio::test]
async fn no_secret_is_in_the_database_and_keys_are_their_owners_alone() {
    let world = World::start().await;
    let _edge = TestEdge::join(&world, "east", "127.0.0.1:3128".parse().unwrap()).await;
    let created =
        world.owner.post("/api/v1/admin/tunnel", &json!({"name": "office"})).await.expect(201);
    let key = world.owner.post("/api/v1/api-keys", &json!({"name": "ci"})).await.expect(201);
    let cookie = world.owner.headers[0].1.split_once('=').unwrap().1.to_owned();
    let csrf = world.owner.headers[1].1.clone();
    let tunnel_secret = created["secret"].as_str().unwrap().to_owned();
    let seed = protocol::secret::TunnelSecret::decode(&tunnel_secret).unwrap();
    let secrets = [
        world.password.clone(),
        key["key"].as_str().unwrap()["ptk1_".len() + 22..][..32].to_owned(),
        tunnel_secret[48..80].to_owned(),
        world.join_token.encode()["ptj1_".len() + 22..][..32].to_owned(),
        cookie,
        csrf,
    ];
    let public = String::from(seed.seed.public_key());
    let database = world.database.clone();
    let (dir, _keep) = world.stop().await;
    let content = database.dump();
    let holds = |text: &str| content.windows(text.len()).any(|part| part == text.as_bytes());
    for (n, secret) in secrets.iter().enumerate() {
        assert!(!holds(secret), "secret {n} is in the database");
    }
    assert!(holds(&public), "the search works: the public half is there");
    for entry in fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name.ends_with(".key") {
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }
    let mode = fs::metadata(&dir).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "{mode:o}");
}

#[tokio::test]
async fn the_first_owners_password_can_be_set_by_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    fs::write(&file, "a chosen one\n").unwrap();
    let set = |data: &str| {
        let mut options = options(&dir.path().join(data));
        options.owner_password_file = Some(file.clone());
        options.owner_email = "Boss@Example.com".to_owned();
        options
    };
    let (_control_plane, first) = ControlPlane::open(set("data")).await.unwrap();
    let first = first.unwrap();
    assert_eq!(first.owner_email, "boss@example.com");
    assert!(first.set_up.is_none(), "nothing is left to set up, so nothing is shown");

    fs::write(&file, "short").unwrap();
    let error = ControlPlane::open(set("other")).await.err().unwrap();
    assert!(error.to_string().contains("8 to 256"), "{error}");
}

#[tokio::test]
async fn a_data_directory_is_used_by_one_control_plane_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(&dir.path().join("data"));
    let first = ControlPlane::open(options.clone()).await.unwrap();
    let error = ControlPlane::open(options.clone()).await.err().unwrap();
    assert!(format!("{error:#}").contains("another control plane uses it"), "{error:#}");
    drop(first);
    let (_, first) = ControlPlane::open(options).await.unwrap();
    assert!(first.unwrap().set_up.is_some(), "the owner still has to choose a password");
}

#[tokio::test]
async fn a_signing_key_that_was_replaced_is_trusted_until_its_capabilities_are_over() {
    let lose_key = |_: &Database, data: &Path| fs::remove_file(data.join("token.key")).unwrap();
    let kids = |feed: &Feed| feed.state.token_keys.keys().cloned().collect::<BTreeSet<_>>();
    let gateway = "127.0.0.1:3128".parse().unwrap();
    let world = World::start_with(Clock::manual(1_800_000_000_000), |_| {}).await;
    let edge = TestEdge::join(&world, "east", gateway).await;
    let mut feed = edge.feed(None).await;
    feed.next().await;
    let first = kids(&feed);
    drop((feed, edge));

    world.clock.advance(Duration::from_secs(1));
    let world = world.restart_after(lose_key).await;
    world.clock.advance(Duration::from_secs(299));
    let world = world.restart().await;
    let edge = TestEdge::join(&world, "east", gateway).await;
    let mut feed = edge.feed(None).await;
    feed.next().await;
    let both = kids(&feed);
    assert!(both.len() == 2 && both.is_superset(&first), "{both:?}");
    let mut known = feed.state.clone();
    drop((feed, edge));

    world.clock.advance(Duration::from_secs(1));
    let start = world.clock.now_ms();
    let world = world.restart().await;
    let edge = TestEdge::join(&world, "east", gateway).await;
    let mut feed = edge.feed(Some(start)).await;
    known.generation = start;
    let retired = async {
        while known.token_keys.len() > 1 {
            let news = feed.news().await;
            assert!(matches!(news, FeedMessage::Change { .. }), "the edge follows by changes");
            known.apply(news);
        }
    };
    tokio::time::timeout(PATIENCE, retired).await.expect("the old key is fed for ever");
    assert!(known.token_keys.keys().all(|kid| !first.contains(kid)), "the new one stays");
    drop((feed, edge));

    let mut world = world;
    for _ in 0..4 {
        world = world.restart_after(lose_key).await;
        world.clock.advance(Duration::from_millis(1));
    }
    let edge = TestEdge::join(&world, "east", gateway).await;
    let mut feed = edge.feed(None).await;
    feed.next().await;
    assert_eq!(feed.state.token_keys.len(), 3, "edges hold no more");
}

#[tokio::test]
async fn an_authority_that_was_lost_is_never_founded_anew() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let options = options(&data);
    drop(ControlPlane::open(options.clone()).await.unwrap());
    let files = ["ca.key", "ca.crt"].map(|name| data.join(name));
    let kept = files.clone().map(|file| fs::read(file).unwrap());
    let [key, certificate] = &files;
    for (lost, sentence) in [
        (vec![key], "ca.key is missing"),
        (vec![certificate], "ca.crt is missing"),
        (vec![key, certificate], "ca.key and ca.crt are missing"),
    ] {
        for file in lost {
            fs::remove_file(file).unwrap();
        }
        let error = ControlPlane::open(options.clone()).await.err().unwrap();
        let error = format!("{error:#}");
        assert!(error.contains(sentence) && error.contains("restore"), "{error}");
        for (file, content) in files.iter().zip(&kept) {
            fs::write(file, content).unwrap();
        }
    }
    let (_, first) = ControlPlane::open(options).await.unwrap();
    assert!(first.unwrap().set_up.is_some(), "the owner still has to choose a password");
}

#[tokio::test]
async fn a_data_directory_may_have_any_name() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["with space", "What?", "50%", "a#b", "Größe", "CAPITALS"] {
        let data = dir.path().join(name);
        drop(ControlPlane::open(options(&data)).await.unwrap());
        if ENGINE == Engine::Sqlite {
            assert!(fs::metadata(data.join("postern.db")).unwrap().len() > 0, "{name}");
        }
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 6, "nothing else was made");
}

#[tokio::test]
async fn a_first_start_that_fails_takes_no_set_up_link_with_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path());
    let hindered =
        control_plane::Options { edge_listen: taken.local_addr().unwrap(), ..options.clone() };
    assert!(ControlPlane::open(hindered).await.is_err(), "the port is taken");
    let (_control_plane, first) = ControlPlane::open(options).await.unwrap();
    assert!(first.unwrap().set_up.is_some(), "nobody has been told one yet");
}
