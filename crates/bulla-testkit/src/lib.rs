//! What tests of Bulla, of its backends and of applications are made of.
//!
//! - [`ManualClock`] stands still until a test moves it.
//! - [`FaultyProxy`] makes a healthy server look broken; `servers` finds, freezes and kills
//!   real ones.
//! - [`FaultyStore`] counts reads of a key store and fails on command.
//! - [`kms_suite`] and [`mod@store_suite`] are the conformance suites of the contracts.
//! - `redaction` (feature of the same name) proves that secrets stay out of logs.
//! - [`TestKms`] is a strict KMS in memory that counts calls and fails on command.
//!
//! With the feature `format`, `reference` is a second, plain implementation of the envelope
//! format, to compare the real one with, and `vectors` runs the test vectors of the format
//! through both. The program `interop` (feature of the same name) lets other implementations
//! seal and open with this one.
#![forbid(unsafe_code)]

mod clock;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod kms;
pub mod kms_suite;
mod proxy;
#[cfg(feature = "redaction")]
pub mod redaction;
#[cfg(feature = "format")]
pub mod reference;
#[cfg(unix)]
pub mod servers;
mod spellings;
mod store;
pub mod store_suite;
#[cfg(feature = "format")]
pub mod vectors;

pub use clock::{ManualClock, settle};
pub use kms::{Lie, TestKms};
pub use proxy::FaultyProxy;
pub use store::FaultyStore;
