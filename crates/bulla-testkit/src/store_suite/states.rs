//! Activation, and states that operators change.

use super::*;

async fn insert_delayed(store: &dyn KeyStore, scope: &ScopeId, number: u32, delay: Duration) {
    let mut dek = new_dek(scope, number);
    dek.activation_delay = delay;
    assert_eq!(store.insert_dek(&dek).await.unwrap(), Insertion::Stored(DekState::Pending));
}

/// Not before its delay has passed; then once.
pub async fn activation_waits_for_the_delay(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    let scope = scope("t");
    assert_eq!(store.first.activate_due().await.unwrap(), 0);
    insert(&*store.first, &scope, 1).await;
    insert_delayed(&*store.first, &scope, 2, 10 * MINUTE).await;
    store.advance(9 * MINUTE);
    assert_eq!(store.first.activate_due().await.unwrap(), 0);
    assert_eq!(states(&*store.first, &scope).await, [DekState::Active, DekState::Pending]);
    store.advance(MINUTE);
    assert_eq!(store.second.activate_due().await.unwrap(), 1);
    assert_eq!(states(&*store.first, &scope).await, [DekState::DecryptOnly, DekState::Active]);
    assert_eq!(store.first.activate_due().await.unwrap(), 0);
}

/// In one transaction: one revision tells both.
pub async fn activation_retires_the_version_before(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    let scope = scope("t");
    insert(&*store.first, &scope, 1).await;
    insert(&*store.first, &scope, 2).await;
    let before = revision(&*store.first).await;
    assert_eq!(store.first.activate_due().await.unwrap(), 1);
    let after = revision(&*store.first).await;
    assert_eq!(after.0, before.0 + 1, "one transaction");
    let changes = store.first.changes_since(Some(before), 10).await.unwrap();
    let mut changed: Vec<_> = changes.deks.iter().map(|dek| (dek.version, dek.state)).collect();
    changed.sort_by_key(|(version, _)| *version);
    let expected = [(version(1), DekState::DecryptOnly), (version(2), DekState::Active)];
    assert_eq!(changed, expected);
    // A scope without an active version gets one too.
    assert!(change(&*store.first, key(&scope, 2), DekState::Active, DekState::Shredded).await);
    insert(&*store.first, &scope, 3).await;
    assert_eq!(store.first.activate_due().await.unwrap(), 1);
    assert_eq!(find_active(&*store.first, &scope).await.unwrap().version, version(3));
}

/// All that is due, and nothing else.
pub async fn activation_takes_every_scope_at_once(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    let scopes: Vec<_> = (0..10).map(|n| scope(&format!("t-{n}"))).collect();
    for (n, scope) in scopes.iter().enumerate() {
        insert(&*store.first, scope, 1).await;
        let delay = if n < 7 { Duration::ZERO } else { MINUTE };
        insert_delayed(&*store.first, scope, 2, delay).await;
    }
    assert_eq!(store.second.activate_due().await.unwrap(), 7);
    for (n, scope) in scopes.iter().enumerate() {
        let active = find_active(&*store.first, scope).await.unwrap().version;
        assert_eq!(active, version(if n < 7 { 2 } else { 1 }));
    }
    store.advance(MINUTE);
    assert_eq!(store.first.activate_due().await.unwrap(), 3);
}

/// Of several due versions the newest wins, and one that was overtaken only opens.
pub async fn activation_never_goes_back(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    let scope = scope("t");
    insert(&*store.first, &scope, 1).await;
    insert_delayed(&*store.first, &scope, 2, 10 * MINUTE).await;
    insert(&*store.first, &scope, 3).await;
    insert(&*store.first, &scope, 4).await;
    use DekState::{Active, DecryptOnly, Pending};
    assert_eq!(store.first.activate_due().await.unwrap(), 2);
    assert_eq!(states(&*store.first, &scope).await, [DecryptOnly, Pending, DecryptOnly, Active]);
    store.advance(10 * MINUTE);
    assert_eq!(store.first.activate_due().await.unwrap(), 1);
    assert_eq!(
        states(&*store.first, &scope).await,
        [DecryptOnly, DecryptOnly, DecryptOnly, Active]
    );
}

