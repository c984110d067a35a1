//! What arrives in the wrong order, and what ends halfway.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use bulla_backend::{DekState, KeyAdmin, KeyStore, KmsErrorKind, KmsOperation, StateChange};
use bulla_core::{Header, KeyId};
use bulla_manager::{Error, Manager, Phase, Policy};
use bulla_testkit::settle;
use common::{World, record, scope, secs};

fn key_id(envelope: &[u8]) -> KeyId {
    Header::parse(envelope).unwrap().key_id
}

async fn change(world: &World, envelope: &[u8], from: DekState, to: DekState) {
    let change = StateChange::new(key_id(envelope), from, to).unwrap();
    assert!(world.store.change_state(&change).await.unwrap());
}

fn version(envelope: &[u8]) -> u32 {
    Header::parse(envelope).unwrap().dek_version.unwrap().get()
}

/// Seals in a task while time passes.
async fn seal(world: &World, manager: &Manager) -> Result<Vec<u8>, Error> {
    let scope = scope(manager);
    let call = tokio::spawn(async move { scope.seal(b"x", &record("1")).await });
    world.pass(secs(12)).await;
    call.await.unwrap()
}

#[tokio::test]
async fn a_scope_whose_only_key_was_retired_or_shredded_gets_a_new_one() {
    for to in [DekState::DecryptOnly, DekState::Shredded] {
        let world = World::new();
        let manager = world.manager().await;
        let old = scope(&manager).seal(b"x", &record("1")).await.unwrap();
        change(&world, &old, DekState::Active, to).await;
        world.pass(Policy::default().feed_interval).await;
        let new = seal(&world, &manager).await.unwrap();
        assert_eq!(version(&new), 2, "{to}");
        let rotation = scope(&manager).rotate().await.unwrap();
        assert_eq!(rotation.active.get(), 3);
    }
}

#[tokio::test]
async fn a_successor_that_was_shredded_before_it_was_used_is_replaced() {
    let world = World::new();
    let (a, _other) = (world.manager().await, world.manager().await);
    scope(&a).prepare().await.unwrap();
    // The other process has not acknowledged it: version 2 stays pending.
    assert_eq!(scope(&a).rotate().await.unwrap().active.get(), 1);
    let all = world.store.changes_since(Some(bulla_backend::StoreRevision(0)), 100).await.unwrap();
    let pending = all.deks.iter().find(|dek| dek.state == DekState::Pending).unwrap();
    let shred = StateChange::new(pending.key_id, DekState::Pending, DekState::Shredded).unwrap();
    assert!(world.store.change_state(&shred).await.unwrap());
    assert!(scope(&a).rotate().await.unwrap().made_here);
    world.pass(Policy::default().feed_interval * 3).await;
    assert_eq!(version(&scope(&a).seal(b"x", &record("1")).await.unwrap()), 3);
}

#[tokio::test]
async fn a_close_during_a_load_leaves_no_key() {
    let world = World::new();
    let envelope = scope(&world.manager().await).seal(b"x", &record("1")).await.unwrap();
    let manager = world.manager().await;
    let cold = scope(&manager);
    world.kms.hold();
    let call = tokio::spawn({
        let (cold, envelope) = (cold.clone(), envelope.clone());
        async move { cold.open(&envelope, &record("1")).await }
    });
    settle().await;
    manager.close().await.unwrap();
    world.kms.release();
    assert!(matches!(call.await.unwrap(), Err(Error::Closed)));
    assert!(matches!(cold.try_open(&envelope, &record("1")), Err(Error::Closed)));
    assert_eq!(cold.phase_of(key_id(&envelope)), Phase::Absent);
    assert!(matches!(cold.rotate().await, Err(Error::Closed)));
    assert!(matches!(manager.sync().await, Err(Error::Closed)));
}

#[tokio::test]
async fn an_unwrap_that_began_before_a_revocation_proves_nothing_after_it() {
    let world = World::new();
    let manager = world.manager().await;
    let warm = scope(&manager).seal(b"x", &record("1")).await.unwrap();
    let other = manager.scope("t-2", "orders").unwrap();
    let elsewhere = world.manager().await;
    let cold = elsewhere.scope("t-2", "orders").unwrap().seal(b"x", &record("1")).await.unwrap();

    world.kms.hold_answers();
    let call = tokio::spawn({
        let (other, cold) = (other.clone(), cold.clone());
        async move { other.open(&cold, &record("1")).await }
    });
    settle().await;
    // The answer is on its way when the KEK is disabled, and a probe says so.
    world.kms.disable().await.unwrap();
    manager.sync().await.unwrap();
    world.kms.release_answers();
    let refused = call.await.unwrap().unwrap_err();
    let disabled = matches!(&refused, Error::Kms(error) if error.kind() == KmsErrorKind::Disabled);
    assert!(disabled, "{refused:?}");
    for (scope, envelope) in [(&scope(&manager), &warm), (&other, &cold)] {
        assert!(matches!(scope.try_open(envelope, &record("1")), Err(Error::NotWarm)));
    }
}

