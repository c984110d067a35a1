//! What the fuzzer runs: one function per target, each given any bytes at all.
//!
//! `fuzz/fuzz_targets` hands them to libFuzzer, `tests/corpora.rs` replays the files of
//! `fuzz/corpus` through the very same functions, and `scripts/fuzz` runs the fuzzer. A
//! target panics where `bulla-core` and the [reference](crate::reference) disagree, where
//! the two AEAD libraries do, or where a promise of the documentation is broken; otherwise
//! it returns.
//!
//! | target | what is compared |
//! |---|---|
//! | [`header()`] | parsing of any bytes, and what the parsed writes and shows |
//! | [`open()`] | envelopes of all kinds, sealed, changed and opened |
//! | [`wraps()`] | wraps sections, read, written and replaced |
//! | [`context()`] | encodings and refusals of contexts |
//! | [`ranges()`] | parts of streams that were changed, or whose length is a lie |
//! | [`streams()`] | streams read and written in pieces, over readers that fail |
//! | [`codecs()`] | JSON and bincode, into several types |
//! | [`differential()`] | all sealers byte by byte, and all openers of what they seal |
//! | [`key_file()`] | key files that were changed |
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a target tells the fuzzer of a finding"
)]

mod case;
mod codecs;
mod context;
mod differential;
mod header;
mod key_file;
mod mutate;
mod open;
mod ranges;
mod real;
mod streams;
mod wraps;

pub use codecs::codecs;
pub use context::context;
pub use differential::differential;
pub use header::header;
pub use key_file::key_file;
pub use open::open;
pub use ranges::ranges;
pub use streams::streams;
pub use wraps::wraps;

/// A target that needs nothing but its input.
pub type Target = fn(&[u8]);

/// All targets but [`key_file()`], which is told how a key file is opened, by name.
pub const TARGETS: [(&str, Target); 8] = [
    ("codecs", codecs),
    ("context", context),
    ("differential", differential),
    ("header", header),
    ("open", open),
    ("ranges", ranges),
    ("streams", streams),
    ("wraps", wraps),
];
