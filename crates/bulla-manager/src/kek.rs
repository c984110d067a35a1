//! One KEK as the manager sees it: counted calls, and how long its DEKs may serve.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use bulla_backend::{
    GenerateRequest, GeneratedKey, Instant, Kek, KekId, KekState, KekStatus, KekVersionState,
    KmsError, RewrapRequest, UnwrapRequest, UnwrappedKey, WrapRequest, WrappedKey,
};
use bulla_core::{DataKey, KmsContext};
use tokio::sync::{Mutex, OwnedMutexGuard, Semaphore};

use crate::Error;
use crate::stats::Counters;

#[derive(Debug)]
pub(crate) struct KekHandle {
    kek: Arc<dyn Kek>,
    counters: Arc<Counters>,
    /// Until when cached DEKs under this KEK serve, in nanoseconds.
    valid_until: AtomicU64,
    /// What the KMS last said about versions.
    versions: ArcSwap<Versions>,
    /// Bumped whenever `versions` changes.
    generation: AtomicU64,
    /// How often the KEK or a version of it was closed; an unwrap that began before
    /// proves nothing after it.
    closures: AtomicU64,
    /// Until when others are asked first where there are others, in nanoseconds.
    avoided_until: AtomicU64,
    /// Held by a probe.
    probing: Arc<Mutex<()>>,
    /// Calls at once: a KEK that hangs keeps nobody else waiting.
    permits: Semaphore,
}

/// Versions of a KEK, by their labels.
#[derive(Debug, Default, PartialEq)]
struct Versions {
    current: Option<Arc<str>>,
    /// All that the KMS lists; empty where it lists none.
    known: Vec<Arc<str>>,
    closed: Vec<Arc<str>>,
}

impl KekHandle {
    pub(crate) fn new(kek: Arc<dyn Kek>, counters: Arc<Counters>, calls_at_once: usize) -> Self {
        Self {
            kek,
            counters,
            valid_until: AtomicU64::new(0),
            versions: ArcSwap::default(),
            generation: AtomicU64::new(0),
            closures: AtomicU64::new(0),
            avoided_until: AtomicU64::new(0),
            probing: Arc::default(),
            permits: Semaphore::new(calls_at_once),
        }
    }

    pub(crate) fn id(&self) -> &KekId {
        self.kek.kek()
    }

    /// Refuses another KEK of the same id: one of the two would be left out without a word.
    pub(crate) fn check_same(&self, other: &Arc<dyn Kek>) -> Result<(), Error> {
        if std::ptr::addr_eq(Arc::as_ptr(&self.kek), Arc::as_ptr(other)) {
            return Ok(());
        }
        Err(Error::Policy(
            "two KEKs have one id; replicas of one KEK go into layers::Failover, and two Vaults \
             need two names",
        ))
    }

    #[inline]
    pub(crate) fn is_valid(&self, now: Instant) -> bool {
        now.as_nanos() < self.valid_until.load(Ordering::Relaxed)
    }

    /// An unwrap succeeded; a later deadline is never shortened by an earlier one.
    pub(crate) fn extend_validity(&self, until: Instant) {
        self.valid_until.fetch_max(until.as_nanos(), Ordering::Relaxed);
    }

    pub(crate) fn closures(&self) -> u64 {
        self.closures.load(Ordering::SeqCst)
    }

    /// The KEK, or a version of it, is known to be unusable.
    pub(crate) fn close(&self) {
        self.closures.fetch_add(1, Ordering::SeqCst);
    }

    /// No DEK under this KEK serves until another unwrap has succeeded.
    pub(crate) fn end_validity(&self) {
        self.valid_until.store(0, Ordering::SeqCst);
    }

    /// Whether other KEKs should be asked before this one.
    pub(crate) fn is_avoided(&self, now: Instant) -> bool {
        now.as_nanos() < self.avoided_until.load(Ordering::Relaxed)
    }

    /// It failed: others are asked first until `until`.
    pub(crate) fn avoid(&self, until: Instant) {
        self.avoided_until.store(until.as_nanos(), Ordering::Relaxed);
    }

    /// The right to probe, unless a probe is running.
    pub(crate) fn try_start_probing(&self) -> Option<OwnedMutexGuard<()>> {
        Arc::clone(&self.probing).try_lock_owned().ok()
    }

