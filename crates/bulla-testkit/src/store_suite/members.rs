//! Members: who is alive, what they know, and what waits for them.

use bulla_backend::WrapSwap;

use super::*;

/// A pending second version, and the revision that tells of it.
async fn pending(store: &Handles, scope: &ScopeId) -> StoreRevision {
    insert(&*store.first, scope, 1).await;
    insert(&*store.first, scope, 2).await;
    revision(&*store.first).await
}

/// Each of them must know the version before anybody seals with it.
pub async fn activation_waits_for_every_live_member(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    report(&*store.first, "a", StoreRevision(0)).await;
    report(&*store.second, "b", StoreRevision(0)).await;
    let told = pending(&store, &scope("t")).await;
    assert_eq!(store.first.activate_due().await.unwrap(), 0);
    report(&*store.first, "a", told).await;
    assert_eq!(store.first.activate_due().await.unwrap(), 0);
    report(&*store.second, "b", StoreRevision(told.0 - 1)).await;
    assert_eq!(store.first.activate_due().await.unwrap(), 0, "one revision short");
    report(&*store.second, "b", told).await;
    assert_eq!(store.first.activate_due().await.unwrap(), 1);
}

/// Who has not reported for `alive_for` is dead, until it reports again.
pub async fn activation_does_not_wait_for_the_dead(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    report(&*store.first, "a", StoreRevision(0)).await;
    let told = pending(&store, &scope("t")).await;
    store.advance(MINUTE / 2);
    report(&*store.first, "b", told).await;
    assert_eq!(store.first.activate_due().await.unwrap(), 0, "both are alive");
    report(&*store.first, "a", StoreRevision(0)).await;
    store.advance(MINUTE / 2);
    assert_eq!(store.first.activate_due().await.unwrap(), 0, "the report extended its life");
    store.advance(MINUTE / 2);
    assert_eq!(store.first.activate_due().await.unwrap(), 1, "both are dead");
}

/// It says so itself; for one that is unknown there is nothing to do.
pub async fn a_removed_member_holds_nothing_up(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    report(&*store.first, "a", StoreRevision(0)).await;
    pending(&store, &scope("t")).await;
    store.second.remove_member(&MemberId::new("b")).await.unwrap();
    assert_eq!(store.first.activate_due().await.unwrap(), 0);
    store.second.remove_member(&MemberId::new("a")).await.unwrap();
    store.second.remove_member(&MemberId::new("a")).await.unwrap();
    assert_eq!(store.first.activate_due().await.unwrap(), 1);
}

/// What counts is the revision that touched the version last.
pub async fn a_rewrapped_version_is_acknowledged_anew(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    let scope = scope("t");
    let told = pending(&store, &scope).await;
    report(&*store.first, "a", told).await;
    let rev = find_key(&*store.first, &scope, 2).await.unwrap().wraps[0].rev;
    let swap = WrapSwap::new(key(&scope, 2), 0, rev, wrap());
    assert!(store.first.replace_wrap(&swap).await.unwrap());
    assert_eq!(store.first.activate_due().await.unwrap(), 0);
    report(&*store.first, "a", revision(&*store.first).await).await;
    assert_eq!(store.first.activate_due().await.unwrap(), 1);
}

/// Reports of one process may overtake each other.
pub async fn an_acknowledgement_is_never_taken_back(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    let told = pending(&store, &scope("t")).await;
    report(&*store.first, "a", told).await;
    report(&*store.second, "a", StoreRevision(0)).await;
    assert_eq!(store.first.activate_due().await.unwrap(), 1);
}

/// It would agree to versions that it has never heard of.
pub async fn nobody_acknowledges_the_future(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    insert(&*store.first, &scope("t"), 1).await;
    let present = revision(&*store.first).await;
    for ahead in [present.0 + 1, u64::MAX] {
        let member = MemberReport::new(MemberId::new("a"), StoreRevision(ahead), MINUTE, MINUTE);
        assert!(is_refused(store.first.report_member(&member).await));
    }
    for name in ["", &"m".repeat(65)] {
        let member = MemberReport::new(MemberId::new(name), present, MINUTE, MINUTE);
        assert!(is_refused(store.first.report_member(&member).await));
    }
    report(&*store.first, &"m".repeat(64), present).await;
}
