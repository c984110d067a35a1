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
//! | `header`, `envelope`, `wraps` | what an envelope says about itself, without keys |
//! | `context` | encryption contexts and their one encoding |
//! | `data_key` | data keys, their versions and self-certifying ids |
//! | `envelope_key` | seal and open under a DEK of a lineage |
//! | `self_contained` | seal and open with a DEK that travels in the envelope |
//! | `one_shot`, `stream` | the two kinds of payload |
//! | `value` | typed values and their codecs |
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
mod envelope;
mod envelope_key;
mod envelopes;
mod error;
#[cfg(feature = "hazmat")]
pub mod hazmat;
mod header;
mod kdf;
pub mod limits;
mod nonce;
mod one_shot;
mod self_contained;
mod stream;
#[cfg(any(feature = "json", feature = "bincode"))]
mod value;
mod wraps;
mod xaes;

pub use aead::Library;
pub use bulla_sys::notify_restored;
pub use context::{KmsContext, RecordContext, ScopeContext};
pub use data_key::{DataKey, DekVersion, KeyId};
pub use envelope::{Envelope, Head};
pub use envelope_key::{EnvelopeKey, KeyOptions};
pub use envelopes::Envelopes;
pub use error::{
    ContextError, ErrorClass, HeaderError, KeyError, OpenError, SealError, WrapsError,
};
pub use header::{Codec, Header, Kind, Suite, Suites};
pub use nonce::NonceMode;
pub use self_contained::{SingleUseKey, UnwrappedKey};
pub use stream::{
    ChunkOpener, ChunkSealer, FetchAt, OpenReader, RangeReader, SealWriter, SeekSource,
    StreamLayout, StreamOptions,
};
#[cfg(feature = "bincode")]
pub use value::Bincode;
#[cfg(feature = "json")]
pub use value::Json;
#[cfg(any(feature = "json", feature = "bincode"))]
pub use value::{ValueCodec, ValueError};
pub use wraps::{Wrap, Wraps};
