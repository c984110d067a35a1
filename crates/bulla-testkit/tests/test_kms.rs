//! The testing KMS keeps the contract that it tests others' use of.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use async_trait::async_trait;
use bulla_backend::{Kek, KeyAdmin, KmsErrorKind};
use bulla_testkit::TestKms;
use bulla_testkit::kms_suite::{Condition, KmsFixture};

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

    async fn set_condition(&self, condition: Condition) -> bool {
        self.kek.release();
        self.kek.fail_all(match condition {
            Condition::Healthy => None,
            Condition::Unreachable | Condition::Resetting => Some(KmsErrorKind::Unavailable),
            Condition::Throttled => Some(KmsErrorKind::Throttled),
            Condition::Unauthenticated => Some(KmsErrorKind::Unauthenticated),
            Condition::Denied => Some(KmsErrorKind::Denied),
            Condition::Hanging => {
                self.kek.hold();
                None
            }
            _ => return false,
        });
        true
    }

    async fn schedule_destruction(&self) -> bool {
        self.kek.schedule_destruction();
        true
    }
}

mod conformance {
    bulla_testkit::kms_conformance_tests!(super::Fixture::new());
}
