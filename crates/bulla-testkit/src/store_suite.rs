//! Conformance suite for [`KeyStore`]: what its contract says, one case for each
//! sentence.
//!
//! A fixture opens stores of the kind that is to be tested; the macro
//! [`store_suite!`](crate::store_suite!) makes one test of each case. The tests run
//! on Tokio.
//!
//! ```
//! use async_trait::async_trait;
//! use bulla_testkit::store_suite::{Handles, StoreFixture};
//!
//! struct MyStores;
//!
//! #[async_trait]
//! impl StoreFixture for MyStores {
//!     async fn fresh(&self) -> Handles {
//!         // Open an empty store twice, and say how to move its clock.
//! #       unimplemented!()
//!     }
//! }
//!
//! # #[cfg(any())]
//! bulla_testkit::store_suite!(MyStores);
//! ```
#![expect(clippy::unwrap_used, reason = "a suite fails by panicking")]

mod feed;
mod lineage;
mod lookups;
mod members;
mod races;
mod states;
mod wraps;

use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bulla_backend::{
    DekQuery, DekRecord, DekState, Insertion, KekId, KekVersion, KeyStore, MemberId, MemberReport,
    NewDek, ScopeId, StateChange, StoreError, StoreErrorKind, StoreRevision, WrappedKey,
};
use bulla_core::{DekVersion, KeyId};

/// Opens the stores that the suite tests.
#[async_trait]
pub trait StoreFixture: Send + Sync {
    /// A new, empty store; panics if there is none to be had.
    async fn fresh(&self) -> Handles;
}

/// Two handles on one store, as two processes have them, and its clock. What keeps
/// the store alive (a directory, a container) belongs into the closure.
pub struct Handles {
    first: Arc<dyn KeyStore>,
    second: Arc<dyn KeyStore>,
    advance: Box<dyn Fn(Duration) + Send + Sync>,
}

impl Handles {
    /// `first` and `second` share nothing but the store; `advance` moves the clock by
    /// which the store measures ages and deadlines, for both.
    pub fn new(
        first: Arc<dyn KeyStore>,
        second: Arc<dyn KeyStore>,
        advance: impl Fn(Duration) + Send + Sync + 'static,
    ) -> Self {
        Self { first, second, advance: Box::new(advance) }
    }

    fn advance(&self, duration: Duration) {
        (self.advance)(duration);
    }

    /// The handles in turn.
    fn handle(&self, index: usize) -> Arc<dyn KeyStore> {
        Arc::clone(if index.is_multiple_of(2) { &self.first } else { &self.second })
    }
}

impl fmt::Debug for Handles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handles").field("first", &self.first).finish_non_exhaustive()
    }
}

/// Declares the cases: [`run`], and the macro that makes a test of each. `$d` is a
/// dollar sign, which the inner macro needs for itself.
macro_rules! cases {
    (($d:tt) $($module:ident: $($case:ident)+;)+) => {
        $($(pub use $module::$case;)+)+

        /// Runs every case, each on a store of its own. Panics at the first that
        /// fails; with [`store_suite!`](crate::store_suite!) the others run too.
        pub async fn run(fixture: &dyn StoreFixture) {
            $($($case(fixture).await;)+)+
        }

        /// Makes a test of every case of the [suite](mod@crate::store_suite), each on a
        /// store that the [`StoreFixture`](crate::store_suite::StoreFixture) in the
        /// argument opens. The crate needs `tokio` with `macros` and
        /// `rt-multi-thread`.
        #[macro_export]
        macro_rules! store_suite {
            ($d fixture:expr) => {
                $($(
                    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                    async fn $case() {
                        $d crate::store_suite::$case(&$d fixture).await;
                    }
                )+)+
            };
        }
    };
}