/// Whatever the caller puts into the request.
pub async fn a_state_changes_only_along_the_arrows(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    for (from, to) in
        DekState::ALL.iter().flat_map(|from| DekState::ALL.iter().map(move |to| (*from, *to)))
    {
        let scope = scope(&format!("{from}-{to}"));
        let key_id = bring_to(&*store.first, &scope, from).await;
        let mut request = StateChange::new(key_id, DekState::Shredded, DekState::Final).unwrap();
        (request.from, request.to) = (from, to);
        let result = store.second.change_state(&request).await;
        let state = find(&*store.first, DekQuery::Key { scope, key_id }).await.unwrap().state;
        if from.may_become(to) {
            assert!(result.unwrap(), "{from} to {to}");
            assert_eq!(state, to);
        } else {
            assert!(is_refused(result), "{from} to {to}");
            assert_eq!(state, from);
        }
    }
}

/// A DEK of a scope of its own in any state.
async fn bring_to(store: &dyn KeyStore, scope: &ScopeId, state: DekState) -> KeyId {
    use DekState::{Active, DecryptOnly, Disabled, Final, Pending, Shredded};
    let first = insert(store, scope, 1).await;
    let path: &[DekState] = match state {
        Pending => return insert(store, scope, 2).await,
        DecryptOnly => &[DecryptOnly],
        Disabled => &[DecryptOnly, Disabled],
        Shredded => &[Shredded],
        Final => &[Shredded, Final],
        _ => &[],
    };
    let mut from = Active;
    for to in path {
        assert!(change(store, first, from, *to).await);
        from = *to;
    }
    first
}

/// `false`, and nothing happens, if the DEK is in another state or does not exist.
pub async fn a_state_changes_only_from_the_one_expected(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    let scope = scope("t");
    let key_id = insert(&*store.first, &scope, 1).await;
    let before = revision(&*store.first).await;
    assert!(!change(&*store.second, key_id, DekState::DecryptOnly, DekState::Disabled).await);
    assert!(!change(&*store.second, key_id, DekState::Pending, DekState::Shredded).await);
    let unknown = key(&scope, 2);
    assert!(!change(&*store.second, unknown, DekState::Active, DekState::Shredded).await);
    assert_eq!(revision(&*store.first).await, before);
    assert!(change(&*store.second, key_id, DekState::Active, DekState::DecryptOnly).await);
    assert!(!change(&*store.second, key_id, DekState::Active, DekState::DecryptOnly).await);
}

/// The record stays, without wraps, and nothing depends on its KEK any more.
pub async fn shredding_deletes_the_wraps(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    let scope = scope("t");
    let key_id = insert(&*store.first, &scope, 1).await;
    let second = insert(&*store.first, &scope, 2).await;
    assert!(change(&*store.first, key_id, DekState::Active, DekState::Shredded).await);
    let shredded = find_key(&*store.second, &scope, 1).await.unwrap();
    assert_eq!((shredded.state, shredded.wraps), (DekState::Shredded, Vec::new()));
    let usage = store.second.kek_usage(&kek("kek")).await.unwrap();
    assert_eq!(usage.iter().map(|usage| usage.wraps).sum::<u64>(), 1, "that of version 2");
    assert_eq!(find_key(&*store.first, &scope, 2).await.unwrap().wraps.len(), 1);
    assert!(change(&*store.first, second, DekState::Pending, DekState::Shredded).await);
    assert_eq!(store.second.kek_usage(&kek("kek")).await.unwrap(), []);
    assert!(change(&*store.first, key_id, DekState::Shredded, DekState::Final).await);
    let gone = find_key(&*store.second, &scope, 1).await.unwrap();
    assert_eq!((gone.state, gone.wraps), (DekState::Final, Vec::new()));
}

/// Not even if it was pending.
pub async fn a_shredded_version_is_never_activated(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    let scope = scope("t");
    insert(&*store.first, &scope, 1).await;
    let second = insert(&*store.first, &scope, 2).await;
    assert!(change(&*store.first, second, DekState::Pending, DekState::Shredded).await);
    store.advance(60 * MINUTE);
    assert_eq!(store.first.activate_due().await.unwrap(), 0);
    assert_eq!(states(&*store.first, &scope).await, [DekState::Active, DekState::Shredded]);
}
