//! Nonces, and the derived keys that their prefixes choose (spec, "Nonces and
//! epochs").
//!
//! Making a derived key costs more than sealing a small record with it. So a key
//! keeps one for a while: an *epoch* is one 12-byte prefix, random from the
//! operating system, its derived key, and a count of what was sealed under it.
//! Epochs live and die with the key that they belong to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwapOption;

use crate::aead::{AeadKey, Library, NONCE_LEN};
use crate::error::KeyError;
use crate::limits::{EPOCH_BLOCKS_MAX, EPOCH_RECORDS_MAX};
use crate::xaes::{PREFIX_LEN, XaesKey};
use crate::{Header, Suite};

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

/// Sealers on this many threads do not share a counter.
const SHARDS: usize = 4;
/// Derived keys kept for opening.
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
    shards: [ArcSwapOption<Epoch>; SHARDS],
    /// Found by the prefix; a collision replaces.
    openers: [ArcSwapOption<DerivedKey>; OPENERS],
}

/// A nonce prefix and the key of the AEAD that it chooses.
pub(crate) struct DerivedKey {
    prefix: [u8; PREFIX_LEN],
    pub(crate) aead: AeadKey,
}

//= spec 9.2
//# A sealer that uses epochs MUST observe the following.
//= spec 9.2
//# It MUST NOT be stored, sent, or kept where it can outlive the DEK in memory, such as
//# thread-local storage
/// One prefix, and how much was sealed under it.
struct Epoch {
    derived: Arc<DerivedKey>,
    /// First counter value, 96 bits.
    start: u128,
    used: AtomicU64,
    /// Number of the process that began it: a copy of the process must not go on with it.
    generation: u64,
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
            shards: Default::default(),
            openers: Default::default(),
        }
    }

    /// Calls `seal` with a nonce that no other seal gets, for one record of `blocks`
    /// AES blocks, and the derived key that the nonce chooses.
    #[inline]
    pub(crate) fn with_sealer<T, E: From<KeyError>>(
        &self,
        blocks: u64,
        seal: impl FnOnce(&AeadKey, [u8; Header::NONCE_LEN]) -> Result<T, E>,
    ) -> Result<T, E> {
        let generation = bulla_sys::generation();
        if !self.sealed_before.load(Ordering::Relaxed)
            && !self.sealed_before.swap(true, Ordering::Relaxed)
        {
            self.forget_copies(generation);
            let derived = self.derive(random()?)?;
            return seal(&derived.aead, join(&derived.prefix, &random()?));
        }
        let shard = &self.shards[shard_of_thread()];
        loop {
            if let Some(epoch) = &*shard.load()
                //= spec 9.3
                //# A *notification* by the caller that the process was restored MUST destroy all
                //# epochs and fail all open stream sealers.
                && epoch.generation == generation
                && let Some(index) = epoch.reserve(blocks)
            {
                let tail = match self.counts {
                    true => epoch.tail(index),
                    false => random()?,
                };
                return seal(&epoch.derived.aead, join(&epoch.derived.prefix, &tail));
            }
            self.start_epoch(shard, generation)?;
        }
    }

    /// Calls `open` with the derived key of `prefix`. A key that is new here is
    /// kept only when `open` succeeds, so that forged envelopes evict nothing.
    #[inline]
    pub(crate) fn with_opener<T, E: From<KeyError>>(
        &self,
        prefix: &[u8; PREFIX_LEN],
        open: impl FnOnce(&AeadKey) -> Result<T, E>,
    ) -> Result<T, E> {
        let place = &self.openers[usize::from(prefix[0]) % OPENERS];
        let generation = bulla_sys::generation();
        if self.generation.load(Ordering::Relaxed) != generation {
            self.forget_copies(generation);
        }
        if let Some(kept) = &*place.load()
            && kept.prefix == *prefix
        {
            return open(&kept.aead);
        }
        let derived = self.derive(*prefix)?;
        let opened = open(&derived.aead)?;
        place.store(Some(Arc::new(derived)));
        Ok(opened)
    }

    pub(crate) fn derive(&self, prefix: [u8; PREFIX_LEN]) -> Result<DerivedKey, KeyError> {
        let new = |key: &_| AeadKey::new(self.library, self.suite, key);
        let aead = self.xaes.derive(&prefix, new)?;
        Ok(DerivedKey { prefix, aead })
    }

    /// Replaces the shard's epoch, unless another thread has done it meanwhile. There is
    /// no lock: a fork could leave it held for ever.
    #[cold]
    #[inline(never)]
    fn start_epoch(&self, shard: &ArcSwapOption<Epoch>, generation: u64) -> Result<(), KeyError> {
        self.forget_copies(generation);
        let before = shard.load();
        if before.as_ref().is_some_and(|epoch| epoch.generation == generation && epoch.has_room()) {
            return Ok(());
        }
        let derived = Arc::new(self.derive(random()?)?);
        let mut start = [0; 16];
        start[16 - NONCE_LEN..].copy_from_slice(&random::<NONCE_LEN>()?);
        let epoch = Arc::new(Epoch {
            derived: Arc::clone(&derived),
            start: u128::from_be_bytes(start),
            used: AtomicU64::new(0),
            generation,
        });
        let found = shard.compare_and_swap(&before, Some(epoch));
        let was_replaced = match (&*found, &*before) {
            (Some(found), Some(before)) => Arc::ptr_eq(found, before),
            (None, None) => true,
            _ => false,
        };
        if was_replaced {
            // What this process seals, it is likely to open.
            let place = usize::from(derived.prefix[0]) % OPENERS;
            self.openers[place].store(Some(derived));
        }
        Ok(())
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
            self.shards.iter().for_each(|shard| shard.store(None));
            self.openers.iter().for_each(|opener| opener.store(None));
        }
    }
}

