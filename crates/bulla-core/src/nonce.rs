//! Nonces, and the derived keys that their prefixes choose (spec, "Nonces and
//! epochs").
//!
//! Making a derived key costs more than sealing a small record with it. So a key
//! keeps one for a while: an *epoch* is one 12-byte prefix, random from the
//! operating system, its derived key, and a count of what was sealed under it.
//! Epochs live and die with the key that they belong to.

mod epoch;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use once_cell::race::OnceBox;
use try_lock::{Locked, TryLock};

use crate::Suite;
use crate::aead::{AeadKey, Library, NONCE_LEN};
use crate::error::KeyError;
use crate::xaes::{PREFIX_LEN, XaesKey};
use epoch::Epoch;

/// Where the second half of a nonce comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum NonceMode {
    /// [`Epoch`](Self::Epoch) where this process would notice that it was forked;
    /// [`Fresh`](Self::Fresh) where it would not, where the environment shows that
    /// snapshots are taken, or where the system's generator costs next to nothing
    /// (`bulla_sys::prefers_fresh_nonces`).
    #[default]
    Auto,
    /// Twelve bytes from the operating system for every record. Safe after a fork
    /// and, as far as the operating system's generator is, in a cloned machine.
    Fresh,
    /// A counter from a random start: saves the system call, which costs several
    /// times the encryption of a small record. A forked child begins counters of its
    /// own. Reveals order and writer of the records within an epoch.
    ///
    /// **Not for machines that are cloned or restored from a snapshot while the process
    /// runs**, unless it calls `bulla_sys::notify_restored` before it seals again: such a
    /// copy repeats nonces, and nothing in user space can tell. Take
    /// [`Fresh`](Self::Fresh) there, or [`Suite::Xaes256GcmSiv`].
    Epoch,
}

/// Threads up to this number have lanes to themselves.
const LANES: usize = 8;
/// Derived keys kept for opening, besides those of the epochs.
const OPENERS: usize = 4;

/// The derived keys of one [`EnvelopeKey`](crate::EnvelopeKey).
pub(crate) struct DerivedKeys {
    xaes: XaesKey,
    library: Library,
    suite: Suite,
    /// Whether nonces count within an epoch.
    counts: bool,
    /// Number of the process that the derived keys belong to.
    generation: AtomicU64,
    /// Whether anything was sealed yet: the first seal keeps no epoch, as many
    /// keys seal one record only.
    sealed_before: AtomicBool,
    lanes: [OnceBox<Lane>; LANES],
    /// Found by the prefix; a collision replaces.
    openers: [ArcSwapOption<DerivedKey>; OPENERS],
}

/// A nonce prefix and the key of the AEAD that it chooses.
pub(crate) struct DerivedKey {
    pub(crate) prefix: [u8; PREFIX_LEN],
    pub(crate) aead: AeadKey,
}

/// What one thread at a time seals and opens with: taken by one atomic exchange, given
/// back by a store, never waited for. Who finds it taken goes elsewhere. In a box of its own,
/// made by the first thread that wants it: most keys are used by one.
type Lane = TryLock<Keys>;

#[derive(Default)]
struct Keys {
    epoch: Option<Epoch>,
    /// What was opened with last.
    opener: Option<Arc<DerivedKey>>,
}

/// A lane that is held for many records.
pub(crate) struct Batch<'a> {
    derived: &'a DerivedKeys,
    keys: Locked<'a, Keys>,
}

impl Batch<'_> {
    /// As [`DerivedKeys::with_sealer`]: between two records the process may have been copied.
    #[inline]
    pub(crate) fn with_sealer<T, E: From<KeyError>>(
        &mut self,
        blocks: u64,
        seal: impl FnOnce(&DerivedKey, &[u8; NONCE_LEN]) -> Result<T, E>,
    ) -> Result<T, E> {
        self.derived.seal_in_lane(&mut self.keys, bulla_sys::generation(), blocks, seal)
    }
}

