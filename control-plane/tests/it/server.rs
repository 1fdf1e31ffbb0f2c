//! What is particular to a database at a server: it may be away, or refuse.

use std::fs;

use control_plane::ControlPlane;

use crate::{
    database::Database,
    world::{World, options},
};

async fn refused(url: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("url");
    fs::write(&file, format!("{url}\n")).unwrap();
    let mut options = options(&dir.path().join("data"));
    options.database_url_file = Some(file);
    let error = ControlPlane::open(options).await.err().unwrap();
    let error = format!("{error:#}");
    assert!(!error.contains("hunter2") && !error.contains('\n'), "{error}");
    error
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_named_without_its_password() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = unused.local_addr().unwrap();
    drop(unused);
    let error = refused(&format!("postgres://postern:hunter2@{address}/postern")).await;
    assert!(error.contains(&format!("{address} cannot be reached")), "{error}");
}

#[tokio::test]
async fn a_wrong_password_is_told_apart() {
    let database = Database::create(std::path::Path::new(""));
    let error = refused(&database.url().replace(":postern@", ":hunter2@")).await;
    assert!(error.contains("refuses the user or the password"), "{error}");
}

#[tokio::test]
async fn a_url_of_another_kind_is_not_guessed_at() {
    let error = refused("mysql://postern:hunter2@127.0.0.1/postern").await;
    assert!(error.contains("postgres://USER:PASSWORD@HOST/NAME"), "{error}");
}

#[tokio::test]
async fn the_control_plane_serves_again_when_the_server_has_cut_its_connections() {
    let world = World::start().await;
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE datname = current_database() AND pid <> pg_backend_pid()";
    world.team("before").await;
    assert!(world.database.execute(cut).await > 1);
    world.team("after").await;
    let teams = world.owner.get("/api/v1/teams").await.expect(200);
    assert_eq!(teams["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_writer_that_waited_in_vain_for_another_can_write_again() {
    let world = World::start().await;
    // Holds the write lock for longer than a writer waits, as a control plane does that is stuck.
    let hold = "DO $$ BEGIN
        PERFORM generation FROM deployment WHERE id = 1 FOR UPDATE;
        PERFORM pg_sleep(11);
    END $$";
    let database = world.database.clone();
    let holder = tokio::spawn(async move { database.execute(hold).await });
    let is_held = "DO $$ BEGIN
        WHILE NOT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep'
                          AND datname = current_database()) LOOP
            PERFORM pg_sleep(0.01);
            PERFORM pg_stat_clear_snapshot();
        END LOOP;
    END $$";
    world.database.execute(is_held).await;
    let body = serde_json::json!({ "name": "during" });
    world.owner.post("/api/v1/teams", &body).await.expect(500);
    holder.await.unwrap();
    world.team("after").await;
}
