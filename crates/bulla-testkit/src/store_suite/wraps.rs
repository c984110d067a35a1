//! Rewrapping, and which KEK versions are in use.

use std::collections::HashMap;

use bulla_backend::{KekState, KekStatus, KekUsage, KekVersionState, WrapSwap};

use super::*;

fn wrap_by(label: &str) -> WrappedKey {
    WrappedKey::new(kek("kek"), reported(label), format!("by {label}").into_bytes())
}

/// Compare-and-swap: the revision must be the present one, and moves on.
pub async fn a_wrap_is_replaced_at_its_revision_only(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    let scope = scope("t");
    let key_id = insert(&*store.first, &scope, 1).await;
    let old = find_active(&*store.first, &scope).await.unwrap().wraps[0].clone();
    let before = revision(&*store.first).await;
    for (slot, rev) in [(0, old.rev + 1), (0, old.rev.wrapping_sub(1)), (0, u64::MAX), (1, old.rev)]
    {
        let swap = WrapSwap::new(key_id, slot, rev, wrap_by("2"));
        assert!(!store.second.replace_wrap(&swap).await.unwrap(), "slot {slot}, revision {rev}");
    }
    let unknown = WrapSwap::new(key(&scope, 2), 0, old.rev, wrap_by("2"));
    assert!(!store.second.replace_wrap(&unknown).await.unwrap());
    assert_eq!(revision(&*store.first).await, before, "nothing was written");

    let swap = WrapSwap::new(key_id, 0, old.rev, wrap_by("2"));
    assert!(store.second.replace_wrap(&swap).await.unwrap());
    let new = find_active(&*store.first, &scope).await.unwrap().wraps;
    assert_eq!(new.len(), 1);
    assert_eq!((new[0].slot, &new[0].wrapped), (0, &wrap_by("2")));
    assert_ne!(new[0].rev, old.rev);
    assert!(!store.second.replace_wrap(&swap).await.unwrap(), "again");
    let next = WrapSwap::new(key_id, 0, new[0].rev, wrap_by("3"));
    assert!(store.first.replace_wrap(&next).await.unwrap());
}

/// A KEK version can only be retired if even disabled DEKs leave it.
pub async fn a_wrap_is_replaced_in_every_state_that_has_one(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    let scope = scope("t");
    let first = insert(&*store.first, &scope, 1).await;
    let second = insert(&*store.first, &scope, 2).await;
    assert!(replace(&*store.first, &scope, second, "2").await, "pending");
    assert!(replace(&*store.first, &scope, first, "2").await, "active");
    assert!(change(&*store.first, first, DekState::Active, DekState::DecryptOnly).await);
    assert!(replace(&*store.first, &scope, first, "3").await, "decrypt-only");
    assert!(change(&*store.first, first, DekState::DecryptOnly, DekState::Disabled).await);
    assert!(replace(&*store.first, &scope, first, "4").await, "disabled");
    assert_eq!(find_key(&*store.second, &scope, 1).await.unwrap().state, DekState::Disabled);
    let rev = find_key(&*store.first, &scope, 1).await.unwrap().wraps[0].rev;
    assert!(change(&*store.first, first, DekState::Disabled, DekState::Shredded).await);
    let swap = WrapSwap::new(first, 0, rev, wrap_by("5"));
    assert!(!store.first.replace_wrap(&swap).await.unwrap(), "shredded");
    assert_eq!(find_key(&*store.first, &scope, 1).await.unwrap().wraps, []);
}

async fn replace(store: &dyn KeyStore, scope: &ScopeId, key_id: KeyId, label: &str) -> bool {
    let query = DekQuery::Key { scope: scope.clone(), key_id };
    let rev = find(store, query).await.unwrap().wraps[0].rev;
    store.replace_wrap(&WrapSwap::new(key_id, 0, rev, wrap_by(label))).await.unwrap()
}

/// A version, or its whole KEK, that is known to be disabled, about to be destroyed
/// or destroyed would take the DEK with it.
pub async fn an_unusable_kek_version_gets_no_wraps(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    let scope = scope("t");
    let key_id = insert(&*store.first, &scope, 1).await;
    let record = async |status: KekStatus, of_version: KekStatus| {
        let versions = vec![KekVersionState::new("2", of_version)];
        let state = KekState::new(kek("kek"), status, reported("1")).with_versions(versions);
        store.second.record_kek(&state).await.unwrap();
    };
    let enabled = KekStatus::Enabled;
    for status in [KekStatus::Disabled, KekStatus::PendingDestruction, KekStatus::Destroyed] {
        record(enabled, status).await;
        assert!(!replace(&*store.first, &scope, key_id, "2").await, "version {status}");
        record(status, enabled).await;
        assert!(!replace(&*store.first, &scope, key_id, "2").await, "KEK {status}");
        assert!(!replace(&*store.first, &scope, key_id, "new").await, "KEK {status}");
    }
    assert_eq!(find_active(&*store.first, &scope).await.unwrap().wraps[0].wrapped, wrap());
    record(enabled, KekStatus::Disabled).await;
    assert!(replace(&*store.first, &scope, key_id, "new").await, "a version not heard of");
    record(enabled, enabled).await;
    assert!(replace(&*store.first, &scope, key_id, "2").await, "enabled again");
}

