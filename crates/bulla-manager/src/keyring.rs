//! One DEK under several KEKs: made under all of them, opened by the first that can.

use std::sync::Arc;
use std::time::Duration;

use bulla_backend::{
    DekQuery, DekRecord, Instant, KekVersion, KmsErrorKind, NewWrap, StoredWrap, WrappedKey,
};
use bulla_core::{DataKey, EnvelopeKey};
use futures_util::future::try_join_all;

use crate::Error;
use crate::inner::{Inner, in_time};
use crate::kek::KekHandle;
use crate::load::{Dek, Proven};
use crate::slot::Slot;

/// How long a KEK that failed is asked last.
const AVOIDED_FOR: Duration = Duration::from_secs(30);

impl Inner {
    /// The KEKs that wrap new DEKs, the first of them first.
    pub(crate) fn keyring(&self) -> impl Iterator<Item = &Arc<KekHandle>> {
        [&self.kek].into_iter().chain(&self.also_wrapping)
    }

    /// Wraps a new DEK under all KEKs but the first, at once.
    pub(crate) async fn wrap_under_others(
        &self,
        dek: Dek<'_>,
        data_key: &DataKey,
    ) -> Result<Vec<WrappedKey>, Error> {
        let context = dek.scope.context().kms_context(dek.version);
        let wraps = self.also_wrapping.iter().map(|kek| kek.wrap(data_key, &context));
        Ok(try_join_all(wraps).await?)
    }

    /// Unwraps each of `wraps` and checks that it holds `dek`. Returns them with their
    /// versions, which some KMSs tell only now.
    pub(crate) async fn prove_all(
        &self,
        dek: Dek<'_>,
        wraps: Vec<WrappedKey>,
    ) -> Result<Vec<WrappedKey>, Error> {
        let proofs = wraps.into_iter().map(async |mut wrapped| {
            wrapped.kek_version = self.prove(dek, &wrapped).await?.wrapped_by;
            Ok(wrapped)
        });
        try_join_all(proofs).await
    }

    /// Unwraps a DEK by the first of its wraps whose KEK is at hand and can. KEKs that
    /// failed lately are asked last.
    ///
    /// Whatever the failure, the next is asked: a KEK that refuses says nothing about the
    /// others, and a wrap that holds another key is found by its key id.
    pub(crate) async fn unwrap(&self, record: &DekRecord) -> Result<Proven, Error> {
        let (dek, now) = (Dek::of(record), self.now());
        let mut wraps = self.usable_wraps(record);
        wraps.sort_by_key(|(kek, _)| kek.is_avoided(now));
        let Some(((last, last_wrap), others)) = wraps.split_last() else {
            return Err(no_usable_wrap(record));
        };
        // One that hangs must leave time for the others.
        let each = self.policy.load_timeout / (wraps.len() as u32 + 1);
        let mut failed = None;
        for (kek, wrap) in others {
            match in_time(&*self.clock, each, self.prove(dek, &wrap.wrapped)).await {
                Ok(proven) => {
                    kek.avoid(Instant::default());
                    return Ok(proven);
                }
                Err(error) => {
                    tracing::warn!(kek = %kek.id(), %error, "a data key is asked of another KEK");
                    if is_about_kek(&error) {
                        kek.avoid(self.now().after(AVOIDED_FOR));
                    }
                    failed = Some(more_telling(failed, error));
                }
            }
        }
        match self.prove(dek, &last_wrap.wrapped).await {
            Ok(proven) => {
                last.avoid(Instant::default());
                Ok(proven)
            }
            Err(error) => Err(more_telling(failed, error)),
        }
    }

