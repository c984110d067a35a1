//! A manager on a strict KMS, a store that can fail, and a clock that stands still.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a world that cannot be made fails the test")]

use std::sync::Arc;
use std::time::Duration;

use bulla_backend::{Clock, KeyStore};
use bulla_core::RecordContext;
use bulla_manager::{Manager, ManagerBuilder, MemoryKeyStore, Policy, Profile, Scope};
use bulla_testkit::{FaultyStore, ManualClock, TestKms, settle};

pub(crate) struct World {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) kms: Arc<TestKms>,
    pub(crate) store: Arc<FaultyStore>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with_kms(TestKms::new("orders"))
    }

    pub(crate) fn with_kms(kms: TestKms) -> Self {
        let clock = Arc::new(ManualClock::new());
        let memory = MemoryKeyStore::new(Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
        let store = Arc::new(FaultyStore::new(Arc::new(memory)));
        Self { clock, kms: Arc::new(kms), store }
    }

    pub(crate) fn builder(&self) -> ManagerBuilder {
        let store = Arc::clone(&self.store) as Arc<dyn KeyStore>;
        Manager::builder(Profile::Production, self.kms.clone(), store).clock(self.clock.clone())
    }

    /// One more process on the same store and KMS.
    pub(crate) async fn manager(&self) -> Manager {
        self.manager_with(Policy::default()).await
    }

    pub(crate) async fn manager_with(&self, policy: Policy) -> Manager {
        self.builder().policy(policy).start().await.unwrap()
    }

    /// Moves time in steps, so that everything periodic gets its turn.
    pub(crate) async fn pass(&self, duration: Duration) {
        let step = Duration::from_secs(1);
        let mut left = duration;
        settle().await;
        while left > Duration::ZERO {
            let now = left.min(step);
            self.clock.advance(now);
            settle().await;
            left -= now;
        }
    }
}

pub(crate) fn scope(manager: &Manager) -> Scope {
    manager.scope("t-1", "orders").unwrap()
}

pub(crate) fn record(row: &str) -> RecordContext {
    RecordContext::new([("table", "orders"), ("column", "note"), ("row", row)]).unwrap()
}

pub(crate) const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}
