use std::future::pending;
use std::panic::AssertUnwindSafe;
use std::sync::Mutex;

use bulla_backend::{
    AuditSink, KekId, KeyAdmin, KeyInspector, KeyWrapper, KmsCall, RewrapRequest, UnwrapRequest,
    WrapRequest, note_request_id,
};
use bulla_core::DataKey;
use bulla_manager::layers::{
    Answer, Attempt, Audited, Call, LayeredAdmin, Retry, RetryBudget, Sinks, Timeout,
};
use futures_util::FutureExt;

use super::*;

/// What was recorded, as text.
#[derive(Debug, Default)]
pub(super) struct Trail(Mutex<Vec<String>>);

impl Trail {
    /// Takes what was recorded since the last time.
    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl AuditSink for Trail {
    fn record(&self, call: &KmsCall<'_>) {
        let KmsCall { operation, kek, kek_version, outcome, latency, request_ids, .. } = call;
        let context = if call.context == Some(&context()) { "orders" } else { "-" };
        self.0.lock().unwrap().push(format!(
            "{} {kek} v{} {context} {outcome} {latency:?} {request_ids:?}",
            operation.as_str(),
            kek_version.unwrap_or("-"),
        ));
    }
}

pub(super) fn audited() -> (Arc<Trail>, Arc<TestKms>, Arc<Layered<Audited>>) {
    let trail = Arc::new(Trail::default());
    let (kms, kek) = layered(Audited::new(trail.clone()));
    (trail, kms, kek)
}

#[tokio::test(start_paused = true)]
async fn each_call_is_one_event() {
    let (trail, kms, kek) = audited();
    let context = context();
    let generated = kek.generate_data_key(GenerateRequest::new(&context)).await.unwrap();
    assert_eq!(trail.take(), ["generate-data-key test:orders v1 orders ok 0ns []"]);
    kms.rotate().await.unwrap();
    kek.wrap_key(WrapRequest::new(&generated.data_key, &context)).await.unwrap();
    assert_eq!(trail.take(), ["wrap-key test:orders v2 orders ok 0ns []"]);
    let wrapped = &generated.wrapped;
    kek.unwrap_key(UnwrapRequest::new(wrapped, &context)).await.unwrap();
    assert_eq!(trail.take(), ["unwrap-key test:orders v1 orders ok 0ns []"]);
    kek.rewrap_key(RewrapRequest::new(wrapped, &context)).await.unwrap();
    assert_eq!(trail.take(), ["rewrap-key test:orders v2 orders ok 0ns []"], "the new version");
    kek.describe().await.unwrap();
    assert_eq!(trail.take(), ["describe test:orders v2 - ok 0ns []"]);
}

#[tokio::test(start_paused = true)]
async fn failures_name_their_class_and_the_version_of_the_wrap() {
    let (trail, kms, kek) = audited();
    let (context, wrapped) = (context(), wrap_of(&kms).await);
    for failure in ALL_KINDS {
        kms.fail_all(Some(failure));
        assert!(kek.unwrap_key(UnwrapRequest::new(&wrapped, &context)).await.is_err());
        let outcome = failure.as_str();
        assert_eq!(trail.take(), [format!("unwrap-key test:orders v1 orders {outcome} 0ns []")]);
        assert!(kek.generate_data_key(GenerateRequest::new(&context)).await.is_err());
        assert_eq!(
            trail.take(),
            [format!("generate-data-key test:orders v- orders {outcome} 0ns []")]
        );
    }
}

/// Also a wrap that is refused without asking the KMS: somebody has put it there.
#[tokio::test(start_paused = true)]
async fn foreign_wraps_are_recorded() {
    let (trail, kms, kek) = audited();
    let mut wrapped = wrap_of(&kms).await;
    wrapped.kek = KekId::new("test:another");
    assert!(kek.unwrap_key(UnwrapRequest::new(&wrapped, &context())).await.is_err());
    assert_eq!(trail.take(), ["unwrap-key test:orders v1 orders tampered 0ns []"]);
}

#[tokio::test(start_paused = true)]
async fn latency_is_the_time_to_the_answer() {
    let (trail, kms, kek) = audited();
    kms.hold();
    let call = callers(&kek, 1).await.pop().unwrap();
    tokio::time::sleep(millis(1500)).await;
    assert!(trail.take().is_empty());
    kms.release();
    assert!(call.await.unwrap().is_ok());
    assert_eq!(trail.take(), ["describe test:orders v1 - ok 1.5s []"]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_is_given_up_once() {
    let (trail, kms, kek) = audited();
    kms.hold();
    drop(kek.describe());
    assert!(trail.take().is_empty(), "a call that was never polled was never made");
    let call = callers(&kek, 1).await.pop().unwrap();
    tokio::time::sleep(secs(3)).await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    assert_eq!(trail.take(), ["describe test:orders v- - given-up 3s []"]);
    let kek = Layered::new(Timeout::new(secs(2)), kek);
    assert!(kek.describe().await.is_err());
    assert_eq!(trail.take(), ["describe test:orders v- - given-up 2s []"]);
    kms.release();
    bulla_testkit::settle().await;
    assert!(trail.take().is_empty());
}

#[tokio::test(start_paused = true)]
async fn each_attempt_is_an_event() {
    let (trail, kms, kek) = audited();
    let retry = Retry::new(3, millis(1), millis(1), Arc::new(RetryBudget::default()));
    let kek = Layered::new(retry, kek);
    kms.fail_all(Some(KmsErrorKind::Throttled));
    assert!(kek.describe().await.is_err());
    assert_eq!(trail.take(), ["describe test:orders v- - throttled 0ns []"; 3]);
}

/// A backend that notes ids, then answers, panics or hangs.
#[derive(Debug)]
struct Noting(&'static str);

impl Layer for Noting {
    async fn around<'a, T: Answer>(
        &'a self,
        _call: Call<'a>,
        attempt: impl Attempt<'a, T>,
    ) -> Result<T, KmsError> {
        note_request_id("r-1");
        tokio::task::yield_now().await;
        note_request_id("r-2");
        assert_ne!(self.0, "panic", "a backend panics on purpose");
        match self.0 {
            "hang" => pending().await,
            _ => attempt().await,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn request_ids_are_recorded_however_the_call_ends() {
    let outcomes =
        [("answer", "v1 - ok 0ns"), ("panic", "v- - given-up 0ns"), ("hang", "v- - given-up 1s")];
    for (ending, recorded) in outcomes {
        let trail = Arc::new(Trail::default());
        let (_, inner) = layered(Noting(ending));
        let kek = Layered::new(Audited::new(trail.clone()), inner);
        let call = AssertUnwindSafe(tokio::time::timeout(secs(1), kek.describe()));
        let panicked = call.catch_unwind().await.is_err();
        assert_eq!(panicked, ending == "panic");
        assert_eq!(trail.take(), [format!("describe test:orders {recorded} [\"r-1\", \"r-2\"]")]);
    }
}

#[tokio::test(start_paused = true)]
async fn administration_is_recorded() {
    let trail = Arc::new(Trail::default());
    let kms = Arc::new(TestKms::new("orders"));
    let admin = LayeredAdmin::new(Audited::new(trail.clone()), kms.kek().clone(), kms.clone());
    admin.rotate().await.unwrap();
    assert_eq!(trail.take(), ["rotate test:orders v2 - ok 0ns []"]);
    admin.disable().await.unwrap();
    admin.enable().await.unwrap();
    admin.disable_version("1").await.unwrap();
    admin.enable_version("1").await.unwrap();
    let expected = [
        "disable test:orders v-",
        "enable test:orders v-",
        "disable-version test:orders v1",
        "enable-version test:orders v1",
    ];
    assert_eq!(trail.take(), expected.map(|call| format!("{call} - ok 0ns []")));
    assert!(admin.destroy_version("2").await.is_err());
    assert_eq!(trail.take(), ["destroy-version test:orders v2 - misconfigured 0ns []"]);
}

#[tokio::test(start_paused = true)]
async fn several_sinks_hear_the_same() {
    let trails = [Arc::new(Trail::default()), Arc::new(Trail::default())];
    let sinks = Sinks::new(trails.iter().map(|trail| trail.clone() as Arc<dyn AuditSink>));
    let (_, kek) = layered(Audited::new(Arc::new(sinks)));
    kek.describe().await.unwrap();
    for trail in &trails {
        assert_eq!(trail.take(), ["describe test:orders v1 - ok 0ns []"]);
    }
}

#[tokio::test(start_paused = true)]
async fn no_event_shows_a_key() {
    let (trail, _, kek) = audited();
    let key = DataKey::init_with(|bytes| bytes.fill(0xab));
    kek.wrap_key(WrapRequest::new(&key, &context())).await.unwrap();
    let shown = format!("{kek:?} {:?}", trail.take());
    assert!(!shown.contains("abab") && !shown.contains("171, 171"), "{shown}");
}
