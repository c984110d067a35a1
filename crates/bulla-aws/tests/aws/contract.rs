//! The conformance suite against the fake, and what only the fake shows: versions with
//! names, and what is asked how often.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bulla_aws::AwsKek;
use bulla_backend::{
    GenerateRequest, Kek, KekVersion, KeyAdmin, KeyInspector, KeyWrapper, KmsClock, RewrapRequest,
    UnwrapRequest, WrapRequest, collect_request_ids,
};
use bulla_core::RecordContext;
use bulla_manager::{Manager, MemoryKeyStore, Profile, SystemClock};
use bulla_testkit::FaultyProxy;
use bulla_testkit::kms_suite::{Condition, KmsFixture};

use crate::fake::{DATE, Fake};
use crate::support::{address, client, context};

struct Fixture {
    fake: Fake,
    proxy: FaultyProxy,
    kek: AwsKek,
    other: AwsKek,
    admin: AwsKek,
}

impl Fixture {
    async fn start() -> Self {
        let fake = Fake::start().await;
        let proxy = FaultyProxy::start(address(&fake.endpoint())).await.unwrap();
        let faulty = client(&format!("http://{}", proxy.addr()));
        let direct = client(&fake.endpoint());
        let key = fake.new_key();
        Self {
            kek: AwsKek::from_client(faulty.clone(), &key).await.unwrap(),
            other: AwsKek::from_client(faulty, &fake.new_key()).await.unwrap(),
            admin: AwsKek::from_client(direct, &key).await.unwrap(),
            fake,
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
        self.fake.refuse_all(match condition {
            Condition::Throttled => Some((400, "ThrottlingException", "Rate exceeded")),
            Condition::Unauthenticated => {
                Some((400, "UnrecognizedClientException", "The security token is invalid."))
            }
            Condition::Denied => Some((400, "AccessDeniedException", "User … is not authorized")),
            _ => None,
        });
        match condition {
            Condition::Throttled | Condition::Unauthenticated | Condition::Denied => true,
            condition => self.proxy.set(condition).await,
        }
    }

    async fn schedule_destruction(&self) -> bool {
        self.admin.schedule_deletion(7).await.is_ok()
    }
}

mod conformance {
    bulla_testkit::kms_conformance_tests!(super::Fixture::start().await);
}

async fn start() -> (Fake, AwsKek) {
    let fake = Fake::start().await;
    let kek = AwsKek::from_client(client(&fake.endpoint()), &fake.new_key()).await.unwrap();
    fake.take_log();
    (fake, kek)
}

#[tokio::test]
async fn each_call_of_the_data_path_is_one_request() {
    let (fake, kek) = start().await;
    let context = context();
    let generated = kek.generate_data_key(GenerateRequest::new(&context)).await.unwrap();
    kek.wrap_key(WrapRequest::new(&generated.data_key, &context)).await.unwrap();
    kek.unwrap_key(UnwrapRequest::new(&generated.wrapped, &context)).await.unwrap();
    kek.rewrap_key(RewrapRequest::new(&generated.wrapped, &context)).await.unwrap();
    assert_eq!(fake.take_log(), ["GenerateDataKey", "Encrypt", "Decrypt", "ReEncrypt"]);

    fake.refuse_all(Some((500, "KMSInternalException", "")));
    kek.unwrap_key(UnwrapRequest::new(&generated.wrapped, &context)).await.unwrap_err();
    assert_eq!(fake.take_log(), ["Decrypt"], "the SDK must not retry beneath Bulla's layers");
}

#[tokio::test]
async fn every_answer_leaves_its_request_id_errors_included() {
    let (fake, kek) = start().await;
    let (mut ids, mut of_failure) = (Vec::new(), Vec::new());
    let admin: &dyn KeyAdmin = &kek;
    collect_request_ids(&mut ids, admin.rotate()).await.unwrap();
    assert_eq!(ids.len(), fake.take_log().len());
    assert!(ids.iter().all(|id| id.starts_with("request-")), "{ids:?}");
    fake.refuse_all(Some((400, "ThrottlingException", "")));
    collect_request_ids(&mut of_failure, kek.describe()).await.unwrap_err();
    assert_eq!(of_failure.len(), 1);
}

#[tokio::test]
async fn versions_are_key_materials_and_listed_oldest_first() {
    let (_fake, kek) = start().await;
    let context = context();
    assert!(kek.capabilities().names_version);
    let mut labels = Vec::new();
    for _ in 0..4 {
        let generated = kek.generate_data_key(GenerateRequest::new(&context)).await.unwrap();
        labels.push(generated.wrapped.kek_version.label().unwrap().to_owned());
        kek.rotate().await.unwrap();
    }
    let state = kek.describe().await.unwrap();
    let listed: Vec<_> = state.versions.iter().map(|version| &*version.label).collect();
    assert_eq!(listed[..4], labels);
    assert_eq!(state.current, KekVersion::Reported(listed[4].into()));
    let dates: Vec<_> = state.versions.iter().map(|version| version.created_at.unwrap()).collect();
    assert!(dates.is_sorted());
    assert_eq!(dates[0], SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
}

#[tokio::test]
async fn a_wrap_key_has_no_version_until_it_is_rewrapped() {
    let (_fake, kek) = start().await;
    let context = context();
    let generated = kek.generate_data_key(GenerateRequest::new(&context)).await.unwrap();
    let wrapped = kek.wrap_key(WrapRequest::new(&generated.data_key, &context)).await.unwrap();
    assert_eq!(wrapped.kek_version, KekVersion::Unknown);
    assert!(kek.capabilities().names_version);
    let rewrapped = kek.rewrap_key(RewrapRequest::new(&wrapped, &context)).await.unwrap();
    assert_eq!(rewrapped.kek_version, kek.describe().await.unwrap().current);
}

#[tokio::test]
async fn a_rotation_is_waited_for() {
    let (fake, kek) = start().await;
    fake.rotation_takes(3);
    let before = kek.describe().await.unwrap().current;
    let version = kek.rotate().await.unwrap();
    assert_ne!(version, before);
    assert_eq!(version, kek.describe().await.unwrap().current);
}

#[tokio::test(start_paused = true)]
async fn a_rotation_that_takes_too_long_is_of_unknown_version() {
    let (fake, kek) = start().await;
    fake.rotation_takes(1000);
    let begun = tokio::time::Instant::now();
    assert_eq!(kek.rotate().await.unwrap(), KekVersion::Unknown);
    let waited = begun.elapsed();
    assert!((Duration::from_secs(12)..Duration::from_secs(14)).contains(&waited), "{waited:?}");
}

/// The whole way: a rotation is noticed, the wrap renewed, the record stays.
#[tokio::test]
async fn a_manager_rewraps_after_a_rotation() {
    let (fake, kek) = start().await;
    let store = Arc::new(MemoryKeyStore::new(Arc::new(SystemClock)).unwrap());
    let manager = Manager::builder(Profile::Production, Arc::new(kek.clone()), store);
    let manager = manager.start().await.unwrap();
    let scope = manager.scope("t-9f2c", "orders").unwrap();
    let context = RecordContext::new([("row", "42")]).unwrap();
    let envelope = scope.seal(b"ada@example.org", &context).await.unwrap();
    assert!(scope.open(&envelope, &context).await.unwrap().freshness.is_current());

    kek.rotate().await.unwrap();
    manager.sync().await.unwrap();
    fake.take_log();
    let opened = scope.open(&envelope, &context).await.unwrap();
    assert!(opened.freshness.stale_kek);
    manager.rewraps_settled().await;
    let opened = scope.open(&envelope, &context).await.unwrap();
    assert_eq!(opened.plaintext, b"ada@example.org");
    assert!(opened.freshness.is_current());
    assert_eq!(manager.stats().rewraps, 1);
    assert_eq!(fake.take_log(), ["ReEncrypt", "Decrypt"]);
}

/// A caller who may not list rotations does without, and is not refused again and again.
#[tokio::test]
async fn a_denied_list_is_not_asked_for_again() {
    let (fake, kek) = start().await;
    fake.deny_lists();
    for _ in 0..3 {
        assert_eq!(kek.describe().await.unwrap().versions, []);
    }
    let asked = fake.take_log();
    assert_eq!(asked, ["DescribeKey", "ListKeyRotations", "DescribeKey", "DescribeKey"]);
}

/// The time is in every answer, also when AWS refuses the request for the sake of the clock.
#[tokio::test]
async fn the_clock_of_aws_is_read_from_any_answer() {
    let (fake, kek) = start().await;
    let expected = aws_sdk_kms::primitives::DateTime::from_str(
        DATE,
        aws_sdk_kms::primitives::DateTimeFormat::HttpDate,
    );
    let expected = SystemTime::try_from(expected.unwrap()).unwrap();
    assert_eq!(kek.now().await.unwrap(), expected);
    fake.refuse_all(Some((400, "InvalidSignatureException", "Signature expired: …")));
    assert_eq!(kek.now().await.unwrap(), expected);
}
