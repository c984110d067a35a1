use std::error::Error;

use bulla_backend::{KeyInspector, KeyWrapper, UnwrapRequest};
use bulla_manager::layers::{CircuitBreaker, CircuitOpen};

use super::*;

/// Opens after three failures, for ten seconds.
fn breaker() -> (Arc<TestKms>, Arc<Layered<CircuitBreaker>>) {
    layered(CircuitBreaker::new(3, secs(10)))
}

/// With its circuit open for the next ten seconds, after three calls.
async fn open() -> (Arc<TestKms>, Arc<Layered<CircuitBreaker>>) {
    let (kms, kek) = breaker();
    kms.fail_all(Some(KmsErrorKind::Unavailable));
    for _ in 0..3 {
        assert!(!is_refused(&kek).await);
    }
    kms.fail_all(None);
    (kms, kek)
}

/// Makes a call. Returns whether it was refused without asking the KMS.
async fn is_refused(kek: &Layered<CircuitBreaker>) -> bool {
    // A refusal never waits.
    let outcome = tokio::time::timeout(millis(1), kek.describe()).await;
    let error = outcome.ok().and_then(Result::err);
    error.is_some_and(|error| error.source().is_some_and(|source| source.is::<CircuitOpen>()))
}

#[tokio::test(start_paused = true)]
async fn failures_in_a_row_open_it_and_it_says_until_when() {
    let (kms, kek) = open().await;
    tokio::time::advance(millis(5800)).await;
    let error = kek.describe().await.unwrap_err();
    assert_eq!(describes(&kms), 3);
    assert_eq!(error.kind(), KmsErrorKind::Unavailable);
    assert!(error.to_string().ends_with("the next is made in 4.2s"), "{error}");
    let source = error.source().unwrap().downcast_ref::<CircuitOpen>().unwrap();
    assert_eq!(source.remaining, millis(4200));
}

