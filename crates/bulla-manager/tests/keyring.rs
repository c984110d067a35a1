//! One DEK under several KEKs: made under all, opened by the first that can.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::Arc;

use bulla_backend::{
    Capabilities, DekQuery, DekRecord, DekState, KeyAdmin, KeyStore, KeyWrapper, KmsErrorKind,
    KmsOperation, ScopeId, StateChange, WrapRequest, WrapSwap,
};
use bulla_core::{DataKey, DekVersion};
use bulla_manager::{Error, Manager, Phase, Policy, Scope};
use bulla_testkit::{Lie, TestKms};
use common::{World, record, scope, secs};

use KmsOperation::{GenerateDataKey, RewrapKey, UnwrapKey, WrapKey};

/// A world whose managers wrap under a second KEK as well.
struct Ring {
    world: World,
    other: Arc<TestKms>,
}

impl Ring {
    fn new() -> Self {
        Self { world: World::new(), other: Arc::new(TestKms::new("other")) }
    }

    fn first(&self) -> &TestKms {
        &self.world.kms
    }

    /// A process with an empty cache.
    async fn manager(&self) -> Manager {
        self.start().await.unwrap()
    }

    async fn start(&self) -> Result<Manager, Error> {
        self.world.builder().also_wrap_with(self.other.clone()).start().await
    }

    /// One that was given the second KEK alone.
    async fn manager_of_other(&self) -> Manager {
        let store = Arc::clone(&self.world.store) as Arc<dyn KeyStore>;
        let builder =
            Manager::builder(bulla_manager::Profile::Production, self.other.clone(), store);
        builder.clock(self.world.clock.clone()).start().await.unwrap()
    }

    /// The active DEK as the store has it.
    async fn stored(&self) -> Option<DekRecord> {
        let query = DekQuery::Active(ScopeId::new("t-1", "orders").unwrap());
        self.world.store.find_deks(&[query]).await.unwrap().remove(0)
    }

    /// Which KEK is in which slot, with its version.
    async fn wraps(&self) -> Vec<String> {
        let wraps = self.stored().await.unwrap().wraps;
        let show = |wrap: bulla_backend::StoredWrap| {
            format!("{} {} v{}", wrap.slot, wrap.wrapped.kek, wrap.wrapped.kek_version)
        };
        wraps.into_iter().map(show).collect()
    }

    /// Puts a wrap that holds another key into `slot`, as somebody could who can write to
    /// the store and may use the KEK.
    async fn plant(&self, slot: u8, kek: &TestKms) {
        let record = self.stored().await.unwrap();
        let key = DataKey::init_with(|bytes| bytes.fill(9));
        let context = record.scope.context().kms_context(record.version);
        let wrapped = kek.wrap_key(WrapRequest::new(&key, &context)).await.unwrap();
        let rev = record.wraps[usize::from(slot)].rev;
        let swap = WrapSwap::new(record.key_id, slot, rev, wrapped);
        assert!(self.world.store.replace_wrap(&swap).await.unwrap());
    }

    /// Uses the key every second, as a service does.
    async fn pass_in_use(&self, scope: &Scope, envelope: &[u8], seconds: u64) {
        for _ in 0..seconds {
            let _ = scope.open(envelope, &record("1")).await;
            self.world.pass(secs(1)).await;
        }
    }
}

/// Calls of generate, wrap, unwrap and rewrap.
fn calls(kms: &TestKms) -> [u64; 4] {
    [GenerateDataKey, WrapKey, UnwrapKey, RewrapKey].map(|operation| kms.calls(operation))
}

fn kms_error(error: &Error) -> Option<(KmsErrorKind, &str)> {
    match error {
        Error::Kms(error) => Some((error.kind(), error.kek().as_str())),
        _ => None,
    }
}

async fn seal(manager: &Manager) -> Vec<u8> {
    scope(manager).seal(b"payload", &record("1")).await.unwrap()
}

async fn open(manager: &Manager, envelope: &[u8]) -> Result<(), Error> {
    let opened = scope(manager).open(envelope, &record("1")).await?;
    assert_eq!(opened.plaintext, b"payload");
    Ok(())
}