    /// The right to probe, after the probe that is running.
    pub(crate) async fn start_probing(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.probing).lock_owned().await
    }

    /// Label of the current version.
    pub(crate) fn current(&self) -> Option<Arc<str>> {
        self.versions.load().current.clone()
    }

    /// Whether `label` names a version that has a successor. One that this process has
    /// not heard of is newer than what it knows.
    pub(crate) fn is_behind(&self, label: &str) -> bool {
        let versions = self.versions.load();
        let current = versions.current.as_deref();
        let known =
            versions.known.is_empty() || versions.known.iter().any(|known| **known == *label);
        known && current.is_some_and(|current| current != label)
    }

    #[inline]
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Learns the versions, and returns those that were closed since the last time. An
    /// unknown current version teaches nothing about it.
    pub(crate) fn learn(&self, state: &KekState) -> Vec<Arc<str>> {
        let before = self.versions.load_full();
        let labels = |closed: bool| {
            let chosen =
                move |version: &&KekVersionState| !closed || version.status != KekStatus::Enabled;
            state.versions.iter().filter(chosen).map(|version| Arc::clone(&version.label)).collect()
        };
        let current = state.current.label().map(Arc::from).or_else(|| before.current.clone());
        let versions = Versions { current, known: labels(false), closed: labels(true) };
        let newly_closed = versions.closed.iter().filter(|label| !before.closed.contains(label));
        // What is not listed any more is destroyed, as far as anybody can tell.
        let gone = before.known.iter().filter(|label| !versions.known.contains(label));
        let gone = gone.filter(|_| !versions.known.is_empty());
        let newly_closed = newly_closed.chain(gone).cloned().collect();
        if versions != *before {
            self.versions.store(Arc::new(versions));
            self.generation.fetch_add(1, Ordering::Release);
        }
        newly_closed
    }

    pub(crate) async fn describe(&self) -> Result<KekState, KmsError> {
        self.counters.kms_calls.add_one();
        self.counters.kms_describes.add_one();
        self.kek.describe().await
    }

    pub(crate) async fn generate(&self, context: &KmsContext) -> Result<GeneratedKey, KmsError> {
        let _permit = self.permits.acquire().await;
        self.counters.kms_calls.add_one();
        self.kek.generate_data_key(GenerateRequest::new(context)).await
    }

    pub(crate) async fn wrap(
        &self,
        data_key: &DataKey,
        context: &KmsContext,
    ) -> Result<WrappedKey, KmsError> {
        let _permit = self.permits.acquire().await;
        self.counters.kms_calls.add_one();
        self.kek.wrap_key(WrapRequest::new(data_key, context)).await
    }

    pub(crate) async fn unwrap(
        &self,
        wrapped: &WrappedKey,
        context: &KmsContext,
    ) -> Result<UnwrappedKey, KmsError> {
        let _permit = self.permits.acquire().await;
        self.counters.kms_calls.add_one();
        self.kek.unwrap_key(UnwrapRequest::new(wrapped, context)).await
    }

    pub(crate) async fn rewrap(
        &self,
        wrapped: &WrappedKey,
        context: &KmsContext,
    ) -> Result<WrappedKey, KmsError> {
        let _permit = self.permits.acquire().await;
        self.counters.kms_calls.add_one();
        self.kek.rewrap_key(RewrapRequest::new(wrapped, context)).await
    }
}

#[cfg(test)]
mod tests {
    use bulla_testkit::TestKms;

    use super::*;

    /// A version that was disabled and destroyed between two looks is in neither list.
    #[test]
    fn a_version_that_is_not_listed_any_more_is_closed_once() {
        let kms = Arc::new(TestKms::new("orders"));
        let handle = KekHandle::new(kms.clone(), Arc::default(), 1);
        let id = handle.id().clone();
        let state = |labels: &[&str]| {
            let current = bulla_backend::KekVersion::Reported("3".into());
            let versions =
                labels.iter().map(|label| KekVersionState::new(*label, KekStatus::Enabled));
            KekState::new(id.clone(), KekStatus::Enabled, current).with_versions(versions.collect())
        };
        assert!(handle.learn(&state(&["1", "2", "3"])).is_empty());
        assert_eq!(handle.learn(&state(&["2", "3"])), ["1".into()]);
        assert!(handle.learn(&state(&["2", "3"])).is_empty());
        assert!(handle.learn(&state(&[])).is_empty(), "a KMS that lists none any more");
    }
}
