//! What tests of Bulla, of its backends and of applications are made of.
//!
//! - [`ManualClock`] stands still until a test moves it.
//! - [`TestKms`] is a strict KMS in memory that counts calls and fails on command.
#![forbid(unsafe_code)]

mod clock;
mod kms;
pub mod kms_suite;

pub use clock::{ManualClock, settle};
pub use kms::{Lie, TestKms};
