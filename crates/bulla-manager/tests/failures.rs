//! Each failure of the KMS and of the store leads where the slot diagram says.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use bulla_backend::{DekState, KeyAdmin, KeyStore, KmsErrorKind, KmsOperation, StateChange};
use bulla_core::Header;
use bulla_manager::{Error, Manager, Phase, Policy, Scope};
use bulla_testkit::TestKms;
use common::{World, record, scope, secs};

/// A manager with one warm key, and an envelope under it.
async fn warm(world: &World) -> (Manager, Scope, Vec<u8>) {
    let manager = world.manager().await;
    let scope = scope(&manager);
    let envelope = scope.seal(b"payload", &record("1")).await.unwrap();
    assert_eq!(scope.phase(), Phase::Warm);
    (manager, scope, envelope)
}

/// Uses the key every second, as a service does.
async fn pass_in_use(world: &World, scope: &Scope, envelope: &[u8], seconds: u64) {
    for _ in 0..seconds {
        let _ = scope.try_open(envelope, &record("1"));
        world.pass(secs(1)).await;
    }
}

fn kms_kind(error: &Error) -> Option<KmsErrorKind> {
    match error {
        Error::Kms(error) => Some(error.kind()),
        _ => None,
    }
}

#[tokio::test]
async fn a_disabled_kek_evicts_at_the_next_probe() {
    let world = World::new();
    let (_manager, scope, envelope) = warm(&world).await;
    world.kms.disable().await.unwrap();
    let policy = Policy::default();
    world.pass(policy.probe_interval + policy.feed_interval).await;
    assert_eq!(scope.phase(), Phase::Absent);
    let refused = scope.open(&envelope, &record("1")).await.unwrap_err();
    assert_eq!(kms_kind(&refused), Some(KmsErrorKind::Disabled));
    assert!(scope.seal(b"x", &record("1")).await.is_err());
    world.kms.enable().await.unwrap();
    world.pass(policy.negative_for).await;
    assert!(scope.open(&envelope, &record("1")).await.is_ok(), "it recovers by itself");
}

/// Whether the KMS lists its versions, or an unwrap has to find out.
#[tokio::test]
async fn a_disabled_version_evicts_at_the_next_probe() {
    for lists_versions in [true, false] {
        let kms = TestKms::new("orders");
        let kms = if lists_versions { kms } else { kms.without_version_list() };
        let world = World::with_kms(kms);
        let mut policy = Policy::default();
        policy.rewrap_concurrency = 0;
        let manager = world.manager_with(policy.clone()).await;
        let (scope, idle) = (scope(&manager), manager.scope("t-idle", "orders").unwrap());
        let unused = idle.seal(b"payload", &record("1")).await.unwrap();
        let envelope = scope.seal(b"payload", &record("1")).await.unwrap();
        world.kms.rotate().await.unwrap();
        world.kms.disable_version("1").await.unwrap();
        let wait = policy.probe_interval + policy.feed_interval;
        pass_in_use(&world, &scope, &envelope, wait.as_secs() + 1).await;
        for (scope, envelope) in [(&scope, &envelope), (&idle, &unused)] {
            assert!(matches!(scope.try_open(envelope, &record("1")), Err(Error::NotWarm)));
        }
        let refused = scope.open(&envelope, &record("1")).await.unwrap_err();
        assert_eq!(kms_kind(&refused), Some(KmsErrorKind::Disabled));
    }
}

#[tokio::test]
async fn one_denial_keeps_a_second_one_five_seconds_later_evicts() {
    let world = World::new();
    let (_manager, scope, envelope) = warm(&world).await;
    world.kms.fail_all(Some(KmsErrorKind::Denied));
    let before = world.kms.calls(KmsOperation::UnwrapKey);
    while world.kms.calls(KmsOperation::UnwrapKey) == before {
        pass_in_use(&world, &scope, &envelope, 1).await;
    }
    assert_eq!(scope.phase(), Phase::Refreshing, "one denial may be a permission in change");
    assert!(scope.try_open(&envelope, &record("1")).is_ok());
    pass_in_use(&world, &scope, &envelope, 6).await;
    assert_eq!(scope.phase(), Phase::Absent);
    let refused = scope.open(&envelope, &record("1")).await.unwrap_err();
    assert_eq!(kms_kind(&refused), Some(KmsErrorKind::Denied));
}

