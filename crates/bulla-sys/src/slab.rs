//! Slots of locked memory.
//!
//! An arena of 64 KiB is divided into 16 blocks, a block into 64 slots of 64 bytes.
//! Blocks are locked one after the other, when there is something to put into them,
//! and stay so: a process with ten keys locks one page. 64 KiB, because that is
//! what an unprivileged process may commonly lock (`RLIMIT_MEMLOCK`: the default of
//! Linux up to 5.15, and still that of many containers), and keys are small.
//!
//! Slots are claimed and given back without a lock, for a child of a fork could not
//! wait for one (see the crate's documentation).
//!
//! # Safety argument
//! A slot belongs to whoever has set its bit in `Block::used` from 0 to 1, which one
//! thread at a time can; that thread makes one [`Slot`] of it, which is neither `Clone`
//! nor `Copy`, and whose drop clears the bit last. So two slots that exist at the same
//! time never overlap, and a `&mut Slot` is as exclusive as the reference that it
//! hands out. Claiming acquires what giving back releases, so the wiping is done before
//! the next owner looks. The arena is valid for good once its address is in
//! `Slab::arena`, and zeroed: its bytes are initialised.
#![allow(unsafe_code, reason = "hands out parts of mapped memory")]

use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use zeroize::Zeroize;

use crate::{generation, os};

/// Bytes in a slot.
pub(crate) const SLOT_BYTES: usize = 64;
/// Slots in all.
pub(crate) const SLOTS: usize = BLOCKS * SLOTS_PER_BLOCK;

/// One for each bit of [`Block::used`].
const SLOTS_PER_BLOCK: usize = 64;
const BLOCK_BYTES: usize = SLOTS_PER_BLOCK * SLOT_BYTES;
const BLOCKS: usize = 16;

/// An arena and what of it is used.
pub(crate) struct Slab {
    /// Null until the first use.
    arena: AtomicPtr<u8>,
    blocks: [Block; BLOCKS],
}

struct Block {
    /// One bit per slot.
    used: AtomicU64,
    /// The generation in which the block was locked last, 0 for never. A child of a
    /// fork does not inherit locks and has to lock again.
    locked_in: AtomicU64,
}

impl Slab {
    pub(crate) const fn new() -> Self {
        Self { arena: AtomicPtr::new(ptr::null_mut()), blocks: [const { Block::new() }; BLOCKS] }
    }

    /// A zeroed slot in locked memory, unless all are taken or the system refuses to
    /// lock more.
    pub(crate) fn take<const N: usize>(&'static self) -> Option<Slot<N>> {
        const { assert!(N <= SLOT_BYTES, "LockedBytes holds 64 bytes at most") };
        let arena = self.arena()?;
        for (index, block) in self.blocks.iter().enumerate() {
            if block.is_full() {
                continue;
            }
            // SAFETY: the arena has as many blocks as the slab.
            let start = unsafe { arena.add(index * BLOCK_BYTES) };
            // Blocks behind it were not locked either, or not for long.
            if !block.lock(start) {
                return None;
            }
            if let Some(place) = block.claim() {
                // SAFETY: `place` is below SLOTS_PER_BLOCK.
                let bytes = unsafe { start.add(place * SLOT_BYTES) }.cast();
                return Some(Slot { bytes, block, bit: 1 << place });
            }
        }
        None
    }

    /// Slots that are taken, in blocks that are locked.
    pub(crate) fn locked(&self) -> u64 {
        let locked = self.blocks.iter().filter(|block| block.is_locked());
        locked.map(|block| u64::from(block.used.load(Ordering::Relaxed).count_ones())).sum()
    }

    /// The arena, reserved with the first use.
    fn arena(&self) -> Option<NonNull<u8>> {
        if let Some(arena) = NonNull::new(self.arena.load(Ordering::Acquire)) {
            return Some(arena);
        }
        let new = os::reserve(BLOCKS * BLOCK_BYTES)?;
        match self.arena.compare_exchange(
            ptr::null_mut(),
            new.as_ptr(),
            Ordering::AcqRel,
            Ordering::Acquire,
        ) {
            Ok(_) => Some(new),
            Err(current) => {
                // SAFETY: another thread was first, so nobody has seen ours.
                unsafe { os::release(new, BLOCKS * BLOCK_BYTES) };
                NonNull::new(current)
            }
        }
    }
}

impl Block {
    const fn new() -> Self {
        Self { used: AtomicU64::new(0), locked_in: AtomicU64::new(0) }
    }

    fn is_full(&self) -> bool {
        self.used.load(Ordering::Relaxed) == u64::MAX
    }

    fn is_locked(&self) -> bool {
        self.locked_in.load(Ordering::Relaxed) == generation()
    }

    /// Locks the block, which begins at `start`, unless this process has done so.
    fn lock(&self, start: NonNull<u8>) -> bool {
        // Read first: what happens meanwhile makes the next one lock again.
        let generation = generation();
        if self.locked_in.load(Ordering::Relaxed) == generation {
            return true;
        }
        let locked = os::lock(start, BLOCK_BYTES);
        if locked {
            self.locked_in.store(generation, Ordering::Relaxed);
        }
        locked
    }