impl DerivedKeys {
    pub(crate) fn new(xaes: XaesKey, library: Library, suite: Suite, mode: NonceMode) -> Self {
        let counts = match mode {
            //= spec 9.3
            //# Where it cannot detect forks it MUST use `fresh` mode or no epochs, unless its
            //# caller states that the process does not fork while it seals.
            //= spec 9.3
            //# An implementation SHOULD choose this mode by itself where the generator is cheap,
            //# where the environment shows that snapshots are taken, or where forks cannot be
            //# detected, and MUST let the caller choose it anywhere.
            NonceMode::Auto => !bulla_sys::prefers_fresh_nonces(),
            NonceMode::Fresh => false,
            NonceMode::Epoch => true,
        };
        Self {
            xaes,
            library,
            suite,
            counts,
            generation: AtomicU64::new(bulla_sys::generation()),
            sealed_before: AtomicBool::new(false),
            lanes: Default::default(),
            openers: Default::default(),
        }
    }

    /// Calls `seal` with a nonce that no other seal gets, for one record of `blocks`
    /// AES blocks: the derived key that the first half of the nonce, its prefix, chooses,
    /// and the second half.
    #[inline]
    pub(crate) fn with_sealer<T, E: From<KeyError>>(
        &self,
        blocks: u64,
        seal: impl FnOnce(&DerivedKey, &[u8; NONCE_LEN]) -> Result<T, E>,
    ) -> Result<T, E> {
        let generation = bulla_sys::generation();
        if self.sealed_before.load(Ordering::Relaxed)
            && let Some(mut keys) = self.free_lane()
        {
            return self.seal_in_lane(&mut keys, generation, blocks, seal);
        }
        self.sealed_before.store(true, Ordering::Relaxed);
        self.seal_alone(generation, seal)
    }

