//! Rewrapping, and which KEK versions are in use.

use std::collections::HashMap;

use bulla_backend::{KekState, KekStatus, KekUsage, KekVersionState, NewWrap, WrapSwap};

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

/// A wrap by the KEK `name`, which no other wrap resembles.
fn wrap_of(name: &str) -> WrappedKey {
    WrappedKey::new(kek(name), reported("1"), format!("by {name}").into_bytes())
}

async fn add(store: &dyn KeyStore, key_id: KeyId, slot: u8, name: &str) -> bool {
    store.add_wrap(&NewWrap::new(key_id, slot, wrap_of(name))).await.unwrap()
}

/// The slots of a DEK's wraps and the KEKs in them.
async fn slots(store: &dyn KeyStore, scope: &ScopeId, number: u32) -> Vec<(u8, KekId)> {
    let wraps = find_key(store, scope, number).await.unwrap().wraps;
    wraps.into_iter().map(|wrap| (wrap.slot, wrap.wrapped.kek)).collect()
}

/// All are stored with the DEK, each is replaced by itself, and all are shredded.
pub async fn a_dek_may_have_several_wraps(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    let scope = scope("t");
    let dek = new_dek(&scope, 1).also_wrapped(vec![wrap_of("b"), wrap_of("c")]);
    store.first.insert_dek(&dek).await.unwrap();
    let found = find_active(&*store.second, &scope).await.unwrap().wraps;
    let expected = [wrap(), wrap_of("b"), wrap_of("c")];
    assert!(found.iter().map(|wrap| &wrap.wrapped).eq(&expected), "{found:?}");
    assert!(found.iter().map(|wrap| wrap.slot).eq([0, 1, 2]), "{found:?}");
    for name in ["kek", "b", "c"] {
        let usage = store.second.kek_usage(&kek(name)).await.unwrap();
        assert_eq!(usage, [KekUsage::new(reported("1"), 1)]);
    }
    let new = WrappedKey::new(kek("b"), reported("2"), b"newer".to_vec());
    let swap = WrapSwap::new(dek.key_id, 1, found[1].rev, new.clone());
    assert!(store.second.replace_wrap(&swap).await.unwrap());
    let after = find_active(&*store.first, &scope).await.unwrap().wraps;
    assert_eq!(after[1].wrapped, new);
    assert_eq!((&after[0], &after[2]), (&found[0], &found[2]), "the others are as they were");
    assert!(change(&*store.first, dek.key_id, DekState::Active, DekState::Shredded).await);
    assert_eq!(find_key(&*store.second, &scope, 1).await.unwrap().wraps, []);
    for name in ["kek", "b", "c"] {
        assert_eq!(store.second.kek_usage(&kek(name)).await.unwrap(), []);
    }
}

/// 16 wraps by 16 KEKs, each within its own limits.
pub async fn wraps_beyond_the_limits_are_refused(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    let scope = scope("t");
    let others = |count: u32| (1..=count).map(|n| wrap_of(&format!("k{n}"))).collect::<Vec<_>>();
    let empty = WrappedKey::new(kek("b"), reported("1"), Vec::new());
    for wraps in [others(16), others(300), vec![wrap()], vec![wrap_of("b"); 2], vec![empty.clone()]]
    {
        let dek = new_dek(&scope, 1).also_wrapped(wraps);
        assert!(is_refused(store.first.insert_dek(&dek).await), "{:?}", dek.also_wrapped);
    }
    assert_eq!(find_active(&*store.first, &scope).await, None);
    let dek = new_dek(&scope, 1).also_wrapped(others(14));
    store.first.insert_dek(&dek).await.unwrap();
    for (slot, wrapped) in [(16, wrap_of("x")), (255, wrap_of("x")), (15, empty)] {
        let new = NewWrap::new(dek.key_id, slot, wrapped);
        assert!(is_refused(store.first.add_wrap(&new).await), "{new:?}");
    }
    assert!(add(&*store.first, dek.key_id, 15, "x").await);
    assert_eq!(slots(&*store.second, &scope, 1).await.len(), 16);
}