#[tokio::test]
async fn a_denial_that_passes_evicts_nothing() {
    let world = World::new();
    let (_manager, scope, envelope) = warm(&world).await;
    let before = world.kms.calls(KmsOperation::UnwrapKey);
    world.kms.fail(KmsOperation::UnwrapKey, Some(KmsErrorKind::Denied));
    while world.kms.calls(KmsOperation::UnwrapKey) == before {
        pass_in_use(&world, &scope, &envelope, 1).await;
    }
    world.kms.fail(KmsOperation::UnwrapKey, None);
    pass_in_use(&world, &scope, &envelope, 30).await;
    assert_eq!(scope.phase(), Phase::Warm);
}

#[tokio::test]
async fn failures_that_may_pass_are_served_through_until_the_deadline() {
    use KmsErrorKind::{Throttled, Unauthenticated, Unavailable};
    for kind in [Unavailable, Throttled, Unauthenticated] {
        let world = World::new();
        let (_manager, scope, envelope) = warm(&world).await;
        let policy = Policy::default();
        world.kms.fail_all(Some(kind));
        pass_in_use(&world, &scope, &envelope, policy.probe_interval.as_secs() * 2 + 10).await;
        assert_eq!(scope.phase(), Phase::Grace, "{kind:?}");
        assert!(scope.seal(b"x", &record("1")).await.is_ok(), "{kind:?}");

        // A cold key fails with the class of the failure, and nothing is remembered.
        let cold = common::record("2");
        let other = _manager.scope("t-2", "orders").unwrap();
        let refused = other.seal(b"x", &cold).await.unwrap_err();
        assert_eq!(kms_kind(&refused), Some(kind));
        assert_eq!(other.phase(), Phase::Absent, "{kind:?}");

        let left = policy.revocation_deadline.as_secs() - policy.probe_interval.as_secs() * 2 - 10;
        pass_in_use(&world, &scope, &envelope, left).await;
        assert_eq!(scope.phase(), Phase::Absent, "{kind:?}: wiped at the deadline");
        assert!(matches!(scope.try_open(&envelope, &record("1")), Err(Error::NotWarm)));

        world.kms.fail_all(None);
        assert!(scope.open(&envelope, &record("1")).await.is_ok(), "{kind:?}: recovers");
        assert_eq!(scope.phase_of(Header::parse(&envelope).unwrap().key_id), Phase::Warm);
    }
}

#[tokio::test]
async fn an_outage_that_ends_in_time_is_not_noticed() {
    let world = World::new();
    let (_manager, scope, envelope) = warm(&world).await;
    world.kms.fail_all(Some(KmsErrorKind::Unavailable));
    pass_in_use(&world, &scope, &envelope, 200).await;
    assert_eq!(scope.phase(), Phase::Grace);
    world.kms.fail_all(None);
    for _ in 0..800 {
        assert!(scope.try_open(&envelope, &record("1")).is_ok());
        world.pass(secs(1)).await;
    }
    assert_eq!(scope.phase(), Phase::Warm);
}

#[tokio::test]
async fn the_deadline_counts_from_the_start_of_the_last_success() {
    let world = World::new();
    let (_manager, scope, envelope) = warm(&world).await;
    world.kms.fail_all(Some(KmsErrorKind::Unavailable));
    world.clock.advance(Policy::default().revocation_deadline - secs(1));
    // The store was not read either in this one leap; the key still serves.
    assert!(scope.try_open(&envelope, &record("1")).is_ok());
    world.clock.advance(secs(1));
    assert!(matches!(scope.try_open(&envelope, &record("1")), Err(Error::NotWarm)));
    assert!(matches!(scope.try_seal(b"x", &record("1")), Err(Error::NotWarm)));
}

