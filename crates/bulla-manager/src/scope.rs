//! Seal and open: what applications hold. Batches are in `scope/batch.rs`.

mod batch;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bulla_backend::{DekQuery, Instant, ScopeId};
use bulla_core::{
    Codec, DekVersion, EnvelopeKey, Header, KeyId, OpenError, RecordContext, SealError, Suite,
};
use zeroize::Zeroizing;

use crate::budget::Admission;
use crate::freshness::{Freshness, Opened};
use crate::inner::Inner;
use crate::lineage::Rotation;
use crate::slot::{ScopeState, Slot, Warm};
use crate::{Error, Phase};

/// A record to seal (its plaintext) or to open (its envelope), and its context.
pub type Item<'a> = (&'a [u8], &'a RecordContext);

/// Seals and opens the records of one scope. Cheap to clone; keep it where the scope
/// is used often.
///
/// With the key at hand, `seal` and `open` return without waiting, take no lock and
/// allocate the output only (a scope that uses more than 16 DEKs at a time finds the
/// others by a look-up). Otherwise they load the key: one read of the store and one KMS
/// call, shared by everybody who waits for the same key, within the policy's
/// `load_timeout`. A scope's first DEK, and the successor of one that is used up, take
/// some calls more. Dropping a future stops the waiting, never the loading.
#[derive(Clone)]
pub struct Scope {
    inner: Arc<Inner>,
    state: Arc<ScopeState>,
}

impl Scope {
    pub(crate) fn new(inner: Arc<Inner>, id: &ScopeId) -> Self {
        let state = inner.cache.scope_state(id);
        Self { inner, state }
    }

    /// The scope's name.
    pub fn id(&self) -> &ScopeId {
        &self.state.id
    }

    /// Seals `plaintext` (at most 2^30 bytes) into a new `Vec`, 84 bytes longer.
    ///
    /// # Errors
    /// [`Error::Seal`] for what is wrong with the call; anything else for what is
    /// wrong with the keys.
    pub async fn seal(&self, plaintext: &[u8], context: &RecordContext) -> Result<Vec<u8>, Error> {
        match self.seal_now(plaintext.len(), |keys| keys.seal(plaintext, context)) {
            Some(sealed) => sealed,
            None => self.seal_as(Codec::RAW, plaintext, context).await,
        }
    }

    /// Seals `plaintext` into the start of `out` and returns the length of the
    /// envelope, 84 bytes more than the plaintext's.
    ///
    /// # Errors
    /// As [`seal`](Self::seal).
    pub async fn seal_into(
        &self,
        plaintext: &[u8],
        context: &RecordContext,
        out: &mut [u8],
    ) -> Result<usize, Error> {
        self.seal_by(plaintext.len(), |keys| keys.seal_into(plaintext, context, out)).await
    }

    /// Opens `envelope` into a new `Vec`, and says whether the record is fresh.
    ///
    /// # Errors
    /// [`Error::Open`] for what is wrong with the envelope or the context;
    /// [`Error::UnknownKey`] if the scope has no such DEK; anything else for what is
    /// wrong with the keys.
    pub async fn open(&self, envelope: &[u8], context: &RecordContext) -> Result<Opened, Error> {
        self.open_as(Codec::RAW, envelope, context).await
    }

