//! Neither data keys nor the passphrase appear in anything that the process logs, nor in errors
//! and `Debug`, while the whole conformance suite runs.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use async_trait::async_trait;
use bulla_backend::{Kek, KeyAdmin};
use bulla_local::{Argon2Cost, LocalKek, Unlock};
use bulla_testkit::kms_suite::{self, Condition, KmsFixture};
use bulla_testkit::redaction::Redaction;

const PASSPHRASE: &str = "mark-of-a-passphrase";

struct Watched {
    directory: tempfile::TempDir,
    kek: LocalKek,
    other: LocalKek,
    watch: Redaction,
}

impl Watched {
    async fn start(watch: &Redaction) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let make = async |name: &str| {
            let unlock = unlock(PASSPHRASE);
            watch.show(&unlock);
            LocalKek::create(directory.path().join(name), "test", unlock).await.unwrap()
        };
        let (kek, other) = (make("a.key").await, make("b.key").await);
        Self { kek, other, watch: watch.clone(), directory }
    }
}

fn unlock(passphrase: &str) -> Unlock {
    let cheap = Argon2Cost::new(64, 1, 1).unwrap();
    Unlock::passphrase(passphrase.to_owned().into()).with_argon2(cheap)
}

#[async_trait]
impl KmsFixture for Watched {
    fn kek(&self) -> Arc<dyn Kek> {
        self.watch.spy(Arc::new(self.kek.clone()))
    }

    fn other_kek(&self) -> Arc<dyn Kek> {
        self.watch.spy(Arc::new(self.other.clone()))
    }

    fn admin(&self) -> Option<Arc<dyn KeyAdmin>> {
        Some(Arc::new(self.kek.clone()))
    }

    async fn set_condition(&self, _condition: Condition) -> bool {
        false
    }

    async fn schedule_destruction(&self) -> bool {
        false
    }
}

/// One test: there is one log in a process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_logged_or_shown() {
    let watch = Redaction::start();
    watch.forbid(PASSPHRASE);
    watch.forbid("another-passphrase");
    kms_suite::run_all(async || Watched::start(&watch).await).await;

    let watched = Watched::start(&watch).await;
    let path = watched.directory.path().join("a.key");
    let refused = LocalKek::open(path, unlock("another-passphrase")).await.unwrap_err();
    watch.show_error(&refused);
    let (_, keys) = watch.caught_so_far();
    assert!(keys > 100, "{keys} keys prove little");
    watch.assert_clean();
}