#[tokio::test]
async fn a_definite_failure_is_remembered_for_a_second() {
    use KmsErrorKind::{Denied, NotFound, Tampered};
    for kind in [Denied, NotFound, Tampered] {
        let world = World::new();
        let (_sealer, _, envelope) = warm(&world).await;
        let cold = scope(&world.manager().await);
        let key_id = Header::parse(&envelope).unwrap().key_id;
        world.kms.fail(KmsOperation::UnwrapKey, Some(kind));
        let calls = world.kms.calls(KmsOperation::UnwrapKey);
        for _ in 0..10 {
            let refused = cold.open(&envelope, &record("1")).await.unwrap_err();
            assert_eq!(kms_kind(&refused), Some(kind));
        }
        assert_eq!(world.kms.calls(KmsOperation::UnwrapKey) - calls, 1, "{kind:?}");
        assert_eq!(cold.phase_of(key_id), Phase::Negative);
        world.clock.advance(Policy::default().negative_for);
        assert_eq!(cold.phase_of(key_id), Phase::Absent);
        world.kms.fail(KmsOperation::UnwrapKey, None);
        assert!(cold.open(&envelope, &record("1")).await.is_ok());
    }
}

#[tokio::test]
async fn unknown_keys_are_remembered_without_evicting_known_ones() {
    let world = World::new();
    let mut policy = Policy::default();
    policy.cached_deks_max = 10;
    let manager = world.manager_with(policy).await;
    let scope = scope(&manager);
    let envelope = scope.seal(b"payload", &record("1")).await.unwrap();
    let reads = world.store.reads();
    for i in 0..100_u8 {
        let mut forged = envelope.clone();
        forged[12..44].fill(i);
        for _ in 0..2 {
            let refused = scope.open(&forged, &record("1")).await;
            assert!(matches!(refused, Err(Error::UnknownKey(_))));
        }
    }
    assert_eq!(world.store.reads() - reads, 100);
    assert!(scope.try_open(&envelope, &record("1")).is_ok());
}

#[tokio::test]
async fn a_dek_that_is_shredded_elsewhere_is_wiped_at_the_next_look() {
    let world = World::new();
    let (_manager, scope, envelope) = warm(&world).await;
    let key_id = Header::parse(&envelope).unwrap().key_id;
    let shred = StateChange::new(key_id, DekState::Active, DekState::Shredded).unwrap();
    assert!(world.store.change_state(&shred).await.unwrap());
    world.pass(Policy::default().feed_interval).await;
    assert!(matches!(scope.try_open(&envelope, &record("1")), Err(Error::NotWarm)));
    let refused = scope.open(&envelope, &record("1")).await;
    let closed = matches!(refused, Err(Error::KeyClosed { state: DekState::Shredded, .. }));
    assert!(closed, "{refused:?}");
}

#[tokio::test]
async fn a_dek_that_is_shredded_while_it_loads_does_not_stay() {
    let world = World::new();
    let (_sealer, _, envelope) = warm(&world).await;
    let key_id = Header::parse(&envelope).unwrap().key_id;
    let manager = world.manager().await;
    let cold = scope(&manager);
    world.kms.hold();
    let call = tokio::spawn({
        let (cold, envelope) = (cold.clone(), envelope.clone());
        async move { cold.open(&envelope, &record("1")).await }
    });
    bulla_testkit::settle().await;
    let shred = StateChange::new(key_id, DekState::Active, DekState::Shredded).unwrap();
    assert!(world.store.change_state(&shred).await.unwrap());
    world.pass(Policy::default().feed_interval).await;
    world.kms.release();
    assert!(call.await.unwrap().is_err());
    assert!(matches!(cold.try_open(&envelope, &record("1")), Err(Error::NotWarm)));
}

#[tokio::test]
async fn without_the_store_warm_keys_open_until_the_deadline_and_seal_until_the_lease_ends() {
    let world = World::new();
    let mut policy = Policy::default();
    policy.seal_lease = secs(120);
    let manager = world.manager_with(policy.clone()).await;
    let scope = scope(&manager);
    let envelope = scope.seal(b"payload", &record("1")).await.unwrap();
    world.store.set_down(true);
    world.pass(policy.seal_lease + secs(1)).await;
    assert_eq!(scope.phase(), Phase::OpenOnly);
    let refused = scope.seal(b"x", &record("1")).await;
    assert!(matches!(refused, Err(Error::SealLeaseEnded)), "{refused:?}");
    assert!(scope.open(&envelope, &record("1")).await.is_ok());
    world.pass(policy.revocation_deadline).await;
    assert!(matches!(scope.open(&envelope, &record("1")).await, Err(Error::Store(_))));
    world.store.set_down(false);
    world.pass(policy.feed_interval).await;
    assert!(scope.seal(b"x", &record("1")).await.is_ok(), "the lease is renewed");
    world.pass(policy.seal_lease + secs(1)).await;
    let (plaintext, context) = (&b"x"[..], record("1"));
    assert!(scope.seal_many(&[(plaintext, &context); 3]).await.is_ok(), "so it is for many");
}

