//! Claims and new versions.

use bulla_backend::{Claim, ClaimRequest};

use super::*;

const TTL: Duration = Duration::from_secs(30);

async fn claim(store: &dyn KeyStore, scope: &ScopeId, after: u32, owner: &str) -> Claim {
    store.claim_next_version(&request(scope, after, owner)).await.unwrap()
}

/// `after` 0: none.
fn request(scope: &ScopeId, after: u32, owner: &str) -> ClaimRequest {
    ClaimRequest::new(scope.clone(), DekVersion::new(after), MemberId::new(owner), TTL)
}

/// Others are busy until the claim ends by time; its owner may claim again, which
/// extends it.
pub async fn one_process_holds_the_claim_until_it_ends(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    let scope = scope("t");
    let granted = Claim::Granted(DekVersion::FIRST);
    assert_eq!(claim(&*store.first, &scope, 0, "a").await, granted);
    let Claim::Busy { remaining } = claim(&*store.second, &scope, 0, "b").await else {
        unreachable!("a claim is busy for others");
    };
    assert!(remaining <= TTL && remaining > TTL / 2, "{remaining:?} of {TTL:?} remain");

    store.advance(TTL * 2 / 3);
    assert_eq!(claim(&*store.first, &scope, 0, "a").await, granted, "to extend it");
    store.advance(TTL * 2 / 3);
    let busy = claim(&*store.second, &scope, 0, "b").await;
    assert!(matches!(busy, Claim::Busy { remaining } if remaining <= TTL / 3), "{busy:?}");

    store.advance(TTL);
    assert_eq!(claim(&*store.second, &scope, 0, "b").await, granted, "after the end");
    assert!(matches!(claim(&*store.first, &scope, 0, "a").await, Claim::Busy { .. }));
}

/// A version that is newer than `after` supersedes, in whatever state it is, and
/// whoever holds the claim.
pub async fn a_claim_is_superseded_by_any_newer_version(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    let scope = scope("t");
    insert(&*store.first, &scope, 1).await;
    let by = |newest, state| Claim::Superseded { newest: version(newest), state };
    assert_eq!(claim(&*store.second, &scope, 0, "b").await, by(1, DekState::Active));
    let second = insert(&*store.first, &scope, 2).await;
    assert_eq!(claim(&*store.second, &scope, 1, "b").await, by(2, DekState::Pending));
    assert!(change(&*store.first, second, DekState::Pending, DekState::Shredded).await);
    assert_eq!(claim(&*store.second, &scope, 1, "b").await, by(2, DekState::Shredded));
    assert_eq!(claim(&*store.first, &scope, 2, "a").await, Claim::Granted(version(3)));
    assert_eq!(claim(&*store.second, &scope, 1, "b").await, by(2, DekState::Shredded));
    assert_eq!(claim(&*store.second, &scope, 0, "b").await, by(2, DekState::Shredded));
}

/// A caller that knows a version that the store does not has met another store.
pub async fn a_claim_cannot_run_ahead_of_the_store(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    let scope = scope("t");
    let ahead = request(&scope, 1, "a");
    assert!(is_refused(store.first.claim_next_version(&ahead).await));
    insert(&*store.first, &scope, 1).await;
    assert!(store.first.claim_next_version(&ahead).await.is_ok());
    assert!(is_refused(store.first.claim_next_version(&request(&scope, 2, "a")).await));
    let last = request(&scope, u32::MAX, "a");
    assert!(is_refused(store.first.claim_next_version(&last).await));
}

/// A claim on one scope keeps nobody from another.
pub async fn claims_of_scopes_are_independent(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    let granted = Claim::Granted(DekVersion::FIRST);
    assert_eq!(claim(&*store.first, &scope("a"), 0, "a").await, granted);
    assert_eq!(claim(&*store.second, &scope("b"), 0, "b").await, granted);
}

/// What was claimed is made: the next version is free for anybody.
pub async fn inserting_ends_the_claim(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    let scope = scope("t");
    for number in 1..4 {
        let granted = Claim::Granted(version(number));
        assert_eq!(claim(&*store.first, &scope, number - 1, "a").await, granted);
        insert(&*store.first, &scope, number).await;
        let granted = Claim::Granted(version(number + 1));
        assert_eq!(claim(&*store.second, &scope, number, "b").await, granted);
        store.advance(TTL);
    }
}

/// Insertion needs no claim, nor does somebody else's hinder it.
pub async fn a_claim_is_only_a_hint(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    let scope = scope("t");
    insert(&*store.first, &scope, 1).await;
    claim(&*store.first, &scope, 1, "a").await;
    insert(&*store.second, &scope, 2).await;
    assert_eq!(store.first.insert_dek(&new_dek(&scope, 2)).await.unwrap(), Insertion::Lost);
}

