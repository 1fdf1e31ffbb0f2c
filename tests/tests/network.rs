//! What firewalls and broken lines do to a connector: it finds a way that is open, and comes back to the
//! better one by itself. Needs root.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::time::{Duration, Instant};

use postern_tests::{
    network::Network,
    origin::HELLO,
    process::Process,
    world::{Link, REGIONS, World},
};
use tokio::{sync::watch, task::JoinHandle};

const DOWNLOAD: u64 = 50_000_000;
const UDP_IS_DROPPED: &str = "-p udp -j DROP";

async fn start() -> (Network, World) {
    let network = Network::new().unwrap();
    let world = World::start_at(network.host()).await.unwrap();
    (network, world)
}

async fn connect(network: &Network, world: &World) -> Process {
    let connector = world.start_connector_in(network, "auto").unwrap();
    world.wait_for_links(all_over("quic")).await.unwrap();
    world.wait_for_health("Healthy").await.unwrap();
    connector
}

fn all_over(transport: &str) -> impl Fn(&[Link]) -> bool {
    move |links| links.iter().all(|link| link.transport == transport)
}

fn in_region(links: &[Link], region: usize) -> usize {
    links.iter().filter(|link| link.region == REGIONS[region]).count()
}

/// A workflow reaches the private server.
async fn the_workflow_answers(world: &World) {
    let run = world.run(world.get_action(&world.origin.url("/hello"))).await.unwrap();
    assert_eq!(run["actions"][0]["response"]["text"], HELLO, "{run}");
}

/// A client that sends one request after the other.
struct Client {
    stop: watch::Sender<bool>,
    requests: JoinHandle<Vec<Sent>>,
}

struct Sent {
    at: Instant,
    took: Duration,
    was_answered: bool,
}

impl Client {
    async fn start(world: &World, region: usize) -> Self {
        let client = world.client(region, &world.proxy_token().await.unwrap()).unwrap();
        let url = world.origin.url("/hello");
        let stop = watch::Sender::new(false);
        let stopped = stop.subscribe();
        let requests = tokio::spawn(async move {
            let mut requests = Vec::new();
            while !*stopped.borrow() {
                let at = Instant::now();
                let answer = client.get(&url).send().await;
                let was_answered = answer.is_ok_and(|answer| answer.status() == 200);
                requests.push(Sent { at, took: at.elapsed(), was_answered });
            }
            requests
        });
        Self { stop, requests }
    }

    /// Stops, and judges that every request was answered that was sent after `well_at`.
    async fn judge(self, what: &str, well_at: Instant) {
        self.stop.send_replace(true);
        let requests = self.requests.await.unwrap();
        let (well, before): (Vec<_>, Vec<_>) =
            requests.iter().partition(|request| request.at >= well_at);
        let failed = |requests: &[&Sent]| requests.iter().filter(|r| !r.was_answered).count();
        let longest = |requests: &[&Sent]| requests.iter().map(|request| request.took).max();
        println!(
            "{what}: until all was well {} requests, {} failed, the longest took {:?}; after it {}, \
             {} failed, the longest took {:?}",
            before.len(),
            failed(&before),
            longest(&before).unwrap_or_default(),
            well.len(),
            failed(&well),
            longest(&well).unwrap_or_default()
        );
        assert!(!well.is_empty() && failed(&well) == 0);
    }
}

#[tokio::test]
async fn where_udp_vanishes_links_come_up_on_http2_and_return_to_quic_once_it_passes() {
    let (network, world) = start().await;
    let udp = network.add_rule(UDP_IS_DROPPED).unwrap();
    let started = Instant::now();
    let _connector = world.start_connector_in(&network, "auto").unwrap();
    world.wait_for_links(all_over("http2")).await.unwrap();
    println!("UDP vanishes: four links on HTTP/2 after {:?}", started.elapsed());
    world.wait_for_health("Healthy").await.unwrap();
    the_workflow_answers(&world).await;
    // More than fits the windows: it is under way for as long as nobody reads it.
    let client = world.client(0, &world.proxy_token().await.unwrap()).unwrap();
    let download = client.get(world.origin.url(&format!("/bytes/{DOWNLOAD}"))).send();
    let download = download.await.unwrap();

    udp.lift().unwrap();
    let healed = Instant::now();
    world.wait_for_links(all_over("quic")).await.unwrap();
    println!("UDP passes again: four links on QUIC after {:?}", healed.elapsed());
    the_workflow_answers(&world).await;
    let downloaded = download.bytes().await.expect("the old link lets it finish");
    assert_eq!(downloaded.len() as u64, DOWNLOAD);
}