    /// The index of a slot that is now the caller's.
    fn claim(&self) -> Option<usize> {
        let mut used = self.used.load(Ordering::Relaxed);
        while used != u64::MAX {
            let place = used.trailing_ones();
            used = self.used.fetch_or(1 << place, Ordering::Acquire);
            if used & (1 << place) == 0 {
                return Some(place as usize);
            }
        }
        None
    }
}

/// `N` bytes of locked memory, wiped on drop.
pub(crate) struct Slot<const N: usize> {
    bytes: NonNull<[u8; N]>,
    block: &'static Block,
    bit: u64,
}

// SAFETY: a slot owns its bytes, as a box would; nothing in it is bound to a thread.
unsafe impl<const N: usize> Send for Slot<N> {}
// SAFETY: a shared slot gives out shared references only.
unsafe impl<const N: usize> Sync for Slot<N> {}

impl<const N: usize> Slot<N> {
    pub(crate) fn as_bytes(&self) -> &[u8; N] {
        // SAFETY: ours while the slot lives, and not borrowed mutably.
        unsafe { self.bytes.as_ref() }
    }

    pub(crate) fn as_bytes_mut(&mut self) -> &mut [u8; N] {
        // SAFETY: ours while the slot lives, and borrowed by nobody else.
        unsafe { self.bytes.as_mut() }
    }

    pub(crate) fn is_locked(&self) -> bool {
        self.block.is_locked()
    }
}

impl<const N: usize> Drop for Slot<N> {
    fn drop(&mut self) {
        self.as_bytes_mut().zeroize();
        self.block.used.fetch_and(!self.bit, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn every_slot_is_handed_out_once_and_then_there_are_no_more() {
        static SLAB: Slab = Slab::new();
        let mut slots: Vec<Slot<64>> = (0..SLOTS).map(|_| SLAB.take().unwrap()).collect();
        assert!(SLAB.take::<1>().is_none());
        for (tag, slot) in slots.iter_mut().enumerate() {
            slot.as_bytes_mut().fill((tag % 251) as u8 + 1);
        }
        for (tag, slot) in slots.iter().enumerate() {
            assert_eq!(slot.as_bytes(), &[(tag % 251) as u8 + 1; 64]);
        }
        let given_back = slots.swap_remove(SLOTS / 2).bytes;
        assert_eq!(SLAB.take::<64>().unwrap().bytes, given_back);
    }

    #[test]
    fn a_slot_that_is_used_again_is_zero() {
        static SLAB: Slab = Slab::new();
        let mut first = SLAB.take::<32>().unwrap();
        let address = first.bytes;
        first.as_bytes_mut().fill(0x41);
        drop(first);
        let second = SLAB.take::<64>().unwrap();
        assert_eq!(second.bytes.cast(), address);
        assert_eq!(second.as_bytes(), &[0; 64]);
    }

    #[test]
    fn threads_that_take_and_give_back_at_once_do_not_share_slots() {
        static SLAB: Slab = Slab::new();
        const ROUNDS: usize = if cfg!(miri) { 20 } else { 5_000 };
        thread::scope(|scope| {
            for tag in 1..=8 {
                scope.spawn(move || {
                    for round in 0..ROUNDS {
                        let mut held: Vec<_> =
                            (0..round % 24).filter_map(|_| SLAB.take::<64>()).collect();
                        for slot in &mut held {
                            assert_eq!(slot.as_bytes(), &[0; 64]);
                            slot.as_bytes_mut().fill(tag);
                        }
                        thread::yield_now();
                        assert!(held.iter().all(|slot| slot.as_bytes() == &[tag; 64]));
                    }
                });
            }
        });
        assert!(SLAB.blocks.iter().all(|block| block.used.load(Ordering::Relaxed) == 0));
        assert_eq!(SLAB.locked(), 0);
    }

    #[test]
    fn a_claim_has_one_winner() {
        static BLOCK: Block = Block::new();
        static CLAIMED: AtomicU64 = AtomicU64::new(0);
        const ROUNDS: usize = if cfg!(miri) { 200 } else { 200_000 };
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..ROUNDS {
                        let bit = 1 << BLOCK.claim().unwrap();
                        assert_eq!(CLAIMED.fetch_or(bit, Ordering::Relaxed) & bit, 0);
                        CLAIMED.fetch_and(!bit, Ordering::Relaxed);
                        BLOCK.used.fetch_and(!bit, Ordering::Release);
                    }
                });
            }
        });
    }

    #[test]
    fn a_slot_can_be_dropped_by_another_thread() {
        static SLAB: Slab = Slab::new();
        let mut slot = SLAB.take::<32>().unwrap();
        slot.as_bytes_mut().fill(7);
        thread::spawn(move || assert_eq!(slot.as_bytes(), &[7; 32])).join().unwrap();
        assert_eq!(SLAB.take::<32>().unwrap().as_bytes(), &[0; 32]);
    }
}
