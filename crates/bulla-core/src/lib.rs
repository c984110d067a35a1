//! The Bulla envelope format: suites, contexts, data keys, seal and open.
//!
//! This crate is the cryptography and nothing else: synchronous, without I/O,
//! clock or `unsafe`; no key outlives the value that holds it. Most applications use it through `bulla`,
//! which fetches, caches and rotates the keys; use it alone when you have a
//! 32-byte key of your own.
//!
//! The format is specified in `docs/spec/envelope-v1.md`. Where to look here:
//!
//! | module | what |
//! |---|---|
//! | `header` | the 68 bytes in front, readable without keys |
//! | `context` | encryption contexts and their one encoding |
//! | `data_key` | data keys, their versions and self-certifying ids |
//! | `envelope_key` | seal and open |
//! | `nonce` | epochs, and the derived keys that nonces choose |
//! | `xaes`, `kdf`, `aead` | the primitives, composed as the spec says |
#![forbid(unsafe_code)]

#[cfg(not(any(feature = "aws-lc-rs", feature = "rust-crypto")))]
compile_error!(
    "bulla-core needs an AEAD library: enable `aws-lc-rs` (the default) or `rust-crypto`"
);

mod aead;
mod context;
mod data_key;
mod envelope_key;
mod error;
mod header;
mod kdf;
pub mod limits;
mod nonce;
mod xaes;

pub use aead::Library;
pub use context::{KmsContext, RecordContext, ScopeContext};
pub use data_key::{DataKey, DekVersion, KeyId};
pub use envelope_key::{EnvelopeKey, KeyOptions};
pub use error::{ContextError, HeaderError, KeyError, OpenError, SealError};
pub use header::{Codec, Header, Kind, Suite};
pub use nonce::NonceMode;
