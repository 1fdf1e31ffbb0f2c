//! The console in a browser: the journeys of `admin-web/tests` through a deployment, a connector and a
//! private server that are all real, over HTTPS. They start where an operator starts, with `postern up`
//! and the set-up link that it prints; the browser trusts the deployment's own authority.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;

use postern_tests::{
    origin::Origin,
    process::Process,
    world::{own_address, program},
};
use tokio::process::Command;

#[tokio::test]
async fn the_console_serves_its_journeys() {
    let console = Path::new(env!("CARGO_MANIFEST_DIR")).join("../admin-web");
    assert!(console.join("dist/index.html").exists(), "the console is not built: make console");
    let (dir, host) = (tempfile::tempdir().unwrap(), own_address());
    let origin = Origin::start(host).await.unwrap();
    let mut command = Command::new(program("postern").unwrap());
    command.arg("up").arg("--data-dir").arg(dir.path()).args([
        "--tls",
        "--bind",
        &host.to_string(),
    ]);
    let postern = Process::start("postern", command).unwrap();
    let said = async |label: &str| {
        let found = postern.find(|line| Some(line.trim().strip_prefix(label)?.trim().to_owned()));
        found.await.unwrap()
    };
    let (set_up, base) = (said("Set up").await, said("Console").await);
    assert!(base.starts_with("https://"), "{base}");

    let mut journeys = Command::new("node");
    journeys
        .current_dir(&console)
        .args(["node_modules/vitest/vitest.mjs", "run", "--config", "vitest.browser.config.ts"])
        .env("POSTERN_CONSOLE", base)
        .env("POSTERN_SET_UP_LINK", set_up)
        .env("POSTERN_ORIGIN", origin.url(""))
        .env("POSTERN_CONNECTOR", program("postern-connector").unwrap())
        .env("POSTERN_PYTHON", Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/python"))
        .env("POSTERN_CA", dir.path().join("ca.crt"))
        .env("NODE_EXTRA_CA_CERTS", dir.path().join("ca.crt"))
        .env("POSTERN_PID", postern.id().unwrap().to_string())
        .kill_on_drop(true);
    let done = journeys.output().await.unwrap();
    // Of a list of a thousand tunnels it says what each change costs.
    println!("{}", String::from_utf8_lossy(&done.stdout));
    assert!(done.status.success(), "{}\n{}", String::from_utf8_lossy(&done.stderr), postern.said(),);
}
