//! Epochs: a derived key, and the counter under it.

use std::sync::Arc;

use super::DerivedKey;
use crate::aead::NONCE_LEN;
use crate::limits::{EPOCH_BLOCKS_MAX, EPOCH_RECORDS_MAX};

//= spec 9.2
//# A sealer that uses epochs MUST observe the following.
//= spec 9.2
//# It MUST NOT be stored, sent, or kept where it can outlive the DEK in memory, such as
//# thread-local storage
/// One prefix, and how much was sealed under it.
pub(super) struct Epoch {
    pub(super) derived: Arc<DerivedKey>,
    /// Number of the process that began it: a copy of the process must not go on with it.
    pub(super) generation: u64,
    /// First counter value, 96 bits.
    start: [u8; NONCE_LEN],
    records: u32,
    blocks: u32,
}

/// Both counts fit.
const _: () = assert!(EPOCH_RECORDS_MAX < 1 << 32 && EPOCH_BLOCKS_MAX < 1 << 32);

impl Epoch {
    /// A new epoch, in which a record of `blocks` AES blocks has index 0; less than
    /// 2^27 of them, so that any first record is admitted. `start` is random.
    pub(super) fn new(
        derived: Arc<DerivedKey>,
        generation: u64,
        blocks: u64,
        start: [u8; NONCE_LEN],
    ) -> Self {
        let blocks = u32::try_from(blocks).unwrap_or(u32::MAX);
        Self { derived, generation, start, records: 1, blocks }
    }

    /// The index of a record of `blocks` AES blocks in this epoch, unless it would
    /// exceed a limit. Each index is handed out once.
    #[inline]
    pub(super) fn reserve(&mut self, blocks: u64) -> Option<u64> {
        let index = u64::from(self.records);
        let blocks = u64::from(self.blocks).saturating_add(blocks);
        if index >= EPOCH_RECORDS_MAX || blocks > EPOCH_BLOCKS_MAX {
            return None;
        }
        (self.records, self.blocks) = (self.records + 1, blocks as u32);
        Some(index)
    }

    /// The counter `start + index`, modulo 2^96.
    #[inline]
    pub(super) fn tail(&self, index: u64) -> [u8; NONCE_LEN] {
        let mut counter = [0; 16];
        counter[16 - NONCE_LEN..].copy_from_slice(&self.start);
        let counter = u128::from_be_bytes(counter).wrapping_add(u128::from(index)).to_be_bytes();
        let mut tail = [0; NONCE_LEN];
        tail.copy_from_slice(&counter[16 - NONCE_LEN..]);
        tail
    }
}
