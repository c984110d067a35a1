//! What a caller sees when nothing fails but the envelope.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use bulla_core::{Header, KeyOptions, OpenError, RecordContext, Suite};
use bulla_manager::{Error, Policy, Profile};
use bulla_testkit::TestKms;
use common::{World, record, scope, secs};

#[tokio::test]
async fn what_one_process_seals_another_opens() {
    let world = World::new();
    let (a, b) = (world.manager().await, world.manager().await);
    let envelope = scope(&a).seal(b"payload", &record("1")).await.unwrap();
    assert_eq!(envelope.len(), 7 + 84);
    let opened = scope(&b).open(&envelope, &record("1")).await.unwrap();
    assert_eq!(opened.plaintext, b"payload");
    assert!(opened.freshness.is_current());
}

#[tokio::test]
async fn a_wrong_context_scope_version_key_id_or_byte_is_refused() {
    let world = World::new();
    let manager = world.manager().await;
    let (ours, theirs) = (scope(&manager), manager.scope("t-2", "orders").unwrap());
    let envelope = ours.seal(b"payload", &record("1")).await.unwrap();
    let foreign = theirs.seal(b"payload", &record("1")).await.unwrap();

    let wrong_context = ours.open(&envelope, &record("2")).await;
    assert!(matches!(wrong_context, Err(Error::Open(OpenError::Authentication))));
    let no_context = ours.open(&envelope, &RecordContext::empty()).await;
    assert!(matches!(no_context, Err(Error::Open(OpenError::Authentication))));
    // Both keys are warm here: the cache must not hand one scope's key to the other.
    for other in [&theirs, &manager.scope("t-1", "other").unwrap()] {
        let wrong_scope = other.open(&envelope, &record("1")).await;
        assert!(matches!(wrong_scope, Err(Error::UnknownKey(_))), "{wrong_scope:?}");
        assert!(matches!(other.try_open(&envelope, &record("1")), Err(Error::NotWarm)));
    }

    let mut wrong_version = envelope.clone();
    wrong_version[11] = 2;
    let refused = ours.open(&wrong_version, &record("1")).await;
    assert!(matches!(refused, Err(Error::Open(OpenError::WrongKey(_)))));

    let mut swapped = envelope.clone();
    swapped[12..44].copy_from_slice(&foreign[12..44]);
    assert!(matches!(ours.open(&swapped, &record("1")).await, Err(Error::UnknownKey(_))));
    assert!(matches!(
        theirs.open(&swapped, &record("1")).await,
        Err(Error::Open(OpenError::Authentication))
    ));

    for at in 0..envelope.len() {
        let mut flipped = envelope.clone();
        flipped[at] ^= 1;
        assert!(ours.open(&flipped, &record("1")).await.is_err(), "byte {at}");
    }
    assert!(ours.open(&envelope, &record("1")).await.is_ok());
}

#[tokio::test]
async fn warm_calls_cost_no_store_read_and_no_kms_call() {
    let world = World::new();
    let manager = world.manager().await;
    let scope = scope(&manager);
    let envelope = scope.seal(b"payload", &record("1")).await.unwrap();
    let (reads, calls) = (world.store.reads(), world.kms.data_calls());
    for _ in 0..1000 {
        scope.seal(b"payload", &record("1")).await.unwrap();
        scope.open(&envelope, &record("1")).await.unwrap();
        scope.try_seal(b"payload", &record("1")).unwrap();
        scope.try_open(&envelope, &record("1")).unwrap();
    }
    assert_eq!((world.store.reads(), world.kms.data_calls()), (reads, calls));
}

#[tokio::test]
async fn try_calls_never_wait_and_prepare_makes_them_work() {
    let world = World::new();
    let manager = world.manager().await;
    let sealer = scope(&manager);
    assert!(matches!(sealer.try_seal(b"x", &record("1")), Err(Error::NotWarm)));
    sealer.prepare().await.unwrap();
    let envelope = sealer.try_seal(b"x", &record("1")).unwrap();

    let opener = scope(&world.manager().await);
    assert!(matches!(opener.try_open(&envelope, &record("1")), Err(Error::NotWarm)));
    opener.prepare_to_open([&envelope[..], b"not an envelope"]).await.unwrap();
    assert_eq!(opener.try_open(&envelope, &record("1")).unwrap().plaintext, b"x");
}

#[tokio::test]
async fn callers_buffers_work_and_are_checked() {
    let world = World::new();
    let scope = scope(&world.manager().await);
    let (mut envelope, mut plaintext) = ([0; 100], [0; 16]);
    let len = scope.seal_into(b"payload", &record("1"), &mut envelope).await.unwrap();
    assert_eq!(len, 91);
    let (len, freshness) =
        scope.open_into(&envelope[..len], &record("1"), &mut plaintext).await.unwrap();
    assert_eq!(&plaintext[..len], b"payload");
    assert!(freshness.is_current());
    assert!(scope.seal_into(b"payload", &record("1"), &mut envelope[..90]).await.is_err());
}

