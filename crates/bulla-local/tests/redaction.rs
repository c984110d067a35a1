//! Neither data keys nor the passphrase appear in anything that the process logs, nor in errors
//! and `Debug`, while the whole conformance suite runs.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::Arc;

use async_trait::async_trait;
use bulla_backend::{Kek, KeyAdmin};
use bulla_local::LocalKek;
use bulla_testkit::kms_suite::{self, Condition, KmsFixture};
use bulla_testkit::redaction::Redaction;
use support::{Fixture, PASSPHRASE, passphrase};

/// A fixture that is watched.
struct Watched(Fixture, Redaction);

#[async_trait]
impl KmsFixture for Watched {
    fn kek(&self) -> Arc<dyn Kek> {
        self.1.spy(self.0.kek())
    }

    fn other_kek(&self) -> Arc<dyn Kek> {
        self.1.spy(self.0.other_kek())
    }

    fn admin(&self) -> Option<Arc<dyn KeyAdmin>> {
        self.0.admin()
    }

    async fn set_condition(&self, condition: Condition) -> bool {
        self.0.set_condition(condition).await
    }

    async fn schedule_destruction(&self) -> bool {
        self.0.schedule_destruction().await
    }
}

/// One test: there is one log in a process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_logged_or_shown() {
    let watch = Redaction::start();
    watch.forbid(PASSPHRASE);
    watch.forbid("another-passphrase");
    let start = async || Watched(Fixture::passphrase().await, watch.clone());
    kms_suite::run_all(start).await;

    let fixture = Fixture::passphrase().await;
    let path = fixture.directory.path().join("a.key");
    let unlock = passphrase("another-passphrase");
    watch.show(&unlock);
    let refused = LocalKek::open(path, unlock).await.unwrap_err();
    watch.show_error(&refused);
    let (_, keys) = watch.caught_so_far();
    assert!(keys > 100, "{keys} keys prove little");
    watch.assert_clean();
}
