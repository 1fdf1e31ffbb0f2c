//! Ways out of networks that let little out: through a proxy, through 443 alone, to an edge that moved,
//! over IPv6; and what the connector says of itself where there is none. Needs root.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::time::Instant;

use postern_tests::{
    docker::announce,
    network::{Network, Rule},
    origin::HELLO,
    outbound::{Names, PASSWORD, PASSWORD_IN_URL, Squid, USER, start_socks},
    process::Process,
    world::{Link, REGIONS, Site, World},
};
use serde_json::Value;
use tokio::process::Command;

/// Edges on machines of their own, each with a second port, 443.
async fn edges_with_443(network: &Network) -> World {
    let site = |listen| Site { fallback_port: Some(443), ..Site::at(listen) };
    let sites = [site(network.host()), site(network.other_host())];
    World::start_spread_over(network.host(), sites).await.unwrap()
}

/// Lets nothing pass but TCP to and from these ports; private servers stand inside in earnest.
fn only<'a>(network: &'a Network, world: &World, ports: &[u16]) -> Vec<Rule<'a>> {
    let origin = world.origin.address().port();
    let ports: Vec<_> = ports.iter().chain([&origin]).map(ToString::to_string).collect();
    let ports = ports.join(",");
    let rules = [
        format!("-p tcp -m multiport --dports {ports} -j ACCEPT"),
        format!("-p tcp -m multiport --sports {ports} -j ACCEPT"),
        "-j DROP".to_owned(),
    ];
    rules.iter().map(|rule| network.add_rule(rule).unwrap()).collect()
}

fn start(network: &Network, world: &World, variables: &[(&str, &str)]) -> Process {
    let mut command = world.connector("auto").unwrap();
    command.envs(variables.iter().copied());
    Process::start("connector", network.enter(command)).unwrap()
}

fn are_on_http2(links: &[Link]) -> bool {
    links.iter().all(|link| link.transport == "http2")
}

async fn the_workflow_answers(world: &World) {
    let run = world.run(world.get_action(&world.origin.url("/hello"))).await.unwrap();
    assert_eq!(run["actions"][0]["response"]["text"], HELLO, "{run}");
}

struct Diagnosis {
    code: Option<i32>,
    report: Value,
    text: String,
}

