//! A KMS and a key store that are some milliseconds away, and count.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bulla_backend::{
    Changes, Claim, ClaimRequest, DekQuery, DekRecord, Insertion, KekId, KekState, KekUsage,
    KeyStore, KmsError, MemberId, MemberReport, NewDek, NewWrap, StateChange, StoreError,
    StoreRevision, WrapSwap,
};
use bulla_manager::MemoryKeyStore;
use bulla_manager::layers::{Answer, Attempt, Call, Layer};
use tokio::time::sleep;

/// A way that takes a while, and how many were on it at once.
#[derive(Debug)]
pub(crate) struct Distance {
    latency: Duration,
    on_it: AtomicU64,
    most: AtomicU64,
}

impl Distance {
    pub(crate) fn new(latency: Duration) -> Self {
        Self { latency, on_it: AtomicU64::default(), most: AtomicU64::default() }
    }

    /// The most that were on it at once so far.
    pub(crate) fn most_at_once(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }

    async fn across<T>(&self, call: impl Future<Output = T>) -> T {
        let on_it = self.on_it.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(on_it, Ordering::Relaxed);
        sleep(self.latency).await;
        let answer = call.await;
        self.on_it.fetch_sub(1, Ordering::Relaxed);
        answer
    }
}

/// Around a KMS.
impl Layer for Distance {
    async fn around<'a, T: Answer>(
        &'a self,
        _call: Call<'a>,
        attempt: impl Attempt<'a, T>,
    ) -> Result<T, KmsError> {
        self.across(attempt()).await
    }
}

/// A [`MemoryKeyStore`] at a distance.
#[derive(Debug)]
pub(crate) struct RemoteStore {
    store: MemoryKeyStore,
    distance: Distance,
    reads: AtomicU64,
}

impl RemoteStore {
    pub(crate) fn new(store: MemoryKeyStore, latency: Duration) -> Self {
        Self { store, distance: Distance::new(latency), reads: AtomicU64::default() }
    }

    /// Reads of DEKs so far.
    pub(crate) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }
}

/// Implements the methods of the contract that are only passed on.
macro_rules! remote {
    ($($name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)+) => {
        #[async_trait]
        impl KeyStore for RemoteStore {
            async fn find_deks(
                &self,
                queries: &[DekQuery],
            ) -> Result<Vec<Option<DekRecord>>, StoreError> {
                self.reads.fetch_add(1, Ordering::Relaxed);
                self.distance.across(self.store.find_deks(queries)).await
            }

            $(async fn $name(&self, $($argument: $type),*) -> Result<$answer, StoreError> {
                self.distance.across(self.store.$name($($argument),*)).await
            })+
        }
    };
}

remote! {
    claim_next_version(request: &ClaimRequest) -> Claim;
    insert_dek(dek: &NewDek) -> Insertion;
    activate_due() -> u64;
    change_state(change: &StateChange) -> bool;
    replace_wrap(swap: &WrapSwap) -> bool;
    add_wrap(wrap: &NewWrap) -> bool;
    record_kek(state: &KekState) -> ();
    kek_usage(kek: &KekId) -> Vec<KekUsage>;
    changes_since(seen: Option<StoreRevision>, limit: u32) -> Changes;
    report_member(report: &MemberReport) -> ();
    remove_member(member: &MemberId) -> ();
}
