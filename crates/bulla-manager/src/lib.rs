//! The DEK manager: data keys at hand, in step with store and KMS, wiped in time.
//!
//! | module | what |
//! |---|---|
//! | `manager`, `scope` | what applications hold; the warm path is in `scope` |
//! | `load`, `flights` | the cold path: one fetch for everybody who waits |
//! | `stream` | streams over tokio's traits |
//! | `value` | typed values |
//! | `self_contained` | envelopes that carry their own wrapped key |
//! | `slot`, `cache` | slots own the secrets; a bounded LRU owns the slots |
//! | `inner` | what the parts share, and the order in which news is applied |
//! | [`layers`] | time-outs, retries, circuit breaker, limits, audit, around any KEK |
//! | `lineage`, `budget` | new DEK versions, and when they are due |
//! | `keyring` | one DEK under several KEKs |
//! | `rewrap` | wraps renewed after a KEK rotation |
//! | `upkeep` | the background: change feed, probes, refreshes, deadlines |
//! | `policy` | every limit and interval, and the exposure that follows |
//! | [`blocking`] | the manager for code without async |
//! | `memory` | a key store for tests |
#![forbid(unsafe_code)]

pub mod blocking;
mod budget;
mod cache;
mod clock;
mod error;
mod flights;
mod freshness;
mod inner;
mod kek;
mod keyring;
pub mod layers;
mod lineage;
mod load;
mod manager;
mod memory;
mod phase;
mod policy;
mod rewrap;
mod scope;
mod self_contained;
mod slot;
mod stats;
mod stream;
mod upkeep;
#[cfg(any(feature = "json", feature = "bincode"))]
mod value;

pub use clock::SystemClock;
pub use error::Error;
pub use freshness::{Freshness, Opened};
pub use lineage::Rotation;
pub use manager::{Manager, ManagerBuilder};
pub use memory::MemoryKeyStore;
pub use phase::Phase;
pub use policy::{Policy, Profile};
pub use scope::{Item, Scope};
pub use self_contained::Recipients;
pub use stats::Stats;
pub use stream::{OpenStream, RangeStream, SealStream};
#[cfg(any(feature = "json", feature = "bincode"))]
pub use value::OpenedValue;
