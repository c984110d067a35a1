//! Section 2: the header, and where the payload begins.

use super::Class;
use super::chunks;
use super::wraps::{self, Wraps};

/// Section 2.1: every envelope begins with this many bytes.
pub const HEADER_LEN: usize = 68;
/// Section 2.1: "BUL" and the format version.
pub const MAGIC: [u8; 4] = [0x42, 0x55, 0x4c, 0x01];

/// Section 2.2: referenced one-shot.
pub const REFERENCED_ONE_SHOT: u8 = 0x01;
/// Section 2.2: referenced chunked.
pub const REFERENCED_CHUNKED: u8 = 0x02;
/// Section 2.2: self-contained one-shot.
pub const SELF_CONTAINED_ONE_SHOT: u8 = 0x11;
/// Section 2.2: self-contained chunked.
pub const SELF_CONTAINED_CHUNKED: u8 = 0x12;
/// Section 2.2: the four kinds.
pub const KINDS: [u8; 4] =
    [REFERENCED_ONE_SHOT, REFERENCED_CHUNKED, SELF_CONTAINED_ONE_SHOT, SELF_CONTAINED_CHUNKED];

/// Section 10: the longest one-shot plaintext.
pub const ONE_SHOT_PLAINTEXT_MAX: usize = 1 << 30;

/// Section 2.1: the fields after the magic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Byte 4, one of [`KINDS`].
    pub kind: u8,
    /// Byte 5.
    pub suite: u8,
    /// Byte 6.
    pub codec: u8,
    /// Byte 7: 0 in a one-shot envelope.
    pub chunk_log2: u8,
    /// Bytes 8..12: 0 in a self-contained envelope.
    pub version: u32,
    /// Bytes 12..44.
    pub key_id: [u8; 32],
    /// Bytes 44..68: nonce of a one-shot payload, salt of a chunked one.
    pub nonce: [u8; 24],
}

impl Header {
    /// Section 2.1: the 68 bytes, whatever the fields hold.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut header = [0; HEADER_LEN];
        header[0..4].copy_from_slice(&MAGIC);
        header[4] = self.kind;
        header[5] = self.suite;
        header[6] = self.codec;
        header[7] = self.chunk_log2;
        header[8..12].copy_from_slice(&self.version.to_be_bytes());
        header[12..44].copy_from_slice(&self.key_id);
        header[44..68].copy_from_slice(&self.nonce);
        header
    }

    /// Section 2.5, steps 1 to 7.
    pub fn parse(envelope: &[u8]) -> Result<Self, Class> {
        // 1
        let Some(header) = envelope.first_chunk::<HEADER_LEN>() else {
            return Err(Class::Malformed);
        };
        // 2
        if header[0..3] != *b"BUL" {
            return Err(Class::Malformed);
        }
        if header[3] != 0x01 {
            return Err(Class::Unsupported);
        }
        let fields = Self::fields(header);
        // 3
        if !KINDS.contains(&fields.kind) {
            return Err(Class::Unsupported);
        }
        // 4
        if fields.suite != 1 && fields.suite != 2 {
            return Err(Class::Unsupported);
        }
        // 5
        if (3..=127).contains(&fields.codec) {
            return Err(Class::Unsupported);
        }
        // 6
        if !fields.is_chunked() && fields.chunk_log2 != 0 {
            return Err(Class::Malformed);
        }
        if fields.is_chunked() && !(12..=22).contains(&fields.chunk_log2) {
            return Err(Class::Malformed);
        }
        // 7
        if !fields.is_self_contained() && fields.version == 0 {
            return Err(Class::Malformed);
        }
        if fields.is_self_contained() && fields.version != 0 {
            return Err(Class::Malformed);
        }
        Ok(fields)
    }

    /// The bytes of section 2.1, taken apart without a check.
    fn fields(header: &[u8; HEADER_LEN]) -> Self {
        let mut key_id = [0; 32];
        key_id.copy_from_slice(&header[12..44]);
        let mut nonce = [0; 24];
        nonce.copy_from_slice(&header[44..68]);
        Self {
            kind: header[4],
            suite: header[5],
            codec: header[6],
            chunk_log2: header[7],
            version: u32::from_be_bytes([header[8], header[9], header[10], header[11]]),
            key_id,
            nonce,
        }
    }

    /// Section 2.2: kind `02` or `12`.
    pub fn is_chunked(&self) -> bool {
        self.kind == REFERENCED_CHUNKED || self.kind == SELF_CONTAINED_CHUNKED
    }

    /// Section 2.2: kind `11` or `12`.
    pub fn is_self_contained(&self) -> bool {
        self.kind == SELF_CONTAINED_ONE_SHOT || self.kind == SELF_CONTAINED_CHUNKED
    }
}

/// An envelope that parses. Nothing in it is authenticated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    /// The first 68 bytes.
    pub header: Header,
    /// The wraps section of a self-contained envelope.
    pub wraps: Option<Wraps>,
    /// Section 2.2: P, the offset of the payload.
    pub payload_offset: usize,
}

/// Section 2.5: all nine steps, the total length being known.
pub fn parse(envelope: &[u8]) -> Result<Parsed, Class> {
    // 1 to 7
    let header = Header::parse(envelope)?;
    // 8
    let wraps = if header.is_self_contained() { Some(wraps::parse(envelope)?) } else { None };
    let payload_offset = match &wraps {
        None => HEADER_LEN,
        Some(wraps) => 70 + usize::from(wraps.wraps_len),
    };
    // 9
    let payload_len = envelope.len() - payload_offset;
    if !header.is_chunked() && !(16..=ONE_SHOT_PLAINTEXT_MAX + 16).contains(&payload_len) {
        return Err(Class::Malformed);
    }
    if header.is_chunked() {
        if payload_len < 32 {
            return Err(Class::Malformed);
        }
        if !chunks::Layout::new(header.chunk_log2, payload_len as u64 - 32).is_within_limits() {
            return Err(Class::Malformed);
        }
    }
    Ok(Parsed { header, wraps, payload_offset })
}
