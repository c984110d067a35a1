//! The conformance suite of the KMS contract, for both ways to unlock.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use async_trait::async_trait;
use bulla_backend::{Kek, KeyAdmin};
use bulla_core::DataKey;
use bulla_local::{Argon2Cost, LocalKek, Unlock};
use bulla_testkit::kms_suite::{Condition, KmsFixture};

struct Fixture {
    _directory: tempfile::TempDir,
    kek: LocalKek,
    other: LocalKek,
}

impl Fixture {
    /// Two key files of one name, unlocked by one secret: as alike as they get.
    async fn new(unlock: impl Fn() -> Unlock) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name| directory.path().join(name);
        let kek = LocalKek::create(path("a.key"), "test", unlock()).await.unwrap();
        let other = LocalKek::create(path("b.key"), "test", unlock()).await.unwrap();
        Self { kek, other, _directory: directory }
    }

    async fn raw() -> Self {
        Self::new(|| Unlock::raw_key(DataKey::init_with(|bytes| bytes.fill(7)))).await
    }

    async fn passphrase() -> Self {
        let cheap = Argon2Cost::new(64, 1, 1).unwrap();
        Self::new(|| Unlock::passphrase("correct horse".into()).with_argon2(cheap)).await
    }
}

#[async_trait]
impl KmsFixture for Fixture {
    fn kek(&self) -> Arc<dyn Kek> {
        Arc::new(self.kek.clone())
    }

    fn other_kek(&self) -> Arc<dyn Kek> {
        Arc::new(self.other.clone())
    }

    fn admin(&self) -> Option<Arc<dyn KeyAdmin>> {
        Some(Arc::new(self.kek.clone()))
    }

    /// A file is not a service that could be out of reach.
    async fn set_condition(&self, _condition: Condition) -> bool {
        false
    }

    /// Versions are destroyed one by one.
    async fn schedule_destruction(&self) -> bool {
        false
    }
}

mod raw_key {
    bulla_testkit::kms_conformance_tests!(super::Fixture::raw().await);
}

mod passphrase {
    bulla_testkit::kms_conformance_tests!(super::Fixture::passphrase().await);
}