impl Epoch {
    /// `used` holds the blocks in its low bits and the records above them. An epoch that
    /// is full is not added to any more, however often it is asked; until it is full,
    /// each thread adds at most one record, of at most 2^26 + 2^9 blocks, that is
    /// refused. 2^10 times that much room is left above the limits.
    const RECORDS_SHIFT: u32 = 40;
    const BLOCKS_MASK: u64 = (1 << Self::RECORDS_SHIFT) - 1;

    /// The index of the record in this epoch, unless it would exceed a limit. Each
    /// index is handed out once: every reservation adds at least one record.
    #[inline]
    fn reserve(&self, blocks: u64) -> Option<u64> {
        if !self.has_room() {
            return None;
        }
        let before = self.used.fetch_add((1 << Self::RECORDS_SHIFT) + blocks, Ordering::Relaxed);
        let index = before >> Self::RECORDS_SHIFT;
        let blocks_after = (before & Self::BLOCKS_MASK) + blocks;
        (index < EPOCH_RECORDS_MAX && blocks_after <= EPOCH_BLOCKS_MAX).then_some(index)
    }

    /// Whether the smallest record would still be admitted.
    #[inline]
    fn has_room(&self) -> bool {
        let used = self.used.load(Ordering::Relaxed);
        used >> Self::RECORDS_SHIFT < EPOCH_RECORDS_MAX
            && used & Self::BLOCKS_MASK < EPOCH_BLOCKS_MAX
    }

    /// The counter `start + index`, modulo 2^96.
    #[inline]
    fn tail(&self, index: u64) -> [u8; NONCE_LEN] {
        let counter = self.start.wrapping_add(u128::from(index)).to_be_bytes();
        let mut tail = [0; NONCE_LEN];
        tail.copy_from_slice(&counter[16 - NONCE_LEN..]);
        tail
    }
}

/// The 24 bytes of the header.
#[inline]
fn join(prefix: &[u8; PREFIX_LEN], tail: &[u8; NONCE_LEN]) -> [u8; Header::NONCE_LEN] {
    let mut nonce = [0; Header::NONCE_LEN];
    nonce[..PREFIX_LEN].copy_from_slice(prefix);
    nonce[PREFIX_LEN..].copy_from_slice(tail);
    nonce
}

pub(crate) fn random<const N: usize>() -> Result<[u8; N], KeyError> {
    let mut bytes = [0; N];
    //= spec 9.1
    //# Nonces and salts MUST come from the operating system's generator, in full or as this section
    //# allows.
    getrandom::fill(&mut bytes).map_err(|_| KeyError::Random)?;
    Ok(bytes)
}