/// Rewrapping crosses KEKs; the counts follow.
pub async fn a_wrap_may_move_to_another_kek(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    let scope = scope("t");
    let key_id = insert(&*store.first, &scope, 1).await;
    let rev = find_active(&*store.first, &scope).await.unwrap().wraps[0].rev;
    let wrapped = WrappedKey::new(kek("other"), KekVersion::Unknown, b"moved".to_vec());
    let swap = WrapSwap::new(key_id, 0, rev, wrapped.clone());
    assert!(store.first.replace_wrap(&swap).await.unwrap());
    assert_eq!(find_active(&*store.second, &scope).await.unwrap().wraps[0].wrapped, wrapped);
    assert_eq!(store.second.kek_usage(&kek("kek")).await.unwrap(), []);
    let usage = store.second.kek_usage(&kek("other")).await.unwrap();
    assert_eq!(usage, [KekUsage::new(KekVersion::Unknown, 1)]);
}

/// The limits of an insertion hold for a replacement.
pub async fn a_replacement_is_checked_before_it_is_stored(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    let scope = scope("t");
    let key_id = insert(&*store.first, &scope, 1).await;
    let rev = find_active(&*store.first, &scope).await.unwrap().wraps[0].rev;
    for wrapped in [
        WrappedKey::new(kek("kek"), reported("1"), Vec::new()),
        WrappedKey::new(kek("kek"), reported("1"), vec![1; WrappedKey::BLOB_BYTES_MAX + 1]),
        WrappedKey::new(KekId::new("k".repeat(513)), reported("1"), vec![1]),
        WrappedKey::new(kek("kek"), reported(&"1".repeat(256)), vec![1]),
    ] {
        let swap = WrapSwap::new(key_id, 0, rev, wrapped);
        assert!(is_refused(store.first.replace_wrap(&swap).await));
    }
    let bad = KekState::new(KekId::new("k".repeat(513)), KekStatus::Enabled, KekVersion::Unknown);
    assert!(is_refused(store.first.record_kek(&bad).await));
    let label = KekVersionState::new("1".repeat(256), KekStatus::Enabled);
    let bad =
        KekState::new(kek("kek"), KekStatus::Enabled, reported("1")).with_versions(vec![label]);
    assert!(is_refused(store.first.record_kek(&bad).await));
    assert_eq!(find_active(&*store.first, &scope).await.unwrap().wraps[0].wrapped, wrap());
}

fn version_of(n: u32) -> KekVersion {
    match n % 6 {
        0..=2 => reported("1"),
        3 => reported("2"),
        4 => KekVersion::Unknown,
        _ => reported("10"),
    }
}

/// Every wrap of the KEK in one count, those of other KEKs in none.
pub async fn usage_is_exact(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    for n in 0..30_u32 {
        let mut dek = new_dek(&scope(&format!("t-{n}")), 1);
        let name = if n % 5 == 0 { "other" } else { "kek" };
        dek.wrapped = WrappedKey::new(kek(name), version_of(n), vec![1]);
        store.first.insert_dek(&dek).await.unwrap();
    }
    let mut expected = HashMap::new();
    for n in (0..30_u32).filter(|n| n % 5 != 0) {
        *expected.entry(version_of(n)).or_insert(0_u64) += 1;
    }
    let usage = store.second.kek_usage(&kek("kek")).await.unwrap();
    assert_eq!(usage.len(), expected.len(), "one row for each version: {usage:?}");
    let usage: HashMap<_, _> =
        usage.into_iter().map(|usage| (usage.kek_version, usage.wraps)).collect();
    assert_eq!(usage, expected);
}

/// A KMS may report a version that its blobs name as well.
pub async fn usage_counts_a_version_once_however_it_is_known(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    let versions = [KekVersion::Parsed("1".into()), reported("1"), KekVersion::Parsed("2".into())];
    for (kek_version, n) in versions.into_iter().zip(0..) {
        let mut dek = new_dek(&scope(&format!("t-{n}")), 1);
        dek.wrapped = WrappedKey::new(kek("kek"), kek_version, vec![1]);
        store.first.insert_dek(&dek).await.unwrap();
    }
    let mut usage = store.first.kek_usage(&kek("kek")).await.unwrap();
    usage.sort_by_key(|usage| usage.wraps);
    let expected =
        [KekUsage::new(KekVersion::Parsed("2".into()), 1), KekUsage::new(reported("1"), 2)];
    assert_eq!(usage, expected);
}

/// Neither one that the store has never heard of nor one that it only heard of.
pub async fn a_kek_without_wraps_has_no_usage(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    assert_eq!(store.first.kek_usage(&kek("unknown")).await.unwrap(), []);
    let state = KekState::new(kek("idle"), KekStatus::Enabled, reported("1"));
    store.first.record_kek(&state).await.unwrap();
    assert_eq!(store.first.kek_usage(&kek("idle")).await.unwrap(), []);
}
