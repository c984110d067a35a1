//! New versions of DEKs and KEKs: old data opens, new data uses the new key, wraps are
//! renewed, and nothing is lost on the way.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::HashMap;

use bulla_backend::{
    KekVersion, KeyAdmin, KeyStore, KeyWrapper, KmsErrorKind, KmsOperation, MemberId, MemberReport,
};
use bulla_core::{DekVersion, Header};
use bulla_manager::{Error, Phase, Policy};
use bulla_testkit::{Lie, settle};
use common::{World, record, scope, secs};
use tokio::task::JoinSet;

fn version(envelope: &[u8]) -> u32 {
    Header::parse(envelope).unwrap().dek_version.map_or(0, DekVersion::get)
}

#[tokio::test]
async fn after_a_rotation_old_records_open_stale_and_reseal_fresh() {
    let world = World::new();
    let scope = scope(&world.manager().await);
    let old = scope.seal(b"payload", &record("1")).await.unwrap();
    let rotation = scope.rotate().await.unwrap();
    assert_eq!((rotation.from, rotation.made_here), (DekVersion::new(1), true));
    assert_eq!(rotation.active.get(), 2);

    let new = scope.seal(b"payload", &record("1")).await.unwrap();
    assert_eq!((version(&old), version(&new)), (1, 2));
    assert!(scope.open(&old, &record("1")).await.unwrap().freshness.stale_dek);
    assert!(scope.open(&new, &record("1")).await.unwrap().freshness.is_current());
    assert_eq!(scope.reseal(&new, &record("1")).await.unwrap(), None);
    let resealed = scope.reseal(&old, &record("1")).await.unwrap().unwrap();
    assert_eq!(version(&resealed), 2);
    assert_eq!(scope.open(&resealed, &record("1")).await.unwrap().plaintext, b"payload");
    let context = record("1");
    let many = scope.reseal_many(&[(&old, &context), (&new, &context)]).await;
    assert!(many[0].as_ref().unwrap().is_some() && many[1].as_ref().unwrap().is_none());
}

#[tokio::test]
async fn two_processes_that_rotate_one_scope_make_one_version() {
    let world = World::new();
    let (a, b) = (world.manager().await, world.manager().await);
    scope(&a).prepare().await.unwrap();
    world.kms.hold();
    let rotate = |manager: &bulla_manager::Manager| {
        let scope = scope(manager);
        tokio::spawn(async move { scope.rotate().await })
    };
    let (first, second) = (rotate(&a), rotate(&b));
    settle().await;
    world.kms.release();
    world.pass(secs(9)).await;
    let (first, second) = (first.await.unwrap().unwrap(), second.await.unwrap().unwrap());
    assert!(first.made_here != second.made_here, "{first:?} {second:?}");
    world.pass(secs(10)).await;
    for manager in [&a, &b] {
        let sealed = scope(manager).seal(b"x", &record("1")).await.unwrap();
        assert_eq!(version(&sealed), 2);
    }
    assert_eq!(world.kms.calls(KmsOperation::GenerateDataKey), 2);
}

#[tokio::test]
async fn many_processes_that_create_one_scope_make_one_key() {
    let world = World::new();
    let mut managers = Vec::new();
    for _ in 0..8 {
        managers.push(world.manager().await);
    }
    let mut tasks = JoinSet::new();
    for manager in &managers {
        let scope = scope(manager);
        tasks.spawn(async move { scope.seal(b"x", &record("1")).await });
    }
    world.pass(secs(3)).await;
    while let Some(sealed) = tasks.join_next().await {
        assert_eq!(version(&sealed.unwrap().unwrap()), 1);
    }
    assert_eq!(world.kms.calls(KmsOperation::GenerateDataKey), 1);
}

#[tokio::test]
async fn a_new_version_waits_until_every_live_process_knows_it() {
    let world = World::new();
    let (a, b) = (world.manager().await, world.manager().await);
    let (a, b) = (scope(&a), scope(&b));
    a.seal(b"x", &record("1")).await.unwrap();
    b.seal(b"x", &record("1")).await.unwrap();
    let rotation = a.rotate().await.unwrap();
    assert_eq!(rotation.active.get(), 1, "the other process has not seen it yet");
    assert_eq!(version(&a.seal(b"x", &record("1")).await.unwrap()), 1);
    world.pass(Policy::default().feed_interval * 3).await;
    let sealed = a.seal(b"x", &record("1")).await.unwrap();
    assert_eq!(version(&sealed), 2);
    assert_eq!(version(&b.seal(b"x", &record("1")).await.unwrap()), 2);
    let calls = world.kms.data_calls();
    assert!(b.try_open(&sealed, &record("1")).is_ok(), "it was fetched before it was needed");
    assert_eq!(world.kms.data_calls(), calls);
}

