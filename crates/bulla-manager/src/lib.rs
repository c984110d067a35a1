//! The DEK manager: data keys at hand, in step with store and KMS, wiped in time.
//!
//! | module | what |
//! |---|---|
//! | `manager`, `scope` | what applications hold; the warm path is in `scope` |
//! | `load`, `flights` | the cold path: one fetch for everybody who waits |
//! | `slot`, `cache` | slots own the secrets; a bounded LRU owns the slots |
//! | `inner` | what the parts share, and the order in which news is applied |
//! | `lineage`, `budget` | new DEK versions, and when they are due |
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
mod lineage;
mod load;
mod manager;
mod memory;
mod phase;
mod policy;
mod rewrap;
mod scope;
mod slot;
mod stats;
mod upkeep;

pub use clock::SystemClock;
pub use error::Error;
pub use freshness::{Freshness, Opened};
pub use lineage::Rotation;
pub use manager::{Manager, ManagerBuilder};
pub use memory::MemoryKeyStore;
pub use phase::Phase;
pub use policy::{Policy, Profile};
pub use scope::{Item, Scope};
pub use stats::Stats;
