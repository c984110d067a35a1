use std::sync::atomic::{AtomicU32, Ordering};

use bulla_backend::{
    KeyAdmin, KeyInspector, KeyWrapper, RewrapRequest, UnwrapRequest, WrapRequest,
};
use bulla_core::DataKey;
use bulla_manager::layers::{
    Answer, Attempt, Call, CircuitBreaker, LayeredAdmin, Retry, RetryBudget,
};
use futures_util::future::join_all;
use tokio::time::Instant;

use super::*;

fn retry(budget: RetryBudget) -> Retry {
    Retry::new(3, millis(100), secs(1), Arc::new(budget))
}

/// Fails so many calls.
#[derive(Debug)]
struct FailFirst(AtomicU32);

impl Layer for FailFirst {
    async fn around<'a, T: Answer>(
        &'a self,
        call: Call<'a>,
        attempt: impl Attempt<'a, T>,
    ) -> Result<T, KmsError> {
        let fails = |left: u32| left.checked_sub(1);
        match self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fails) {
            Ok(_) => Err(call.error(KmsErrorKind::Unavailable, "not yet")),
            Err(_) => attempt().await,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn only_what_may_pass_is_repeated() {
    for failure in ALL_KINDS {
        let (kms, kek) = layered(retry(RetryBudget::default()));
        kms.fail_all(Some(failure));
        assert_eq!(kind(kek.describe().await), Some(failure));
        let attempts = if failure.is_retryable() { 3 } else { 1 };
        assert_eq!(describes(&kms), attempts, "{failure:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_call_of_the_data_path_is_repeated() {
    let (kms, kek) = layered(retry(RetryBudget::default()));
    let (context, wrapped) = (context(), wrap_of(&kms).await);
    let before = kms.data_calls();
    kms.fail_all(Some(KmsErrorKind::Throttled));
    let key = DataKey::init_with(|bytes| bytes.fill(7));
    assert!(kek.generate_data_key(GenerateRequest::new(&context)).await.is_err());
    assert!(kek.wrap_key(WrapRequest::new(&key, &context)).await.is_err());
    assert!(kek.unwrap_key(UnwrapRequest::new(&wrapped, &context)).await.is_err());
    assert!(kek.rewrap_key(RewrapRequest::new(&wrapped, &context)).await.is_err());
    assert_eq!(kms.data_calls() - before, 4 * 3);
}

#[tokio::test(start_paused = true)]
async fn it_ends_with_the_first_answer() {
    for (failures, attempts) in [(0, Some(1)), (1, Some(2)), (2, Some(3)), (3, None)] {
        let (kms, inner) = layered(FailFirst(AtomicU32::new(failures)));
        let kek = Layered::new(retry(RetryBudget::default()), inner);
        let outcome = kek.describe().await;
        assert_eq!(outcome.is_ok(), attempts.is_some(), "after {failures} failures");
        assert_eq!(describes(&kms), u64::from(attempts.is_some()));
    }
}

#[tokio::test(start_paused = true)]
async fn changes_of_a_kek_are_never_repeated() {
    let kms = Arc::new(TestKms::new("orders"));
    let layer = retry(RetryBudget::default());
    let admin = LayeredAdmin::new(layer, kms.kek().clone(), kms.clone());
    kms.fail_all(Some(KmsErrorKind::Unavailable));
    assert!(admin.rotate().await.is_err());
    assert!(admin.disable_version("1").await.is_err());
    assert_eq!(kms.calls(KmsOperation::Administer), 2);
}

#[tokio::test(start_paused = true)]
async fn what_a_circuit_breaker_refuses_is_not_repeated() {
    let (kms, inner) = layered(CircuitBreaker::new(1, secs(10)));
    let kek = Layered::new(retry(RetryBudget::default()), inner);
    kms.fail_all(Some(KmsErrorKind::Throttled));
    assert_eq!(kind(kek.describe().await), Some(KmsErrorKind::Throttled));
    let began = Instant::now();
    for _ in 0..3 {
        assert_eq!(kind(kek.describe().await), Some(KmsErrorKind::Throttled));
    }
    assert_eq!((describes(&kms), began.elapsed()), (1, secs(0)));
}

/// Ceilings of 100 and 200 ms, and all of the range below is used.
#[tokio::test(start_paused = true)]
async fn pauses_are_random_below_a_doubling_ceiling() {
    let (kms, kek) = layered(retry(RetryBudget::new(1000, 1000)));
    kms.fail_all(Some(KmsErrorKind::Unavailable));
    let mut paused = Vec::new();
    for _ in 0..200 {
        let began = Instant::now();
        assert!(kek.describe().await.is_err());
        paused.push(began.elapsed());
    }
    assert_eq!(describes(&kms), 600);
    // Timers are rounded up to a millisecond, twice.
    assert!(paused.iter().max().unwrap() <= &millis(302), "{paused:?}");
    assert!(paused.iter().max().unwrap() > &millis(200), "{paused:?}");
    assert!(paused.iter().min().unwrap() < &millis(100), "{paused:?}");
}

#[tokio::test(start_paused = true)]
async fn the_longest_pause_is_a_ceiling_too() {
    let layer = Retry::new(40, secs(1), millis(50), Arc::new(RetryBudget::new(1000, 1000)));
    let (kms, kek) = layered(layer);
    kms.fail_all(Some(KmsErrorKind::Unavailable));
    let began = Instant::now();
    assert!(kek.describe().await.is_err());
    assert_eq!(describes(&kms), 40);
    assert!(began.elapsed() <= 39 * millis(51));
}

/// 1,000 calls bring 200 repetitions and the reserve is 10 seconds of 10: without it there
/// would be 2,000.
#[tokio::test(start_paused = true)]
async fn an_outage_does_not_multiply_the_load() {
    let (kms, kek) = layered(retry(RetryBudget::default()));
    kms.fail_all(Some(KmsErrorKind::Unavailable));
    let outcomes = join_all((0..1000).map(|_| kek.describe())).await;
    assert!(outcomes.into_iter().all(|outcome| kind(outcome) == Some(KmsErrorKind::Unavailable)));
    assert_eq!(describes(&kms), 1000 + 200 + 100);
}

#[tokio::test(start_paused = true)]
async fn the_reserve_comes_back() {
    let (kms, kek) = layered(retry(RetryBudget::new(0, 1)));
    kms.fail_all(Some(KmsErrorKind::Unavailable));
    for attempts in [100 + 10, 200 + 10] {
        join_all((0..100).map(|_| kek.describe())).await;
        assert_eq!(describes(&kms), attempts);
    }
    tokio::time::sleep(secs(12)).await;
    join_all((0..100).map(|_| kek.describe())).await;
    assert_eq!(describes(&kms), 300 + 20);
}

#[tokio::test(start_paused = true)]
async fn budgets_can_be_shared() {
    let budget = Arc::new(RetryBudget::new(0, 1));
    let make = || layered(Retry::new(9, millis(1), millis(1), Arc::clone(&budget)));
    let ((kms_a, a), (kms_b, b)) = (make(), make());
    for kms in [&kms_a, &kms_b] {
        kms.fail_all(Some(KmsErrorKind::Unavailable));
    }
    assert!(a.describe().await.is_err());
    assert!(b.describe().await.is_err());
    assert_eq!((describes(&kms_a), describes(&kms_b)), (9, 1 + 2), "ten repetitions for both");
}
