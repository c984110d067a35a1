//! What is found, and how.

use super::*;

/// Any number of queries, answers in their order, `None` for what does not exist.
pub async fn answers_are_in_the_order_of_the_queries(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    assert_eq!(store.first.find_deks(&[]).await.unwrap(), []);
    let scopes: Vec<_> = (0..20).map(|n| scope(&format!("t-{n}"))).collect();
    for scope in &scopes {
        insert(&*store.first, scope, 1).await;
        insert(&*store.first, scope, 2).await;
    }
    let unknown = scope("unknown");
    let mut queries = Vec::new();
    let mut expected = Vec::new();
    for n in 0..1000_usize {
        // A stride that is coprime to the number of scopes, so that nothing is sorted.
        let scope = &scopes[n * 7 % scopes.len()];
        let (query, answer) = match n % 5 {
            0 => (DekQuery::Active(scope.clone()), Some(key(scope, 1))),
            1 => (by_key(scope, key(scope, 2)), Some(key(scope, 2))),
            2 => (by_key(scope, key(scope, 3)), None),
            3 => (DekQuery::Active(unknown.clone()), None),
            _ => (by_key(&unknown, key(scope, 1)), None),
        };
        queries.push(query);
        expected.push(answer);
    }
    let found = store.second.find_deks(&queries).await.unwrap();
    let found: Vec<_> = found.iter().map(|dek| dek.as_ref().map(|dek| dek.key_id)).collect();
    assert_eq!(found, expected);
}

/// A DEK is found under its own scope alone.
pub async fn a_key_of_another_scope_is_not_found(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    let (mine, theirs) = (scope("mine"), scope("theirs"));
    let key_id = insert(&*store.first, &mine, 1).await;
    insert(&*store.first, &theirs, 1).await;
    assert_eq!(find(&*store.first, by_key(&theirs, key_id)).await, None);
    let found = find(&*store.first, by_key(&mine, key_id)).await.unwrap();
    assert_eq!((found.scope, found.key_id), (mine, key_id));
}

/// Names that a database may fold, trim, quote or join are different names.
pub async fn scopes_are_told_apart_by_every_byte(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    let long = "x".repeat(ScopeId::TEXT_BYTES_MAX);
    let names = [
        ("a", "b"),
        ("b", "a"),
        ("A", "b"),
        ("a ", "b"),
        (" a", "b"),
        ("a/b", "c"),
        ("a", "b/c"),
        ("a'; --", "\"%_\\"),
        ("\u{e9}", "b"),
        ("e\u{301}", "b"),
        ("1", "b"),
        ("01", "b"),
        ("NULL", "b"),
        (&long, &long),
        (&long, &long[1..]),
    ];
    let scopes: Vec<_> = names.iter().map(|(t, p)| ScopeId::new(t, p).unwrap()).collect();
    for scope in &scopes {
        insert(&*store.first, scope, 1).await;
    }
    for scope in &scopes {
        let found = find_active(&*store.second, scope).await.unwrap();
        assert_eq!((&found.scope, found.key_id), (scope, key(scope, 1)));
    }
    let changes = store.second.changes_since(Some(StoreRevision(0)), 1000).await.unwrap();
    let told: Vec<_> = changes.deks.into_iter().map(|dek| dek.scope).collect();
    assert_eq!(told, scopes);
}

/// `Active` gives the active version and no other; `Key` gives any.
pub async fn active_finds_the_active_version_only(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    let scope = scope("t");
    assert_eq!(find_active(&*store.first, &scope).await, None);
    let first = insert(&*store.first, &scope, 1).await;
    let second = insert(&*store.first, &scope, 2).await;
    assert_eq!(find_active(&*store.first, &scope).await.unwrap().key_id, first);
    assert_eq!(find_key(&*store.first, &scope, 2).await.unwrap().state, DekState::Pending);
    store.first.activate_due().await.unwrap();
    assert_eq!(find_active(&*store.first, &scope).await.unwrap().key_id, second);
    assert_eq!(find_key(&*store.first, &scope, 1).await.unwrap().state, DekState::DecryptOnly);
    assert!(change(&*store.first, second, DekState::Active, DekState::DecryptOnly).await);
    assert_eq!(find_active(&*store.first, &scope).await, None);
    assert!(change(&*store.first, second, DekState::DecryptOnly, DekState::Disabled).await);
    assert_eq!(find_key(&*store.first, &scope, 2).await.unwrap().state, DekState::Disabled);
    assert!(change(&*store.first, second, DekState::Disabled, DekState::Shredded).await);
    assert_eq!(find_key(&*store.first, &scope, 2).await.unwrap().state, DekState::Shredded);
}

/// Every byte of a wrap and how its version is known.
pub async fn wraps_come_back_as_they_were_stored(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    let scope = scope("t");
    let all_bytes: Vec<u8> = (0..=255).cycle().take(WrappedKey::BLOB_BYTES_MAX).collect();
    let wraps = [
        WrappedKey::new(kek("a"), reported("7"), vec![0]),
        WrappedKey::new(kek("b"), KekVersion::Parsed("v1".into()), all_bytes),
        WrappedKey::new(KekId::new("k".repeat(512)), KekVersion::Unknown, b"'\"\0".to_vec()),
        WrappedKey::new(kek("a"), reported(&"x".repeat(255)), vec![0xff; 100]),
    ];
    for (wrap, number) in wraps.iter().zip(1..) {
        let mut dek = new_dek(&scope, number);
        dek.wrapped = wrap.clone();
        store.first.insert_dek(&dek).await.unwrap();
    }
    for (wrap, number) in wraps.iter().zip(1..) {
        let found = find_key(&*store.second, &scope, number).await.unwrap();
        assert_eq!(found.wraps.len(), 1);
        assert_eq!(found.wraps[0].slot, 0, "the first wrap becomes slot 0");
        assert_eq!(found.wraps[0].wrapped, *wrap);
    }
}

/// Age grows with the clock of the store, and for every handle alike.
pub async fn age_is_by_the_clock_of_the_store(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    let scope = scope("t");
    insert(&*store.first, &scope, 1).await;
    assert!(find_active(&*store.second, &scope).await.unwrap().age < MINUTE);
    store.advance(90 * MINUTE);
    insert(&*store.second, &scope, 2).await;
    let age = find_key(&*store.second, &scope, 1).await.unwrap().age;
    assert!((90 * MINUTE..91 * MINUTE).contains(&age), "{age:?} after 90 minutes");
    assert!(find_key(&*store.first, &scope, 2).await.unwrap().age < MINUTE);
    // A state or a wrap may change; the key is as old as it is.
    assert!(change(&*store.first, key(&scope, 1), DekState::Active, DekState::DecryptOnly).await);
    assert!(find_key(&*store.first, &scope, 1).await.unwrap().age >= 90 * MINUTE);
}

fn by_key(scope: &ScopeId, key_id: KeyId) -> DekQuery {
    DekQuery::Key { scope: scope.clone(), key_id }
}
