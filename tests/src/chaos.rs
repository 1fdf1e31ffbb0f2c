//! `make chaos`: a deployment is under load while parts die, leave, stop and come back, and while the line
//! between them breaks. What fails is counted, and whether it may have.
//!
//! ```text
//!  load ── gateways of two edges ══ links ══ router ══ links ══ two connectors ── origin with a ledger
//!                                     (slow, lossy, cut)
//! ```

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use protocol::presence::Transport;

pub mod client;
pub mod events;
pub mod links;
pub mod load;
pub mod options;
pub mod origin;
pub mod report;
pub mod stage;
pub mod verdict;

use self::{
    events::{Event, Facts, Marks},
    load::Load,
    options::Options,
    stage::{Length, Stage},
    verdict::Verdict,
};

/// How long the load goes on before something happens.
const BEFORE: Duration = Duration::from_secs(2);
/// How long it goes on when all is well again.
const AFTER: Duration = Duration::from_secs(2);

/// All rounds of an event, over one carrier.
#[derive(Debug, Clone)]
pub struct Row {
    /// What happened.
    pub event: Event,
    /// The same, in words.
    pub facts: Facts,
    /// What carried the links; `None` is the connectors' choice.
    pub transport: Option<Transport>,
    /// How often it happened.
    pub rounds: usize,
    /// What became of it.
    pub verdict: Verdict,
    /// What kept the event from happening as it should, if something did.
    pub trouble: Option<String>,
}

impl Row {
    /// The carrier's name.
    pub fn carrier(&self) -> &'static str {
        self.transport.map_or("auto", Transport::as_str)
    }

    /// Does everything hold that must?
    pub fn holds(&self) -> bool {
        self.trouble.is_none() && self.verdict.holds(&self.facts.bounds)
    }

    /// Does everything hold that does not depend on how fast this machine is?
    pub fn counts_hold(&self) -> bool {
        self.trouble.is_none() && self.verdict.counts_hold()
    }

    /// The verdict in a word.
    pub fn word(&self) -> &'static str {
        match (&self.trouble, self.holds()) {
            (Some(_), _) => "BROKE DOWN",
            (None, true) => "holds",
            (None, false) => "MISSED",
        }
    }
}

/// Runs what is asked for, prints it, and writes the page if there is to be one.
///
/// # Errors
/// If nothing can be set up, or a bound does not hold.
pub async fn run(options: Options) -> anyhow::Result<()> {
    options.check()?;
    let mut rows = Vec::new();
    for carrier in options.carriers() {
        let events = options.events().into_iter().filter(|event| event.concerns(carrier));
        let events: Vec<Event> = events.collect();
        rows.extend(play(&events, carrier, options.length(), options.share, options.rounds).await?);
    }
    println!("\n{}", report::table(&rows).markdown());
    if let Some(path) = &options.out {
        report::write(&rows, path)?;
    }
    let missed = rows.iter().filter(|row| !row.holds()).count();
    ensure!(missed == 0, "{missed} of {} lines have a bound that does not hold", rows.len());
    Ok(())
}

/// Has each event happen so often, over one carrier, at a rate in proportion to the full one.
///
/// # Errors
/// If a deployment cannot be set up.
pub async fn play(
    events: &[Event],
    carrier: Option<Transport>,
    length: Length,
    share: f64,
    rounds: usize,
) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut stage: Option<(Stage, stage::Deployment)> = None;
    for event in events {
        let facts = event.facts(share);
        let (event, transport) = (*event, carrier);
        let verdict = Verdict::default();
        let mut row = Row { event, facts, transport, rounds: 0, verdict, trouble: None };
        while row.rounds < rounds && row.trouble.is_none() {
            let (mut set, deployment) = match stage.take() {
                Some(set) if set.1 == facts.deployment => set,
                // One that is no longer wanted ends first.
                other => {
                    drop(other);
                    (Stage::set(facts.deployment, carrier, length, &[]).await?, facts.deployment)
                }
            };
            let began = Instant::now();
            let (verdict, trouble) = match round(event, &facts, &mut set).await {
                Ok(verdict) => (verdict, None),
                Err(error) => (Verdict::default(), Some(format!("{error:#}"))),
            };
            row.rounds += 1;
            row.verdict = verdict.clone().worst(&row.verdict);
            row.trouble = trouble;
            println!(
                "{} over {}, round {} ({:.0} s): {}",
                facts.key,
                row.carrier(),
                row.rounds,
                began.elapsed().as_secs_f64(),
                report::line(&verdict)
            );
            verdict.told.iter().chain(&row.trouble).for_each(|told| println!("    {told}"));
            // What has broken down is no stage for another event.
            stage = row.trouble.is_none().then_some((set, deployment));
        }
        rows.push(row);
    }
    Ok(rows)
}

async fn round(event: Event, facts: &Facts, stage: &mut Stage) -> anyhow::Result<Verdict> {
    stage.links.all_up().await.context("before the event")?;
    let load = Load::start(stage.target(), facts.mix);
    tokio::time::sleep(BEFORE).await;
    let mut marks = Marks::now();
    event.happen(stage, &mut marks).await?;
    stage.links.all_up().await.context("after the event")?;
    let last_missing = stage.links.last_missing();
    tokio::time::sleep(AFTER).await;
    let stopped = Instant::now();
    let mut exchanges = load.stop().await?;
    exchanges.append(&mut marks.exchanges);
    Ok(Verdict::of(&exchanges, &marks, &stage.origin.ledger, stopped, last_missing))
}
