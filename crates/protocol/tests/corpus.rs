//! Replays what fuzzing found worth keeping, with the very functions that the fuzzer calls.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

#[path = "../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "the same file is the fuzz crate's library")]
mod targets;

use targets::TARGETS;

/// What a repository can carry for ever.
const MAX_FILES: usize = 400;
const MAX_BYTES: u64 = 1024 * 1024;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn stems(directory: &Path) -> BTreeSet<String> {
    let stem = |path: &PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
    entries(directory).iter().map(stem).collect()
}

#[test]
fn every_decoder_lives_through_its_corpus() {
    let mut files = 0;
    let mut bytes = 0;
    for (name, check) in TARGETS {
        for path in entries(&fuzz().join("corpus").join(name)) {
            let data = fs::read(&path).unwrap();
            println!("{}", path.display());
            check(&data);
            files += 1;
            bytes += data.len() as u64;
        }
    }
    assert!(files <= MAX_FILES && bytes <= MAX_BYTES, "{files} files, {bytes} bytes");
}

#[test]
fn every_decoder_has_a_fuzz_target_and_a_corpus() {
    let names: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(stems(&fuzz().join("fuzz_targets")), names);
    assert_eq!(stems(&fuzz().join("corpus")), names);
}