    /// Opens `envelope` into the start of `out` and returns the length of the
    /// plaintext, 84 bytes less than the envelope's, and its freshness.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_into(
        &self,
        envelope: &[u8],
        context: &RecordContext,
        out: &mut [u8],
    ) -> Result<(usize, Freshness), Error> {
        let mut open = |keys: &EnvelopeKey| keys.open_into(envelope, context, out);
        match self.open_claimed(envelope, &mut open) {
            Some(opened) => opened,
            None => self.open_by(self.named(envelope, Codec::RAW)?, open).await,
        }
    }

    /// Seals a record again if its DEK seals no more, or it is in another suite than this
    /// manager seals in; `None` if it is current. The codec stays.
    ///
    /// Write the new envelope only where the old one still is (`UPDATE … SET cell =
    /// new WHERE key = … AND cell = old`): the application may have written the row
    /// since you read it. `examples/support/resealing.rs` does so in bulk.
    ///
    /// # Errors
    /// As [`open`](Self::open) and [`seal`](Self::seal).
    pub async fn reseal(
        &self,
        envelope: &[u8],
        context: &RecordContext,
    ) -> Result<Option<Vec<u8>>, Error> {
        let codec = Header::parse(envelope).map_err(OpenError::from)?.codec;
        let opened = self.open_as(codec, envelope, context).await?;
        self.reseal_opened(codec, opened, context).await
    }

    /// Has the key that seals at hand, so that [`try_seal`](Self::try_seal) works:
    /// call it before a transaction that must not wait for a KMS. Makes the scope's
    /// first DEK if it has none. Returns the version of the DEK that seals: what is
    /// sealed under another one can be counted by SQL, see
    /// [`Header::DEK_VERSION`](bulla_core::Header::DEK_VERSION).
    ///
    /// # Errors
    /// What loading the key failed with.
    pub async fn prepare(&self) -> Result<DekVersion, Error> {
        Ok(self.load_active().await?.version)
    }

    /// [`seal`](Self::seal) without waiting.
    ///
    /// # Errors
    /// [`Error::NotWarm`] if the key is not at hand; otherwise as `seal`.
    pub fn try_seal(&self, plaintext: &[u8], context: &RecordContext) -> Result<Vec<u8>, Error> {
        match self.seal_now(plaintext.len(), |keys| keys.seal(plaintext, context)) {
            Some(sealed) => sealed,
            None => {
                let refusal = self.inner.seal_refusal(self.inner.now());
                Err(refusal.unwrap_or_else(|| self.not_warm()))
            }
        }
    }

    /// [`open`](Self::open) without waiting.
    ///
    /// # Errors
    /// [`Error::NotWarm`] if the key is not at hand; otherwise as `open`.
    pub fn try_open(&self, envelope: &[u8], context: &RecordContext) -> Result<Opened, Error> {
        match self.open_vec_now(envelope, context) {
            Some(opened) => opened,
            None => {
                self.named(envelope, Codec::RAW)?;
                Err(self.not_warm())
            }
        }
    }

    /// Makes a new DEK version, or adopts the one that another process is making.
    /// It seals as soon as every live process has acknowledged it and the policy's
    /// `activation_delay` has passed; with one process and no delay that is at once.
    ///
    /// # Errors
    /// What the store or the KMS failed with; the present version then goes on.
    pub async fn rotate(&self) -> Result<Rotation, Error> {
        self.inner.in_time(self.inner.rotate(self.id())).await
    }

    /// What the key that seals is doing.
    pub fn phase(&self) -> Phase {
        let current = self.state.current();
        let slot = current.as_ref().map(|current| &current.slot);
        self.phase_of_slot(&DekQuery::Active(self.id().clone()), slot)
    }

    /// What the DEK `key_id` is doing.
    pub fn phase_of(&self, key_id: KeyId) -> Phase {
        self.phase_of_slot(&self.query(key_id), self.slot(&key_id).as_ref())
    }

    fn phase_of_slot(&self, query: &DekQuery, slot: Option<&Arc<Slot>>) -> Phase {
        let now = self.inner.now();
        match slot.filter(|slot| self.serves(slot, now)) {
            Some(slot)
                if !self.inner.may_seal(slot, now) || self.inner.seal_refusal(now).is_some() =>
            {
                Phase::OpenOnly
            }
            Some(slot) if slot.is_refreshing() => Phase::Refreshing,
            Some(slot) if slot.in_grace() => Phase::Grace,
            Some(_) => Phase::Warm,
            None if self.inner.flights.contains(query) => Phase::Loading,
            None if self.inner.cache.remembered_failure(query, now).is_some() => Phase::Negative,
            None => Phase::Absent,
        }
    }

    /// [`seal`](Self::seal), for a plaintext in `codec`.
    pub(crate) async fn seal_as(
        &self,
        codec: Codec,
        plaintext: &[u8],
        context: &RecordContext,
    ) -> Result<Vec<u8>, Error> {
        self.seal_by(plaintext.len(), |keys| keys.seal_as(codec, plaintext, context)).await
    }

    /// [`open`](Self::open), for a plaintext in `codec`.
    pub(crate) async fn open_as(
        &self,
        codec: Codec,
        envelope: &[u8],
        context: &RecordContext,
    ) -> Result<Opened, Error> {
        let open = |keys: &EnvelopeKey| keys.open_as(codec, envelope, context);
        let (plaintext, freshness) = match self.open_claimed(envelope, open) {
            Some(Ok(opened)) => opened,
            Some(Err(error)) => return Err(error),
            None => self.open_by(self.named(envelope, codec)?, open).await?,
        };
        Ok(Opened::new(plaintext, freshness))
    }

    /// Opens with the key at hand that the header claims, whose word is taken for it: the
    /// key then compares all of the header with its own. `None` if there is none.
    #[inline(always)]
    fn open_claimed<T>(
        &self,
        envelope: &[u8],
        open: impl FnOnce(&EnvelopeKey) -> Result<T, OpenError>,
    ) -> Option<Result<(T, Freshness), Error>> {
        self.open_now(Named::claimed_by(envelope)?, open)
    }

    /// Opens `envelope` into a new `Vec` with the key at hand; `None` if there is none.
    #[inline(always)]
    fn open_vec_now(
        &self,
        envelope: &[u8],
        context: &RecordContext,
    ) -> Option<Result<Opened, Error>> {
        Some(match self.open_claimed(envelope, |keys| keys.open(envelope, context))? {
            Ok((plaintext, freshness)) => Ok(Opened::new(plaintext, freshness)),
            Err(error) => Err(error),
        })
    }

    pub(crate) async fn seal_by<T>(
        &self,
        len: usize,
        mut seal: impl FnMut(&EnvelopeKey) -> Result<T, SealError>,
    ) -> Result<T, Error> {
        if let Some(sealed) = self.seal_now(len, &mut seal) {
            return sealed;
        }
        self.inner
            .in_time(async {
                // After a suspend, the lease may have ended before anybody could renew it.
                if matches!(self.inner.seal_refusal(self.inner.now()), Some(Error::SealLeaseEnded))
                {
                    let _ = self.inner.look_at_feed().await;
                }
                loop {
                    if let Some(refusal) = self.inner.seal_refusal(self.inner.now()) {
                        return Err(refusal);
                    }
                    self.load_active().await?;
                    // The key may have been used up by others meanwhile.
                    if let Some(sealed) = self.seal_now(len, &mut seal) {
                        return sealed;
                    }
                }
            })
            .await
    }

    /// Seals a record of `len` bytes with the key at hand; `None` if there is none that may
    /// seal.
    // These are inlined, and errors converted elsewhere: a result that is moved from frame to
    // frame costs more than the checks here.
    #[inline(always)]
    fn seal_now<T>(
        &self,
        len: usize,
        seal: impl FnOnce(&EnvelopeKey) -> Result<T, SealError>,
    ) -> Option<Result<T, Error>> {
        if let Err(error) = EnvelopeKey::sealed_len(len) {
            return Some(Err(not_sealed(error)));
        }
        self.seal_counted_now(1, len, seal)
    }

    /// Seals `records` of `len` bytes in all with the key at hand.
    #[inline(always)]
    fn seal_counted_now<T>(
        &self,
        records: u64,
        len: usize,
        seal: impl FnOnce(&EnvelopeKey) -> Result<T, SealError>,
    ) -> Option<Result<T, Error>> {
        let inner = &*self.inner;
        let now = inner.now();
        if now.as_nanos() >= inner.seals_until.load(Ordering::Relaxed) {
            return None;
        }
        let current = self.state.current();
        let Warm { slot, keys } = &**current.as_ref()?;
        if !inner.is_valid(&slot.kek, now) || !slot.seals() || now >= slot.seals_until {
            return None;
        }
        match slot.budget.take(records, len as u64, &inner.policy, now) {
            Admission::Admitted => {}
            Admission::AdmittedAndStage => self.inner.stage_successor(slot),
            Admission::Refused => return None,
        }
        let sealed = seal(keys);
        if slot.wants_attention(now) {
            self.inner.attend(slot, now);
        }
        Some(match sealed {
            Ok(sealed) => Ok(sealed),
            Err(error) => Err(not_sealed(error)),
        })
    }

    pub(crate) async fn open_by<T>(
        &self,
        named: Named,
        mut open: impl FnMut(&EnvelopeKey) -> Result<T, OpenError>,
    ) -> Result<(T, Freshness), Error> {
        if let Some(opened) = self.open_now(named, &mut open) {
            return opened;
        }
        self.inner
            .in_time(async {
                loop {
                    let query = self.query(named.key_id);
                    self.inner.load(&[query]).await.pop().unwrap_or(Err(Error::Closed))?;
                    // The key may have been evicted again meanwhile.
                    if let Some(opened) = self.open_now(named, &mut open) {
                        return opened;
                    }
                }
            })
            .await
    }

    /// Opens with the key at hand; `None` if there is none.
    #[inline(always)]
    fn open_now<T>(
        &self,
        named: Named,
        open: impl FnOnce(&EnvelopeKey) -> Result<T, OpenError>,
    ) -> Option<Result<(T, Freshness), Error>> {
        let now = self.inner.now();
        let find = |warm: &&Warm| warm.slot.key_id == named.key_id;
        let (recent, cached);
        recent = self.state.recent();
        let Warm { slot, keys } = match recent.iter().find(find) {
            Some(warm) => warm,
            None => {
                cached = self.cached(&named.key_id)?;
                &cached
            }
        };
        if !self.inner.is_valid(&slot.kek, now) {
            return None;
        }
        let opened = open(keys);
        if slot.wants_attention(now) {
            self.inner.attend(slot, now);
        }
        let freshness = Freshness {
            stale_suite: named.suite != self.inner.key_options.suite,
            ..slot.freshness()
        };
        Some(match opened {
            Ok(opened) => Ok((opened, freshness)),
            Err(error) => Err(not_opened(error)),
        })
    }

    async fn reseal_opened(
        &self,
        codec: Codec,
        opened: Opened,
        context: &RecordContext,
    ) -> Result<Option<Vec<u8>>, Error> {
        let plaintext = Zeroizing::new(opened.plaintext);
        if !opened.freshness.wants_reseal() {
            return Ok(None);
        }
        //= spec 2.4
        //# A tool that moves payloads without reading them (to another DEK or suite) MAY ask for
        //# whatever codec the header holds, and then MUST write the same codec again.
        self.seal_as(codec, &plaintext, context).await.map(Some)
    }

    /// What a one-shot envelope says of the key that it needs, if everything else that
    /// can be said without a key speaks for opening it.
    fn named(&self, envelope: &[u8], codec: Codec) -> Result<Named, OpenError> {
        let accepted = self.inner.key_options.accepted;
        let header = EnvelopeKey::header_of(envelope, codec, accepted)?;
        Ok(Named { key_id: header.key_id, suite: header.suite })
    }

    /// Why a call that does not wait found no key.
    fn not_warm(&self) -> Error {
        self.inner.check_running().err().unwrap_or(Error::NotWarm)
    }

    async fn load_active(&self) -> Result<Arc<Slot>, Error> {
        let query = DekQuery::Active(self.id().clone());
        self.inner.load(&[query]).await.pop().unwrap_or(Err(Error::Closed))
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    pub(crate) fn query(&self, key_id: KeyId) -> DekQuery {
        DekQuery::Key { scope: self.id().clone(), key_id }
    }

    /// The cached slot of `key_id`, if it is one of this scope's.
    pub(crate) fn slot(&self, key_id: &KeyId) -> Option<Arc<Slot>> {
        self.inner.cache.slot(key_id).filter(|slot| slot.scope.id == self.state.id)
    }

    /// What the cache has under `key_id`, for a DEK that the scope did not see lately.
    #[inline(never)]
    fn cached(&self, key_id: &KeyId) -> Option<Warm> {
        let slot = self.slot(key_id)?;
        self.state.remember_at_times(&slot);
        Warm::of(&slot)
    }

    fn serves(&self, slot: &Slot, now: Instant) -> bool {
        slot.has_keys() && self.inner.is_valid(&slot.kek, now)
    }
}

#[cold]
#[inline(never)]
fn not_sealed(error: SealError) -> Error {
    error.into()
}

#[cold]
#[inline(never)]
fn not_opened(error: OpenError) -> Error {
    error.into()
}

/// The key that an envelope names, and the suite that it is in.
#[derive(Clone, Copy)]
pub(crate) struct Named {
    pub(crate) key_id: KeyId,
    pub(crate) suite: Suite,
}

impl Named {
    /// What `envelope` claims, if it is long enough and names a suite.
    #[inline]
    fn claimed_by(envelope: &[u8]) -> Option<Self> {
        let header = envelope.first_chunk::<{ Header::LEN }>()?;
        let mut key_id = [0; KeyId::LEN];
        key_id.copy_from_slice(&header[Header::KEY_ID]);
        Some(Self {
            key_id: KeyId::from_bytes(key_id),
            suite: Suite::from_byte(header[Header::SUITE])?,
        })
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scope({}, {:?})", self.id(), self.phase())
    }
}
