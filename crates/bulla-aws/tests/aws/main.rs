//! AWS KMS, as emulators and a fake of it behave.
//!
//! - `localstack`: the conformance suite; key states, replicas, new keys.
//! - `contract`: the conformance suite against `fake`, a strict fake: key material ids, and
//!   the failures that no emulator brings about.
//! - `errors`: every error of AWS KMS, told by the fake.
//! - `moto`: the cases of the suite on which moto is right.
//! - `policies`: the IAM policies of `policies/`, enforced by moto.
//! - `revocation`: a key that is disabled under a running manager.
//! - `connect`: the default chain of credentials, in a process of its own.
#![allow(clippy::unwrap_used, reason = "tests")]

mod connect;
mod contract;
mod errors;
mod fake;
mod localstack;
mod moto;
mod policies;
mod revocation;
mod support;
