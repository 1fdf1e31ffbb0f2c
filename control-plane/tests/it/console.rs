//! What the console begins with: the set-up link, links that sign in once, sessions, and its files.

use std::time::Duration;

use control_plane::{Clock, ControlPlane};
use http::Method;
use serde_json::json;

use crate::{
    client::Client,
    world::{World, options, serve},
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A deployment whose owner has no password yet.
struct Fresh {
    client: Client,
    clock: Clock,
    secrets: Vec<String>,
    stop: tokio_util::sync::CancellationToken,
    task: tokio::task::JoinHandle<()>,
    options: control_plane::Options,
    _dir: tempfile::TempDir,
}

impl Fresh {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (options, clock) =
            (options(&dir.path().join("data")), Clock::manual(1_800_000_000_000));
        let (control_plane, first) =
            ControlPlane::open_at(options.clone(), clock.clone()).await.unwrap();
        let secrets = vec![first.unwrap().set_up.unwrap().to_string()];
        let (address, stop, task) = serve(control_plane);
        Self { client: Client::new(address), clock, secrets, stop, task, options, _dir: dir }
    }

    async fn restart(mut self) -> Self {
        self.stop.cancel();
        self.task.await.unwrap();
        let (control_plane, first) =
            ControlPlane::open_at(self.options.clone(), self.clock.clone()).await.unwrap();
        self.secrets.extend(first.and_then(|first| first.set_up).map(|s| s.to_string()));
        let (address, stop, task) = serve(control_plane);
        Self { client: Client::new(address), stop, task, ..self }
    }

    async fn set_up(&self, secret: &str, password: &str) -> crate::client::Answer {
        self.client.post("/api/v1/setup", &json!({"secret": secret, "password": password})).await
    }
}

#[tokio::test]
async fn the_set_up_link_sets_the_password_once_and_signs_in() {
    let world = Fresh::start().await;
    let secret = world.secrets[0].as_str();
    let login = world.client.try_log_in("owner@localhost", "").await;
    login.expect_problem(401, "bad_login");
    let shown = world.client.post("/api/v1/setup/link", &json!({"secret": secret})).await;
    assert_eq!(shown.expect(200)["email"], "owner@localhost");
    world.set_up(secret, "short").await.expect_problem(422, "invalid");
    let done = world.set_up(secret, "correct horse").await;
    assert!(done.headers.contains_key("set-cookie"));
    done.expect(200);
    world.set_up(secret, "another horse").await.expect_problem(410, "bad_link");
    let mut owner = world.client.clone();
    world.clock.advance(Duration::from_secs(60));
    owner.log_in("owner@localhost", "correct horse").await;
    let audit = owner.get("/api/v1/audit?action=user.set_up").await.expect(200);
    assert_eq!(audit["items"].as_array().unwrap().len(), 1, "{audit}");
}

#[tokio::test]
async fn wrong_set_up_secrets_make_their_sender_wait() {
    let world = Fresh::start().await;
    world.set_up("wrong", "correct horse").await.expect_problem(410, "bad_link");
    let again = world.set_up(&world.secrets[0], "correct horse").await;
    assert!(again.headers.contains_key("retry-after"));
    again.expect_problem(429, "too_many_logins");
    world.clock.advance(Duration::from_secs(2));
    world.set_up(&world.secrets[0], "correct horse").await.expect(200);
}

#[tokio::test]
async fn a_set_up_link_expires_and_the_next_start_makes_another() {
    let world = Fresh::start().await;
    world.clock.advance(DAY);
    world.set_up(&world.secrets[0], "correct horse").await.expect_problem(410, "bad_link");
    let world = world.restart().await;
    assert_eq!(world.secrets.len(), 2);
    world.set_up(&world.secrets[1], "correct horse").await.expect(200);
    let world = world.restart().await;
    assert_eq!(world.secrets.len(), 2, "nothing is left to set up");
}

#[tokio::test]
async fn a_password_that_the_operator_sets_ends_the_set_up_link() {
    let mut world = Fresh::start().await;
    let file = world.options.data_dir.join("password");
    std::fs::write(&file, "horse by file\n").unwrap();
    world.options.owner_password_file = Some(file);
    let world = world.restart().await;
    world.set_up(&world.secrets[0], "correct horse").await.expect_problem(410, "bad_link");
    world.client.try_log_in("owner@localhost", "horse by file").await.expect(200);
}

