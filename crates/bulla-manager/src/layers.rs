//! Layers over the KMS contract: time-outs, retries, a circuit breaker, limits, audit.
//!
//! Backends make each call once and wait for as long as it takes. What makes a KMS
//! dependable is the same for all of them and is put around them here.
//! [`dependable`] puts everything together in the right order:
//!
//! ```
//! use std::sync::Arc;
//! use bulla_manager::layers::{LayerOptions, TracingSink, dependable};
//! use bulla_manager::{Manager, MemoryKeyStore, Profile, SystemClock};
//! use bulla_testkit::TestKms;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut options = LayerOptions::default();
//! options.audit = Some(Arc::new(TracingSink));
//! let kek = dependable(Arc::new(TestKms::new("example")), options);
//!
//! let store = Arc::new(MemoryKeyStore::new(Arc::new(SystemClock))?);
//! let manager = Manager::builder(Profile::Development, kek, store).start().await?;
//! # Ok(())
//! # }
//! ```
//!
//! A layer of your own is one method; see [`Layer`]. Layers measure time by tokio's
//! clock, and are cancelled like any future: a call that is dropped leaves no permit
//! taken and no probe pending.

mod audit;
mod breaker;
mod call;
mod failover;
mod layered;
mod limit;
mod preset;
mod retry;
mod sinks;
mod timeout;

pub use audit::Audited;
pub use breaker::{CircuitBreaker, CircuitOpen};
pub use call::{Answer, Attempt, Call};
pub use failover::Failover;
pub use layered::{Layer, Layered, LayeredAdmin};
pub use limit::ConcurrencyLimit;
pub use preset::{LayerOptions, dependable};
pub use retry::{Retry, RetryBudget};
#[cfg(feature = "metrics")]
pub use sinks::MetricsSink;
pub use sinks::{Sinks, TracingSink};
pub use timeout::Timeout;
