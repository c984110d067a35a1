//! A KEK in AWS KMS.
//!
//! [`AwsKek`] is one symmetric KMS key: data keys are made, unwrapped and rewrapped by
//! the service, bound to their context by KMS's encryption context, and the key material
//! never leaves it. [`AwsOptions`] says which key, in which region; [`CreateOptions`]
//! describes a key to be made. `docs/backends/aws.md` is the guide: permissions, rotation,
//! keys in several regions, what a call costs and what AWS does not promise.
//!
//! # Security
//! What holds:
//! - Every unwrap names the key; KMS is never left to pick one by the blob.
//! - Every pair of the context goes along with every call, and KMS authenticates it.
//! - No error holds bytes of an answer, a signature or a token: of what AWS says, only
//!   texts that name keys, principals and quotas are passed on.
//!
//! What does not:
//! - **Answers pass through the SDK.** The HTTP body and the buffers of TLS, in which a data
//!   key arrives, and the request in which `wrap_key` sends one, are freed without being
//!   wiped. The copy that the SDK hands out is wiped.
//! - **A version cannot be disabled or destroyed on its own**, only the whole key.
//! - Disabling a key takes effect within seconds, at times minutes, across AWS KMS.
#![forbid(unsafe_code)]

mod admin;
mod clock;
mod data_path;
mod error;
mod kek;
mod options;

pub use kek::AwsKek;
pub use options::{AwsOptions, CreateOptions};
