//! Many callers, one fetch; and no caller can spoil it for the others.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use bulla_backend::{KmsErrorKind, KmsOperation};
use bulla_manager::{Error, Phase};
use bulla_testkit::settle;
use common::{World, record, scope};
use tokio::task::JoinSet;

#[tokio::test]
async fn ten_thousand_openers_make_one_store_read_and_one_kms_call() {
    let world = World::new();
    let envelope = scope(&world.manager().await).seal(b"payload", &record("1")).await.unwrap();
    let cold = scope(&world.manager().await);
    let (reads, calls) = (world.store.reads(), world.kms.data_calls());
    world.kms.hold();
    let mut tasks = JoinSet::new();
    for _ in 0..10_000 {
        let (cold, envelope) = (cold.clone(), envelope.clone());
        tasks.spawn(async move { cold.open(&envelope, &record("1")).await });
    }
    settle().await;
    world.kms.release();
    while let Some(outcome) = tasks.join_next().await {
        assert_eq!(outcome.unwrap().unwrap().plaintext, b"payload");
    }
    assert_eq!(world.store.reads() - reads, 1);
    assert_eq!(world.kms.data_calls() - calls, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_thousand_sealers_on_four_threads_make_one_store_read_and_one_kms_call() {
    let world = World::new();
    scope(&world.manager().await).prepare().await.unwrap();
    let cold = scope(&world.manager().await);
    let (reads, calls) = (world.store.reads(), world.kms.data_calls());
    let mut tasks = JoinSet::new();
    for _ in 0..10_000 {
        let cold = cold.clone();
        tasks.spawn(async move { cold.seal(b"payload", &record("1")).await });
    }
    while let Some(outcome) = tasks.join_next().await {
        outcome.unwrap().unwrap();
    }
    assert_eq!(world.store.reads() - reads, 1);
    assert_eq!(world.kms.data_calls() - calls, 1);
}

#[tokio::test]
async fn a_cancelled_caller_does_not_cancel_the_others() {
    let world = World::new();
    let envelope = scope(&world.manager().await).seal(b"payload", &record("1")).await.unwrap();
    let cold = scope(&world.manager().await);
    let calls = world.kms.data_calls();
    world.kms.hold();
    let spawn = || {
        let (cold, envelope) = (cold.clone(), envelope.clone());
        tokio::spawn(async move { cold.open(&envelope, &record("1")).await })
    };
    let (first, second) = (spawn(), spawn());
    settle().await;
    assert_eq!(cold.phase_of(bulla_core::Header::parse(&envelope).unwrap().key_id), Phase::Loading);
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    settle().await;
    world.kms.release();
    assert_eq!(second.await.unwrap().unwrap().plaintext, b"payload");
    assert_eq!(world.kms.data_calls() - calls, 1);
}

#[tokio::test]
async fn a_fetch_that_everybody_left_still_warms_the_key() {
    let world = World::new();
    let envelope = scope(&world.manager().await).seal(b"payload", &record("1")).await.unwrap();
    let cold = scope(&world.manager().await);
    world.kms.hold();
    let only = tokio::spawn({
        let (cold, envelope) = (cold.clone(), envelope.clone());
        async move { cold.open(&envelope, &record("1")).await }
    });
    settle().await;
    only.abort();
    world.kms.release();
    settle().await;
    assert_eq!(cold.try_open(&envelope, &record("1")).unwrap().plaintext, b"payload");
}

#[tokio::test]
async fn waiters_share_the_error_and_a_later_caller_asks_again() {
    let world = World::new();
    let envelope = scope(&world.manager().await).seal(b"payload", &record("1")).await.unwrap();
    let cold = scope(&world.manager().await);
    let calls = world.kms.calls(KmsOperation::UnwrapKey);
    world.kms.fail_all(Some(KmsErrorKind::Unavailable));
    world.kms.hold();
    let mut tasks = JoinSet::new();
    for _ in 0..100 {
        let (cold, envelope) = (cold.clone(), envelope.clone());
        tasks.spawn(async move { cold.open(&envelope, &record("1")).await });
    }
    settle().await;
    world.kms.release();
    while let Some(outcome) = tasks.join_next().await {
        assert!(matches!(outcome.unwrap(), Err(Error::Kms(_))));
    }
    assert_eq!(world.kms.calls(KmsOperation::UnwrapKey) - calls, 1);
    world.kms.fail_all(None);
    assert!(cold.open(&envelope, &record("1")).await.is_ok());
}

#[tokio::test]
async fn a_kms_that_hangs_fails_the_call_in_bounded_time() {
    let world = World::new();
    let envelope = scope(&world.manager().await).seal(b"payload", &record("1")).await.unwrap();
    let cold = scope(&world.manager().await);
    world.kms.hold();
    let call = tokio::spawn({
        let (cold, envelope) = (cold.clone(), envelope.clone());
        async move { cold.open(&envelope, &record("1")).await }
    });
    world.pass(common::secs(11)).await;
    assert!(matches!(call.await.unwrap(), Err(Error::Timeout)));
    world.kms.release();
    assert!(cold.open(&envelope, &record("1")).await.is_ok());
}