    /// The wraps of a DEK whose KEKs this manager was given.
    fn usable_wraps<'a>(&self, record: &'a DekRecord) -> Vec<(&Arc<KekHandle>, &'a StoredWrap)> {
        let usable = |wrap: &'a StoredWrap| Some((self.keks.get(&wrap.wrapped.kek)?, wrap));
        record.wraps.iter().filter_map(usable).collect()
    }

    /// Whether a wrap of this DEK, other than the one that it was loaded by, is missing or
    /// behind its KEK.
    pub(crate) fn lacks_wraps(&self, slot: &Slot) -> bool {
        if self.also_wrapping.is_empty() {
            return false;
        }
        let wraps = slot.other_wraps();
        self.mendable(slot).any(|kek| {
            let wrap = wraps.iter().find(|(by, _)| by == kek.id());
            wrap.is_none_or(|(_, version)| is_behind(kek, version))
        })
    }

    /// The KEKs beside the slot's own that should wrap its DEK and have not failed lately.
    fn mendable<'a>(&'a self, slot: &'a Slot) -> impl Iterator<Item = &'a Arc<KekHandle>> {
        let now = self.now();
        self.keyring().filter(move |kek| !Arc::ptr_eq(kek, &slot.kek) && !kek.is_avoided(now))
    }

    /// Brings the wraps of a DEK by other KEKs than its slot's up to date: renews those
    /// that are behind, adds those that are missing. Each is proven before it is stored.
    pub(crate) async fn mend_wraps(&self, slot: &Slot) -> Result<(), Error> {
        let record = self.read_again(slot).await?;
        let mut outcome = Ok(());
        for kek in self.mendable(slot) {
            let wrap = record.wraps.iter().find(|wrap| wrap.wrapped.kek == *kek.id());
            let mended = match wrap {
                Some(wrap) if is_behind(kek, &wrap.wrapped.kek_version) => {
                    self.renew(&record, wrap, kek).await.map(drop)
                }
                Some(_) => Ok(()),
                None => self.add_wrap(slot, kek).await,
            };
            if mended.as_ref().is_err_and(is_about_kek) {
                // 10,000 DEKs need not find out one by one.
                kek.avoid(self.now().after(AVOIDED_FOR));
            }
            // One that is down is no reason to leave out the others.
            outcome = outcome.and(mended);
        }
        slot.set_wraps(&self.read_again(slot).await?);
        outcome
    }

    async fn read_again(&self, slot: &Slot) -> Result<DekRecord, Error> {
        self.check_running()?;
        let (scope, key_id) = (slot.scope.id.clone(), slot.key_id);
        let read = self.read_one(DekQuery::Key { scope, key_id }).await?;
        read.found.ok_or(Error::UnknownKey(key_id))
    }

    /// Wraps the DEK of `slot` under `kek`, in the first free place.
    async fn add_wrap(&self, slot: &Slot, kek: &Arc<KekHandle>) -> Result<(), Error> {
        let record = self.read_again(slot).await?;
        let is_free = |at: &u8| record.wraps.iter().all(|wrap| wrap.slot != *at);
        let free = (0..StoredWrap::PER_DEK_MAX as u8).find(is_free);
        let known = record.wraps.iter().find(|wrap| wrap.wrapped.kek == *slot.kek.id());
        let (Some(free), Some(known)) = (free, known) else { return Ok(()) };
        let (dek, scope) = (Dek::of(&record), record.scope.context());
        let context = scope.kms_context(dek.version);
        // The raw key is not kept, so the KEK that loaded it is asked again.
        let data_key = slot.kek.unwrap(&known.wrapped, &context).await?.data_key;
        let keys = EnvelopeKey::derive(&data_key, dek.version, scope, self.key_options)?;
        if keys.key_id() != dek.key_id {
            let kek = slot.kek.id().clone();
            return Err(Error::WrongKeyUnwrapped { key_id: dek.key_id, kek });
        }
        let mut wrapped = kek.wrap(&data_key, &context).await?;
        drop((data_key, keys));
        wrapped.kek_version = self.prove(dek, &wrapped).await?.wrapped_by;
        if self.store.add_wrap(&NewWrap::new(dek.key_id, free, wrapped)).await? {
            let (key_id, kek) = (dek.key_id, kek.id());
            tracing::info!(%key_id, %kek, "wrapped a data key under another KEK as well");
        }
        Ok(())
    }
}

fn no_usable_wrap(record: &DekRecord) -> Error {
    match record.wraps.first() {
        Some(wrap) => Error::UnknownKek { key_id: record.key_id, kek: wrap.wrapped.kek.clone() },
        None => Error::UnknownKey(record.key_id),
    }
}

fn is_behind(kek: &KekHandle, version: &KekVersion) -> bool {
    version.label().is_some_and(|label| kek.is_behind(label))
}

/// Of two failures, the first; but one that may pass comes before one that will not, so
/// that it is not remembered.
fn more_telling(first: Option<Error>, second: Error) -> Error {
    match first {
        Some(first) if may_pass(&first) || !may_pass(&second) => first,
        _ => second,
    }
}

/// Whether a failure says something about the KEK as a whole, not about one wrap or scope.
fn is_about_kek(error: &Error) -> bool {
    may_pass(error) || matches!(error, Error::Kms(error) if error.kind() == KmsErrorKind::Disabled)
}

fn may_pass(error: &Error) -> bool {
    match error {
        Error::Kms(error) => {
            error.kind().is_retryable() || error.kind() == KmsErrorKind::Unauthenticated
        }
        Error::Timeout | Error::Revoked(_) => true,
        _ => false,
    }
}
