//! The reference: raw AES-256-GCM.

use std::hint::black_box;
use std::ops::Range;

use anyhow::Context;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

type Tag = [u8; 16];

/// Raw AES-256-GCM of one record: a reused key, a ready buffer, a counter for a nonce.
pub(crate) struct Raw {
    key: LessSafeKey,
    aad: Vec<u8>,
    plaintext: Vec<u8>,
    ciphertext: Vec<u8>,
    tag: Tag,
    /// Of the record that was sealed last.
    nonce: u64,
}

impl Raw {
    /// With `aad_len` bytes of associated data, as many as what it is compared with has.
    pub(crate) fn new(size: usize, aad_len: usize) -> anyhow::Result<Self> {
        let mut raw = Self {
            key: key()?,
            aad: vec![1; aad_len],
            plaintext: vec![7; size],
            ciphertext: vec![0; size],
            tag: [0; 16],
            nonce: 0,
        };
        raw.seal(1)?;
        Ok(raw)
    }

    pub(crate) fn seal(&mut self, calls: u64) -> anyhow::Result<()> {
        for _ in 0..calls {
            self.nonce += 1;
            let (plaintext, aad) = black_box((&self.plaintext, &self.aad));
            let out = &mut self.ciphertext;
            seal(&self.key, self.nonce, aad, plaintext, out, &mut self.tag)?;
            black_box(out);
        }
        Ok(())
    }

    /// Opens the record that was sealed last.
    pub(crate) fn open(&mut self, calls: u64) -> anyhow::Result<()> {
        for _ in 0..calls {
            let (ciphertext, aad) = black_box((&self.ciphertext, &self.aad));
            let out = &mut self.plaintext;
            open(&self.key, self.nonce, aad, ciphertext, &self.tag, out)?;
            black_box(out);
        }
        Ok(())
    }
}

/// Raw AES-256-GCM of many records that lie one after the other, taken in turn, each sealed
/// or opened into the same ready buffer.
pub(crate) struct RawMany {
    /// One for all records, or one for each.
    keys: Vec<LessSafeKey>,
    aad: Vec<u8>,
    size: usize,
    plaintexts: Vec<u8>,
    ciphertexts: Vec<u8>,
    tags: Vec<Tag>,
    out: Vec<u8>,
    /// The ciphertext that was read last.
    read: Vec<u8>,
    /// The record that is next.
    next: usize,
    /// Of the record that was sealed last.
    nonce: u64,
}

impl RawMany {
    /// All records under one key.
    pub(crate) fn new(records: usize, size: usize, aad_len: usize) -> anyhow::Result<Self> {
        Self::under(vec![key()?], records, size, aad_len)
    }

    /// Each record under a key of its own.
    pub(crate) fn with_keys(records: usize, size: usize, aad_len: usize) -> anyhow::Result<Self> {
        let keys = (0..records).map(|_| key()).collect::<anyhow::Result<_>>()?;
        Self::under(keys, records, size, aad_len)
    }

    fn under(
        keys: Vec<LessSafeKey>,
        records: usize,
        size: usize,
        aad_len: usize,
    ) -> anyhow::Result<Self> {
        let aad = vec![1; aad_len];
        let plaintexts = vec![7; records * size];
        let mut ciphertexts = vec![0; records * size];
        let mut tags = vec![[0; 16]; records];
        for (index, ((plaintext, out), tag)) in
            plaintexts.chunks(size).zip(ciphertexts.chunks_mut(size)).zip(&mut tags).enumerate()
        {
            seal(&keys[index % keys.len()], index as u64, &aad, plaintext, out, tag)?;
        }
        let (out, read) = (vec![0; size], Vec::with_capacity(size));
        let (next, nonce) = (0, records as u64);
        Ok(Self { keys, aad, size, plaintexts, ciphertexts, tags, out, read, next, nonce })
    }

    /// Seals the record that is next in turn, so many times.
    pub(crate) fn seal(&mut self, calls: u64) -> anyhow::Result<()> {
        for _ in 0..calls {
            let index = self.take_turn();
            self.seal_at(index)?;
        }
        Ok(())
    }

    /// Opens the record that is next in turn, so many times.
    pub(crate) fn open(&mut self, calls: u64) -> anyhow::Result<()> {
        for _ in 0..calls {
            let index = self.take_turn();
            self.open_at(index)?;
        }
        Ok(())
    }

    /// Copies the record that is next in turn, as a reader does, and opens the copy.
    pub(crate) fn read_and_open(&mut self, calls: u64) -> anyhow::Result<()> {
        for _ in 0..calls {
            let index = self.take_turn();
            self.read.clear();
            self.read.extend_from_slice(black_box(&self.ciphertexts[place(self.size, index)]));
            let (key, tag) = (key_of(&self.keys, index), &self.tags[index]);
            open(key, index as u64, &self.aad, &self.read, tag, &mut self.out)?;
            black_box(&self.out);
        }
        Ok(())
    }

    pub(crate) fn seal_at(&mut self, index: usize) -> anyhow::Result<()> {
        let (plaintexts, aad) = black_box((&self.plaintexts, &self.aad));
        let (plaintext, key) = (&plaintexts[place(self.size, index)], key_of(&self.keys, index));
        let (out, mut tag) = (&mut self.out, [0; 16]);
        seal(key, self.nonce + 1, aad, plaintext, out, &mut tag)?;
        self.nonce += 1;
        black_box((out, &tag));
        Ok(())
    }

    pub(crate) fn open_at(&mut self, index: usize) -> anyhow::Result<()> {
        let (ciphertexts, aad) = black_box((&self.ciphertexts, &self.aad));
        let (ciphertext, key) = (&ciphertexts[place(self.size, index)], key_of(&self.keys, index));
        let (out, tag) = (&mut self.out, &self.tags[index]);
        open(key, index as u64, aad, ciphertext, tag, out)?;
        black_box(out);
        Ok(())
    }

    fn take_turn(&mut self) -> usize {
        let index = self.next;
        self.next = if index + 1 < self.tags.len() { index + 1 } else { 0 };
        index
    }
}

fn key_of(keys: &[LessSafeKey], index: usize) -> &LessSafeKey {
    // A division would cost more than this branch, which is foreseen.
    if let [key] = keys { key } else { &keys[index] }
}

fn place(size: usize, index: usize) -> Range<usize> {
    index * size..(index + 1) * size
}

fn key() -> anyhow::Result<LessSafeKey> {
    let key = UnboundKey::new(&AES_256_GCM, &[7; 32]).ok().context("raw key")?;
    Ok(LessSafeKey::new(key))
}

#[inline]
fn seal(
    key: &LessSafeKey,
    nonce: u64,
    aad: &[u8],
    plaintext: &[u8],
    out: &mut [u8],
    tag: &mut Tag,
) -> anyhow::Result<()> {
    key.seal_out_of_place_scatter(nonce_of(nonce), Aad::from(aad), plaintext, out, &[], tag)
        .ok()
        .context("raw seal")
}

#[inline]
fn open(
    key: &LessSafeKey,
    nonce: u64,
    aad: &[u8],
    ciphertext: &[u8],
    tag: &Tag,
    out: &mut [u8],
) -> anyhow::Result<()> {
    key.open_separate_gather(nonce_of(nonce), Aad::from(aad), ciphertext, tag, out)
        .ok()
        .context("raw open")
}

#[inline]
fn nonce_of(counter: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}