#[tokio::test]
async fn a_new_dek_is_wrapped_and_proven_under_each() {
    let ring = Ring::new();
    let manager = ring.manager().await;
    let envelope = seal(&manager).await;
    assert_eq!(calls(ring.first()), [1, 0, 1, 0]);
    assert_eq!(calls(&ring.other), [0, 1, 1, 0]);
    assert_eq!(ring.wraps().await, ["0 test:orders v1", "1 test:other v1"]);
    // Not as long as until the first probe.
    ring.pass_in_use(&scope(&manager), &envelope, 4).await;
    assert_eq!(calls(ring.first()), [1, 0, 1, 0], "nothing is left to do");
    assert_eq!(calls(&ring.other), [0, 1, 1, 0]);

    // Each of them opens it alone.
    assert!(open(&ring.manager_of_other().await, &envelope).await.is_ok());
    assert!(open(&ring.world.manager().await, &envelope).await.is_ok());
}

#[tokio::test]
async fn no_dek_is_made_while_one_of_them_fails() {
    let ring = Ring::new();
    let manager = ring.manager().await;
    for (operation, failure) in
        [(WrapKey, KmsErrorKind::Unavailable), (UnwrapKey, KmsErrorKind::Throttled)]
    {
        ring.other.fail(operation, Some(failure));
        let error = scope(&manager).seal(b"payload", &record("1")).await.unwrap_err();
        assert_eq!(kms_error(&error), Some((failure, "test:other")));
        ring.other.fail(operation, None);
    }
    ring.other.lie(Some(Lie::Wrap));
    let error = scope(&manager).seal(b"payload", &record("1")).await.unwrap_err();
    assert!(matches!(error, Error::WrongKeyUnwrapped { kek, .. } if kek == *ring.other.kek()));
    assert_eq!(ring.stored().await, None, "nothing was stored");
    ring.other.lie(None);
    ring.world.pass(secs(1)).await;
    let envelope = seal(&manager).await;
    assert!(open(&manager, &envelope).await.is_ok());
    assert_eq!(ring.stored().await.unwrap().version, DekVersion::FIRST);
}

#[tokio::test]
async fn whoever_is_up_opens() {
    let ring = Ring::new();
    let envelope = seal(&ring.manager().await).await;
    for failure in [
        KmsErrorKind::Unavailable,
        KmsErrorKind::Throttled,
        KmsErrorKind::Unauthenticated,
        KmsErrorKind::Denied,
        KmsErrorKind::Disabled,
        KmsErrorKind::NotFound,
        KmsErrorKind::Tampered,
    ] {
        let manager = ring.manager().await;
        ring.first().fail_all(Some(failure));
        assert!(open(&manager, &envelope).await.is_ok(), "{failure:?}");
        ring.first().fail_all(None);
        let manager = ring.manager().await;
        ring.other.fail_all(Some(failure));
        assert!(open(&manager, &envelope).await.is_ok(), "{failure:?}");
        ring.other.fail_all(None);
    }
}

#[tokio::test]
async fn one_that_failed_is_asked_last_for_a_while() {
    let ring = Ring::new();
    let envelope = seal(&ring.manager().await).await;
    let manager = ring.manager().await;
    let policy = Policy::default();
    ring.first().fail(UnwrapKey, Some(KmsErrorKind::Unavailable));
    let reload = async || {
        // Cold again: what was loaded by the one is wiped when it is disabled.
        let before = [ring.first().calls(UnwrapKey), ring.other.calls(UnwrapKey)];
        assert!(open(&manager, &envelope).await.is_ok());
        let after = [ring.first().calls(UnwrapKey), ring.other.calls(UnwrapKey)];
        ring.other.disable().await.unwrap();
        manager.sync().await.unwrap();
        assert_eq!(scope(&manager).phase(), Phase::Absent);
        ring.other.enable().await.unwrap();
        ring.world.pass(policy.negative_for).await;
        [after[0] - before[0], after[1] - before[1]]
    };
    assert_eq!(reload().await, [1, 1]);
    assert_eq!(reload().await, [0, 1]);
    ring.first().fail(UnwrapKey, None);
    assert_eq!(reload().await, [0, 1]);
    ring.world.pass(secs(30)).await;
    assert!(open(&manager, &envelope).await.is_ok());
    assert_eq!(scope(&manager).phase(), Phase::Warm);
    let asked = ring.other.calls(UnwrapKey);
    ring.other.disable().await.unwrap();
    manager.sync().await.unwrap();
    assert_eq!(scope(&manager).phase(), Phase::Warm, "it was loaded by the first again");
    assert_eq!(ring.other.calls(UnwrapKey), asked);
}

