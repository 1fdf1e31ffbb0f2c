//! `make demo`: the main job from end to end. A deployment, a private server, and a connector whose
//! only input is its secret; a workflow's request goes through the tunnel, and is refused once its
//! team may no longer use it. Every line that is printed was measured or answered just now.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context as _, ensure};
use postern_tests::{
    origin::HELLO,
    process::Process,
    world::{TUNNEL, World, text},
};
use serde_json::{Value, json};

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let once = std::env::var("DEMO_ONCE").is_ok_and(|once| once == "1");
        let (world, connector) = show().await?;
        if once {
            println!("\nAll of it held.");
            return Ok(());
        }
        stay(&world, &connector).await
    })
}

async fn show() -> anyhow::Result<(World, Process)> {
    step("A deployment: a control plane and an edge in each of two regions");
    let world = World::start_at(IpAddr::V4(Ipv4Addr::LOCALHOST)).await?;
    println!("{}", world.postern.said_on_stdout());
    println!("\n  A private server listens on {}.", world.origin.address());
    println!("  Team `automation` and tunnel `{TUNNEL}` are made through the API.");

    step("A connector that is given TUNNEL_SECRET and nothing else");
    let connector = world.connect("auto").await?;
    show_links(&world).await?;

    step("A workflow's action with Use tunnel calls the private server");
    let run = world.run(world.get_action(&world.origin.url("/hello"))).await?;
    let action = &run["actions"][0];
    let answer = text(&action["response"], "text").with_context(|| format!("no answer: {run}"))?;
    ensure!(run["status"] == "succeeded" && answer == HELLO, "unexpected: {run}");
    println!("  GET {}", world.origin.url("/hello"));
    println!("  {} {:?}", action["response"]["status"], answer);
    println!("  {} µs: {}", action["duration_us"], phases(action));

    step("The team may no longer use the tunnel");
    let access = format!("/api/v1/admin/tunnel/{TUNNEL}/access");
    let saved = world.api.put(&access, &json!({ "mode": "teams", "teams": [] })).await?;
    let obeying = saved["rollout"]["applied"].as_array().map_or(0, Vec::len);
    println!("  Saved; {obeying} of 2 edges obey it already.");
    let refused = world.run(world.get_action(&world.origin.url("/hello"))).await?;
    let refusal = &refused["actions"][0]["refusal"];
    ensure!(refusal["code"] == "access_denied", "not refused: {refused}");
    for field in ["code", "source", "detail", "fix"] {
        println!("  {field:<7} {}", text(refusal, field)?);
    }
    world.api.put(&access, &json!({ "mode": "any_team" })).await?;
    println!("  Any team may use it again.");
    Ok((world, connector))
}

async fn show_links(world: &World) -> anyhow::Result<()> {
    let path = format!("/api/v1/admin/tunnel/{TUNNEL}");
    // The first round trip is measured within the first heartbeat.
    let measured = |tunnel: &Value| {
        links(tunnel).len() == 4 && links(tunnel).iter().all(|link| link["rtt_us"].is_u64())
    };
    let tunnel = world.wait_for(&path, measured).await?;
    println!("  slot  region    transport  round trip");
    for link in links(&tunnel) {
        println!(
            "  {:<4}  {:<8}  {:<9}  {} µs",
            link["slot"],
            text(link, "region")?,
            text(link, "transport")?,
            link["rtt_us"]
        );
    }
    let health = world.wait_for_health("Healthy").await?;
    println!("  {}: {}", text(&health, "health")?, text(&health, "reason")?);
    Ok(())
}

fn links(tunnel: &Value) -> Vec<&Value> {
    let connectors = tunnel["connectors"].as_array().into_iter().flatten();
    let mut links: Vec<&Value> =
        connectors.filter_map(|connector| connector["links"].as_array()).flatten().collect();
    links.sort_by_key(|link| link["slot"].as_u64());
    links
}

fn phases(action: &Value) -> String {
    let phases = action["phases"].as_array().into_iter().flatten();
    let phases = phases.map(|phase| {
        format!("{} {}", phase["phase"].as_str().unwrap_or_default(), phase["microseconds"])
    });
    phases.collect::<Vec<_>>().join(", ")
}

async fn stay(world: &World, connector: &Process) -> anyhow::Result<()> {
    let token = world.proxy_token().await?;
    let megabytes = |bytes: u64| bytes / (1024 * 1024);
    println!(
        "\nIt stays up until Ctrl-C. Look around in the console; this link signs you in once:"
    );
    println!("  {}", world.sign_in_link().await?);
    println!(
        "  Tunnels → {TUNNEL} shows the links. Workflows has the runs of above, one of them refused."
    );
    println!("\nOr from here:");
    println!(
        "  curl -x http://{TUNNEL}:{token}@{} {}",
        world.gateway(0),
        world.origin.url("/hello")
    );
    println!(
        "  The connector is process {}, {} MiB resident.",
        connector.id()?,
        megabytes(connector.usage()?.rss)
    );
    println!(
        "  Kill an edge ({} or {}) and call again through the other region's gateway, {}.",
        world.edge(0)?,
        world.edge(1)?,
        world.gateway(1)
    );
    tokio::signal::ctrl_c().await.context("cannot wait for Ctrl-C")
}

fn step(title: &str) {
    println!("\n── {title}");
}