/// Nobody can have missed the first; the others have to be told first.
pub async fn the_first_version_is_active_at_once_a_later_one_pending(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    let scope = scope("t");
    let mut dek = new_dek(&scope, 1);
    dek.activation_delay = 60 * MINUTE;
    let stored = store.first.insert_dek(&dek).await.unwrap();
    assert_eq!(stored, Insertion::Stored(DekState::Active), "whatever its delay");
    insert(&*store.first, &scope, 2).await;
    insert(&*store.first, &scope, 3).await;
    let expected = [DekState::Active, DekState::Pending, DekState::Pending];
    assert_eq!(states(&*store.second, &scope).await, expected);
}

/// Who comes second has lost and leaves no trace, even with another key.
pub async fn a_version_is_stored_once(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    let scope = scope("t");
    insert(&*store.first, &scope, 1).await;
    insert(&*store.first, &scope, 2).await;
    let before = revision(&*store.first).await;
    for number in [1, 2] {
        let mut rival = new_dek(&scope, number);
        rival.key_id = KeyId::from_bytes([0x99; KeyId::LEN]);
        rival.wrapped = WrappedKey::new(kek("rival"), reported("1"), b"rival".to_vec());
        assert_eq!(store.second.insert_dek(&rival).await.unwrap(), Insertion::Lost);
        // So has who repeats a call whose answer got lost.
        let again = store.second.insert_dek(&new_dek(&scope, number)).await.unwrap();
        assert_eq!(again, Insertion::Lost);
    }
    assert_eq!(revision(&*store.first).await, before);
    assert_eq!(store.first.kek_usage(&kek("rival")).await.unwrap(), []);
    assert_eq!(find_key(&*store.first, &scope, 1).await.unwrap().wraps[0].wrapped, wrap());
}

/// No version can be left out: nobody could have granted it.
pub async fn a_gap_in_the_lineage_is_refused(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    let scope = scope("t");
    assert!(is_refused(store.first.insert_dek(&new_dek(&scope, 2)).await));
    insert(&*store.first, &scope, 1).await;
    assert!(is_refused(store.first.insert_dek(&new_dek(&scope, 3)).await));
    assert!(is_refused(store.first.insert_dek(&new_dek(&scope, u32::MAX)).await));
    assert_eq!(states(&*store.first, &scope).await, [DekState::Active]);
}

/// Key ids are derived from scope and version; the same elsewhere is a mistake.
pub async fn a_key_id_names_one_dek(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    let (mine, theirs) = (scope("mine"), scope("theirs"));
    let key_id = insert(&*store.first, &mine, 1).await;
    for (scope, number) in [(&mine, 2), (&theirs, 1)] {
        let mut dek = new_dek(scope, number);
        dek.key_id = key_id;
        assert!(is_refused(store.first.insert_dek(&dek).await));
    }
    assert_eq!(states(&*store.first, &mine).await, [DekState::Active]);
    assert_eq!(find_active(&*store.first, &theirs).await, None);
}

/// Blobs of 1 to 1024 bytes, KEK ids to 512, KEK versions to 255, members to 64.
pub async fn what_exceeds_a_limit_is_refused(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    let scope = scope("t");
    let before = revision(&*store.first).await;
    let too_much = [
        WrappedKey::new(kek("a"), reported("1"), Vec::new()),
        WrappedKey::new(kek("a"), reported("1"), vec![1; WrappedKey::BLOB_BYTES_MAX + 1]),
        WrappedKey::new(KekId::new("k".repeat(513)), reported("1"), vec![1]),
        WrappedKey::new(KekId::new(""), reported("1"), vec![1]),
        WrappedKey::new(kek("a"), reported(&"1".repeat(256)), vec![1]),
        WrappedKey::new(kek("a"), reported(""), vec![1]),
        WrappedKey::new(kek("a"), reported("1\0"), vec![1]),
    ];
    for wrap in too_much {
        let mut dek = new_dek(&scope, 1);
        dek.wrapped = wrap;
        assert!(is_refused(store.first.insert_dek(&dek).await), "{:?}", dek.wrapped);
    }
    for owner in ["", &"m".repeat(65)] {
        assert!(is_refused(store.first.claim_next_version(&request(&scope, 0, owner)).await));
    }
    assert_eq!(revision(&*store.first).await, before, "nothing was written");
    assert_eq!(find_active(&*store.first, &scope).await, None);
}
