//! Section 7: the chunked payload.

use super::derive::StreamKeys;
use super::{Class, aead};

/// Section 10: the most chunks of a stream.
pub const CHUNKS_MAX: u64 = 1 << 32;
/// Section 10: the longest plaintext of a stream.
pub const STREAM_PLAINTEXT_MAX: u64 = 1 << 44;

/// Section 7.3: how V bytes of chunks divide. Not authenticated, as T is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// C: bytes of plaintext in a full chunk.
    pub c: u64,
    /// m: the number of the last chunk.
    pub m: u64,
    /// r: the length of chunk m with its tag; below 16 the envelope is truncated.
    pub r: u64,
}

impl Layout {
    /// Section 7.3, from V, the length of the chunks.
    pub fn new(chunk_log2: u8, v: u64) -> Self {
        let c = 1 << chunk_log2;
        Self { c, m: v / (c + 16), r: v % (c + 16) }
    }

    /// The number of chunks that the envelope counts as.
    pub fn chunks(&self) -> u64 {
        if self.r >= 16 { self.m + 1 } else { self.m }
    }

    /// The length of plaintext that the envelope counts as.
    pub fn plaintext_len(&self) -> u64 {
        if self.r >= 16 { self.m * self.c + self.r - 16 } else { self.m * self.c }
    }

    /// Section 2.5, step 9, and section 10.
    pub fn is_within_limits(&self) -> bool {
        self.chunks() <= CHUNKS_MAX && self.plaintext_len() <= STREAM_PLAINTEXT_MAX
    }
}

/// Section 7.1: the nonce of chunk i, `base nonce[0:8] || (base nonce[8:12] ⊕ u32(i))`.
pub fn nonce(base_nonce: &[u8; 12], i: u32) -> [u8; 12] {
    let mut nonce = *base_nonce;
    for (byte, of_i) in nonce[8..12].iter_mut().zip(i.to_be_bytes()) {
        *byte ^= of_i;
    }
    nonce
}

/// Section 7.1: `commitment || chunk 0 || chunk 1 || ... || chunk n-1`.
pub fn seal(
    suite: u8,
    chunk_log2: u8,
    keys: &StreamKeys,
    plaintext: &[u8],
) -> Result<Vec<u8>, Class> {
    let c = 1_usize << chunk_log2;
    // Every chunk but the last holds C bytes, the last one fewer, possibly none.
    let last = plaintext.len() / c;
    let mut payload = keys.commitment.to_vec();
    for i in 0..=last {
        let part = &plaintext[i * c..plaintext.len().min((i + 1) * c)];
        let number = u32::try_from(i).map_err(|_| Class::Refused)?;
        payload.extend(seal_chunk(suite, keys, number, part)?);
    }
    Ok(payload)
}

/// Section 7.1: chunk i, of any length, with its tag.
pub fn seal_chunk(suite: u8, keys: &StreamKeys, i: u32, part: &[u8]) -> Result<Vec<u8>, Class> {
    aead::seal(suite, &keys.chunk_key, &nonce(&keys.base_nonce, i), &[], part)
}

/// Section 7.2: the whole plaintext, from the payload with its commitment.
pub fn open(
    suite: u8,
    chunk_log2: u8,
    keys: &StreamKeys,
    payload: &[u8],
) -> Result<Vec<u8>, Class> {
    let block_len = (1_usize << chunk_log2) + 16;
    let mut rest = check_commitment(keys, payload)?;
    let mut plaintext = Vec::new();
    let mut i = 0_u64;
    loop {
        let block = &rest[..rest.len().min(block_len)];
        if block.len() < 16 {
            return Err(Class::Authentication);
        }
        // Where the total length is known, as here, parsing has refused these already.
        let grown = plaintext.len() as u64 + block.len() as u64 - 16;
        let number = u32::try_from(i).map_err(|_| Class::Malformed)?;
        if grown > STREAM_PLAINTEXT_MAX {
            return Err(Class::Malformed);
        }
        plaintext.extend(open_chunk(suite, keys, number, block)?);
        if block.len() < block_len {
            return Ok(plaintext);
        }
        rest = &rest[block_len..];
        i += 1;
    }
}

/// Section 7.3: bytes a..b of the plaintext, a ≤ b.
pub fn open_range(
    suite: u8,
    chunk_log2: u8,
    keys: &StreamKeys,
    payload: &[u8],
    a: u64,
    b: u64,
) -> Result<Vec<u8>, Class> {
    let chunks = check_commitment(keys, payload)?;
    let layout = Layout::new(chunk_log2, chunks.len() as u64);
    let Layout { c, m, .. } = layout;
    if b > layout.plaintext_len() {
        open_numbered(suite, keys, chunks, &layout, m)?;
        return Err(Class::OutOfRange);
    }
    let first = (a / c).min(m);
    let last = if a == b { first } else { ((b - 1) / c).min(m) };
    let mut plaintext = Vec::new();
    for i in first..=last {
        plaintext.extend(open_numbered(suite, keys, chunks, &layout, i)?);
    }
    let begin = first * c;
    Ok(plaintext[(a - begin) as usize..(b - begin) as usize].to_vec())
}

/// Section 7.3: chunk i of `chunks`, full if it is before chunk m.
fn open_numbered(
    suite: u8,
    keys: &StreamKeys,
    chunks: &[u8],
    layout: &Layout,
    i: u64,
) -> Result<Vec<u8>, Class> {
    let Layout { c, m, r } = *layout;
    if i == m && r < 16 {
        return Err(Class::Authentication);
    }
    let begin = i * (c + 16);
    let end = if i < m { begin + c + 16 } else { begin + r };
    // The limits that parsing has checked keep the number of an existing chunk below 2^32.
    let number = u32::try_from(i).map_err(|_| Class::Malformed)?;
    open_chunk(suite, keys, number, &chunks[begin as usize..end as usize])
}

fn open_chunk(suite: u8, keys: &StreamKeys, i: u32, block: &[u8]) -> Result<Vec<u8>, Class> {
    aead::open(suite, &keys.chunk_key, &nonce(&keys.base_nonce, i), &[], block)
}

/// Section 7.2: compares the commitment and returns the chunks after it.
fn check_commitment<'p>(keys: &StreamKeys, payload: &'p [u8]) -> Result<&'p [u8], Class> {
    match payload.split_first_chunk::<32>() {
        None => Err(Class::Malformed),
        Some((commitment, _)) if *commitment != keys.commitment => Err(Class::Authentication),
        Some((_, chunks)) => Ok(chunks),
    }
}