#[tokio::test]
async fn a_kms_that_is_down_does_not_stop_the_start_a_disabled_key_does() {
    let world = World::new();
    world.kms.fail_all(Some(KmsErrorKind::Unavailable));
    assert!(world.builder().start().await.is_ok());
    world.kms.fail_all(Some(KmsErrorKind::Unauthenticated));
    assert!(matches!(world.builder().start().await, Err(Error::Kms(_))));
    world.kms.fail_all(None);
    world.kms.disable().await.unwrap();
    assert!(matches!(world.builder().start().await, Err(Error::KekClosed { .. })));
}

#[tokio::test]
async fn a_planted_wrap_never_opens_anything() {
    let world = World::new();
    let (_manager, victim, envelope) = warm(&world).await;
    // Another tenant's wrapped key, copied over the victim's in the store.
    let manager = world.manager().await;
    let attacker = manager.scope("t-evil", "orders").unwrap();
    let theirs = attacker.seal(b"x", &record("1")).await.unwrap();
    let find = |scope: &Scope, envelope: &[u8]| bulla_backend::DekQuery::Key {
        scope: scope.id().clone(),
        key_id: Header::parse(envelope).unwrap().key_id,
    };
    let queries = [find(&victim, &envelope), find(&attacker, &theirs)];
    let mut found = world.store.find_deks(&queries).await.unwrap();
    let (theirs, ours) = (found.pop().flatten().unwrap(), found.pop().flatten().unwrap());
    let swap = bulla_backend::WrapSwap::new(
        ours.key_id,
        ours.wraps[0].slot,
        ours.wraps[0].rev,
        theirs.wraps[0].wrapped.clone(),
    );
    assert!(world.store.replace_wrap(&swap).await.unwrap());
    let cold = scope(&world.manager().await);
    let refused = cold.open(&envelope, &record("1")).await.unwrap_err();
    assert_eq!(kms_kind(&refused), Some(KmsErrorKind::Tampered));
    assert!(cold.seal(b"x", &record("1")).await.is_err());
}

#[tokio::test]
async fn a_store_that_reads_and_does_not_write_opens_on_and_stops_sealing_in_time() {
    let world = World::new();
    let mut policy = Policy::default();
    policy.seal_lease = secs(120);
    let manager = world.manager_with(policy.clone()).await;
    let scope = scope(&manager);
    let envelope = scope.seal(b"payload", &record("1")).await.unwrap();
    world.store.set_read_only(true);
    pass_in_use(&world, &scope, &envelope, 2 * policy.revocation_deadline.as_secs()).await;
    assert!(scope.try_open(&envelope, &record("1")).is_ok());
    assert!(matches!(scope.seal(b"x", &record("1")).await, Err(Error::SealLeaseEnded)));
}

/// Once, this asked the KMS again and again until the call timed out.
#[tokio::test]
async fn keys_that_load_but_may_not_serve_are_not_loaded_in_a_loop() {
    let world = World::new();
    let (_manager, scope, envelope) = warm(&world).await;
    world.store.set_feed_down(true);
    world.pass(Policy::default().revocation_deadline + secs(1)).await;
    let calls = world.kms.calls(KmsOperation::UnwrapKey);
    assert!(matches!(scope.open(&envelope, &record("1")).await, Err(Error::Store(_))));
    assert!(world.kms.calls(KmsOperation::UnwrapKey) - calls <= 1);
    world.store.set_feed_down(false);
    assert!(scope.open(&envelope, &record("1")).await.is_ok());
}

#[tokio::test]
async fn a_store_that_was_restored_ends_sealing_and_wipes() {
    let world = World::new();
    let (_manager, scope, envelope) = warm(&world).await;
    world.store.set_restored(true);
    world.pass(Policy::default().feed_interval).await;
    assert!(matches!(scope.try_open(&envelope, &record("1")), Err(Error::StoreReplaced)));
    assert!(matches!(scope.seal(b"x", &record("1")).await, Err(Error::StoreReplaced)));
    world.pass(Policy::default().feed_interval * 3).await;
    assert!(matches!(scope.seal(b"x", &record("1")).await, Err(Error::StoreReplaced)));
}
