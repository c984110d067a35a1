//! Neither tokens nor data keys nor secret ids appear in anything that the process logs, at
//! level TRACE and by its dependencies too, nor in errors and `Debug`, while the whole
//! conformance suite runs.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::Arc;

use async_trait::async_trait;
use bulla_backend::{Kek, KeyAdmin, KeyInspector};
use bulla_testkit::kms_suite::{self, Condition, KmsFixture};
use bulla_testkit::redaction::Redaction;
use bulla_vault::{VaultAuth, VaultKek, VaultOptions};
use secrecy::SecretString;
use serde_json::json;
use support::Bao;
use support::fixture::Fixture;

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
        let could = self.0.set_condition(condition).await;
        self.1.forbid(&self.0.token());
        could
    }

    async fn schedule_destruction(&self) -> bool {
        self.0.schedule_destruction().await
    }
}

/// One test: there is one log in a process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_logged_or_shown() {
    let Some(bao) = Bao::find() else { return };
    let watch = Redaction::start();
    for derived in [true, false] {
        let start = async || {
            let fixture = match derived {
                true => Fixture::of_derived().await,
                false => Fixture::of_associated_data().await,
            };
            let fixture = fixture.unwrap();
            watch.forbid(&fixture.token());
            Watched(fixture, watch.clone())
        };
        kms_suite::run_all(start).await;
    }

    let mount = bao.engine().await;
    bao.post(&format!("{mount}/keys/k"), json!({ "derived": true })).await;
    bao.allow(&mount, &mount).await;
    bao.post(&format!("sys/auth/{mount}"), json!({ "type": "approle" })).await;
    let (role_id, secret_id) = bao.app_role(&mount, json!({ "token_policies": [mount] })).await;
    for secret_id in [&*secret_id, "c0ffee00-wrong-secret-id"] {
        watch.forbid(secret_id);
        let secret_id = SecretString::from(secret_id.to_owned());
        let auth = VaultAuth::app_role(&role_id, secret_id).at_mount(&mount);
        let options = VaultOptions::new(&bao.address, "k", auth).with_mount(&mount);
        watch.show(&options);
        match VaultKek::connect(options).await {
            Ok(kek) => {
                watch.show(&kek);
                bao.revoke_logins(&mount).await;
                kek.describe().await.unwrap();
                assert_eq!(kek.logins(), 2);
            }
            Err(error) => watch.show_error(&error),
        }
    }
    let (bytes, keys) = watch.caught_so_far();
    assert!(bytes > 100_000 && keys > 100, "{bytes} bytes and {keys} keys prove little");
    watch.assert_clean();
}