#[tokio::test]
async fn a_process_that_died_delays_a_new_version_only_so_long() {
    let world = World::new();
    let a = scope(&world.manager().await);
    a.seal(b"x", &record("1")).await.unwrap();
    let alive_for = Policy::default().member_alive_for;
    let seen = world.store.changes_since(None, 0).await.unwrap().revision;
    let dead = MemberReport::new(MemberId::new("dead"), seen, alive_for, secs(3600));
    world.store.report_member(&dead).await.unwrap();
    assert_eq!(a.rotate().await.unwrap().active.get(), 1);
    world.pass(Policy::default().member_alive_for + secs(10)).await;
    assert_eq!(version(&a.seal(b"x", &record("1")).await.unwrap()), 2);
}

#[tokio::test]
async fn a_process_that_ends_delays_nothing() {
    let world = World::new();
    let (a, gone) = (world.manager().await, world.manager().await);
    scope(&a).prepare().await.unwrap();
    drop(gone);
    settle().await;
    assert_eq!(scope(&a).rotate().await.unwrap().active.get(), 2);
}

#[tokio::test]
async fn a_budget_is_staged_at_half_and_never_exceeded_under_contention() {
    let world = World::new();
    let mut policy = Policy::default();
    policy.dek_records_max = 100;
    let scope = scope(&world.manager_with(policy).await);
    let mut tasks = JoinSet::new();
    for _ in 0..50 {
        let scope = scope.clone();
        tasks.spawn(async move {
            let mut sealed = Vec::new();
            for _ in 0..40 {
                sealed.push(scope.seal(b"x", &record("1")).await.unwrap());
                tokio::task::yield_now().await;
            }
            sealed
        });
    }
    world.pass(secs(60)).await;
    let mut per_version = HashMap::<_, u64>::new();
    while let Some(sealed) = tasks.join_next().await {
        for envelope in sealed.unwrap() {
            *per_version.entry(version(&envelope)).or_default() += 1;
            assert!(scope.open(&envelope, &record("1")).await.is_ok());
        }
    }
    assert_eq!(per_version.values().sum::<u64>(), 2000);
    assert!(per_version.values().all(|records| *records <= 100), "{per_version:?}");
    assert!(per_version.len() >= 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_budget_is_never_exceeded_on_four_threads() {
    let world = World::new();
    let mut policy = Policy::default();
    policy.dek_records_max = 1000;
    let builder = world.builder().policy(policy);
    let clock = std::sync::Arc::new(bulla_manager::SystemClock);
    let scope = scope(&builder.clock(clock).start().await.unwrap());
    let mut tasks = JoinSet::new();
    for _ in 0..8 {
        let scope = scope.clone();
        tasks.spawn(async move {
            let mut versions = HashMap::<_, u64>::new();
            for _ in 0..2000 {
                let sealed = scope.seal(b"x", &record("1")).await.unwrap();
                *versions.entry(version(&sealed)).or_default() += 1;
            }
            versions
        });
    }
    let mut per_version = HashMap::<_, u64>::new();
    while let Some(versions) = tasks.join_next().await {
        for (version, records) in versions.unwrap() {
            *per_version.entry(version).or_default() += records;
        }
    }
    assert_eq!(per_version.values().sum::<u64>(), 16_000);
    assert!(per_version.values().all(|records| *records <= 1000), "{per_version:?}");
}

#[tokio::test]
async fn a_budget_outlives_the_eviction_of_its_key() {
    let world = World::new();
    let mut policy = Policy::default();
    policy.dek_records_max = 10;
    let scope = scope(&world.manager_with(policy.clone()).await);
    let mut per_version = HashMap::<_, u64>::new();
    for _ in 0..30 {
        let sealed = scope.seal(b"x", &record("1")).await.unwrap();
        *per_version.entry(version(&sealed)).or_default() += 1;
        // Past the deadline: the key is wiped and loaded again.
        world.clock.advance(policy.revocation_deadline);
        settle().await;
    }
    assert!(per_version.values().all(|records| *records <= 10), "{per_version:?}");
}

#[tokio::test]
async fn a_dek_that_is_too_old_is_replaced() {
    let world = World::new();
    let scope = scope(&world.manager().await);
    assert_eq!(version(&scope.seal(b"x", &record("1")).await.unwrap()), 1);
    // Half of the age stages the successor; nothing was sealed for the rest of it.
    world.clock.advance(Policy::default().dek_age_max);
    settle().await;
    let call = tokio::spawn(async move { scope.seal(b"x", &record("1")).await });
    world.pass(secs(5)).await;
    assert_eq!(version(&call.await.unwrap().unwrap()), 2);
}

#[tokio::test]
async fn a_kek_rotation_renews_the_wrap_of_a_key_in_use_and_leaves_the_record() {
    let world = World::new();
    let manager = world.manager().await;
    let scope = scope(&manager);
    let envelope = scope.seal(b"payload", &record("1")).await.unwrap();
    world.kms.rotate().await.unwrap();
    manager.sync().await.unwrap();
    let opened = scope.open(&envelope, &record("1")).await.unwrap();
    assert!(opened.freshness.stale_kek && !opened.freshness.stale_dek);
    manager.rewraps_settled().await;
    assert_eq!(manager.stats().rewraps, 1);
    assert!(scope.open(&envelope, &record("1")).await.unwrap().freshness.is_current());
    let usage = world.store.kek_usage(world.kms.kek()).await.unwrap();
    assert_eq!(usage.len(), 1);
    assert_eq!(usage[0].kek_version, KekVersion::Parsed("2".into()));

    // Nothing depends on the old version any more.
    world.kms.disable_version("1").await.unwrap();
    world.kms.destroy_version("1").await.unwrap();
    let later = common::scope(&world.manager().await);
    assert_eq!(later.open(&envelope, &record("1")).await.unwrap().plaintext, b"payload");
}

#[tokio::test]
async fn a_key_in_use_is_rewrapped_once_however_often_it_is_used() {
    let world = World::new();
    let manager = world.manager().await;
    let scope = scope(&manager);
    let envelope = scope.seal(b"payload", &record("1")).await.unwrap();
    world.kms.rotate().await.unwrap();
    manager.sync().await.unwrap();
    for _ in 0..1000 {
        scope.open(&envelope, &record("1")).await.unwrap();
    }
    manager.rewraps_settled().await;
    assert_eq!(world.kms.calls(KmsOperation::RewrapKey), 1);
}

#[tokio::test]
async fn a_rewrap_that_holds_another_key_is_refused_and_the_old_wrap_stays() {
    let world = World::new();
    let manager = world.manager().await;
    let scope = scope(&manager);
    let envelope = scope.seal(b"payload", &record("1")).await.unwrap();
    world.kms.rotate().await.unwrap();
    world.kms.lie(Some(Lie::Rewrap));
    manager.sync().await.unwrap();
    scope.open(&envelope, &record("1")).await.unwrap();
    manager.rewraps_settled().await;
    assert_eq!((manager.stats().rewraps, manager.stats().rewrap_failures), (0, 1));
    let later = world.manager().await;
    let opened = common::scope(&later).open(&envelope, &record("1")).await.unwrap();
    assert_eq!(opened.plaintext, b"payload");
    later.rewraps_settled().await;

    // It is tried again, though not at once.
    world.kms.lie(None);
    scope.open(&envelope, &record("1")).await.unwrap();
    manager.rewraps_settled().await;
    assert_eq!(manager.stats().rewraps, 0);
    world.pass(secs(31)).await;
    scope.open(&envelope, &record("1")).await.unwrap();
    settle().await;
    manager.rewraps_settled().await;
    assert_eq!(manager.stats().rewraps, 1);
}

#[tokio::test]
async fn a_new_key_whose_wrap_does_not_unwrap_is_never_used() {
    let world = World::new();
    let scope = scope(&world.manager().await);
    world.kms.lie(Some(Lie::Generate));
    let refused = scope.seal(b"x", &record("1")).await;
    assert!(matches!(refused, Err(Error::WrongKeyUnwrapped { .. })), "{refused:?}");
    world.kms.lie(None);
    world.clock.advance(secs(60));
    assert!(scope.seal(b"x", &record("1")).await.is_ok());
}

#[tokio::test]
async fn a_rewrap_during_an_outage_fails_quietly() {
    let world = World::new();
    let manager = world.manager().await;
    let scope = scope(&manager);
    let envelope = scope.seal(b"payload", &record("1")).await.unwrap();
    world.kms.rotate().await.unwrap();
    manager.sync().await.unwrap();
    world.kms.fail(KmsOperation::RewrapKey, Some(KmsErrorKind::Unavailable));
    assert!(scope.open(&envelope, &record("1")).await.is_ok());
    manager.rewraps_settled().await;
    assert!(scope.open(&envelope, &record("1")).await.is_ok());
    assert_eq!(scope.phase(), Phase::Warm);
}
