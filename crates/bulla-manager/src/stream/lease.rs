//! Whether the key of an open stream still serves.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bulla_backend::Instant;
use bulla_core::KeyId;

use crate::budget::{Admission, Budget};
use crate::slot::Slot;
use crate::{Error, Scope};

/// The right to go on with a stream, asked for before each chunk. A stream holds its own
/// keys; when the slot that they came from was evicted, the DEK is loaded again, only to
/// see that it may be.
pub(crate) struct Lease(Option<Held>);

struct Held {
    scope: Scope,
    key_id: KeyId,
    slot: Option<Arc<Slot>>,
    /// What it may seal; `None` if it opens.
    sealing: Option<Sealing>,
    loading: Option<Loading>,
}

struct Sealing {
    /// When the lease ends that the process had when the stream was begun.
    until: Instant,
    /// Held here: the counts must outlive the slot.
    budget: Arc<Budget>,
}

type Loading = Pin<Box<dyn Future<Output = Result<Arc<Slot>, Error>> + Send>>;

impl Lease {
    /// The lease of a stream with a DEK of its own.
    pub(crate) fn unlimited() -> Self {
        Self(None)
    }

    pub(crate) fn to_open(scope: &Scope, key_id: KeyId) -> Self {
        let (slot, scope) = (scope.slot(&key_id), scope.clone());
        Self(Some(Held { scope, key_id, slot, sealing: None, loading: None }))
    }

    /// Whoever retires a DEK waits until the seal leases have ended that processes had
    /// when they may not have known of its successor: no stream may last longer.
    pub(crate) fn to_seal(scope: &Scope, key_id: KeyId) -> Self {
        let mut lease = Self::to_open(scope, key_id);
        if let Some(held) = &mut lease.0 {
            let inner = scope.inner();
            held.sealing = Some(Sealing {
                until: Instant::from_nanos(inner.seals_until.load(Ordering::Relaxed)),
                budget: inner.cache.budget(key_id),
            });
        }
        lease
    }

    /// Ready when the next chunk, of `len` bytes, may be sealed or opened.
    pub(crate) fn poll_allows(
        &mut self,
        cx: &mut Context<'_>,
        len: usize,
    ) -> Poll<Result<(), Error>> {
        match &mut self.0 {
            Some(held) => held.poll_allows(cx, len),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl Held {
    fn poll_allows(&mut self, cx: &mut Context<'_>, len: usize) -> Poll<Result<(), Error>> {
        let inner = Arc::clone(self.scope.inner());
        loop {
            if let Some(loading) = &mut self.loading {
                let loaded = ready!(loading.as_mut().poll(cx));
                self.loading = None;
                self.slot = Some(loaded?);
            }
            let now = inner.now();
            let slot = self.slot.as_ref().filter(|slot| {
                slot.has_keys() && slot.state().opens() && inner.is_valid(&slot.kek, now)
            });
            let Some(slot) = slot else {
                let (inner, query) = (Arc::clone(&inner), self.scope.query(self.key_id));
                self.loading = Some(Box::pin(async move {
                    let load =
                        async { inner.load(&[query]).await.pop().unwrap_or(Err(Error::Closed)) };
                    inner.in_time(load).await
                }));
                continue;
            };
            if let Some(Sealing { until, budget }) = &self.sealing {
                if let Some(refusal) = inner.seal_refusal(now) {
                    return Poll::Ready(Err(refusal));
                }
                if now >= *until || now >= slot.seals_until {
                    return Poll::Ready(Err(Error::StreamTooSlow));
                }
                match budget.take_bytes(len as u64, &inner.policy, now) {
                    Admission::Admitted => {}
                    Admission::AdmittedAndStage => inner.stage_successor(slot),
                    Admission::Refused => return Poll::Ready(Err(Error::BudgetUsedUp)),
                }
            }
            if slot.wants_attention(now) {
                inner.attend(slot, now);
            }
            return Poll::Ready(Ok(()));
        }
    }
}
