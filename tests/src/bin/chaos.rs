//! `make chaos`: what is lost while parts die and lines break. `--help` tells how to run parts of it.

use std::process::ExitCode;

use clap::Parser as _;
use postern_tests::chaos::{self, events::Event, options::Options};

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    if options.list {
        for event in Event::ALL {
            let facts = event.facts(1.0);
            println!("{:<20} {}", facts.key, facts.title);
        }
        return ExitCode::SUCCESS;
    }
    match chaos::run(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
