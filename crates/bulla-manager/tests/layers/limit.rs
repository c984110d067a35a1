use bulla_backend::{KeyInspector, KeyWrapper, UnwrapRequest};
use bulla_manager::layers::ConcurrencyLimit;

use super::*;

#[tokio::test(start_paused = true)]
async fn so_many_run_so_many_wait_and_the_rest_is_told() {
    let (kms, kek) = layered(ConcurrencyLimit::new(2, 3));
    kms.hold();
    let mut calls = callers(&kek, 10).await;
    assert_eq!(describes(&kms), 2);
    assert_eq!(ended(&mut calls).await, [Some(KmsErrorKind::Throttled); 5]);
    let error = kek.describe().await.unwrap_err();
    assert!(error.to_string().contains("2 calls are under way and 3 wait"), "{error}");
    kms.release();
    for call in calls {
        assert!(call.await.unwrap().is_ok());
    }
    assert_eq!(describes(&kms), 5);
    assert!(kek.describe().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn dropped_calls_give_back_their_turn_and_their_place() {
    let (kms, kek) = layered(ConcurrencyLimit::new(1, 1));
    kms.hold();
    for round in 1..=5 {
        let mut calls = callers(&kek, 3).await;
        assert_eq!(ended(&mut calls).await.len(), 1);
        for call in calls {
            call.abort();
            assert!(call.await.unwrap_err().is_cancelled());
        }
        // Whoever waited may have had its turn in between.
        assert!((round..=2 * round).contains(&describes(&kms)));
    }
    kms.release();
    assert!(kek.describe().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_failed_call_gives_back_its_turn() {
    let (kms, kek) = layered(ConcurrencyLimit::new(1, 0));
    kms.fail_all(Some(KmsErrorKind::Denied));
    for _ in 0..3 {
        assert_eq!(kind(kek.describe().await), Some(KmsErrorKind::Denied));
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_is_overtaken() {
    let (kms, kek) = layered(ConcurrencyLimit::new(1, 100));
    kms.hold();
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut calls = Vec::new();
    for number in 0..50 {
        let (kek, order) = (Arc::clone(&kek), Arc::clone(&order));
        calls.push(tokio::spawn(async move {
            kek.describe().await.unwrap();
            order.lock().unwrap().push(number);
        }));
        tokio::task::yield_now().await;
    }
    kms.release();
    for call in calls {
        call.await.unwrap();
    }
    assert_eq!(*order.lock().unwrap(), (0..50).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn foreign_wraps_need_no_turn() {
    let (kms, kek) = layered(ConcurrencyLimit::new(1, 0));
    let mut wrapped = wrap_of(&kms).await;
    wrapped.kek = bulla_backend::KekId::new("test:another");
    kms.hold();
    let running = callers(&kek, 1).await;
    let context = context();
    let error = kek.unwrap_key(UnwrapRequest::new(&wrapped, &context)).await.unwrap_err();
    assert_eq!(error.kind(), KmsErrorKind::Tampered);
    drop(running);
}
