//! Revisions and the change feed.

use bulla_backend::{ClaimRequest, DekChange, KekState, KekStatus, KekVersionState, WrapSwap};

use super::*;

/// `None` asks for the present, not for the past.
pub async fn the_first_look_tells_the_revision_alone(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    insert(&*store.first, &scope("t"), 1).await;
    let look = store.second.changes_since(None, 10).await.unwrap();
    assert!(look.deks.is_empty() && !look.more, "{look:?}");
    let next = store.second.changes_since(Some(look.revision), 10).await.unwrap();
    assert_eq!((next.revision, next.more, next.deks), (look.revision, false, Vec::new()));
}

/// One for each; every DEK that was touched is told with it.
pub async fn every_mutation_has_a_revision(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    let (first, second) = (&*store.first, &*store.second);
    let scope = scope("t");
    let mut seen = revision(first).await;
    let mut told = async |what: &str, expected: &[u32]| {
        let changes = second.changes_since(Some(seen), 10).await.unwrap();
        assert_eq!(changes.revision.0, seen.0 + 1, "{what}");
        let mut versions: Vec<_> = changes.deks.iter().map(|dek| dek.version.get()).collect();
        versions.sort_unstable();
        assert_eq!(versions, expected, "{what}");
        seen = changes.revision;
    };
    let owner = MemberId::new("a");
    first.claim_next_version(&ClaimRequest::new(scope.clone(), None, owner, MINUTE)).await.unwrap();
    told("a claim", &[]).await;
    let key_id = insert(first, &scope, 1).await;
    told("the first version", &[1]).await;
    insert(first, &scope, 2).await;
    told("a later version", &[2]).await;
    first.activate_due().await.unwrap();
    told("an activation", &[1, 2]).await;
    assert!(change(first, key_id, DekState::DecryptOnly, DekState::Disabled).await);
    told("a change of state", &[1]).await;
    let rev = find_key(first, &scope, 2).await.unwrap().wraps[0].rev;
    let swap = WrapSwap::new(key(&scope, 2), 0, rev, wrap());
    assert!(first.replace_wrap(&swap).await.unwrap());
    told("a replaced wrap", &[2]).await;
    assert!(change(first, key_id, DekState::Disabled, DekState::Shredded).await);
    told("a shredding", &[1]).await;
    let state = KekState::new(kek("kek"), KekStatus::Disabled, reported("1"));
    first.record_kek(&state).await.unwrap();
    told("the state of a KEK", &[]).await;
    let state = state.with_versions(vec![KekVersionState::new("0", KekStatus::Destroyed)]);
    first.record_kek(&state).await.unwrap();
    told("the state of a KEK version", &[]).await;
    report(first, "a", StoreRevision(1)).await;
    told("a report", &[]).await;
    first.remove_member(&MemberId::new("a")).await.unwrap();
    told("the end of a member", &[]).await;
}

/// Reads, and writes that had nothing to do.
pub async fn what_changes_nothing_has_no_revision(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    let (first, second) = (&*store.first, &*store.second);
    let scope = scope("t");
    insert(first, &scope, 1).await;
    let versions = vec![KekVersionState::new("1", KekStatus::Disabled)];
    let state = KekState::new(kek("kek"), KekStatus::Enabled, reported("1"));
    let state = state.with_versions(versions);
    first.record_kek(&state).await.unwrap();
    let before = revision(first).await;
    find_active(second, &scope).await;
    second.kek_usage(&kek("kek")).await.unwrap();
    second.changes_since(Some(before), 10).await.unwrap();
    assert_eq!(second.activate_due().await.unwrap(), 0);
    second.remove_member(&MemberId::new("unknown")).await.unwrap();
    second.record_kek(&state).await.unwrap();
    let request = ClaimRequest::new(scope.clone(), None, MemberId::new("a"), MINUTE);
    second.claim_next_version(&request).await.unwrap();
    assert_eq!(revision(first).await, before);
}

/// Old states are no news.
pub async fn a_dek_is_told_once_as_it_is_now(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    let scope = scope("t");
    let key_id = insert(&*store.first, &scope, 1).await;
    insert(&*store.first, &scope, 2).await;
    store.first.activate_due().await.unwrap();
    assert!(change(&*store.first, key_id, DekState::DecryptOnly, DekState::Disabled).await);
    let changes = store.second.changes_since(Some(StoreRevision(0)), 10).await.unwrap();
    let expected = [
        DekChange::new(scope.clone(), key(&scope, 2), version(2), DekState::Active),
        DekChange::new(scope.clone(), key_id, version(1), DekState::Disabled),
    ];
    assert_eq!(changes.deks, expected, "oldest change first");
}

/// Page by page, at most the limit each, all that one page would tell.
pub async fn pages_tell_everything_in_order(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    let scopes: Vec<_> = (0..25).map(|n| scope(&format!("t-{n}"))).collect();
    for scope in &scopes {
        insert(&*store.first, scope, 1).await;
    }
    // The present is later than the last DEK.
    report(&*store.first, "a", StoreRevision(0)).await;
    for (limit, largest) in [(0, 1), (1, 1), (7, 7), (25, 25), (u32::MAX, 25)] {
        let (mut seen, mut told) = (StoreRevision(0), Vec::new());
        loop {
            let page = store.second.changes_since(Some(seen), limit).await.unwrap();
            assert!(page.deks.len() <= largest, "{} of {limit}", page.deks.len());
            assert!(!page.more || page.revision > seen, "a page makes progress");
            told.extend(page.deks.into_iter().map(|dek| dek.scope));
            seen = page.revision;
            if !page.more {
                break;
            }
        }
        assert_eq!(told, scopes, "pages of {limit}");
        assert_eq!(seen, revision(&*store.first).await, "the last page reaches the present");
    }
}

/// A page holds whole revisions, even if that makes it longer.
pub async fn a_revision_is_never_split(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    for n in 0..5 {
        let scope = scope(&format!("t-{n}"));
        insert(&*store.first, &scope, 1).await;
        insert(&*store.first, &scope, 2).await;
    }
    let before = revision(&*store.first).await;
    assert_eq!(store.first.activate_due().await.unwrap(), 5);
    let after = revision(&*store.first).await;
    insert(&*store.first, &scope("last"), 1).await;
    let page = store.second.changes_since(Some(before), 3).await.unwrap();
    assert_eq!((page.revision, page.more, page.deks.len()), (after, true, 10));
    let page = store.second.changes_since(Some(page.revision), 3).await.unwrap();
    assert_eq!((page.more, page.deks.len()), (false, 1));
}

/// Who has seen more than there is follows a store that was put back: it learns so
/// from the revision.
pub async fn a_feed_from_the_future_tells_the_present(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    insert(&*store.first, &scope("t"), 1).await;
    let present = revision(&*store.first).await;
    for ahead in [present.0 + 1, u64::MAX] {
        let page = store.second.changes_since(Some(StoreRevision(ahead)), 10).await.unwrap();
        assert_eq!((page.revision, page.more, page.deks), (present, false, Vec::new()));
    }
}

/// The same for every handle and at any time; another for another store.
pub async fn a_store_has_one_identity(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    let identity = store.first.changes_since(None, 1).await.unwrap().identity;
    insert(&*store.first, &scope("t"), 1).await;
    let again = store.second.changes_since(Some(StoreRevision(0)), 1).await.unwrap().identity;
    assert_eq!(identity, again);
    assert_eq!(identity.epoch, 1);
    let other = fixture.fresh().await;
    let other = other.first.changes_since(None, 1).await.unwrap().identity;
    assert_ne!(identity.store_id, other.store_id);
}
