//! Envelope encryption for the data-access layer.
//!
//! A service seals records on their way into its database and opens them on their way
//! out. The records are sealed under *data keys* (DEKs), which this library makes,
//! caches, versions and wipes; the DEKs are wrapped by a *key-encryption key* (KEK) in
//! a KMS. Rotating the KEK re-wraps DEKs in the background and never touches data.
//!
//! Ten lines to the first seal, with the embedded KEK and SQLite:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let directory = dir.path().join("keys");
//! use bulla::{RecordContext, local::Unlock};
//!
//! let unlock = Unlock::passphrase("correct horse battery staple".into());
//! let bulla = bulla::open_embedded(&directory, unlock).await?;
//! let people = bulla.manager.scope("t-9f2c", "people")?;
//!
//! let record = RecordContext::new([("table", "people"), ("column", "email"), ("row", "42")])?;
//! let sealed = people.seal(b"ada@example.org", &record).await?;
//! let opened = people.open(&sealed, &record).await?;
//! assert_eq!(opened.plaintext, b"ada@example.org");
//! # Ok(())
//! # }
//! ```
//!
//! # Where to go on
//! - [`Manager`] and [`Scope`]: what applications hold.
//! - [`RecordContext`]: what binds a record to its place.
//! - [`Scope::seal_value`] and the codecs `Json` and `Bincode`: values instead of bytes.
//! - [`Scope::seal_stream`], [`Scope::open_stream`], [`Scope::open_range`]: what is too long
//!   for memory.
//! - [`Recipients`]: envelopes that carry their key, for files and messages.
//! - [`KeyOptions`]: suites, AEAD library, nonces, and how a fleet changes them.
//! - [`Envelope`]: what protects a record, for people, without keys.
//! - [`format`](mod@format): the format by itself, for those who hold a key of their own; streams over
//!   `std::io` are there.
//! - [`Policy`]: every limit and interval, and how long a revoked key can live.
//! - [`blocking`]: the manager for code without async.
//! - [`kek`]: KEKs by URL, from one line of configuration.
//! - [`layers`]: what makes a KMS dependable, and the audit trail of its calls.
//! - [`doctor`]: looks at a KEK before a service goes live, and says what it will cost.
//! - [`backend`]: the contracts, for those who write a KMS backend or a key store; and
//!   [`backend::KeyAdmin`], the trait that rotates, disables and destroys a KEK.
#![cfg_attr(feature = "testing", doc = "- [`testing`]: a KMS and a clock for unit tests.")]
//!
//! # Features
//! | feature | compiles in | default |
//! |---|---|---|
//! | `aws` | KEKs in AWS KMS, `aws` | no |
//! | `vault` | KEKs in Vault and OpenBao, `vault` | no |
//! | `metrics` | `layers::MetricsSink` | no |
//! | `local` | the embedded KEK, `local` | yes |
//! | `sqlite` | the key store over SQLite, `sqlite` | yes |
//! | `aws-lc-rs` | the AEAD library AWS-LC | yes |
//! | `rust-crypto` | the AEAD library of RustCrypto | no |
//! | `json` | the codec `Json` of typed values | yes |
//! | `bincode` | the codec `Bincode` of typed values | no |
//! | `testing` | `testing` | no |
//!
//! A feature chooses what is compiled in, never what it does.
#![forbid(unsafe_code)]

pub mod doctor;
#[cfg(all(feature = "local", feature = "sqlite"))]
mod embedded;
pub mod kek;

#[cfg(all(feature = "local", feature = "sqlite"))]
pub use embedded::{Embedded, EmbeddedError, open_embedded, open_embedded_blocking};

