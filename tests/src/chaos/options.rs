//! What of the chaos to run.

use std::path::PathBuf;

use anyhow::ensure;
use protocol::presence::Transport;

use super::{events::Event, stage::Length};

/// Has things happen to a deployment under load, and fails where a bound does not hold.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "chaos")]
pub struct Options {
    /// How often each event happens.
    #[arg(long, env = "CHAOS_ROUNDS", default_value_t = 3)]
    pub rounds: usize,
    /// Events (`edge-killed,slow-2m`); all of them, unless some are named.
    #[arg(long, env = "CHAOS_ONLY", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Carriers (`quic`, `http2`, `auto`); all of them, unless some are named.
    #[arg(long, env = "CHAOS_CARRIERS", value_delimiter = ',')]
    pub carriers: Vec<String>,
    /// The load, in proportion to 170 requests a second.
    #[arg(long, env = "CHAOS_SHARE", default_value_t = 1.0)]
    pub share: f64,
    /// Have events last for a few seconds only.
    #[arg(long, env = "CHAOS_SHORT")]
    pub short: bool,
    /// Page to write; none is written unless it is named.
    #[arg(long, env = "CHAOS_OUT")]
    pub out: Option<PathBuf>,
    /// Print the names of all events, and end.
    #[arg(long)]
    pub list: bool,
}

const CARRIERS: [Option<Transport>; 3] = [Some(Transport::Quic), Some(Transport::Http2), None];

fn name(carrier: Option<Transport>) -> &'static str {
    carrier.map_or("auto", Transport::as_str)
}

impl Options {
    /// Are they ones that can be run?
    ///
    /// # Errors
    /// Says which one cannot.
    pub fn check(&self) -> anyhow::Result<()> {
        ensure!(self.rounds > 0, "CHAOS_ROUNDS must be 1 or more");
        ensure!(self.share > 0.0 && self.share <= 10.0, "CHAOS_SHARE must be positive");
        for wanted in &self.only {
            let is_known = Event::ALL.iter().any(|event| event.facts(1.0).key == wanted);
            ensure!(is_known, "CHAOS_ONLY: there is no event {wanted}; --list names them");
        }
        for wanted in &self.carriers {
            let is_known = CARRIERS.iter().any(|carrier| name(*carrier) == wanted);
            ensure!(is_known, "CHAOS_CARRIERS: there is no carrier {wanted}");
        }
        Ok(())
    }

    /// The events that are wanted.
    pub fn events(&self) -> Vec<Event> {
        let is_wanted = |event: &Event| {
            self.only.is_empty() || self.only.iter().any(|key| key == event.facts(1.0).key)
        };
        Event::ALL.into_iter().filter(is_wanted).collect()
    }

    /// The carriers that are wanted.
    pub fn carriers(&self) -> Vec<Option<Transport>> {
        let is_wanted = |carrier: &Option<Transport>| {
            self.carriers.is_empty() || self.carriers.iter().any(|wanted| wanted == name(*carrier))
        };
        CARRIERS.into_iter().filter(is_wanted).collect()
    }

    /// How long events last.
    pub fn length(&self) -> Length {
        if self.short { Length::Short } else { Length::Long }
    }
}
