//! Neither data keys nor the secret access key nor the session token appear in anything that
//! the process logs, at level TRACE and by its dependencies too, nor in errors and `Debug`,
//! while the whole conformance suite runs.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "aws/support.rs"]
#[allow(dead_code, reason = "shared with the other tests")]
mod support;

use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_kms::config::{BehaviorVersion, Config, Credentials, Region};
use bulla_aws::AwsKek;
use bulla_backend::{Kek, KeyAdmin, KmsErrorKind};
use bulla_testkit::kms_suite::{self, Condition, KmsFixture};
use bulla_testkit::redaction::Redaction;
use bulla_testkit::servers::{Server, find};
use support::{Fixture, new_key};

const SECRET_ACCESS_KEY: &str = "mark-of-a-secret-access-key";
const SESSION_TOKEN: &str = "mark-of-a-session-token";

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

    /// Rotations are counted by the server, and add nothing here.
    fn admin(&self) -> Option<Arc<dyn KeyAdmin>> {
        None
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
    let Some(endpoint) = find(Server::LocalStack) else { return };
    let watch = Redaction::start();
    watch.forbid(SECRET_ACCESS_KEY);
    watch.forbid(SESSION_TOKEN);
    kms_suite::run_all(async || Watched(Fixture::start(&endpoint).await, watch.clone())).await;

    let credentials =
        Credentials::new("AKIAMARK", SECRET_ACCESS_KEY, Some(SESSION_TOKEN.into()), None, "tests");
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(&endpoint)
        .credentials_provider(credentials);
    let client = aws_sdk_kms::Client::from_conf(config.build());
    // Not by the client under watch: what a test asks for itself, the SDK logs.
    let key = new_key(&support::client(&endpoint)).await;
    let kek = AwsKek::from_client(client.clone(), &key).await.unwrap();
    watch.show(&kek);
    let missing = AwsKek::from_client(client, "alias/no-such-key").await.unwrap_err();
    assert_eq!(missing.kind(), KmsErrorKind::NotFound);
    watch.show_error(&missing);

    let (bytes, keys) = watch.caught_so_far();
    assert!(bytes > 100_000 && keys > 100, "{bytes} bytes and {keys} keys prove little");
    watch.assert_clean();
}
