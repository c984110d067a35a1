//! What the tests share: a fixture of the conformance suite.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::sync::Arc;

use async_trait::async_trait;
use bulla_backend::{Kek, KeyAdmin};
use bulla_core::DataKey;
use bulla_local::{Argon2Cost, LocalKek, Unlock};
use bulla_testkit::kms_suite::{Condition, KmsFixture};

pub(crate) const PASSPHRASE: &str = "correct horse battery";

/// Unlocks by a passphrase, at a price that tests can pay.
pub(crate) fn passphrase(text: &str) -> Unlock {
    let cheap = Argon2Cost::new(64, 1, 1).unwrap();
    Unlock::passphrase(text.to_owned().into()).with_argon2(cheap)
}

pub(crate) struct Fixture {
    pub(crate) directory: tempfile::TempDir,
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
        Self { kek, other, directory }
    }

    pub(crate) async fn raw() -> Self {
        Self::new(|| Unlock::raw_key(DataKey::init_with(|bytes| bytes.fill(7)))).await
    }

    pub(crate) async fn passphrase() -> Self {
        Self::new(|| passphrase(PASSPHRASE)).await
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
