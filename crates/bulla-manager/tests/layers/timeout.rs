use bulla_backend::{KeyAdmin, KeyInspector, KmsErrorKind, KmsOperation};
use bulla_manager::layers::{Layered, LayeredAdmin, Timeout};
use tokio::time::Instant;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_call_that_hangs_ends_in_time() {
    let (kms, kek) = layered(Timeout::new(secs(2)));
    kms.hold();
    let began = Instant::now();
    let error = kek.describe().await.unwrap_err();
    assert_eq!(began.elapsed(), secs(2));
    assert_eq!(error.kind(), KmsErrorKind::Unavailable);
    assert_eq!(error.operation(), KmsOperation::Describe);
    assert_eq!(
        error.to_string(),
        "describe test:orders: the key service is unavailable: no answer within 2s"
    );
    kms.release();
    assert!(kek.describe().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_comes_in_time_is_passed_on() {
    let (kms, kek) = layered(Timeout::new(secs(2)));
    for failure in ALL_KINDS {
        kms.fail_all(Some(failure));
        assert_eq!(kind(kek.describe().await), Some(failure));
    }
    kms.fail_all(None);
    kms.hold();
    let call = callers(&kek, 1).await.pop().unwrap();
    tokio::time::sleep(millis(1999)).await;
    kms.release();
    assert!(call.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_shorter_of_two_counts() {
    let (kms, inner) = layered(Timeout::new(secs(9)));
    let kek = Layered::new(Timeout::new(secs(1)), inner);
    kms.hold();
    let began = Instant::now();
    assert!(kek.describe().await.is_err());
    assert_eq!(began.elapsed(), secs(1));
}

#[tokio::test(start_paused = true)]
async fn administration_ends_in_time_too() {
    let kms = Arc::new(TestKms::new("orders"));
    let kek = bulla_backend::KeyWrapper::kek(&*kms).clone();
    let admin = LayeredAdmin::new(Timeout::new(secs(2)), kek, kms.clone());
    kms.hold();
    let error = admin.rotate().await.unwrap_err();
    assert_eq!(
        (error.kind(), error.operation()),
        (KmsErrorKind::Unavailable, KmsOperation::Rotate)
    );
}
