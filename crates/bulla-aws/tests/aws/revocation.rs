//! A key that is disabled while a service runs: warm data keys go soon, cold ones are refused
//! as disabled, and both come back by themselves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bulla_aws::AwsKek;
use bulla_backend::{KeyAdmin, KmsErrorKind};
use bulla_core::RecordContext;
use bulla_manager::layers::{LayerOptions, dependable};
use bulla_manager::{Error, Manager, MemoryKeyStore, Policy, Profile, SystemClock};
use bulla_testkit::servers::{Server, find};

use crate::support::{client, new_key};

async fn manager(kek: &AwsKek, store: &Arc<MemoryKeyStore>) -> Manager {
    let mut policy = Policy::default();
    policy.probe_interval = Duration::from_millis(300);
    policy.feed_interval = Duration::from_millis(200);
    policy.negative_for = Duration::from_millis(100);
    let kek = dependable(Arc::new(kek.clone()), LayerOptions::default());
    let builder = Manager::builder(Profile::Production, kek, store.clone());
    builder.policy(policy).start().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disabled_key_takes_warm_data_keys_along() {
    let Some(endpoint) = find(Server::LocalStack) else { return };
    let client = client(&endpoint);
    let key = new_key(&client).await;
    let kek = AwsKek::from_client(client, &key).await.unwrap();
    let store = Arc::new(MemoryKeyStore::new(Arc::new(SystemClock)).unwrap());
    let (warm, cold) = (manager(&kek, &store).await, manager(&kek, &store).await);
    let (scope, of_cold) = (warm.scope("t", "orders").unwrap(), cold.scope("t", "orders").unwrap());
    let record = RecordContext::empty();
    let sealed = scope.seal(b"plaintext", &record).await.unwrap();

    kek.disable().await.unwrap();
    let refused = of_cold.open(&sealed, &record).await.unwrap_err();
    assert!(
        matches!(&refused, Error::Kms(error) if error.kind() == KmsErrorKind::Disabled),
        "{refused:?}"
    );
    let begun = Instant::now();
    while scope.open(&sealed, &record).await.is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(10), "a disabled key still serves");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    kek.enable().await.unwrap();
    let begun = Instant::now();
    for scope in [&scope, &of_cold] {
        while let Err(error) = scope.open(&sealed, &record).await {
            assert!(begun.elapsed() < Duration::from_secs(10), "no recovery: {error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
