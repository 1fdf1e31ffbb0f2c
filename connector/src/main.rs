//! `postern-connector`: all that the connector's image holds.

use std::process::ExitCode;

use clap::Parser;
use postern_connector::program::{self, Program};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[derive(Parser)]
#[command(name = "postern-connector", version)]
struct Cli {
    #[command(flatten)]
    program: Program,
}

fn main() -> ExitCode {
    program::main(Cli::parse().program)
}