#[tokio::test]
async fn when_udp_dies_under_live_links_requests_go_on_over_http2() {
    let (network, world) = start().await;
    let connector = connect(&network, &world).await;
    let client = Client::start(&world, 0).await;

    let _udp = network.add_rule(UDP_IS_DROPPED).unwrap();
    let died = Instant::now();
    let is_first = |line: &str| line.contains("link is up") && line.contains("\"http2\"");
    connector.find(|line| is_first(line).then_some(())).await.unwrap();
    println!("UDP dies: the first link on HTTP/2 after {:?}", died.elapsed());
    world.wait_for_links(all_over("http2")).await.unwrap();
    println!("UDP dies: four such links, and no other, after {:?}", died.elapsed());
    world.wait_for_health("Healthy").await.unwrap();
    let well = Instant::now();
    for _ in 0..100 {
        the_workflow_answers(&world).await;
    }
    client.judge("UDP dies", well).await;
}

#[tokio::test]
async fn after_a_partition_the_same_connector_has_four_links_again() {
    let (network, world) = start().await;
    let connector = connect(&network, &world).await;
    let pid = connector.id().unwrap();

    let partition = network.add_rule("-j DROP").unwrap();
    world.wait_for_health("Down").await.unwrap();
    connector.find(|line| line.contains("\"links\":0").then_some(())).await.unwrap();
    partition.lift().unwrap();
    let healed = Instant::now();
    world.wait_for_links(|_| true).await.unwrap();
    println!("a partition heals: four links after {:?}", healed.elapsed());
    world.wait_for_health("Healthy").await.unwrap();
    the_workflow_answers(&world).await;
    assert_eq!(connector.id().unwrap(), pid, "it was not started again");
}

#[tokio::test]
async fn where_a_firewall_lets_only_tcp_out_links_come_up_on_http2() {
    let (network, world) = start().await;
    // Private servers stand inside in earnest.
    let origin = world.origin.address().port();
    let allowed = [format!("--dports 7844,7845,{origin}"), format!("--sports 7844,7845,{origin}")];
    let _rules = allowed
        .map(|ports| network.add_rule(&format!("-p tcp -m multiport {ports} -j ACCEPT")).unwrap());
    let _rest = network.add_rule("-j REJECT --reject-with icmp-port-unreachable").unwrap();
    let started = Instant::now();
    let _connector = world.start_connector_in(&network, "auto").unwrap();
    world.wait_for_links(all_over("http2")).await.unwrap();
    println!("UDP is refused: four links on HTTP/2 after {:?}", started.elapsed());
    world.wait_for_health("Healthy").await.unwrap();
    the_workflow_answers(&world).await;
}

#[tokio::test]
async fn when_one_edge_cannot_be_reached_the_other_serves_until_it_can() {
    let (network, world) = start().await;
    let _connector = connect(&network, &world).await;
    let client = Client::start(&world, 1).await;

    let outage = ["tcp", "udp"]
        .map(|protocol| network.add_rule(&format!("-p {protocol} --dport 7844 -j DROP")).unwrap());
    let cut = Instant::now();
    world.wait_for_links(|links| in_region(links, 1) == 4).await.unwrap();
    println!("an edge is out of reach: four links to the other after {:?}", cut.elapsed());
    the_workflow_answers(&world).await;

    for rule in outage {
        rule.lift().unwrap();
    }
    let healed = Instant::now();
    world.wait_for_links(|links| in_region(links, 0) == 2).await.unwrap();
    println!("it is back: two links to each after {:?}", healed.elapsed());
    world.wait_for_health("Healthy").await.unwrap();
    client.judge("one edge out of reach", cut).await;
}