    /// A lane for many records, unless all are taken.
    pub(crate) fn batch(&self) -> Option<Batch<'_>> {
        let keys = self.free_lane()?;
        self.sealed_before.store(true, Ordering::Relaxed);
        Some(Batch { derived: self, keys })
    }

    #[inline]
    fn seal_in_lane<T, E: From<KeyError>>(
        &self,
        keys: &mut Keys,
        generation: u64,
        blocks: u64,
        seal: impl FnOnce(&DerivedKey, &[u8; NONCE_LEN]) -> Result<T, E>,
    ) -> Result<T, E> {
        //= spec 9.3
        //# A *notification* by the caller that the process was restored MUST destroy all
        //# epochs and fail all open stream sealers.
        let index = keys
            .epoch
            .as_mut()
            .filter(|epoch| epoch.generation == generation)
            .and_then(|epoch| epoch.reserve(blocks));
        let (epoch, index) = match (&keys.epoch, index) {
            (Some(epoch), Some(index)) => (epoch, index),
            _ => (self.start_epoch(keys, generation, blocks)?, 0),
        };
        let tail = if self.counts { epoch.tail(index) } else { random()? };
        seal(&epoch.derived, &tail)
    }

    /// Seals with a derived key of its own: the first record, and where every lane is taken.
    #[cold]
    #[inline(never)]
    fn seal_alone<T, E: From<KeyError>>(
        &self,
        generation: u64,
        seal: impl FnOnce(&DerivedKey, &[u8; NONCE_LEN]) -> Result<T, E>,
    ) -> Result<T, E> {
        self.forget_copies(generation);
        seal(&self.derive(random()?)?, &random()?)
    }

    /// Calls `open` with the derived key of `prefix`. A key that is new here is
    /// kept only when `open` succeeds, so that forged envelopes evict nothing.
    #[inline]
    pub(crate) fn with_opener<T, E: From<KeyError>>(
        &self,
        prefix: &[u8; PREFIX_LEN],
        open: impl FnOnce(&AeadKey) -> Result<T, E>,
    ) -> Result<T, E> {
        let generation = bulla_sys::generation();
        if self.generation.load(Ordering::Relaxed) != generation {
            self.forget_copies(generation);
        }
        if let Some(keys) = self.lane(lane_of_thread()).try_lock() {
            let own = keys.epoch.as_ref().map(|epoch| &epoch.derived);
            if let Some(kept) = own.filter(|own| own.prefix == *prefix) {
                return open(&kept.aead);
            }
            if let Some(kept) = keys.opener.as_ref().filter(|kept| kept.prefix == *prefix) {
                return open(&kept.aead);
            }
        }
        self.open_with_another(prefix, open)
    }

    /// Opens with a key that is not in the thread's lane.
    #[inline(never)]
    fn open_with_another<T, E: From<KeyError>>(
        &self,
        prefix: &[u8; PREFIX_LEN],
        open: impl FnOnce(&AeadKey) -> Result<T, E>,
    ) -> Result<T, E> {
        let place = &self.openers[usize::from(prefix[0]) % OPENERS];
        let kept = place.load_full().filter(|kept| kept.prefix == *prefix);
        let derived = match &kept {
            Some(kept) => Arc::clone(kept),
            None => Arc::new(self.derive(*prefix)?),
        };
        let opened = open(&derived.aead)?;
        if kept.is_none() {
            place.store(Some(Arc::clone(&derived)));
        }
        if let Some(mut keys) = self.lane(lane_of_thread()).try_lock() {
            keys.opener = Some(derived);
        }
        Ok(opened)
    }

    pub(crate) fn derive(&self, prefix: [u8; PREFIX_LEN]) -> Result<DerivedKey, KeyError> {
        let new = |key: &_| AeadKey::new(self.library, self.suite, key);
        let aead = self.xaes.derive(&prefix, new)?;
        Ok(DerivedKey { prefix, aead })
    }

    /// The thread's lane, or another one if that is taken. `None` if all are taken: by as
    /// many threads, or for ever, in the child of a fork, by threads that it does not have.
    #[inline]
    fn free_lane(&self) -> Option<Locked<'_, Keys>> {
        let own = lane_of_thread();
        (own..own + LANES).find_map(|lane| self.lane(lane % LANES).try_lock())
    }

    /// Threads that meet here for the first time each make a box, and one is kept: none
    /// waits for another, who might not be there any more after a fork.
    #[inline]
    fn lane(&self, lane: usize) -> &Lane {
        self.lanes[lane].get_or_init(Box::default)
    }

    /// Puts a new epoch in the place of the lane's, with its first record reserved.
    #[cold]
    #[inline(never)]
    fn start_epoch<'a>(
        &self,
        keys: &'a mut Keys,
        generation: u64,
        blocks: u64,
    ) -> Result<&'a Epoch, KeyError> {
        *keys = Keys::default();
        self.forget_copies(generation);
        let derived = Arc::new(self.derive(random()?)?);
        // What this process seals, it is likely to open, in other threads too.
        let place = usize::from(derived.prefix[0]) % OPENERS;
        self.openers[place].store(Some(Arc::clone(&derived)));
        Ok(keys.epoch.insert(Epoch::new(derived, generation, blocks, random()?)))
    }

    /// In a forked or restored process, lets go of every derived key that it has from
    /// its original, before anything is sealed. (An epoch of another generation is not
    /// used in any case.)
    #[cold]
    fn forget_copies(&self, generation: u64) {
        //= spec 9.3
        //# A sealer with epochs MUST detect forks, and in the child it MUST NOT use an epoch or a
        //# message key of the parent's, and MUST destroy those of a DEK before it seals under it.
        if self.generation.swap(generation, Ordering::Relaxed) != generation {
            // A lane that is taken is the caller's, who has emptied it, or that of a seal
            // which began before: its epoch is replaced when it is used next, or, if a fork
            // has left that thread behind, stays with the key and is never used again.
            let lanes = self.lanes.iter().filter_map(OnceBox::get);
            for mut keys in lanes.filter_map(TryLock::try_lock) {
                *keys = Keys::default();
            }
            self.openers.iter().for_each(|opener| opener.store(None));
        }
    }
}

pub(crate) fn random<const N: usize>() -> Result<[u8; N], KeyError> {
    let mut bytes = [0; N];
    //= spec 9.1
    //# Nonces and salts MUST come from the operating system's generator, in full or as this section
    //# allows.
    getrandom::fill(&mut bytes).map_err(|_| KeyError::Random)?;
    Ok(bytes)
}

#[inline]
fn lane_of_thread() -> usize {
    bulla_sys::thread_number() % LANES
}
