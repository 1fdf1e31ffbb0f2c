//! One end of the bare relay that the benchmark compares Postern with: `bench/peers/bare.rs`.

use std::process::ExitCode;

use clap::Parser as _;
use postern_tests::bench::peers::bare::Bare;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    match Bare::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
