//! What the tests share: clients of test servers, and a fixture of the conformance suite.

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_kms::Client;
use aws_sdk_kms::config::{BehaviorVersion, Config, Credentials, Region};
use bulla_aws::AwsKek;
use bulla_backend::{Kek, KeyAdmin};
use bulla_core::{DekVersion, KmsContext, ScopeContext};
use bulla_testkit::FaultyProxy;
use bulla_testkit::kms_suite::{Condition, KmsFixture};

/// A client of a test server, as `who` (access key id and secret).
pub(crate) fn client_as(endpoint: &str, region: &'static str, who: (&str, &str)) -> Client {
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(region))
        .endpoint_url(endpoint)
        .credentials_provider(Credentials::new(who.0, who.1, None, None, "tests"));
    Client::from_conf(config.build())
}

/// A client whose credentials nobody checks.
pub(crate) fn client(endpoint: &str) -> Client {
    client_as(endpoint, "us-east-1", ("test", "test"))
}

/// What data keys are bound to here.
pub(crate) fn context() -> KmsContext {
    let scope = ScopeContext::new([("tenant", "t-9f2c"), ("purpose", "orders")]).unwrap();
    scope.kms_context(DekVersion::FIRST)
}

/// A new key, as `aws kms create-key` makes one; its ARN.
pub(crate) async fn new_key(client: &Client) -> String {
    client.create_key().send().await.unwrap().key_metadata.unwrap().arn.unwrap()
}

/// The address behind `http://…`.
pub(crate) fn address(endpoint: &str) -> SocketAddr {
    endpoint.strip_prefix("http://").unwrap().trim_end_matches('/').parse().unwrap()
}

/// Two keys of one server, whose data path leads through a proxy that fails on command.
pub(crate) struct Fixture {
    proxy: FaultyProxy,
    kek: AwsKek,
    other: AwsKek,
    /// Past the proxy.
    pub(crate) admin: AwsKek,
}

impl Fixture {
    pub(crate) async fn start(endpoint: &str) -> Self {
        let direct = client(endpoint);
        let proxy = FaultyProxy::start(address(endpoint)).await.unwrap();
        let faulty = client(&format!("http://{}", proxy.addr()));
        let key = new_key(&direct).await;
        let other = new_key(&direct).await;
        Self {
            kek: AwsKek::from_client(faulty.clone(), &key).await.unwrap(),
            other: AwsKek::from_client(faulty, &other).await.unwrap(),
            admin: AwsKek::from_client(direct, &key).await.unwrap(),
            proxy,
        }
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
        self.proxy.set(condition).await
    }

    async fn schedule_destruction(&self) -> bool {
        self.admin.schedule_deletion(7).await.is_ok()
    }
}
