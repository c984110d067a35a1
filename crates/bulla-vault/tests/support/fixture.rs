//! The KEK under test, for the conformance suite: OpenBao behind a proxy that breaks things.

use std::sync::Arc;

use async_trait::async_trait;
use bulla_backend::{Kek, KeyAdmin};
use bulla_testkit::FaultyProxy;
use bulla_testkit::kms_suite::{Condition, KmsFixture};
use bulla_vault::{VaultAuth, VaultKek, VaultOptions};
use serde_json::json;

use super::Bao;

pub(crate) struct Fixture {
    bao: Bao,
    proxy: FaultyProxy,
    /// Mount of the engine, and name of the policy.
    name: String,
    directory: tempfile::TempDir,
    kek: VaultKek,
    other: VaultKek,
    admin: VaultKek,
}

impl Fixture {
    /// An engine of its own with two keys, and a token that may use them.
    async fn start(derived: bool) -> Option<Self> {
        let bao = Bao::find()?;
        let name = bao.engine().await;
        for key in ["ours", "theirs"] {
            bao.post(&format!("{name}/keys/{key}"), json!({ "derived": derived })).await;
        }
        let proxy = FaultyProxy::start(bao.addr()).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let fixture = async |auth: VaultAuth, key: &str| {
            let address = format!("http://{}", proxy.addr());
            let options = VaultOptions::new(address, key, auth).with_mount(&name);
            VaultKek::connect(options).await.unwrap()
        };
        bao.allow(&name, &name).await;
        bao.token_into(&directory.path().join("token"), &name).await;
        let kek = fixture(VaultAuth::token_file(directory.path().join("token")), "ours").await;
        let other = kek.another(&name, "theirs").await.unwrap();
        let admin = fixture(VaultAuth::token("root".to_owned()), "ours").await;
        Some(Self { bao, proxy, name, directory, kek, other, admin })
    }

    /// The token by which the KEK is used now.
    pub(crate) fn token(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("token")).unwrap().trim().to_owned()
    }

    pub(crate) async fn of_derived() -> Option<Self> {
        Self::start(true).await
    }

    pub(crate) async fn of_associated_data() -> Option<Self> {
        Self::start(false).await
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
        Some(Arc::new(self.admin.clone()))
    }

    async fn set_condition(&self, condition: Condition) -> bool {
        let token = self.directory.path().join("token");
        match condition {
            Condition::Throttled => self.bao.throttle(&self.name).await,
            Condition::Unauthenticated => self.bao.revoke_in(&token).await,
            Condition::Denied => self.bao.forbid(&self.name).await,
            Condition::Healthy => {
                self.bao.unthrottle(&self.name).await;
                self.bao.allow(&self.name, &self.name).await;
                self.bao.token_into(&token, &self.name).await;
                return self.proxy.set(condition).await;
            }
            _ => return self.proxy.set(condition).await,
        }
        true
    }

    /// A soft deletion has no deadline after which anything is destroyed: it is what
    /// `disable` does.
    async fn schedule_destruction(&self) -> bool {
        false
    }
}