/// In a free slot, by a KEK that has none, of a DEK that exists; and at revision 1 of the
/// slot, with a revision of the store.
pub async fn a_wrap_is_added_where_there_is_room(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    let scope = scope("t");
    let key_id = insert(&*store.first, &scope, 1).await;
    let before = revision(&*store.first).await;
    assert!(!add(&*store.first, key_id, 0, "b").await, "the slot is taken");
    assert!(!add(&*store.first, key_id, 1, "kek").await, "the KEK has one");
    assert!(!add(&*store.first, key(&scope, 2), 1, "b").await, "no such DEK");
    assert_eq!(revision(&*store.first).await, before, "nothing was written");

    assert!(add(&*store.first, key_id, 3, "d").await);
    let changes = store.second.changes_since(Some(before), 10).await.unwrap();
    assert_eq!(changes.deks.len(), 1);
    assert_eq!((changes.deks[0].key_id, changes.deks[0].state), (key_id, DekState::Active));
    assert!(add(&*store.second, key_id, 1, "b").await);
    assert!(!add(&*store.first, key_id, 2, "b").await, "again");
    let expected = [(0, kek("kek")), (1, kek("b")), (3, kek("d"))];
    assert_eq!(slots(&*store.first, &scope, 1).await, expected);
    let added = find_active(&*store.second, &scope).await.unwrap().wraps[1].clone();
    assert_eq!(added.wrapped, wrap_of("b"));
    let swap = WrapSwap::new(key_id, 1, added.rev, wrap_of("b"));
    assert!(store.first.replace_wrap(&swap).await.unwrap());
}

/// What is shredded gets no wrap that would bring it back.
pub async fn a_wrap_is_added_in_every_state_that_has_one(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    let scope = scope("t");
    let first = insert(&*store.first, &scope, 1).await;
    let second = insert(&*store.first, &scope, 2).await;
    assert!(add(&*store.first, second, 1, "b").await, "pending");
    assert!(add(&*store.first, first, 1, "b").await, "active");
    assert!(change(&*store.first, first, DekState::Active, DekState::DecryptOnly).await);
    assert!(add(&*store.first, first, 2, "c").await, "decrypt-only");
    assert!(change(&*store.first, first, DekState::DecryptOnly, DekState::Disabled).await);
    assert!(add(&*store.first, first, 3, "d").await, "disabled");
    assert_eq!(find_key(&*store.second, &scope, 1).await.unwrap().state, DekState::Disabled);
    assert!(change(&*store.first, first, DekState::Disabled, DekState::Shredded).await);
    assert!(!add(&*store.first, first, 1, "b").await, "shredded");
    assert!(change(&*store.first, first, DekState::Shredded, DekState::Final).await);
    assert!(!add(&*store.first, first, 1, "b").await, "final");
    assert_eq!(slots(&*store.first, &scope, 1).await, []);
}

/// As for replacements.
pub async fn an_unusable_kek_adds_no_wraps(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    let key_id = insert(&*store.first, &scope("t"), 1).await;
    let enabled = KekStatus::Enabled;
    for status in [KekStatus::Disabled, KekStatus::PendingDestruction, KekStatus::Destroyed] {
        for (of_kek, of_version) in [(status, enabled), (enabled, status)] {
            let versions = vec![KekVersionState::new("1", of_version)];
            let state = KekState::new(kek("b"), of_kek, reported("2")).with_versions(versions);
            store.second.record_kek(&state).await.unwrap();
            assert!(
                !add(&*store.first, key_id, 1, "b").await,
                "KEK {of_kek}, version {of_version}"
            );
        }
    }
    let state = KekState::new(kek("b"), enabled, reported("1"));
    store.second.record_kek(&state).await.unwrap();
    assert!(add(&*store.first, key_id, 1, "b").await, "enabled again");
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