#[tokio::test]
async fn a_denial_of_one_scope_costs_the_loads_of_others_no_error() {
    let world = World::new();
    let manager = world.manager().await;
    let other = manager.scope("t-2", "orders").unwrap();
    let elsewhere = world.manager().await;
    let cold = elsewhere.scope("t-2", "orders").unwrap().seal(b"x", &record("1")).await.unwrap();
    world.kms.hold_answers();
    let call = tokio::spawn(async move { other.open(&cold, &record("1")).await });
    settle().await;
    // Revoked and enabled again while the answer is on its way.
    world.kms.disable().await.unwrap();
    manager.sync().await.unwrap();
    world.kms.enable().await.unwrap();
    world.kms.release_answers();
    assert_eq!(call.await.unwrap().unwrap().plaintext, b"x");
}

#[tokio::test]
async fn a_row_that_was_read_before_a_change_does_not_undo_it() {
    let world = World::new();
    let manager = world.manager().await;
    let scope = scope(&manager);
    let old = scope.seal(b"x", &record("1")).await.unwrap();
    // A probe reads the row; before the answer is here, the DEK is retired.
    world.store.hold_reads();
    let probe = tokio::spawn({
        let manager = manager.clone();
        async move { manager.sync().await }
    });
    settle().await;
    change(&world, &old, DekState::Active, DekState::DecryptOnly).await;
    world.pass(Policy::default().feed_interval).await;
    assert_eq!(scope.phase_of(key_id(&old)), Phase::OpenOnly);
    world.store.release_reads();
    probe.await.unwrap().unwrap();
    assert_eq!(scope.phase_of(key_id(&old)), Phase::OpenOnly, "it must not seal again");
    assert!(matches!(scope.try_seal(b"x", &record("1")), Err(Error::NotWarm)));
}

#[tokio::test]
async fn a_dek_that_is_shredded_between_read_and_unwrap_is_not_kept() {
    let world = World::new();
    let sealer = world.manager().await;
    let envelope = scope(&sealer).seal(b"x", &record("1")).await.unwrap();
    let manager = world.manager().await;
    let cold = scope(&manager);
    world.store.hold_reads();
    let call = tokio::spawn({
        let (cold, envelope) = (cold.clone(), envelope.clone());
        async move { cold.open(&envelope, &record("1")).await }
    });
    settle().await;
    change(&world, &envelope, DekState::Active, DekState::Shredded).await;
    world.pass(Policy::default().feed_interval).await;
    world.store.release_reads();
    assert!(call.await.unwrap().is_err());
    assert!(matches!(cold.try_open(&envelope, &record("1")), Err(Error::NotWarm)));
}

#[tokio::test]
async fn a_successor_that_cannot_be_made_is_not_asked_for_with_every_record() {
    let world = World::new();
    let mut policy = Policy::default();
    policy.dek_records_max = 1000;
    let scope = scope(&world.manager_with(policy).await);
    scope.prepare().await.unwrap();
    world.kms.fail(KmsOperation::GenerateDataKey, Some(KmsErrorKind::Throttled));
    let before = world.kms.calls(KmsOperation::GenerateDataKey);
    for _ in 0..900 {
        scope.seal(b"x", &record("1")).await.unwrap();
        settle().await;
    }
    assert_eq!(world.kms.calls(KmsOperation::GenerateDataKey) - before, 1);
    world.kms.fail(KmsOperation::GenerateDataKey, None);
    world.pass(secs(31)).await;
    scope.seal(b"x", &record("1")).await.unwrap();
    settle().await;
    assert_eq!(world.kms.calls(KmsOperation::GenerateDataKey) - before, 2);
    assert_eq!(version(&scope.seal(b"x", &record("1")).await.unwrap()), 2, "before the end of v1");
}

#[tokio::test]
async fn a_batch_under_a_key_that_fails_asks_for_it_once() {
    let world = World::new();
    let context = record("1");
    let envelope = scope(&world.manager().await).seal(b"x", &context).await.unwrap();
    let cold = scope(&world.manager().await);
    world.kms.fail_all(Some(KmsErrorKind::Unavailable));
    let calls = world.kms.calls(KmsOperation::UnwrapKey);
    let items = vec![(&envelope[..], &context); 1000];
    let opened = cold.open_many(&items).await;
    assert!(opened.iter().all(|outcome| matches!(outcome, Err(Error::Kms(_)))));
    assert_eq!(world.kms.calls(KmsOperation::UnwrapKey) - calls, 1);
}

