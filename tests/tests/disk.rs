//! A disk that is full, and has room again. It is a small file system in memory, so it needs root.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use std::{fs, io::Write as _, path::Path, process::Command, time::Duration};

use postern_tests::{process::PATIENCE, world::World};
use reqwest::{Method, StatusCode};
use serde_json::json;
use tempfile::TempDir;

/// The control plane's data and the edges' are a tenth of it.
const SIZE: &str = "size=16m";
/// Writes that go on until the log of the database needs more room.
const MOST: usize = 20_000;

/// Gone when dropped.
struct Volume(TempDir);

impl Volume {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mount = ["-t", "tmpfs", "-o", SIZE, "postern-test"];
        let done = Command::new("mount").args(mount).arg(dir.path()).status().unwrap();
        assert!(done.success(), "mount: {done}");
        Self(dir)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // Whatever still has a file open there keeps it until it ends.
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}

fn fill(file: &Path) {
    let mut file = fs::File::create(file).unwrap();
    for size in [64 * 1024, 1] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_and_once_there_is_room_all_is_as_before() {
    let volume = Volume::new();
    let world = World::start_on(volume.path()).await.unwrap();
    let mut names = 0..;
    let mut write = async || {
        let body = json!({ "name": format!("team {}", names.next().unwrap()) });
        world.api.send(Method::POST, "/api/v1/teams", Some(&body)).await.unwrap()
    };
    let filler = volume.path().join("filler");
    fill(&filler);
    let mut answer = write().await;
    for _ in 0..MOST {
        if answer.0 != StatusCode::CREATED {
            break;
        }
        answer = write().await;
    }
    for _ in 0..5 {
        assert_eq!(answer.0, StatusCode::INSUFFICIENT_STORAGE, "{}", answer.1);
        assert_eq!(answer.1["code"], "storage_full");
        assert_eq!(
            world.api.send(Method::GET, "/api/v1/teams", None).await.unwrap().0,
            StatusCode::OK
        );
        answer = write().await;
    }

    fs::remove_file(filler).unwrap();
    let normal = async {
        while write().await.0 != StatusCode::CREATED {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, normal).await.expect("it writes again");
    // Not by chance: the connection that was broken is not used again.
    for _ in 0..20 {
        let (status, said) = write().await;
        assert_eq!(status, StatusCode::CREATED, "{said}");
        assert_eq!(
            world.api.send(Method::GET, "/api/v1/teams", None).await.unwrap().0,
            StatusCode::OK
        );
    }
    world.end().await.unwrap();
}
