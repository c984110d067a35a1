//! Every input in `fuzz/corpus` goes through its target once more: what the fuzzer has found
//! stays found, without the fuzzer.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(clippy::print_stderr, reason = "says which input has failed")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use bulla_local::{LocalKek, Unlock};
use bulla_testkit::fuzzing::{self, TARGETS};

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

/// Runs `target` over its corpus, and over no bytes at all.
fn replay(name: &str, target: impl Fn(&[u8])) {
    target(&[]);
    let corpus = fuzz().join("corpus").join(name);
    assert!(corpus.is_dir(), "target `{name}` has no corpus in {}", corpus.display());
    let mut inputs: Vec<_> =
        fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "the corpus of target `{name}` is empty");
    for input in inputs {
        // The last line before a panic says which input it was.
        eprintln!("{}", input.display());
        target(&fs::read(input).unwrap());
    }
}

fn names(directory: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(fuzz().join(directory)).unwrap();
    let stem = |path: PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
    entries.map(|entry| stem(entry.unwrap().path())).collect()
}

#[test]
fn every_target_is_fuzzed_and_has_a_corpus() {
    let mut targets: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    targets.insert("key_file".to_owned());
    assert_eq!(names("fuzz_targets"), targets);
    assert_eq!(names("corpus"), targets);
}

#[test]
fn every_input_passes_its_target() {
    for (name, target) in TARGETS {
        replay(name, target);
    }
}

#[test]
fn every_key_file_passes_its_target() {
    replay("key_file", |data| {
        fuzzing::key_file(data, async |path, key| {
            let kek = LocalKek::open(path, Unlock::raw_key(key)).await?;
            let generation = kek.generation();
            Ok((kek, generation))
        });
    });
}