/// What the doctor finds where the connector stands.
async fn diagnose(network: &Network, world: &World, variables: &[(&str, &str)]) -> Diagnosis {
    let ask = async |arguments: &[&str]| {
        let mut command = world.connector("auto").unwrap();
        command.arg("doctor").args(arguments);
        command.envs(variables.iter().copied());
        let output = network.enter(command).output().await.unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let asked = Instant::now();
    let (code, text) = ask(&[]).await;
    println!("doctor took {:?} and said:\n{text}", asked.elapsed());
    let (_, json) = ask(&["--json"]).await;
    assert!(!text.contains(PASSWORD_IN_URL) && !json.contains(PASSWORD), "{text}");
    Diagnosis { code, report: serde_json::from_str(&json).unwrap(), text }
}

#[tokio::test]
async fn behind_a_corporate_proxy_links_come_up_and_come_back_with_it() {
    let network = Network::new().unwrap();
    let world = edges_with_443(&network).await;
    let _firewall = only(&network, &world, &[]);
    let mut squid = Squid::start(&network).await.unwrap();

    let wrong = [("HTTPS_PROXY", &*squid.url("guess%40guess"))];
    let connector = start(&network, &world, &wrong);
    let line = connector.find(|line| line.contains("proxy_refused").then(|| line.to_owned()));
    let line = line.await.unwrap();
    assert!(line.contains("does not accept the user and password in HTTPS_PROXY"), "{line}");
    assert!(!connector.said().contains("guess"), "{}", connector.said());
    drop(connector);
    let diagnosis = diagnose(&network, &world, &wrong).await;
    assert_eq!(diagnosis.code, Some(1));
    assert!(diagnosis.text.contains("does not accept the user and password"), "{}", diagnosis.text);

    let url = squid.url(PASSWORD_IN_URL);
    let right = [("https_proxy", &*url), ("TUNNEL_METRICS_PORT", "9000")];
    let diagnosis = diagnose(&network, &world, &[("https_proxy", &url)]).await;
    assert_eq!((diagnosis.code, &diagnosis.report["transport"]), (Some(0), &"http2".into()));
    world.wait_for_health("Inactive").await.expect("the doctor leaves no trace");

    let started = Instant::now();
    let connector = start(&network, &world, &right);
    world.wait_for_links(are_on_http2).await.unwrap();
    println!("behind squid: four links after {:?}", started.elapsed());
    world.wait_for_health("Healthy").await.unwrap();
    the_workflow_answers(&world).await;
    let mut curl = Command::new("curl");
    curl.args(["-sS", "http://127.0.0.1:9000/status"]);
    let status = network.enter(curl).output().await.unwrap();
    let status = String::from_utf8(status.stdout).unwrap();
    assert_eq!(status.matches(&format!("\"http://{}:3128\"", network.router())).count(), 4);

    squid.kill().await.unwrap();
    world.wait_for_health("Down").await.unwrap();
    connector.find(|line| line.contains("cannot be reached").then_some(())).await.unwrap();
    squid.start_again().await.unwrap();
    let back = Instant::now();
    world.wait_for_links(are_on_http2).await.unwrap();
    println!("squid is back: four links after {:?}", back.elapsed());
    the_workflow_answers(&world).await;
    assert!(!connector.said().contains("hush"), "{}", connector.said());
}

#[tokio::test]
async fn behind_a_socks_server_links_come_up() {
    let network = Network::new().unwrap();
    let world = edges_with_443(&network).await;
    let _firewall = only(&network, &world, &[]);
    let _socks = start_socks(&network).unwrap();
    let url = |password| format!("socks5h://{USER}:{password}@{}:1080", network.router());

    let refused = start(&network, &world, &[("ALL_PROXY", &url("guess"))]);
    let is_told = |line: &str| line.contains("does not accept the user and password in ALL_PROXY");
    refused.find(|line| is_told(line).then_some(())).await.unwrap();
    assert!(!refused.said().contains("guess"), "{}", refused.said());
    drop(refused);

    let started = Instant::now();
    let connector = start(&network, &world, &[("ALL_PROXY", &url(PASSWORD_IN_URL))]);
    world.wait_for_links(are_on_http2).await.unwrap();
    println!("behind a SOCKS server: four links after {:?}", started.elapsed());
    world.wait_for_health("Healthy").await.unwrap();
    the_workflow_answers(&world).await;
    assert!(!connector.said().contains("hush"), "{}", connector.said());
}

#[tokio::test]
async fn where_a_firewall_lets_only_443_out_links_come_up_there() {
    let network = Network::new().unwrap();
    let world = edges_with_443(&network).await;
    let all = only(&network, &world, &[]);
    let diagnosis = diagnose(&network, &world, &[]).await;
    assert_eq!(diagnosis.code, Some(1), "{}", diagnosis.text);
    for rule in all {
        rule.lift().unwrap();
    }

    let _firewall = only(&network, &world, &[443]);
    let diagnosis = diagnose(&network, &world, &[]).await;
    assert_eq!(diagnosis.code, Some(0));
    let conclusion = &diagnosis.report["conclusion"];
    assert_eq!(conclusion, "Links come up over HTTP/2 on TCP 443.");
    let started = Instant::now();
    let _connector = start(&network, &world, &[]);
    world.wait_for_links(are_on_http2).await.unwrap();
    println!("only 443 is open: four links after {:?}", started.elapsed());
    world.wait_for_health("Healthy").await.unwrap();
    the_workflow_answers(&world).await;
}

/// The edge of the second region is known by its address, the one of the first by this name.
const NAME: &str = "edge-a.postern.test";

fn named(listen: std::net::IpAddr) -> Site {
    Site { name: Some(NAME.into()), ..Site::at(listen) }
}

#[tokio::test]
async fn an_edge_that_moves_is_found_at_its_new_address() {
    let network = Network::new().unwrap();
    let (old, new) = (network.host(), network.other_host());
    let mut world = World::start_spread_over(old, [named(old), Site::at(old)]).await.unwrap();
    let names = Names::start(&network).await.unwrap();
    names.set(&[(NAME, old)]).unwrap();
    let connector = start(&network, &world, &[]);
    let to_it = |links: &[Link]| {
        let since = links.iter().filter(|link| link.region == REGIONS[0]);
        since.map(|link| link.since.clone()).collect::<Vec<_>>()
    };
    world.wait_for_links(|links| to_it(links).len() == 2).await.unwrap();
    let before = to_it(&world.links().await.unwrap());
    let pid = connector.id().unwrap();

    names.set(&[(NAME, new)]).unwrap();
    world.move_edge(0, &named(new)).await.unwrap();
    let moved = Instant::now();
    let are_new = |links: &[Link]| {
        let now = to_it(links);
        now.len() == 2 && now.iter().all(|since| !before.contains(since))
    };
    world.wait_for_links(are_new).await.unwrap();
    println!("an edge has moved: two links to it, of four, after {:?}", moved.elapsed());
    world.wait_for_health("Healthy").await.unwrap();
    the_workflow_answers(&world).await;
    assert_eq!(connector.id().unwrap(), pid, "it was not started again");
}

#[tokio::test]
async fn where_only_ipv6_leads_out_links_come_up_over_it() {
    let network = Network::new().unwrap();
    let ipv6 = match network.add_ipv6() {
        Ok(ipv6) => ipv6,
        Err(error) => return announce(&format!("SKIPPED: there is no IPv6 here: {error:#}")),
    };
    let names = Names::start(&network).await.unwrap();
    let host = network.host();
    let world = World::start_spread_over(host, [named(ipv6), named(ipv6)]).await.unwrap();
    names.set(&[(NAME, host), (NAME, ipv6)]).unwrap();
    // IPv4 leads to the private server alone.
    let _firewall = only(&network, &world, &[]);
    let diagnosis = diagnose(&network, &world, &[]).await;
    assert_eq!((diagnosis.code, &diagnosis.report["transport"]), (Some(0), &"quic".into()));
    let started = Instant::now();
    let _connector = start(&network, &world, &[]);
    world.wait_for_links(|links| links.iter().all(|link| link.transport == "quic")).await.unwrap();
    println!("only IPv6 leads out: four links on QUIC after {:?}", started.elapsed());
    the_workflow_answers(&world).await;
}

#[tokio::test]
async fn readiness_ends_with_the_last_link_and_returns_with_the_first() {
    let network = Network::new().unwrap();
    let world = World::start_at(network.host()).await.unwrap();
    let _connector = start(&network, &world, &[("TUNNEL_METRICS_PORT", "9000")]);
    let url = format!("http://{}:9000/ready", network.inside());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let ready = async |wanted: u16| {
        let mut pace = tokio::time::interval(std::time::Duration::from_millis(20));
        loop {
            pace.tick().await;
            let Ok(answer) = client.get(&url).send().await else { continue };
            if answer.status() == wanted {
                return answer.text().await.unwrap();
            }
        }
    };
    world.wait_for_links(|_| true).await.unwrap();
    ready(200).await;

    let level = url.replace("ready", "loglevel");
    let stranger = client.put(&level).body("trace").send().await.unwrap();
    assert_eq!(stranger.status(), 403, "only its own host may change it");

    let cut = ["udp", "tcp"].map(|protocol| {
        network.add_rule(&format!("-p {protocol} --dport 7844:7845 -j DROP")).unwrap()
    });
    let at = Instant::now();
    let body = tokio::time::timeout(std::time::Duration::from_secs(30), ready(503)).await.unwrap();
    println!("all links fall silent: /ready says 503 after {:?}", at.elapsed());
    assert!(body.contains("\"links\":0") && body.contains("\"reason\":\""), "{body}");
    for rule in cut {
        rule.lift().unwrap();
    }
    let at = Instant::now();
    tokio::time::timeout(std::time::Duration::from_secs(30), ready(200)).await.unwrap();
    println!("the network is back: /ready says 200 after {:?}", at.elapsed());
}