cases! { ($)
    lookups:
        answers_are_in_the_order_of_the_queries
        a_key_of_another_scope_is_not_found
        scopes_are_told_apart_by_every_byte
        active_finds_the_active_version_only
        wraps_come_back_as_they_were_stored
        age_is_by_the_clock_of_the_store;
    lineage:
        one_process_holds_the_claim_until_it_ends
        a_claim_is_superseded_by_any_newer_version
        a_claim_cannot_run_ahead_of_the_store
        claims_of_scopes_are_independent
        inserting_ends_the_claim
        a_claim_is_only_a_hint
        the_first_version_is_active_at_once_a_later_one_pending
        a_version_is_stored_once
        a_gap_in_the_lineage_is_refused
        a_key_id_names_one_dek
        what_exceeds_a_limit_is_refused;
    states:
        activation_waits_for_the_delay
        activation_retires_the_version_before
        activation_takes_every_scope_at_once
        activation_never_goes_back
        a_state_changes_only_along_the_arrows
        a_state_changes_only_from_the_one_expected
        shredding_deletes_the_wraps
        a_shredded_version_is_never_activated;
    wraps:
        a_wrap_is_replaced_at_its_revision_only
        a_wrap_is_replaced_in_every_state_that_has_one
        an_unusable_kek_version_gets_no_wraps
        a_wrap_may_move_to_another_kek
        a_replacement_is_checked_before_it_is_stored
        a_dek_may_have_several_wraps
        wraps_beyond_the_limits_are_refused
        a_wrap_is_added_where_there_is_room
        a_wrap_is_added_in_every_state_that_has_one
        an_unusable_kek_adds_no_wraps
        usage_is_exact
        usage_counts_a_version_once_however_it_is_known
        a_kek_without_wraps_has_no_usage;
    feed:
        the_first_look_tells_the_revision_alone
        every_mutation_has_a_revision
        what_changes_nothing_has_no_revision
        a_dek_is_told_once_as_it_is_now
        pages_tell_everything_in_order
        a_revision_is_never_split
        a_feed_from_the_future_tells_the_present
        a_store_has_one_identity;
    members:
        activation_waits_for_every_live_member
        activation_does_not_wait_for_the_dead
        a_removed_member_holds_nothing_up
        a_rewrapped_version_is_acknowledged_anew
        an_acknowledgement_is_never_taken_back
        nobody_acknowledges_the_future;
    races:
        one_of_many_claims_is_granted
        one_of_many_insertions_is_stored
        processes_that_race_for_versions_leave_no_gap
        one_of_many_replacements_succeeds
        one_of_many_additions_succeeds
        one_of_many_state_changes_succeeds
        one_of_many_activations_does_it
        the_feed_misses_nothing_under_writers
        a_reader_sees_what_was_written_before
        a_dropped_call_has_done_all_or_nothing;
}

const MINUTE: Duration = Duration::from_secs(60);

fn scope(name: &str) -> ScopeId {
    ScopeId::new(name, "suite").unwrap()
}

fn version(number: u32) -> DekVersion {
    DekVersion::new(number).unwrap()
}

/// A key id of its own for each version of each scope. Stores do not check them.
fn key(scope: &ScopeId, number: u32) -> KeyId {
    let mut bytes = [0; KeyId::LEN];
    for (index, chunk) in bytes.chunks_exact_mut(8).enumerate() {
        let mut hasher = DefaultHasher::new();
        (index, scope, number).hash(&mut hasher);
        chunk.copy_from_slice(&hasher.finish().to_be_bytes());
    }
    KeyId::from_bytes(bytes)
}

fn kek(name: &str) -> KekId {
    KekId::new(format!("test:///{name}"))
}

fn reported(label: &str) -> KekVersion {
    KekVersion::Reported(label.into())
}

/// A wrap by version 1 of the KEK `kek`.
fn wrap() -> WrappedKey {
    WrappedKey::new(kek("kek"), reported("1"), b"wrapped".to_vec())
}

fn new_dek(scope: &ScopeId, number: u32) -> NewDek {
    NewDek::new(scope.clone(), version(number), key(scope, number), wrap(), Duration::ZERO)
}

/// Stores a version, which may be activated at once.
async fn insert(store: &dyn KeyStore, scope: &ScopeId, number: u32) -> KeyId {
    let dek = new_dek(scope, number);
    let state = if number == 1 { DekState::Active } else { DekState::Pending };
    assert_eq!(store.insert_dek(&dek).await.unwrap(), Insertion::Stored(state));
    dek.key_id
}

async fn change(store: &dyn KeyStore, key_id: KeyId, from: DekState, to: DekState) -> bool {
    store.change_state(&StateChange::new(key_id, from, to).unwrap()).await.unwrap()
}

async fn find(store: &dyn KeyStore, query: DekQuery) -> Option<DekRecord> {
    let mut found = store.find_deks(&[query]).await.unwrap();
    assert_eq!(found.len(), 1, "one answer for one query");
    found.remove(0)
}

async fn find_active(store: &dyn KeyStore, scope: &ScopeId) -> Option<DekRecord> {
    find(store, DekQuery::Active(scope.clone())).await
}

async fn find_key(store: &dyn KeyStore, scope: &ScopeId, number: u32) -> Option<DekRecord> {
    find(store, DekQuery::Key { scope: scope.clone(), key_id: key(scope, number) }).await
}

/// The states of the versions 1 and up.
async fn states(store: &dyn KeyStore, scope: &ScopeId) -> Vec<DekState> {
    let mut states = Vec::new();
    for number in 1.. {
        let Some(dek) = find_key(store, scope, number).await else { break };
        assert_eq!(dek.version, version(number));
        states.push(dek.state);
    }
    states
}

async fn revision(store: &dyn KeyStore) -> StoreRevision {
    store.changes_since(None, 1).await.unwrap().revision
}

async fn report(store: &dyn KeyStore, name: &str, acknowledged: StoreRevision) {
    let member = MemberReport::new(MemberId::new(name), acknowledged, MINUTE, 10 * MINUTE);
    store.report_member(&member).await.unwrap();
}

/// Whether a call was refused for what it asked.
fn is_refused<T: fmt::Debug>(result: Result<T, StoreError>) -> bool {
    matches!(result, Err(error) if error.kind() == StoreErrorKind::Refused)
}
