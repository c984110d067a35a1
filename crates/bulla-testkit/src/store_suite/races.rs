//! Many callers at once, over two handles.

use std::collections::HashMap;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bulla_backend::{Claim, ClaimRequest, NewWrap, WrapSwap};
use tokio::task::JoinSet;

use super::*;

const CALLERS: usize = 50;

/// Runs `call` for every caller, each in a task of its own, on alternating handles.
async fn race<T, F>(store: &Handles, call: impl Fn(usize, Arc<dyn KeyStore>) -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    for n in 0..CALLERS {
        tasks.spawn(call(n, store.handle(n)));
    }
    tasks.join_all().await
}

/// The others know whom to wait for.
pub async fn one_of_many_claims_is_granted(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    let claims = race(&store, |n, store| async move {
        let owner = MemberId::new(format!("m-{n}"));
        let request = ClaimRequest::new(scope("t"), None, owner, MINUTE);
        store.claim_next_version(&request).await.unwrap()
    })
    .await;
    let granted = claims.iter().filter(|claim| matches!(claim, Claim::Granted(_))).count();
    let busy = claims.iter().filter(|claim| matches!(claim, Claim::Busy { .. })).count();
    assert_eq!((granted, busy), (1, CALLERS - 1));
}

/// The first version and a later one; the key that is found is the winner's.
pub async fn one_of_many_insertions_is_stored(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    for number in [1, 2] {
        let results = race(&store, |n, store| async move {
            let mut dek = new_dek(&scope("t"), number);
            dek.key_id = key(&scope(&format!("rival-{n}")), number);
            (dek.key_id, store.insert_dek(&dek).await.unwrap())
        })
        .await;
        let stored: Vec<_> =
            results.iter().filter(|(_, result)| *result != Insertion::Lost).collect();
        assert_eq!(stored.len(), 1, "{stored:?}");
        let mut found = 0;
        for (key_id, result) in &results {
            let query = DekQuery::Key { scope: scope("t"), key_id: *key_id };
            if let Some(dek) = find(&*store.second, query).await {
                assert_eq!(*result, Insertion::Stored(dek.state));
                found += 1;
            }
        }
        assert_eq!(found, 1, "nothing is left of the losers");
    }
}

/// Claim, make, insert, start over: every process ends with the same lineage.
pub async fn processes_that_race_for_versions_leave_no_gap(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    let made = race(&store, |n, store| async move {
        let owner = MemberId::new(format!("m-{n}"));
        let (mut after, mut made) = (0, 0);
        let start = Instant::now();
        while after < 5 {
            assert!(start.elapsed() < MINUTE, "stuck after version {after}");
            let request =
                ClaimRequest::new(scope("t"), DekVersion::new(after), owner.clone(), MINUTE);
            match store.claim_next_version(&request).await.unwrap() {
                Claim::Granted(version) => {
                    let dek = new_dek(&scope("t"), version.get());
                    made += u32::from(store.insert_dek(&dek).await.unwrap() != Insertion::Lost);
                }
                Claim::Busy { .. } => tokio::task::yield_now().await,
                Claim::Superseded { .. } => after += 1,
            }
        }
        made
    })
    .await;
    let total: u32 = made.iter().sum();
    let states = states(&*store.first, &scope("t")).await;
    assert_eq!(total as usize, states.len(), "each version was made once");
}

/// Exactly one, and its wrap is the one that is there.
pub async fn one_of_many_replacements_succeeds(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    let scope = scope("t");
    let key_id = insert(&*store.first, &scope, 1).await;
    let rev = find_active(&*store.first, &scope).await.unwrap().wraps[0].rev;
    let results = race(&store, |n, store| async move {
        let wrapped = WrappedKey::new(kek("kek"), reported("2"), vec![1 + n as u8]);
        (n, store.replace_wrap(&WrapSwap::new(key_id, 0, rev, wrapped)).await.unwrap())
    })
    .await;
    let winners: Vec<_> = results.iter().filter(|(_, won)| *won).map(|(n, _)| *n).collect();
    assert_eq!(winners.len(), 1, "{winners:?}");
    let blob = find_active(&*store.second, &scope).await.unwrap().wraps[0].wrapped.blob.clone();
    assert_eq!(blob, [1 + winners[0] as u8]);
}

/// One of them finds the slot free.
pub async fn one_of_many_additions_succeeds(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    let key_id = insert(&*store.first, &scope("t"), 1).await;
    let results = race(&store, |n, store| async move {
        let wrapped = WrappedKey::new(kek("b"), reported("1"), vec![1 + n as u8]);
        // Half of them would take a slot of their own; it is by the same KEK.
        let slot = if n < CALLERS / 2 { 1 } else { 2 };
        (n, store.add_wrap(&NewWrap::new(key_id, slot, wrapped)).await.unwrap())
    })
    .await;
    let winners: Vec<_> = results.iter().filter(|(_, won)| *won).map(|(n, _)| *n).collect();
    assert_eq!(winners.len(), 1, "{winners:?}");
    let wraps = find_active(&*store.second, &scope("t")).await.unwrap().wraps;
    assert_eq!(wraps.len(), 2);
    assert_eq!(wraps[1].wrapped.blob, [1 + winners[0] as u8]);
}

