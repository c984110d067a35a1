//! The testing KMS keeps the contract that it tests others' use of.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use async_trait::async_trait;
use bulla_backend::{Kek, KeyAdmin, KmsErrorKind};
use bulla_testkit::TestKms;
use bulla_testkit::kms_suite::KmsFixture;

struct Fixture {
    kek: Arc<TestKms>,
    other: Arc<TestKms>,
}

impl Fixture {
    fn new() -> Self {
        Self { kek: Arc::new(TestKms::new("a")), other: Arc::new(TestKms::new("b")) }
    }
}

#[async_trait]
impl KmsFixture for Fixture {
    fn kek(&self) -> Arc<dyn Kek> {
        self.kek.clone()
    }

    fn other_kek(&self) -> Arc<dyn Kek> {
        self.other.clone()
    }

    fn admin(&self) -> Option<Arc<dyn KeyAdmin>> {
        Some(self.kek.clone())
    }

    async fn set_reachable(&self, reachable: bool) -> bool {
        self.kek.fail_all((!reachable).then_some(KmsErrorKind::Unavailable));
        true
    }
}

mod conformance {
    bulla_testkit::kms_conformance_tests!(super::Fixture::new());
}