#[tokio::test]
async fn batches_keep_their_order_and_report_each_failure() {
    let world = World::new();
    let writer = scope(&world.manager().await);
    let contexts: Vec<_> = (0..100).map(|i| record(&i.to_string())).collect();
    let plaintexts: Vec<_> = (0..100).map(|i| format!("note {i}").into_bytes()).collect();
    let items: Vec<_> = plaintexts.iter().map(Vec::as_slice).zip(&contexts).collect();
    let sealed = writer.seal_many(&items).await.unwrap();
    let mut sealed: Vec<_> = sealed.iter().map(<[u8]>::to_vec).collect();
    sealed.swap(3, 4);
    sealed[7].truncate(50);

    let reader = scope(&world.manager().await);
    let items: Vec<_> = sealed.iter().map(Vec::as_slice).zip(&contexts).collect();
    let opened = reader.open_many(&items).await;
    for (i, outcome) in opened.into_iter().enumerate() {
        match i {
            3 | 4 | 7 => assert!(outcome.is_err(), "row {i}"),
            _ => assert_eq!(outcome.unwrap().plaintext, plaintexts[i]),
        }
    }
}

/// A batch that a DEK has no room for is sealed all the same, under as many as it takes,
/// and none seals more than it may.
#[tokio::test]
async fn a_batch_larger_than_a_budget_goes_on_under_the_next_dek() {
    let world = World::new();
    let mut policy = Policy::default();
    policy.dek_records_max = 30;
    let scope = scope(&world.manager_with(policy).await);
    let contexts: Vec<_> = (0..100).map(|i| record(&i.to_string())).collect();
    let items: Vec<_> = contexts.iter().map(|context| (&b"payload"[..], context)).collect();
    let mut per_dek = std::collections::HashMap::new();
    let sealed = scope.seal_many(&items).await.unwrap();
    for (envelope, context) in sealed.iter().zip(&contexts) {
        *per_dek.entry(Header::parse(envelope).unwrap().key_id).or_insert(0) += 1;
        assert_eq!(scope.open(envelope, context).await.unwrap().plaintext, b"payload");
    }
    assert_eq!(sealed.len(), 100);
    assert!(per_dek.values().all(|sealed| *sealed <= 30), "{per_dek:?}");
}

/// What is refused for its length takes nothing from the budget.
#[tokio::test]
async fn a_batch_with_too_long_a_record_uses_nothing_up() {
    let world = World::new();
    let mut policy = Policy::default();
    policy.dek_bytes_max = 1 << 32;
    let scope = scope(&world.manager_with(policy).await);
    let first = scope.prepare().await.unwrap();
    let (too_long, context) = (vec![0; (1 << 30) + 1], record("1"));
    for _ in 0..6 {
        let sealed = scope.seal_many(&[(&too_long, &context)]).await;
        assert!(matches!(sealed, Err(Error::Seal(_))));
    }
    assert_eq!(scope.seal_many(&[(b"payload", &context)]).await.unwrap().len(), 1);
    assert_eq!(scope.prepare().await.unwrap(), first);
}

/// To be asked for counts as a use: what makes room for the others is the key of somebody else.
#[tokio::test]
async fn keys_that_are_prepared_together_do_not_displace_each_other() {
    let world = World::new();
    let sealer = world.manager().await;
    let (ours, theirs) = (scope(&sealer), sealer.scope("t-2", "orders").unwrap());
    let old = ours.seal(b"old", &record("1")).await.unwrap();
    ours.rotate().await.unwrap();
    world.pass(secs(30)).await;
    let new = ours.seal(b"new", &record("1")).await.unwrap();
    let other = theirs.seal(b"other", &record("1")).await.unwrap();
    let mut policy = Policy::default();
    policy.cached_deks_max = 2;
    let reader = world.manager_with(policy).await;
    let (ours, theirs) = (scope(&reader), reader.scope("t-2", "orders").unwrap());
    ours.open(&old, &record("1")).await.unwrap();
    world.pass(secs(5)).await;
    theirs.open(&other, &record("1")).await.unwrap();
    world.pass(secs(5)).await;
    ours.prepare_to_open([&old[..], &new]).await.unwrap();
    world.pass(secs(5)).await;
    assert_eq!(ours.try_open(&old, &record("1")).unwrap().plaintext, b"old");
    assert_eq!(ours.try_open(&new, &record("1")).unwrap().plaintext, b"new");
    assert!(theirs.try_open(&other, &record("1")).is_err(), "there is room for two");
}

/// A suite that is only named for sealing is opened as well: with the key at hand and by
/// those who have to load it.
#[tokio::test]
async fn what_a_manager_seals_every_manager_like_it_opens() {
    let world = World::new();
    let mut options = KeyOptions::default();
    options.suite = Suite::Xaes256GcmSiv;
    let start = async || scope(&world.builder().key_options(options).start().await.unwrap());
    let (warm, context) = (start().await, record("1"));
    let sealed = warm.seal(b"payload", &context).await.unwrap();
    for scope in [warm, start().await] {
        let many = scope.open_many(&[(&sealed, &context)]).await.remove(0);
        assert_eq!(many.unwrap().plaintext, b"payload");
        assert_eq!(scope.open(&sealed, &context).await.unwrap().plaintext, b"payload");
    }
}