pub use bulla_backend::{KmsErrorKind, KmsOperation, ScopeId, ScopeIdError};
#[cfg(feature = "bincode")]
pub use bulla_core::Bincode;
#[cfg(feature = "json")]
pub use bulla_core::Json;
pub use bulla_core::{
    Codec, ContextError, DekVersion, Envelope, Envelopes, ErrorClass, Head, Header, HeaderError,
    KeyError, KeyId, KeyOptions, Kind, Library, NonceMode, OpenError, RecordContext, SealError,
    StreamOptions, Suite, Suites, WrapsError, notify_restored,
};
#[cfg(any(feature = "json", feature = "bincode"))]
pub use bulla_core::{ValueCodec, ValueError};
#[cfg(any(feature = "json", feature = "bincode"))]
pub use bulla_manager::OpenedValue;
pub use bulla_manager::{
    Error, Freshness, Item, Manager, ManagerBuilder, MemoryKeyStore, OpenStream, Opened, Phase,
    Policy, Profile, RangeStream, Recipients, Rotation, Scope, SealStream, Stats, SystemClock,
    blocking,
};

/// The envelope format by itself: for those who hold a 32-byte key of their own, and for
/// streams over `std::io`.
pub mod format {
    pub use bulla_core::*;
}

/// The contracts that KMS backends and key stores implement.
pub mod backend {
    pub use bulla_backend::*;
    pub use bulla_core::{DataKey, KmsContext, ScopeContext};
}

/// What makes a KMS dependable: time-outs, retries, a circuit breaker, limits, audit.
///
/// An audit trail of one's own:
///
/// ```
/// use std::sync::Arc;
/// use bulla::layers::{AuditSink, KmsCall, LayerOptions};
///
/// #[derive(Debug)]
/// struct Trail(std::sync::mpsc::SyncSender<String>);
///
/// impl AuditSink for Trail {
///     fn record(&self, call: &KmsCall<'_>) {
///         let line = format!("{} {} {}", call.operation.as_str(), call.kek, call.outcome);
///         let _ = self.0.try_send(line); // must not block
///     }
/// }
///
/// # let (sender, _receiver) = std::sync::mpsc::sync_channel(1000);
/// let mut options = LayerOptions::default();
/// options.audit = Some(Arc::new(Trail(sender)));
/// // … KekUrl::open_with(profile, options), or dependable(kek, options)
/// ```
///
/// Each *attempt* is an event; one that took too long is `given-up`; the scope is among
/// [`KmsCall::context`](crate::backend::KmsCall::context)'s pairs.
pub mod layers {
    pub use bulla_backend::{AuditSink, KmsCall, KmsOutcome};
    pub use bulla_manager::layers::*;
}

/// KEKs in AWS KMS.
#[cfg(feature = "aws")]
pub mod aws {
    pub use bulla_aws::*;
}

/// KEKs in the transit engine of Vault and OpenBao.
#[cfg(feature = "vault")]
pub mod vault {
    pub use bulla_vault::*;
}

/// The embedded KEK.
#[cfg(feature = "local")]
pub mod local {
    pub use bulla_local::*;
}

/// The key store over SQLite.
#[cfg(feature = "sqlite")]
pub mod sqlite {
    pub use bulla_sql::*;
}

/// For the unit tests of applications: a strict KMS in memory that fails on command,
/// and a clock that tests move by hand.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::{sync::Arc, time::Duration};
/// use bulla::testing::{ManualClock, TestKms};
/// use bulla::{Manager, MemoryKeyStore, Profile, RecordContext};
///
/// let clock = Arc::new(ManualClock::new());
/// let kms = Arc::new(TestKms::new("orders"));
/// let store = Arc::new(MemoryKeyStore::new(clock.clone())?);
/// let manager = Manager::builder(Profile::Development, kms.clone(), store)
///     .clock(clock.clone())
///     .start()
///     .await?;
/// let sealed = manager.scope("t-1", "orders")?.seal(b"x", &RecordContext::empty()).await?;
/// assert_eq!(sealed.len(), 1 + 84);
/// assert_eq!(kms.data_calls(), 2, "one to make the key, one to check its wrap");
/// clock.advance(Duration::from_secs(3600));
/// # Ok(())
/// # }
/// ```
#[cfg(feature = "testing")]
pub mod testing {
    pub use bulla_testkit::*;
}

#[cfg(all(doctest, feature = "local", feature = "sqlite"))]
#[doc = include_str!("../../../README.md")]
struct ReadMe;
