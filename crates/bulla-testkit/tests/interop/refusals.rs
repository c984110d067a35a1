//! What it refuses, and how it ends.

use std::fs::File;
use std::process::Stdio;

use crate::process::{DEK, KEYS, NONCE, Ran, command, interop};

fn open(envelope: &[u8], more: &[&str]) -> Ran {
    interop(&[&["open"], &KEYS[..], more].concat(), envelope)
}

#[test]
fn each_class_of_refusal_is_one_line_and_exit_code_1() {
    let envelope = interop(&[&["seal"], &KEYS[..]].concat(), b"ada").succeeded();
    let changed = |at: usize, byte: u8| {
        let mut changed = envelope.clone();
        changed[at] = byte;
        changed
    };
    let refusals = [
        ("malformed", open(&envelope[..67], &[])),
        ("malformed", open(b"", &[])),
        ("malformed", open(&changed(11, 0), &[])),
        ("unsupported", open(&changed(3, 2), &[])),
        ("unsupported", open(&changed(5, 3), &[])),
        ("not accepted", open(&changed(5, 2), &[])),
        ("not accepted", open(&envelope, &["--suite", "2"])),
        ("not accepted", open(&envelope, &["--codec", "2"])),
        ("unknown key", open(&envelope, &["--version", "2"])),
        ("unknown key", open(&envelope, &["--scope", "more=1"])),
        ("authentication error", open(&envelope, &["--context", "more=1"])),
        ("authentication error", open(&changed(70, 0x55), &[])),
        ("authentication error", open(&changed(5, 2), &["--suite", "1", "--suite", "2"])),
        ("context error", open(&envelope, &["--context", "bulla-x=1"])),
        ("context error", open(&envelope, &["--context", "row=42"])),
        ("context error", open(&envelope, &["--scope", "=1"])),
        ("context error", interop(&[&["seal"], &KEYS[..], &["--scope", "tenant=x"]].concat(), b"")),
    ];
    for (class, ran) in &refusals {
        assert!(ran.refused().starts_with(&format!("{class}: ")), "{class}: {}", ran.stderr);
        assert!(ran.stdout.is_empty());
    }
    let authentication: Vec<_> =
        refusals.iter().filter(|(class, _)| *class == "authentication error").collect();
    assert!(authentication.windows(2).all(|two| two[0].1.stderr == two[1].1.stderr));
}

#[test]
fn the_other_kind_is_not_accepted() {
    let stream = interop(&[&["seal"], &KEYS[..], &["--kind", "chunked"]].concat(), b"").succeeded();
    assert!(open(&stream, &[]).refused().starts_with("not accepted: "));
    let record = interop(&[&["seal"], &KEYS[..]].concat(), &[7; 100]).succeeded();
    assert!(open(&record, &["--kind", "chunked"]).refused().starts_with("not accepted: "));
}

#[test]
fn a_wrong_command_line_is_exit_code_2() {
    let wrong: [&[&str]; 16] = [
        &[],
        &["seal"],
        &["seal", "--dek", &DEK[1..], "--scope", "a=b"],
        &["seal", "--dek", DEK, DEK, "--scope", "a=b"],
        &["seal", "--dek", DEK, "--scope", DEK],
        &["seal", "--dek", DEK, "--scope", "a=b", "--nonce", DEK],
        &["seal", "--dek", DEK, "--scope", "a=b", "--version", DEK],
        &["seal", "--dek", DEK, "--scope", "a=b", "--version", "0"],
        &["seal", "--dek", DEK, "--scope", "a=b", "--suite", "3"],
        &["seal", "--dek", DEK, "--scope", "a=b", "--codec", "3"],
        &["seal", "--dek", DEK, "--scope", "a=b", "--kind", "chunked", "--chunk-log2", "23"],
        &["seal", "--dek", DEK, "--scope", "a=b", "--chunk-log2", "16"],
        &["seal", "--dek", DEK, "--scope-hex", "a=b"],
        &["seal", "--dek", DEK, "--scope", "a=b", "--library", "openssl"],
        &["open", "--dek", DEK, "--scope", "a=b", "--kind", "chunked", "--range", "0..1"],
        &["open", "--dek", DEK, "--scope", "a=b", "--in", "/dev/null", "--range", "2..1"],
    ];
    for args in wrong {
        let ran = interop(args, b"");
        assert_eq!((ran.code, ran.stdout.len()), (2, 0), "{args:?}: {}", ran.stderr);
        assert!(!ran.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn help_teaches_and_succeeds() {
    for args in [&["--help"][..], &["seal", "--help"], &["open", "--help"]] {
        let ran = interop(args, b"");
        let help = String::from_utf8_lossy(&ran.stdout);
        assert_eq!((ran.code, &*ran.stderr), (0, ""));
        assert!(help.contains("interop open --dek $DEK") && help.contains("Exit codes"), "{help}");
    }
}

#[test]
fn failures_of_files_and_pipes_are_exit_code_3() {
    let missing = open(b"", &["--in", "/nowhere/to/be/found"]);
    assert_eq!(missing.code, 3);
    assert!(missing.line().starts_with("opening the file failed: "));

    for kind in ["one-shot", "chunked"] {
        let seal = [&["seal"], &KEYS[..], &["--kind", kind, "--nonce", NONCE]].concat();
        let full = File::options().write(true).open("/dev/full").unwrap();
        let child = command(&seal).stdin(Stdio::null()).stdout(full).spawn().unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{kind}");
        assert_eq!(String::from_utf8(output.stderr).unwrap().lines().count(), 1);
    }
}