#[tokio::test]
async fn one_that_hangs_leaves_time_for_the_next() {
    let ring = Ring::new();
    let envelope = seal(&ring.manager().await).await;
    let manager = ring.manager().await;
    ring.first().hold();
    let opening = tokio::spawn(async move { open(&manager, &envelope).await });
    ring.world.pass(Policy::default().load_timeout / 2).await;
    assert!(opening.is_finished());
    assert!(opening.await.unwrap().is_ok());
}

#[tokio::test]
async fn when_all_fail_the_error_that_may_pass_is_told() {
    let ring = Ring::new();
    let envelope = seal(&ring.manager().await).await;
    let manager = ring.manager().await;
    ring.first().fail(UnwrapKey, Some(KmsErrorKind::Denied));
    ring.other.fail(UnwrapKey, Some(KmsErrorKind::Unavailable));
    let error = open(&manager, &envelope).await.unwrap_err();
    assert_eq!(kms_error(&error), Some((KmsErrorKind::Unavailable, "test:other")));
    // So it is not remembered.
    ring.other.fail(UnwrapKey, None);
    assert!(open(&manager, &envelope).await.is_ok());
}

#[tokio::test]
async fn a_disabled_kek_evicts_what_it_loaded_and_the_other_serves() {
    let ring = Ring::new();
    let manager = ring.manager().await;
    let envelope = seal(&manager).await;
    let scope = scope(&manager);
    ring.first().disable().await.unwrap();
    let policy = Policy::default();
    ring.world.pass(policy.probe_interval + policy.feed_interval).await;
    assert_eq!(scope.phase(), Phase::Absent);
    let asked = ring.other.calls(UnwrapKey);
    assert!(open(&manager, &envelope).await.is_ok());
    assert_eq!(ring.other.calls(UnwrapKey), asked + 1);
    // Sealing under a key that exists goes on, too.
    assert!(scope.seal(b"more", &record("2")).await.is_ok());
    // Once all are revoked, nothing is served.
    ring.other.disable().await.unwrap();
    ring.world.pass(policy.probe_interval + policy.feed_interval).await;
    assert_eq!(scope.phase(), Phase::Absent);
    let error = open(&manager, &envelope).await.unwrap_err();
    assert_eq!(kms_error(&error).unwrap().0, KmsErrorKind::Disabled);
}

#[tokio::test]
async fn a_kek_that_is_denied_twice_evicts_what_it_loaded() {
    let ring = Ring::new();
    let manager = ring.manager().await;
    let envelope = seal(&manager).await;
    ring.first().fail(UnwrapKey, Some(KmsErrorKind::Denied));
    let policy = Policy::default();
    let longest = policy.probe_interval + policy.denied_confirmation + policy.feed_interval;
    ring.world.pass(longest).await;
    assert_eq!(scope(&manager).phase(), Phase::Absent);
    assert!(open(&manager, &envelope).await.is_ok(), "the other may");
}

/// An outage of the KEK that loaded it: warm until the deadline, then by the other.
#[tokio::test]
async fn an_outage_beyond_the_deadline_moves_to_the_other() {
    let ring = Ring::new();
    let manager = ring.manager().await;
    let envelope = seal(&manager).await;
    let asked = ring.other.calls(UnwrapKey);
    ring.first().fail_all(Some(KmsErrorKind::Unavailable));
    let policy = Policy::default();
    ring.pass_in_use(&scope(&manager), &envelope, policy.revocation_deadline.as_secs() - 10).await;
    assert_eq!(ring.other.calls(UnwrapKey), asked, "still by the first");
    ring.pass_in_use(&scope(&manager), &envelope, 30).await;
    assert!(ring.other.calls(UnwrapKey) > asked, "loaded, and probed since");
    assert!(open(&manager, &envelope).await.is_ok());
}