/// Threads are dealt to the shards in turn, once each.
#[inline]
fn shard_of_thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static SHARD: usize = NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS;
    }
    // A thread that is being torn down has no locals any more; any shard will do.
    SHARD.try_with(|shard| *shard).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn keys(mode: NonceMode) -> DerivedKeys {
        DerivedKeys::new(XaesKey::new(&[9; 32]), Library::default(), Suite::Xaes256Gcm, mode)
    }

    fn nonce(keys: &DerivedKeys, blocks: u64) -> [u8; 24] {
        keys.with_sealer(blocks, |_, nonce| Ok::<_, KeyError>(nonce)).unwrap()
    }

    #[test]
    fn the_first_seal_keeps_no_epoch_the_second_does() {
        let keys = keys(NonceMode::Epoch);
        nonce(&keys, 1);
        assert!(keys.shards.iter().all(|shard| shard.load().is_none()));
        nonce(&keys, 1);
        assert!(keys.shards.iter().any(|shard| shard.load().is_some()));
    }

    #[test]
    fn nonces_are_unique_across_threads_and_epochs() {
        for mode in [NonceMode::Fresh, NonceMode::Epoch] {
            let keys = keys(mode);
            let per_thread = EPOCH_RECORDS_MAX as usize / 2 + 1000;
            let nonces: Vec<_> = std::thread::scope(|scope| {
                let work = || (0..per_thread).map(|_| nonce(&keys, 1)).collect::<Vec<_>>();
                let threads: Vec<_> = (0..6).map(|_| scope.spawn(work)).collect();
                threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
            });
            assert_eq!(nonces.iter().collect::<HashSet<_>>().len(), 6 * per_thread);
            let prefixes: HashSet<_> = nonces.iter().map(|nonce| &nonce[..12]).collect();
            assert!(prefixes.len() > SHARDS, "no epoch was replaced");
            for prefix in prefixes {
                let sealed = nonces.iter().filter(|nonce| nonce[..12] == *prefix).count();
                assert!(sealed as u64 <= EPOCH_RECORDS_MAX);
            }
        }
    }

    #[test]
    fn an_epoch_ends_at_its_block_limit() {
        let keys = keys(NonceMode::Epoch);
        let largest = (1 << 26) + 2;
        let prefixes: Vec<_> = (0..33).map(|_| nonce(&keys, largest)[..12].to_vec()).collect();
        // 15 of these fit into 2^30 blocks; the first seal is alone.
        assert_eq!(prefixes[1], prefixes[15]);
        assert_ne!(prefixes[15], prefixes[16]);
        assert_ne!(prefixes[0], prefixes[1]);
    }

    /// A generator that fails for ever must not wear the counts out: they would start
    /// anew, and with them the nonces.
    #[test]
    fn an_epoch_that_is_full_stays_full_however_often_it_is_asked() {
        let keys = keys(NonceMode::Epoch);
        let derived = Arc::new(keys.derive([0; 12]).unwrap());
        let used = AtomicU64::new(0);
        let epoch = Epoch { derived, start: 0, used, generation: 1 };
        assert_eq!((0..EPOCH_RECORDS_MAX).filter_map(|_| epoch.reserve(1)).count(), 1 << 16);
        assert!((0..1 << 24).all(|_| epoch.reserve(1).is_none()));
        let by_blocks = Epoch { used: AtomicU64::new(0), ..epoch };
        let largest = (1 << 26) + 2;
        assert_eq!((0..1 << 15).filter_map(|_| by_blocks.reserve(largest)).count(), 15);
    }

    /// A copy of a process keeps no key of its original, whether it seals or opens first.
    #[test]
    fn a_copy_lets_go_of_what_it_has_from_its_original() {
        let keys = keys(NonceMode::Epoch);
        let open = |byte: u8| {
            keys.with_opener(&[byte; 12], |_| Ok::<_, KeyError>(())).unwrap();
        };
        let kept = || keys.openers.iter().filter(|opener| opener.load().is_some()).count();
        let become_copy = || keys.generation.store(u64::MAX, Ordering::Relaxed);
        open(1);
        open(2);
        open(2);
        assert_eq!(kept(), 2, "the control: what opened is kept");
        become_copy();
        open(1);
        assert_eq!(kept(), 1);
        open(2);
        become_copy();
        nonce(&keys, 1);
        assert_eq!(kept(), 0);
    }

    /// An epoch that goes on is not replaced, and each that begins is at hand for opening.
    #[test]
    fn epochs_are_replaced_when_they_end_and_kept_for_opening() {
        let keys = keys(NonceMode::Epoch);
        let is_kept = |nonce: &[u8; 24]| {
            let place = keys.openers[usize::from(nonce[0]) % OPENERS].load();
            place.as_ref().is_some_and(|kept| kept.prefix == nonce[..12])
        };
        nonce(&keys, 1);
        let largest = (1 << 26) + 2;
        let first = nonce(&keys, largest);
        assert!(is_kept(&first));
        let shard = &keys.shards[shard_of_thread()];
        let epoch = shard.load_full().unwrap();
        keys.start_epoch(shard, epoch.generation).unwrap();
        assert!(Arc::ptr_eq(&epoch, &shard.load_full().unwrap()), "it had room");
        let second = (0..15).map(|_| nonce(&keys, largest)).last().unwrap();
        assert_ne!(first[..12], second[..12]);
        assert!(is_kept(&second));
    }

    #[test]
    fn the_counter_wraps_at_96_bits() {
        let keys = keys(NonceMode::Epoch);
        let derived = Arc::new(keys.derive([0; 12]).unwrap());
        let used = AtomicU64::new(0);
        let epoch = Epoch { derived, start: (1 << 96) - 1, used, generation: 1 };
        assert_eq!(epoch.tail(0), [0xff; 12]);
        assert_eq!(epoch.tail(1), [0; 12]);
    }
}
