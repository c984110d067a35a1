//! One KEK as the manager sees it: counted calls, and how long its DEKs may serve.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use bulla_backend::{
    GenerateRequest, GeneratedKey, Instant, Kek, KekId, KekState, KmsError, RewrapRequest,
    UnwrapRequest, UnwrappedKey, WrappedKey,
};
use bulla_core::KmsContext;
use tokio::sync::Semaphore;

use crate::stats::Counters;

#[derive(Debug)]
pub(crate) struct KekHandle {
    kek: Arc<dyn Kek>,
    counters: Arc<Counters>,
    /// Until when cached DEKs under this KEK serve, in nanoseconds.
    valid_until: AtomicU64,
    /// Label of the current version, where the KMS names it.
    current: ArcSwapOption<Box<str>>,
    /// Bumped whenever `current` changes.
    generation: AtomicU64,
    /// How often the KEK was revoked; an unwrap that began before a revocation proves
    /// nothing after it.
    revocations: AtomicU64,
    /// Whether a probe is running.
    probing: AtomicBool,
    /// Calls at once: a KEK that hangs keeps nobody else waiting.
    permits: Semaphore,
}

/// The right to probe a KEK, which ends when it is dropped.
pub(crate) struct Probing(Arc<KekHandle>);

impl Drop for Probing {
    fn drop(&mut self) {
        self.0.probing.store(false, Ordering::Release);
    }
}

impl KekHandle {
    pub(crate) fn new(kek: Arc<dyn Kek>, counters: Arc<Counters>, calls_at_once: usize) -> Self {
        Self {
            kek,
            counters,
            valid_until: AtomicU64::new(0),
            current: ArcSwapOption::empty(),
            generation: AtomicU64::new(0),
            revocations: AtomicU64::new(0),
            probing: AtomicBool::new(false),
            permits: Semaphore::new(calls_at_once),
        }
    }

    pub(crate) fn id(&self) -> &KekId {
        self.kek.kek()
    }

    #[inline]
    pub(crate) fn is_valid(&self, now: Instant) -> bool {
        now.as_nanos() < self.valid_until.load(Ordering::Relaxed)
    }

    /// An unwrap succeeded; a later deadline is never shortened by an earlier one.
    pub(crate) fn extend_validity(&self, until: Instant) {
        self.valid_until.fetch_max(until.as_nanos(), Ordering::Relaxed);
    }

    pub(crate) fn revocations(&self) -> u64 {
        self.revocations.load(Ordering::SeqCst)
    }

    /// The KEK is known to be unusable.
    pub(crate) fn revoke(&self) {
        self.revocations.fetch_add(1, Ordering::SeqCst);
        self.valid_until.store(0, Ordering::SeqCst);
    }

    /// The right to probe, unless a probe is running.
    pub(crate) fn start_probing(self: &Arc<Self>) -> Option<Probing> {
        (!self.probing.swap(true, Ordering::AcqRel)).then(|| Probing(Arc::clone(self)))
    }

    /// Label of the current version.
    pub(crate) fn current(&self) -> Option<Arc<str>> {
        self.current.load_full().map(|label| Arc::from(&**label))
    }

    #[inline]
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Learns the current version; an unknown one teaches nothing.
    pub(crate) fn learn(&self, label: Option<&str>) {
        let Some(label) = label else { return };
        if self.current.load().as_deref().is_none_or(|known| **known != *label) {
            self.current.store(Some(Arc::new(label.into())));
            self.generation.fetch_add(1, Ordering::Release);
        }
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