#[tokio::test]
async fn a_planted_wrap_is_found_and_the_true_one_used() {
    let ring = Ring::new();
    let envelope = seal(&ring.manager().await).await;
    ring.plant(0, ring.first()).await;
    let manager = ring.manager().await;
    assert!(open(&manager, &envelope).await.is_ok(), "by the other");

    // With nothing but planted wraps there is nothing to open it with.
    ring.plant(1, &ring.other).await;
    let error = open(&ring.manager().await, &envelope).await.unwrap_err();
    assert!(matches!(error, Error::WrongKeyUnwrapped { .. }), "{error}");
    let error = open(&ring.manager_of_other().await, &envelope).await.unwrap_err();
    assert!(matches!(error, Error::WrongKeyUnwrapped { kek, .. } if kek == *ring.other.kek()));
}

#[tokio::test]
async fn a_planted_wrap_is_never_spread() {
    let ring = Ring::new();
    let first_alone = ring.world.manager().await;
    let envelope = seal(&first_alone).await;
    // The key is warm when its wrap is exchanged; then the other KEK is to wrap it.
    let manager = ring.manager().await;
    assert!(open(&manager, &envelope).await.is_ok());
    ring.plant(0, ring.first()).await;
    ring.pass_in_use(&scope(&manager), &envelope, 3).await;
    manager.rewraps_settled().await;
    assert_eq!(ring.wraps().await, ["0 test:orders v1"]);
    assert_eq!(ring.other.calls(WrapKey), 0);
    assert!(manager.stats().rewrap_failures > 0);
}

#[tokio::test]
async fn shredding_takes_every_wrap() {
    let ring = Ring::new();
    let manager = ring.manager().await;
    let envelope = seal(&manager).await;
    let key_id = ring.stored().await.unwrap().key_id;
    let change = StateChange::new(key_id, DekState::Active, DekState::Shredded).unwrap();
    assert!(ring.world.store.change_state(&change).await.unwrap());
    manager.sync().await.unwrap();
    for manager in [manager, ring.manager().await, ring.manager_of_other().await] {
        let error = open(&manager, &envelope).await.unwrap_err();
        assert!(matches!(error, Error::KeyClosed { state: DekState::Shredded, .. }), "{error}");
    }
    for kek in [ring.first(), &ring.other] {
        assert_eq!(ring.world.store.kek_usage(kek.kek()).await.unwrap(), []);
    }
}

#[tokio::test]
async fn a_kek_that_joins_later_gets_its_wraps_as_deks_are_used() {
    let ring = Ring::new();
    let envelope = seal(&ring.world.manager().await).await;
    assert_eq!(ring.wraps().await, ["0 test:orders v1"]);
    let manager = ring.manager().await;
    ring.pass_in_use(&scope(&manager), &envelope, 3).await;
    manager.rewraps_settled().await;
    assert_eq!(ring.wraps().await, ["0 test:orders v1", "1 test:other v1"]);
    assert_eq!(calls(&ring.other), [0, 1, 1, 0], "wrapped once, and proven");
    assert!(open(&ring.manager_of_other().await, &envelope).await.is_ok());
    let wrapped = calls(&ring.other)[1];
    ring.pass_in_use(&scope(&manager), &envelope, 60).await;
    assert_eq!(calls(&ring.other)[1], wrapped, "once is enough");
}

#[tokio::test]
async fn two_processes_add_one_wrap() {
    let ring = Ring::new();
    let envelope = seal(&ring.world.manager().await).await;
    let (a, b) = (ring.manager().await, ring.manager().await);
    for _ in 0..3 {
        let (one, two) = tokio::join!(open(&a, &envelope), open(&b, &envelope));
        assert!(one.is_ok() && two.is_ok());
        ring.world.pass(secs(1)).await;
    }
    a.rewraps_settled().await;
    b.rewraps_settled().await;
    assert_eq!(ring.wraps().await, ["0 test:orders v1", "1 test:other v1"]);
    assert_eq!(a.stats().rewrap_failures + b.stats().rewrap_failures, 0);
}