#[tokio::test]
async fn a_wrap_that_is_newer_than_what_this_process_knows_is_not_stale() {
    let world = World::new();
    let (behind, ahead) = (world.manager().await, world.manager().await);
    world.kms.rotate().await.unwrap();
    ahead.sync().await.unwrap();
    let envelope = scope(&ahead).seal(b"x", &record("1")).await.unwrap();
    let opened = scope(&behind).open(&envelope, &record("1")).await.unwrap();
    assert!(opened.freshness.is_current(), "{opened:?}");
    behind.rewraps_settled().await;
    assert_eq!(world.kms.calls(KmsOperation::RewrapKey), 0);
}

#[tokio::test]
async fn active_and_named_questions_for_one_key_unwrap_it_once() {
    let world = World::new();
    let envelope = scope(&world.manager().await).seal(b"x", &record("1")).await.unwrap();
    let cold = scope(&world.manager().await);
    settle().await;
    let calls = world.kms.calls(KmsOperation::UnwrapKey);
    world.kms.hold();
    let open = tokio::spawn({
        let (cold, envelope) = (cold.clone(), envelope.clone());
        async move { cold.open(&envelope, &record("1")).await }
    });
    let seal = tokio::spawn(async move { cold.seal(b"x", &record("1")).await });
    settle().await;
    world.kms.release();
    assert!(open.await.unwrap().is_ok() && seal.await.unwrap().is_ok());
    assert_eq!(world.kms.calls(KmsOperation::UnwrapKey) - calls, 1);
}

#[tokio::test]
async fn a_key_that_nobody_uses_is_wiped_although_its_kek_is_well() {
    let world = World::new();
    let mut policy = Policy::default();
    policy.refresh_after = secs(300);
    let manager = world.manager_with(policy).await;
    let idle = manager.scope("t-idle", "orders").unwrap();
    let sealed = idle.seal(b"x", &record("1")).await.unwrap();
    let busy = scope(&manager);
    let envelope = busy.seal(b"x", &record("1")).await.unwrap();
    for _ in 0..620 {
        assert!(busy.try_open(&envelope, &record("1")).is_ok());
        world.pass(secs(1)).await;
    }
    assert!(matches!(idle.try_open(&sealed, &record("1")), Err(Error::NotWarm)));
}

#[tokio::test]
async fn a_denial_of_the_whole_kek_is_seen_within_the_documented_time() {
    let world = World::new();
    let manager = world.manager().await;
    let scope = scope(&manager);
    let policy = Policy::default();
    let envelope = scope.seal(b"x", &record("1")).await.unwrap();
    // Unwraps are denied just after one has succeeded; describing stays allowed.
    world.pass(secs(7)).await;
    manager.sync().await.unwrap();
    world.kms.fail(KmsOperation::UnwrapKey, Some(KmsErrorKind::Denied));
    let documented = policy.probe_interval + policy.denied_confirmation + policy.feed_interval;
    world.pass(documented + secs(1)).await;
    assert!(matches!(scope.try_open(&envelope, &record("1")), Err(Error::NotWarm)));
}

#[tokio::test]
async fn a_store_whose_revision_goes_back_is_taken_for_restored() {
    let world = World::new();
    let manager = world.manager().await;
    scope(&manager).prepare().await.unwrap();
    manager.sync().await.unwrap();
    world.store.set_revision_back(true);
    assert!(matches!(manager.sync().await, Err(Error::StoreReplaced)));
    world.store.set_revision_back(false);
    // Final: looking right again proves nothing.
    assert!(matches!(scope(&manager).seal(b"x", &record("1")).await, Err(Error::StoreReplaced)));
}

#[tokio::test]
async fn an_envelope_that_cannot_be_opened_costs_no_read_and_no_call() {
    let world = World::new();
    let envelope = scope(&world.manager().await).seal(b"x", &record("1")).await.unwrap();
    let cold = scope(&world.manager().await);
    let (reads, calls) = (world.store.reads(), world.kms.data_calls());
    for (at, byte) in [(0, b'X'), (4, 0x11), (5, 2), (6, 1), (7, 16)] {
        let mut other = envelope.clone();
        other[at] = byte;
        assert!(matches!(cold.open(&other, &record("1")).await, Err(Error::Open(_))), "{at}");
    }
    assert!(matches!(cold.open(&envelope[..83], &record("1")).await, Err(Error::Open(_))));
    assert_eq!((world.store.reads(), world.kms.data_calls()), (reads, calls));
}

#[tokio::test]
async fn without_the_feed_a_load_asks_no_kms() {
    let world = World::new();
    let manager = world.manager().await;
    let envelope = scope(&manager).seal(b"x", &record("1")).await.unwrap();
    world.store.set_feed_down(true);
    world.pass(Policy::default().revocation_deadline + secs(1)).await;
    let calls = world.kms.data_calls();
    assert!(scope(&manager).open(&envelope, &record("1")).await.is_err());
    assert_eq!(world.kms.data_calls(), calls);
}