#[tokio::test]
async fn a_sign_in_link_signs_in_once() {
    let world = World::start().await;
    let path = "/api/v1/me/sign-in-links";
    let link = world.owner.post(path, &json!({})).await.expect(201);
    let body = json!({"secret": link["secret"]});
    let signed_in = world.anonymous().post("/api/v1/session/link", &body).await;
    let cookie = signed_in.headers["set-cookie"].to_str().unwrap().to_owned();
    signed_in.expect(200);
    let mut client = world.anonymous();
    client.headers = vec![("cookie", cookie.split(';').next().unwrap().to_owned())];
    assert_eq!(client.get("/api/v1/me").await.expect(200)["email"], "owner@localhost");
    let again = world.anonymous().post("/api/v1/session/link", &body).await;
    again.expect_problem(410, "bad_link");
    world.anonymous().post(path, &json!({})).await.expect_problem(401, "unauthenticated");
}

#[tokio::test]
async fn people_see_their_own_sessions_and_end_them() {
    let world = World::start().await;
    let mut other = world.anonymous();
    other.headers.push(("user-agent", "a browser".to_owned()));
    other.log_in("owner@localhost", &world.password).await;
    let (_, stranger) = world.user("user@example.com", &[]).await;
    let sessions = world.owner.get("/api/v1/me/sessions").await.expect(200);
    let sessions = sessions["items"].as_array().unwrap().clone();
    assert_eq!(sessions.len(), 2, "only one's own: {sessions:?}");
    assert!(sessions.iter().all(|session| session["address"] == "127.0.0.1"), "{sessions:?}");
    let foreign = sessions.iter().find(|session| session["is_current"] == false).unwrap();
    let path = format!("/api/v1/me/sessions/{}", foreign["id"].as_str().unwrap());
    stranger.delete(&path).await.expect_problem(404, "not_found");
    other.get("/api/v1/me").await.expect(200);
    world.owner.delete(&path).await.expect(204);
    other.get("/api/v1/me").await.expect_problem(401, "unauthenticated");
    world.owner.get("/api/v1/me").await.expect(200);
    world.owner.delete(&path).await.expect_problem(404, "not_found");
}

#[tokio::test]
async fn paths_of_the_console_give_its_page_under_a_strict_policy() {
    let world = World::start().await;
    let client = world.anonymous();
    let mut nonces = Vec::new();
    for path in ["/", "/admin/tunnel/office", "/no/such/page", "/index.html"] {
        let page = client.get(path).await;
        assert_eq!(page.headers["content-type"], "text/html; charset=utf-8", "{path}");
        assert_eq!(page.headers["cache-control"], "no-store", "{path}");
        let policy = page.headers["content-security-policy"].to_str().unwrap().to_owned();
        for part in ["default-src 'none'", "frame-ancestors 'none'", "script-src 'self';"] {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        let (_, nonce) = policy.split_once("'nonce-").unwrap();
        nonces.push(nonce.split_once('\'').unwrap().0.to_owned());
        for header in ["referrer-policy", "permissions-policy", "x-frame-options"] {
            assert!(page.headers.contains_key(header), "{header}");
        }
    }
    nonces.sort();
    nonces.dedup();
    assert_eq!(nonces.len(), 4, "each answer has a nonce of its own");
    for path in ["/api", "/api/v1/no-such-thing", "/assets/no-such-file.js"] {
        client.get(path).await.expect_problem(404, "not_found");
    }
    client.send(Method::POST, "/", None).await.expect_problem(404, "not_found");
}

#[tokio::test]
async fn each_answer_names_its_request() {
    let world = World::start().await;
    let ids = [world.owner.get("/api/v1/me").await, world.owner.get("/api/v1/nothing").await]
        .map(|answer| answer.headers["postern-request-id"].to_str().unwrap().to_owned());
    assert!(ids[0] != ids[1] && ids.iter().all(|id| id.len() == 32), "{ids:?}");
}