#[tokio::test]
async fn a_wrap_that_lies_is_not_added_and_a_kek_that_is_down_not_bothered() {
    let ring = Ring::new();
    let envelope = seal(&ring.world.manager().await).await;
    let manager = ring.manager().await;
    ring.other.lie(Some(Lie::Wrap));
    ring.pass_in_use(&scope(&manager), &envelope, 3).await;
    manager.rewraps_settled().await;
    assert_eq!(ring.wraps().await, ["0 test:orders v1"]);
    ring.other.lie(None);
    ring.other.fail(WrapKey, Some(KmsErrorKind::Unavailable));
    ring.pass_in_use(&scope(&manager), &envelope, 60).await;
    let tried = ring.other.calls(WrapKey);
    assert!((2..=4).contains(&tried), "{tried} attempts in a minute");
    ring.other.fail(WrapKey, None);
    ring.pass_in_use(&scope(&manager), &envelope, 35).await;
    assert_eq!(ring.wraps().await, ["0 test:orders v1", "1 test:other v1"]);
}

/// Not each of many DEKs has to find out that a KEK is down.
#[tokio::test]
async fn a_kek_that_is_down_is_not_asked_for_every_dek() {
    let ring = Ring::new();
    let first_alone = ring.world.manager().await;
    let manager = ring.manager().await;
    let mut sealed = Vec::new();
    for n in 0..40 {
        let tenant = format!("t-{n}");
        let scope = first_alone.scope(&tenant, "orders").unwrap();
        let envelope = scope.seal(b"payload", &record("1")).await.unwrap();
        sealed.push((manager.scope(&tenant, "orders").unwrap(), envelope));
    }
    ring.other.fail(WrapKey, Some(KmsErrorKind::Unavailable));
    for _ in 0..3 {
        for (scope, envelope) in &sealed {
            assert!(scope.open(envelope, &record("1")).await.is_ok());
        }
        ring.world.pass(secs(1)).await;
    }
    manager.rewraps_settled().await;
    let tried = ring.other.calls(WrapKey);
    assert!((1..=4).contains(&tried), "as many as run at once, not {tried}");
}

#[tokio::test]
async fn each_wrap_follows_the_rotations_of_its_own_kek() {
    let ring = Ring::new();
    let manager = ring.manager().await;
    let envelope = seal(&manager).await;
    ring.other.rotate().await.unwrap();
    manager.sync().await.unwrap();
    ring.pass_in_use(&scope(&manager), &envelope, 3).await;
    manager.rewraps_settled().await;
    assert_eq!(ring.wraps().await, ["0 test:orders v1", "1 test:other v2"]);
    ring.first().rotate().await.unwrap();
    manager.sync().await.unwrap();
    ring.pass_in_use(&scope(&manager), &envelope, 35).await;
    manager.rewraps_settled().await;
    assert_eq!(ring.wraps().await, ["0 test:orders v2", "1 test:other v2"]);
    assert_eq!(manager.stats().rewraps, 2);
    let opened = scope(&manager).open(&envelope, &record("1")).await.unwrap();
    assert!(opened.freshness.is_current());
}

#[tokio::test]
async fn a_disabled_kek_does_not_keep_it_from_starting_unless_all_are() {
    let ring = Ring::new();
    let envelope = seal(&ring.manager().await).await;
    ring.first().disable().await.unwrap();
    assert!(open(&ring.manager().await, &envelope).await.is_ok());
    ring.other.disable().await.unwrap();
    assert!(matches!(ring.start().await, Err(Error::KekClosed { .. })));
    ring.first().enable().await.unwrap();
    assert!(open(&ring.manager().await, &envelope).await.is_ok());
    // One that only unwraps is refused, as ever.
    let also_unwrapping = ring.world.builder().also_unwrap_with(ring.other.clone());
    assert!(matches!(also_unwrapping.start().await, Err(Error::KekClosed { .. })));
}

