//! The program `interop`, run as others run it: bytes through pipes, exit codes, lines on
//! standard error.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "interop/inspect.rs"]
mod inspect;
#[path = "interop/process.rs"]
mod process;
#[path = "interop/refusals.rs"]
mod refusals;
#[path = "interop/streams.rs"]
mod streams;

use process::{DEK, KEYS, NONCE, interop};

/// Appendix B.1.
const B1: &str = "42554c0101010000000000016bd29406a15f9b2d58ce32f2b9bacdd380f927313478e92fccbabec4\
                  160e2eb1404142434445464748494a4b4c4d4e4f5051525354555657dde11ab7feb78471adcdc22a\
                  babd283952034ffb81ce4878023ab349d976fc";

const LIBRARIES: [&str; 2] = ["aws-lc-rs", "rust-crypto"];

#[test]
fn every_suite_and_kind_goes_there_and_back_through_each_library() {
    for (sealer, opener) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        for suite in ["1", "2"] {
            for (kind, len) in [("one-shot", 0), ("one-shot", 100_000), ("chunked", 200_000)] {
                let plaintext: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
                let options = ["--kind", kind, "--suite", suite, "--codec", "129"];
                let library = |of: usize| ["--library", LIBRARIES[of]];
                let seal = [&["seal"], &KEYS[..], &options, &library(sealer)].concat();
                let envelope = interop(&seal, &plaintext).succeeded();
                let open = [&["open"], &KEYS[..], &options, &library(opener)].concat();
                assert_eq!(interop(&open, &envelope).succeeded(), plaintext, "{seal:?}");
            }
        }
    }
}

#[test]
fn a_given_nonce_makes_the_example_of_the_specification() {
    for library in LIBRARIES {
        let seal = [&["seal"], &KEYS[..], &["--nonce", NONCE, "--library", library]].concat();
        let envelope = interop(&seal, b"ada@example.org").succeeded();
        assert_eq!(data_encoding::HEXLOWER.encode(&envelope), B1);
    }
}

#[test]
fn without_a_nonce_no_two_envelopes_are_alike() {
    for kind in ["one-shot", "chunked"] {
        let seal = [&["seal"], &KEYS[..], &["--kind", kind]].concat();
        let [one, other] = [(); 2].map(|()| interop(&seal, b"x").succeeded());
        assert_ne!(one[44..68], other[44..68]);
    }
}

#[test]
fn pairs_in_hexadecimal_and_as_text_are_the_same_context() {
    let context = ["--scope-hex", "61=6200ff3d", "--context", "k=v=w", "--dek", DEK];
    let refused = interop(&[&["seal"], &context[..]].concat(), b"");
    assert_eq!((refused.code, &refused.stderr[..22]), (1, "interop: context error"));
    let context = ["--scope-hex", "61=c3a93d", "--context", "k=v=w", "--dek", DEK];
    let envelope = interop(&[&["seal"], &context[..]].concat(), b"x").succeeded();
    let same = ["--scope", "a=é=", "--context-hex", "6B=763d77", "--dek", DEK];
    assert_eq!(interop(&[&["open"], &same[..]].concat(), &envelope).succeeded(), b"x");
}

#[test]
fn one_context_may_be_empty() {
    for context in [["--scope", "a=b"], ["--context", "a=b"]] {
        let keys = [&context[..], &["--dek", DEK, "--version", "4294967295"]].concat();
        let envelope = interop(&[&["seal"], &keys[..]].concat(), b"x").succeeded();
        assert_eq!(interop(&[&["open"], &keys[..]].concat(), &envelope).succeeded(), b"x");
    }
}
