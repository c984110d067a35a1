use bulla_backend::{Kek, KekStatus};
use bulla_manager::layers::{LayerOptions, dependable};
use tokio::time::Instant;

use super::audit::Trail;
use super::*;

fn stack() -> (Arc<TestKms>, Arc<Trail>, Arc<dyn Kek>) {
    let (kms, trail) = (Arc::new(TestKms::new("orders")), Arc::new(Trail::default()));
    let mut options = LayerOptions::default();
    options.audit = Some(trail.clone());
    (kms.clone(), trail, dependable(kms, options))
}

#[tokio::test(start_paused = true)]
async fn a_hiccup_is_not_noticed() {
    let (kms, trail, kek) = stack();
    kms.hold();
    let call = callers(&kek, 1).await.pop().unwrap();
    tokio::time::sleep(millis(2001)).await;
    kms.release();
    assert_eq!(call.await.unwrap().unwrap().status, KekStatus::Enabled);
    assert_eq!(
        trail.take(),
        ["describe test:orders v- - given-up 2s []", "describe test:orders v1 - ok 0ns []"]
    );
}

#[tokio::test(start_paused = true)]
async fn no_call_takes_longer_than_the_deadline() {
    let (kms, _, kek) = stack();
    kms.hold();
    let began = Instant::now();
    let mut calls = callers(&kek, 1000).await;
    assert_eq!(describes(&kms), 64, "as many as may run at once");
    while !calls.is_empty() {
        tokio::time::sleep(millis(100)).await;
        ended(&mut calls).await;
    }
    assert!(began.elapsed() < millis(8100), "{:?}", began.elapsed());
}

/// The KMS hangs, and with it 64 calls; the circuit opens when the first five have timed
/// out, and everybody else is told at once.
#[tokio::test(start_paused = true)]
async fn a_kms_that_hangs_is_called_no_more() {
    let (kms, _, kek) = stack();
    kms.hold();
    let mut calls = callers(&kek, 1000).await;
    tokio::time::sleep(millis(2500)).await;
    assert_eq!(ended(&mut calls).await, [Some(KmsErrorKind::Unavailable); 1000]);
    assert_eq!(describes(&kms), 64);

    // It comes back, slowly: of the thousand who wait for that it sees one.
    tokio::time::sleep(secs(5)).await;
    let mut calls = callers(&kek, 1000).await;
    assert_eq!(describes(&kms), 64 + 1);
    assert_eq!(ended(&mut calls).await.len(), 999);
    kms.release();
    assert!(calls.pop().unwrap().await.unwrap().is_ok());

    // It is back, and sees no more at once than ever.
    kms.hold();
    let mut calls = callers(&kek, 1000).await;
    assert_eq!(describes(&kms), 65 + 64);
    kms.release();
    bulla_testkit::settle().await;
    assert_eq!(ended(&mut calls).await, [None; 1000]);
    assert_eq!(describes(&kms), 65 + 1000);
}

/// A KMS that fails at once: five calls, then silence but for one call every five seconds.
#[tokio::test(start_paused = true)]
async fn an_outage_costs_few_calls() {
    let (kms, _, kek) = stack();
    kms.fail_all(Some(KmsErrorKind::Unavailable));
    for caller in callers(&kek, 1000).await {
        assert_eq!(kind(caller.await.unwrap()), Some(KmsErrorKind::Unavailable));
    }
    assert_eq!(describes(&kms), 5);
    for probes in 1..=12 {
        tokio::time::sleep(secs(5)).await;
        callers(&kek, 100).await;
        assert_eq!(describes(&kms), 5 + probes);
    }
}

#[tokio::test(start_paused = true)]
async fn answers_are_passed_on_at_once() {
    for failure in ALL_KINDS.into_iter().filter(|kind| !kind.is_retryable()) {
        let (kms, trail, kek) = stack();
        kms.fail_all(Some(failure));
        let began = Instant::now();
        for _ in 0..20 {
            assert_eq!(kind(kek.describe().await), Some(failure));
        }
        assert_eq!((describes(&kms), began.elapsed()), (20, secs(0)));
        assert_eq!(trail.take().len(), 20);
    }
}

#[tokio::test(start_paused = true)]
async fn dropped_calls_leave_nothing_behind() {
    let (kms, trail, kek) = stack();
    kms.hold();
    for caller in callers(&kek, 1000).await {
        caller.abort();
        assert!(caller.await.unwrap_err().is_cancelled());
    }
    let made = describes(&kms);
    assert_eq!(trail.take().len() as u64, made, "each one that was made is recorded once");
    kms.release();
    assert!(kek.describe().await.is_ok());
}
