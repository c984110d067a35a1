//! The SQLite key store keeps the contract, between two handles on one file.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use async_trait::async_trait;
use bulla_sql::SqliteKeyStore;
use bulla_testkit::store_suite::{Handles, StoreFixture};

struct Sqlite;

#[async_trait]
impl StoreFixture for Sqlite {
    async fn fresh(&self) -> Handles {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.db");
        let first = SqliteKeyStore::open(&path).await.unwrap();
        let second = SqliteKeyStore::open(&path).await.unwrap();
        let clocks = [first.clone(), second.clone()];
        Handles::new(Arc::new(first), Arc::new(second), move |duration| {
            // The directory lives as long as the closure does.
            let _ = &directory;
            clocks.iter().for_each(|store| store.advance_clock(duration));
        })
    }
}

bulla_testkit::store_suite!(Sqlite);
