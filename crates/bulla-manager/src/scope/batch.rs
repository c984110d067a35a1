//! Many records at a time.

use std::collections::HashMap;
use std::mem;

use bulla_core::{Codec, EnvelopeKey, Envelopes, Header, KeyId, OpenError};
use zeroize::{Zeroize, Zeroizing};

use super::{Item, Named, Scope};
use crate::Error;
use crate::freshness::Opened;

/// Opened records that their caller does not have yet: wiped if the call is cancelled.
struct UnreleasedRecords(Vec<Result<Opened, Error>>);

impl Drop for UnreleasedRecords {
    fn drop(&mut self) {
        self.0.iter_mut().flatten().for_each(|opened| opened.plaintext.zeroize());
    }
}

/// Records sealed with one look at their key.
const SEALED_AT_ONCE: usize = 256;

/// DEKs asked for in one read of the store.
const LOAD_AT_ONCE: usize = 256;

impl Scope {
    /// Seals many records, all or none, in their order, into one allocation. Take a page of
    /// a large table at a time.
    ///
    /// # Errors
    /// The first failure.
    pub async fn seal_many(&self, items: &[Item<'_>]) -> Result<Envelopes, Error> {
        // One that is too long is refused before anything is done for the others.
        let lens = items.iter().map(|(plaintext, _)| EnvelopeKey::sealed_len(plaintext.len()));
        let bytes = lens.sum::<Result<usize, _>>()?;
        let mut sealed = Envelopes::with_capacity(items.len(), bytes);
        let mut left = items;
        while let Some((first, others)) = left.split_first() {
            let (batch, behind) = left.split_at(left.len().min(SEALED_AT_ONCE));
            left = match self.seal_batch_now(batch, &mut sealed) {
                Some(done) => {
                    done?;
                    behind
                }
                // The key is not at hand, or nearly used up.
                None => {
                    let seal = |keys: &EnvelopeKey| keys.seal_many_onto([*first], &mut sealed);
                    self.seal_by(first.0.len(), seal).await?;
                    others
                }
            };
        }
        Ok(sealed)
    }

    /// Opens many records, each with a result of its own, in their order. Keys that
    /// are not at hand are read from the store together and unwrapped concurrently.
    /// What is opened is all in memory at once.
    pub async fn open_many(&self, items: &[Item<'_>]) -> Vec<Result<Opened, Error>> {
        let failed = self.load_missing(items.iter().map(|(envelope, _)| *envelope)).await;
        let mut opened = UnreleasedRecords(Vec::with_capacity(items.len()));
        for (envelope, context) in items {
            opened.0.push(match self.open_vec_now(envelope, context) {
                Some(opened) => opened,
                None => self.open_unless(&failed, Codec::RAW, (envelope, context)).await,
            });
        }
        mem::take(&mut opened.0)
    }

    /// [`reseal`](Self::reseal) for many records, each with a result of its own.
    pub async fn reseal_many(&self, items: &[Item<'_>]) -> Vec<Result<Option<Vec<u8>>, Error>> {
        let failed = self.load_missing(items.iter().map(|(envelope, _)| *envelope)).await;
        let mut no_key = None;
        let mut resealed = Vec::with_capacity(items.len());
        for item in items {
            resealed.push(self.reseal_unless(&failed, &mut no_key, *item).await);
        }
        resealed
    }

    /// Has the keys of all `envelopes` at hand, so that [`try_open`](Self::try_open)
    /// works. Bytes that are no envelope are passed over.
    ///
    /// # Errors
    /// What loading one of the keys failed with; those that did not fail are at hand.
    pub async fn prepare_to_open<'a>(
        &self,
        envelopes: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<(), Error> {
        match self.load_missing(envelopes).await.into_values().next() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Seals all of `batch` with the key at hand; `None` if there is none that may.
    fn seal_batch_now(
        &self,
        batch: &[Item<'_>],
        sealed: &mut Envelopes,
    ) -> Option<Result<(), Error>> {
        let len = batch.iter().map(|(plaintext, _)| plaintext.len()).sum();
        let records = batch.len() as u64;
        // Records that are refused count all the same, so ask first.
        let current = self.state.current();
        let budget = &current.as_ref()?.slot.budget;
        if !budget.has_room(records, len as u64, &self.inner.policy) {
            return None;
        }
        self.seal_counted_now(records, len, |keys| {
            keys.seal_many_onto(batch.iter().copied(), sealed)
        })
    }

    /// Loads the keys of `envelopes` that are not at hand; returns those that failed.
    async fn load_missing<'a>(
        &self,
        envelopes: impl IntoIterator<Item = &'a [u8]>,
    ) -> HashMap<KeyId, Error> {
        let mut failed = HashMap::new();
        for key_ids in self.missing(envelopes).chunks(LOAD_AT_ONCE) {
            let queries: Vec<_> = key_ids.iter().map(|key_id| self.query(*key_id)).collect();
            let loaded = key_ids.iter().zip(self.inner.load(&queries).await);
            failed.extend(loaded.filter_map(|(key_id, loaded)| Some((*key_id, loaded.err()?))));
        }
        failed
    }

    /// The keys of `envelopes` that are not at hand, each once.
    fn missing<'a>(&self, envelopes: impl IntoIterator<Item = &'a [u8]>) -> Vec<KeyId> {
        let (now, recent) = (self.inner.now(), self.state.recent());
        let mut named = vec![false; recent.len()];
        let mut is_recent = |claim: Named| {
            let found = recent
                .iter()
                .zip(&mut named)
                .find(|(warm, _)| warm.slot.key_id == claim.key_id && self.serves(&warm.slot, now));
            found.map(|(_, named)| *named = true).is_some()
        };
        let mut missing: Vec<_> = envelopes
            .into_iter()
            .filter(|envelope| !Named::claimed_by(envelope).is_some_and(&mut is_recent))
            .filter_map(|envelope| Header::parse(envelope).ok())
            .filter(|header| !header.kind.is_self_contained())
            .map(|header| header.key_id)
            .collect();
        // The cache evicts what was not asked for: it must not be these, to make room for others.
        for (warm, _) in recent.iter().zip(named).filter(|(_, named)| *named) {
            self.inner.cache.slot(&warm.slot.key_id);
        }
        missing.sort_unstable();
        missing.dedup();
        missing.retain(|key_id| !self.slot(key_id).is_some_and(|slot| self.serves(&slot, now)));
        missing
    }

    /// [`reseal`](Self::reseal), unless one of the two keys has just failed to load.
    async fn reseal_unless(
        &self,
        failed: &HashMap<KeyId, Error>,
        no_key: &mut Option<Error>,
        (envelope, context): Item<'_>,
    ) -> Result<Option<Vec<u8>>, Error> {
        let codec = Header::parse(envelope).map_err(OpenError::from)?.codec;
        let opened = self.open_unless(failed, codec, (envelope, context)).await?;
        if opened.freshness.wants_reseal()
            && let Some(error) = no_key
        {
            drop(Zeroizing::new(opened.plaintext));
            return Err(error.clone());
        }
        let resealed = self.reseal_opened(codec, opened, context).await;
        if let Err(error) = &resealed
            && !matches!(error, Error::Seal(_))
        {
            *no_key = Some(error.clone());
        }
        resealed
    }

    /// Opens a record, unless its key has just failed to load: asking again for every
    /// record would take as often the time-out.
    async fn open_unless(
        &self,
        failed: &HashMap<KeyId, Error>,
        codec: Codec,
        (envelope, context): Item<'_>,
    ) -> Result<Opened, Error> {
        match failed.get(&self.named(envelope, codec)?.key_id) {
            Some(error) => Err(error.clone()),
            None => self.open_as(codec, envelope, context).await,
        }
    }
}
