//! The benchmark works; how fast anything is, is nothing for a test.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use postern_tests::world::program;
use serde_json::Value;
use tokio::process::Command;

const WORKS: [&str; 4] = ["small-16", "connections", "websocket-1", "first-byte"];
const OURS: [&str; 3] = ["direct", "quic", "http2"];
/// Our libraries alone, which are built along and do all of the works but that one.
const BARE: [&str; 2] = ["bare-quic", "bare-http2"];
const NOT_BARE: &str = "websocket-1";

fn bench() -> Command {
    let mut command = Command::new(program("bench").unwrap());
    for setting in ["ROUNDS", "SECONDS", "ONLY", "WAYS", "OUT"] {
        command.env_remove(format!("BENCH_{setting}"));
    }
    command.kill_on_drop(true);
    command
}

#[tokio::test]
async fn a_run_has_figures_for_every_way_or_says_why_there_are_none() {
    let out = tempfile::tempdir().unwrap();
    let run = bench()
        .args(["--rounds", "1", "--seconds", "0.2", "--only", &WORKS.join(",")])
        .args(["--ways", &OURS.join(","), "--ways", &BARE.join(","), "--ways", "rathole,nginx"])
        .arg("--out")
        .arg(out.path())
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{said}");
    let table = String::from_utf8_lossy(&run.stdout);
    assert!(table.contains("1 KB requests, 16 clients") && table.contains("Goals"), "{table}");

    let read = |name: &str| std::fs::read_to_string(out.path().join(name)).unwrap();
    let results: Value = serde_json::from_str(&read("results.json")).unwrap();
    let figures = results["figures"].as_array().unwrap();
    for (work, way) in WORKS.iter().flat_map(|work| OURS.map(|way| (*work, way))) {
        let figure = figures.iter().find(|f| f["work"] == work && f["way"] == way).unwrap();
        assert!(figure["figures"]["p50_us"]["median"].as_f64() > Some(0.0), "{figure}");
    }
    let left_out = results["left_out"].as_array().unwrap();
    for way in BARE {
        let works = figures.iter().filter(|figure| figure["way"] == way);
        let works: Vec<_> = works.map(|figure| figure["work"].as_str().unwrap()).collect();
        let expected: Vec<_> = WORKS.into_iter().filter(|work| *work != NOT_BARE).collect();
        assert_eq!(works, expected, "{results}");
        let is_it = |left: &Value| left["what"].as_str().unwrap().contains(way);
        assert!(!left_out.iter().any(is_it), "{results}");
    }
    for peer in ["rathole", "nginx"] {
        let is_measured = figures.iter().any(|figure| figure["way"] == peer);
        let is_left_out = left_out.iter().any(|left| left["what"] == peer);
        assert!(is_measured != is_left_out, "{results}");
    }
    assert!(read("results.md").contains("## Goals"));
    assert!(read("requests.svg").contains("Postern, QUIC"));
}

#[tokio::test]
async fn a_work_that_does_not_exist_is_named() {
    let run = bench().args(["--only", "no-such-work"]).output().await.unwrap();
    assert!(!run.status.success());
    assert!(String::from_utf8_lossy(&run.stderr).contains("no-such-work"));
}