/// One of them finds the DEK in the expected state.
pub async fn one_of_many_state_changes_succeeds(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    let key_id = insert(&*store.first, &scope("t"), 1).await;
    let changed = race(&store, |n, store| async move {
        let to = if n < CALLERS / 2 { DekState::DecryptOnly } else { DekState::Shredded };
        (to, change(&*store, key_id, DekState::Active, to).await)
    })
    .await;
    let winners: Vec<_> = changed.iter().filter(|(_, won)| *won).collect();
    assert_eq!(winners.len(), 1, "{winners:?}");
    let state = find_key(&*store.second, &scope("t"), 1).await.unwrap().state;
    assert_eq!(state, winners[0].0);
}

/// Together they activate what is due, once.
pub async fn one_of_many_activations_does_it(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    for n in 0..10 {
        insert(&*store.first, &scope(&format!("t-{n}")), 1).await;
        insert(&*store.first, &scope(&format!("t-{n}")), 2).await;
    }
    let before = revision(&*store.first).await;
    let activated =
        race(&store, |_, store| async move { store.activate_due().await.unwrap() }).await;
    assert_eq!(activated.iter().sum::<u64>(), 10);
    assert_eq!(revision(&*store.first).await.0, before.0 + 1, "in one of them");
}

/// Whoever follows the feed page by page ends up with what is in the store.
pub async fn the_feed_misses_nothing_under_writers(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    let reader = store.handle(1);
    let follow = async |seen: &mut StoreRevision, known: &mut HashMap<KeyId, DekState>| {
        let page = reader.changes_since(Some(*seen), 3).await.unwrap();
        assert!(page.revision >= *seen, "the feed never goes back");
        assert!(!page.more || page.revision > *seen, "a page makes progress");
        known.extend(page.deks.iter().map(|dek| (dek.key_id, dek.state)));
        *seen = page.revision;
        page.more
    };
    let mut writers = JoinSet::new();
    for n in 0..8 {
        let store = store.handle(n);
        writers.spawn(async move {
            let scope = scope(&format!("t-{n}"));
            for number in 1..=6 {
                insert(&*store, &scope, number).await;
                store.activate_due().await.unwrap();
            }
            change(&*store, key(&scope, 1), DekState::DecryptOnly, DekState::Shredded).await;
        });
    }
    let (mut seen, mut known) = (StoreRevision(0), HashMap::new());
    while !writers.is_empty() {
        follow(&mut seen, &mut known).await;
        while let Some(done) = writers.try_join_next() {
            done.unwrap();
        }
        tokio::task::yield_now().await;
    }
    while follow(&mut seen, &mut known).await {}
    let mut total = 0;
    for n in 0..8 {
        let scope = scope(&format!("t-{n}"));
        for (state, number) in states(&*store.first, &scope).await.into_iter().zip(1..) {
            assert_eq!(known.get(&key(&scope, number)), Some(&state), "t-{n} version {number}");
            total += 1;
        }
    }
    assert_eq!((total, known.len()), (48, 48));
}

/// As soon as the call that wrote returned, every handle sees it.
pub async fn a_reader_sees_what_was_written_before(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    let missed = race(&store, |n, writer| {
        let reader = store.handle(n + 1);
        async move {
            let scope = scope(&format!("t-{n}"));
            let key_id = insert(&*writer, &scope, 1).await;
            let seen = find_active(&*reader, &scope).await.is_some_and(|it| it.key_id == key_id);
            assert!(change(&*reader, key_id, DekState::Active, DekState::Shredded).await);
            let gone = find_active(&*writer, &scope).await.is_none();
            u32::from(!seen || !gone)
        }
    })
    .await;
    assert_eq!(missed.iter().sum::<u32>(), 0);
}

/// Whenever a caller goes away: no half of a write, and no harm to the store.
pub async fn a_dropped_call_has_done_all_or_nothing(fixture: &dyn StoreFixture) {
    let store = fixture.fresh().await;
    let (mut dropped, mut finished) = (0, 0);
    // The longer a call is let run, the further it has got when it is dropped.
    for patience in 0..40 {
        let scope = scope(&format!("t-{patience}"));
        let dek = new_dek(&scope, 1);
        let mut call = store.first.insert_dek(&dek);
        let mut polls = 0;
        let done = loop {
            if let Poll::Ready(result) = call.as_mut().poll(&mut Context::from_waker(Waker::noop()))
            {
                break Some(result.unwrap());
            }
            if polls == patience * patience {
                break None;
            }
            polls += 1;
            tokio::task::yield_now().await;
        };
        drop(call);
        match done {
            Some(_) => finished += 1,
            None => dropped += 1,
        }
        let found = find_key(&*store.second, &scope, 1).await;
        assert!(done.is_none() || found.is_some(), "what was confirmed is there");
        // Either way the store can go on, and says what is there.
        let again = store.first.insert_dek(&dek).await.unwrap();
        if found.is_some() {
            assert_eq!(again, Insertion::Lost);
        }
        let dek = find_active(&*store.second, &scope).await.unwrap();
        assert_eq!(dek.wraps.len(), 1);
    }
    assert_eq!(dropped + finished, 40);
}