#[tokio::test]
async fn opening_a_batch_under_many_keys_reads_the_store_once() {
    let world = World::new();
    let writer = scope(&world.manager().await);
    let mut sealed = Vec::new();
    for i in 0..100 {
        sealed.push(writer.seal(format!("{i}").as_bytes(), &record("1")).await.unwrap());
        writer.rotate().await.unwrap();
    }
    let versions: std::collections::HashSet<_> =
        sealed.iter().map(|envelope| Header::parse(envelope).unwrap().dek_version).collect();
    assert_eq!(versions.len(), 100);

    let reader = scope(&world.manager().await);
    bulla_testkit::settle().await;
    let (reads, calls) = (world.store.reads(), world.kms.data_calls());
    let context = record("1");
    let items: Vec<_> = sealed.iter().map(|envelope| (&envelope[..], &context)).collect();
    let opened = reader.open_many(&items).await;
    assert!(opened.iter().all(|outcome| outcome.as_ref().unwrap().freshness.stale_dek));
    assert_eq!(world.store.reads() - reads, 1);
    assert_eq!(world.kms.data_calls() - calls, 100);
}

/// 40 keys, 4 calls at once, 2 seconds each: 20 seconds, where a single call may take 10.
#[tokio::test]
async fn a_large_batch_may_take_longer_than_one_load() {
    let world = World::new();
    let writer = scope(&world.manager().await);
    let mut sealed = Vec::new();
    for _ in 0..40 {
        sealed.push(writer.seal(b"x", &record("1")).await.unwrap());
        writer.rotate().await.unwrap();
    }
    let mut policy = Policy::default();
    policy.kms_concurrency = 4;
    let reader = scope(&world.manager_with(policy).await);
    world.kms.set_latency(world.clock.clone(), common::secs(2));
    let call = tokio::spawn(async move {
        let context = record("1");
        let items: Vec<_> = sealed.iter().map(|envelope| (&envelope[..], &context)).collect();
        reader.open_many(&items).await
    });
    world.pass(common::secs(30)).await;
    assert!(call.await.unwrap().iter().all(Result::is_ok));
}

/// The KMS hangs when the key that seals has to be loaded: ten seconds for all, not for each.
#[tokio::test]
async fn a_batch_that_cannot_be_resealed_waits_for_the_key_once() {
    let world = World::new();
    let manager = world.manager().await;
    let ours = scope(&manager);
    let sealed = ours.seal(b"payload", &record("1")).await.unwrap();
    scope(&world.manager().await).rotate().await.unwrap();
    world.kms.hold();
    world.pass(common::secs(10)).await;
    assert!(ours.try_open(&sealed, &record("1")).unwrap().freshness.stale_dek);
    let call = tokio::spawn(async move {
        let context = record("1");
        ours.reseal_many(&[(&sealed[..], &context); 5]).await
    });
    world.pass(Policy::default().load_timeout + common::secs(2)).await;
    assert!(call.is_finished());
    let resealed = call.await.unwrap();
    assert_eq!(resealed.len(), 5);
    assert!(resealed.iter().all(|outcome| matches!(outcome, Err(Error::Timeout))), "{resealed:?}");
}

#[tokio::test]
async fn the_profile_and_the_policy_are_checked_at_the_start() {
    let world = World::new();
    let weak = TestKms::new("weak").with_capabilities(bulla_backend::Capabilities::NONE);
    let refused = world.builder().also_unwrap_with(std::sync::Arc::new(weak)).start().await;
    assert!(matches!(refused, Err(Error::Profile { .. })), "{refused:?}");

    let store = world.store.clone();
    let weak = TestKms::new("weak").with_capabilities(bulla_backend::Capabilities::NONE);
    let accepted =
        bulla_manager::Manager::builder(Profile::Development, std::sync::Arc::new(weak), store);
    assert!(accepted.start().await.is_ok());

    let mut policy = Policy::default();
    policy.dek_records_max = 1 << 33;
    assert!(matches!(world.builder().policy(policy).start().await, Err(Error::Policy(_))));
    let mut policy = Policy::default();
    policy.probe_interval = policy.revocation_deadline;
    assert!(matches!(world.builder().policy(policy).start().await, Err(Error::Policy(_))));
}

#[tokio::test]
async fn a_closed_manager_refuses_everything() {
    let world = World::new();
    let manager = world.manager().await;
    let scope = scope(&manager);
    let envelope = scope.seal(b"payload", &record("1")).await.unwrap();
    manager.close().await.unwrap();
    assert!(matches!(scope.seal(b"payload", &record("1")).await, Err(Error::Closed)));
    assert!(matches!(scope.open(&envelope, &record("1")).await, Err(Error::Closed)));
    assert!(matches!(scope.try_open(&envelope, &record("1")), Err(Error::Closed)));
}
