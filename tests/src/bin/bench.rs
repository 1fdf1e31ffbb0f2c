//! `make bench`: what Postern costs, beside a direct connection and other software. `--help` tells how
//! to run parts of it.

use std::process::ExitCode;

use clap::Parser as _;
use postern_tests::bench::{self, options::Options};

/// One thread: load takes no more of the machine than it must, and the origin has a thread of its own.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match bench::run(Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
