//! The in-memory key store keeps the contract.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use async_trait::async_trait;
use bulla_manager::MemoryKeyStore;
use bulla_testkit::ManualClock;
use bulla_testkit::store_suite::{Handles, StoreFixture};

struct Memory;

#[async_trait]
impl StoreFixture for Memory {
    async fn fresh(&self) -> Handles {
        let clock = Arc::new(ManualClock::new());
        let store = MemoryKeyStore::new(clock.clone()).unwrap();
        let second = Arc::new(store.clone());
        Handles::new(Arc::new(store), second, move |duration| clock.advance(duration))
    }
}

bulla_testkit::store_suite!(Memory);