#[tokio::test(start_paused = true)]
async fn only_what_may_pass_counts() {
    for failure in ALL_KINDS {
        let (kms, kek) = breaker();
        kms.fail_all(Some(failure));
        for _ in 0..10 {
            assert_eq!(kind(kek.describe().await), Some(failure), "refusals say why, too");
        }
        assert_eq!(describes(&kms), if failure.is_retryable() { 3 } else { 10 }, "{failure:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_in_between_begins_the_count_anew() {
    for answer in [None, Some(KmsErrorKind::Denied), Some(KmsErrorKind::NotFound)] {
        let (kms, kek) = breaker();
        for _ in 0..4 {
            kms.fail_all(Some(KmsErrorKind::Throttled));
            assert!(!is_refused(&kek).await && !is_refused(&kek).await);
            kms.fail_all(answer);
            assert!(!is_refused(&kek).await);
        }
        assert_eq!(describes(&kms), 12);
    }
}

/// A blob that was refused may never have been sent: no sign of life.
#[tokio::test(start_paused = true)]
async fn a_refused_blob_says_nothing() {
    let (kms, kek) = breaker();
    for failure in [KmsErrorKind::Unavailable, KmsErrorKind::Unavailable, KmsErrorKind::Tampered] {
        kms.fail_all(Some(failure));
        assert!(!is_refused(&kek).await);
    }
    kms.fail_all(Some(KmsErrorKind::Unavailable));
    assert!(!is_refused(&kek).await);
    assert!(is_refused(&kek).await);
    // As a probe it leaves the circuit half-open, for the next.
    tokio::time::advance(secs(10)).await;
    kms.fail_all(Some(KmsErrorKind::Tampered));
    assert!(!is_refused(&kek).await && !is_refused(&kek).await);
    assert_eq!(describes(&kms), 6);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_answered_closes_it() {
    for answer in [None, Some(KmsErrorKind::Denied)] {
        let (kms, kek) = open().await;
        tokio::time::advance(millis(9999)).await;
        assert!(is_refused(&kek).await);
        tokio::time::advance(millis(1)).await;
        kms.fail_all(answer);
        for _ in 0..5 {
            assert!(!is_refused(&kek).await);
        }
        assert_eq!(describes(&kms), 3 + 5);
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_fails_keeps_it_open_for_as_long_again() {
    let (kms, kek) = open().await;
    kms.fail_all(Some(KmsErrorKind::Throttled));
    for probes in 1..4 {
        tokio::time::advance(secs(10)).await;
        assert!(!is_refused(&kek).await);
        tokio::time::advance(millis(9999)).await;
        assert_eq!(kind(kek.describe().await), Some(KmsErrorKind::Throttled));
        assert_eq!(describes(&kms), 3 + probes);
        tokio::time::advance(millis(1)).await;
    }
}

/// A thousand callers wait for a KMS that comes back: it sees one.
#[tokio::test(start_paused = true)]
async fn there_is_one_probe() {
    let (kms, kek) = open().await;
    tokio::time::advance(secs(10)).await;
    kms.hold();
    let mut calls = callers(&kek, 1000).await;
    assert_eq!(describes(&kms), 3 + 1);
    assert_eq!(ended(&mut calls).await, [Some(KmsErrorKind::Unavailable); 999]);
    kms.release();
    assert!(calls.pop().unwrap().await.unwrap().is_ok());
    assert!(!is_refused(&kek).await);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_dropped_leaves_its_place() {
    let (kms, kek) = open().await;
    tokio::time::advance(secs(10)).await;
    kms.hold();
    let probe = callers(&kek, 1).await.pop().unwrap();
    assert!(is_refused(&kek).await);
    probe.abort();
    assert!(probe.await.unwrap_err().is_cancelled());
    kms.release();
    assert!(!is_refused(&kek).await);
    assert_eq!(describes(&kms), 3 + 2);
}

/// Calls that were under way when the circuit changed tell of the time before.
#[tokio::test(start_paused = true)]
async fn late_outcomes_do_not_count() {
    let (kms, kek) = breaker();
    kms.hold();
    let mut early = callers(&kek, 6).await;
    kms.fail_all(Some(KmsErrorKind::Unavailable));
    kms.release();
    for call in early.drain(..) {
        assert!(call.await.unwrap().is_err());
    }
    // Six failures are one opening, not two.
    tokio::time::advance(secs(10)).await;
    kms.fail_all(None);
    assert!(!is_refused(&kek).await && !is_refused(&kek).await);

    // A success from before the opening does not close it.
    let (wrapped, context) = (wrap_of(&kms).await, context());
    kms.hold_answers();
    let slow = kek.unwrap_key(UnwrapRequest::new(&wrapped, &context));
    let fail_and_answer = async {
        bulla_testkit::settle().await;
        kms.fail_all(Some(KmsErrorKind::Unavailable));
        for _ in 0..3 {
            assert!(!is_refused(&kek).await);
        }
        kms.release_answers();
    };
    let (slow, ()) = tokio::join!(slow, fail_and_answer);
    assert!(slow.is_ok());
    assert!(is_refused(&kek).await);
}

/// Nor does it while a probe is under way, and its end leaves the probe alone.
#[tokio::test(start_paused = true)]
async fn a_late_outcome_is_not_taken_for_the_probe() {
    for late_is_dropped in [false, true] {
        let (kms, kek) = breaker();
        let (wrapped, context) = (wrap_of(&kms).await, context());
        kms.hold_answers();
        let late = {
            let kek = Arc::clone(&kek);
            tokio::spawn(async move {
                kek.unwrap_key(UnwrapRequest::new(&wrapped, &context)).await.is_ok()
            })
        };
        bulla_testkit::settle().await;
        kms.fail_all(Some(KmsErrorKind::Unavailable));
        for _ in 0..3 {
            assert!(!is_refused(&kek).await);
        }
        tokio::time::advance(secs(10)).await;
        kms.hold();
        let probe = callers(&kek, 1).await.pop().unwrap();
        if late_is_dropped {
            late.abort();
            assert!(late.await.unwrap_err().is_cancelled());
        } else {
            kms.release_answers();
            assert!(late.await.unwrap());
        }
        assert!(is_refused(&kek).await, "the probe is still under way");
        kms.release();
        assert!(probe.await.unwrap().is_err());
        assert!(is_refused(&kek).await);
    }
}

/// A wrap of another KEK is refused as such, whatever the circuit.
#[tokio::test(start_paused = true)]
async fn foreign_wraps_are_told_apart_while_it_is_open() {
    let (kms, kek) = open().await;
    let mut wrapped = wrap_of(&kms).await;
    wrapped.kek = bulla_backend::KekId::new("test:another");
    let context = context();
    let error = kek.unwrap_key(UnwrapRequest::new(&wrapped, &context)).await.unwrap_err();
    assert_eq!(error.kind(), KmsErrorKind::Tampered);
    assert!(is_refused(&kek).await);
}