#[tokio::test]
async fn a_kek_counts_once_and_sixteen_are_the_limit() {
    let ring = Ring::new();
    let builder = ring.world.builder().also_wrap_with(ring.world.kms.clone());
    let builder = builder.also_wrap_with(ring.other.clone()).also_wrap_with(ring.other.clone());
    let manager = builder.also_unwrap_with(ring.other.clone()).start().await.unwrap();
    seal(&manager).await;
    assert_eq!(ring.wraps().await.len(), 2);
    let many = |count: u32| {
        let others = (0..count).map(|n| Arc::new(TestKms::new(&format!("k{n}"))));
        let builder = Ring::new().world.builder();
        others.fold(builder, |builder, other| builder.also_wrap_with(other))
    };
    assert!(many(16).start().await.is_err_and(|error| matches!(error, Error::Policy(_))));
    seal(&many(15).start().await.unwrap()).await;
}

#[tokio::test]
async fn production_looks_at_every_kek() {
    let ring = Ring::new();
    let local = Capabilities::NONE.with_authenticated_wrap(true).with_names_version(true);
    let local = Arc::new(TestKms::new("local").with_capabilities(local));
    let refused = ring.world.builder().also_wrap_with(local).start().await.unwrap_err();
    assert!(matches!(refused, Error::Profile { kek, .. } if kek.as_str() == "test:local"));
}

/// The unwrap that proves a wrap tells its version where `wrap_key` does not.
#[tokio::test]
async fn versions_that_are_told_late_are_stored_and_wraps_renewed_by_them() {
    let mut ring = Ring::new();
    ring.other = Arc::new(TestKms::new("other").without_version_of_wraps());
    let manager = ring.manager().await;
    let envelope = seal(&manager).await;
    assert_eq!(ring.wraps().await, ["0 test:orders v1", "1 test:other v1"]);
    ring.other.rotate().await.unwrap();
    manager.sync().await.unwrap();
    ring.pass_in_use(&scope(&manager), &envelope, 3).await;
    manager.rewraps_settled().await;
    assert_eq!(ring.wraps().await, ["0 test:orders v1", "1 test:other v2"]);
}

/// One bad wrap is no reason to think ill of its KEK.
#[tokio::test]
async fn a_planted_wrap_makes_nobody_avoid_the_kek() {
    let ring = Ring::new();
    let manager = ring.manager().await;
    let envelope = seal(&manager).await;
    ring.plant(0, ring.first()).await;
    let cold = ring.manager().await;
    assert!(open(&cold, &envelope).await.is_ok(), "by the other");
    let before = [calls(ring.first()), calls(&ring.other)];
    let elsewhere = cold.scope("t-2", "orders").unwrap();
    let sealed = elsewhere.seal(b"payload", &record("1")).await.unwrap();
    let colder = ring.manager().await;
    assert!(open(&colder, &envelope).await.is_ok(), "by the other");
    colder.scope("t-2", "orders").unwrap().open(&sealed, &record("1")).await.unwrap();
    let [first, other] = [calls(ring.first()), calls(&ring.other)];
    // Made: one unwrap at each. Opened: the planted wrap and the other's; then the first's.
    assert_eq!(first[2] - before[0][2], 3);
    assert_eq!(other[2] - before[1][2], 2);
}

/// Of two KEKs with one id, one would be left out without a word.
#[tokio::test]
async fn two_keks_of_one_id_are_refused() {
    let ring = Ring::new();
    let twin = Arc::new(TestKms::new("orders"));
    for builder in [
        ring.world.builder().also_wrap_with(twin.clone()),
        ring.world.builder().also_unwrap_with(twin.clone()),
    ] {
        let error = builder.start().await.unwrap_err();
        assert!(matches!(error, Error::Policy(reason) if reason.contains("Failover")), "{error}");
    }
    ring.world.builder().also_unwrap_with(ring.world.kms.clone()).start().await.unwrap();
}
