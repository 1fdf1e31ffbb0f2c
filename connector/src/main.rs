//! `postern-connector`: all that the connector's image holds.

use std::process::ExitCode;

use clap::Parser;
use postern_connector::program::{self, Program};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(name = "postern-connector", version)]
struct Cli {
    #[command(flatten)]
    program: Program,
}

fn main() -> ExitCode {
    // The allocator would take a huge page for a few bytes: megabytes that an idle connector never uses.
    // Where the kernel does not let go of them, it is a little larger.
    let _ = nix::sys::prctl::set_thp_disable(true);
    program::main(Cli::parse().program)
}
