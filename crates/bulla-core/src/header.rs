//! The 68-byte header: what protects a record, readable without keys.

use std::fmt;
use std::ops::Range;

use crate::error::HeaderError;
use crate::{DekVersion, KeyId};

const MAGIC: &[u8; 3] = b"BUL";
const FORMAT_VERSION: u8 = 1;

/// The fixed header of every envelope (spec, "Header"), big-endian:
///
/// ```text
///  0   4  "BUL" 0x01
///  4   1  kind
///  5   1  suite
///  6   1  codec of the plaintext
///  7   1  chunk_log2
///  8   4  DEK version
/// 12  32  key id
/// 44  24  nonce, or stream salt
/// ```
///
/// [`parse`](Self::parse) needs no key and checks no tag: what it returns is a
/// claim until the envelope is opened.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Header {
    /// What follows the header.
    pub kind: Kind,
    /// The algorithms.
    pub suite: Suite,
    /// How the plaintext encodes a value.
    pub codec: Codec,
    /// Binary logarithm of the chunk size in bytes, 12 to 22; `None` for one-shot.
    pub chunk_log2: Option<u8>,
    /// Version of the DEK in its scope's lineage; `None` if self-contained.
    pub dek_version: Option<DekVersion>,
    /// Name of the DEK.
    pub key_id: KeyId,
    /// Nonce of a one-shot envelope, salt of a stream.
    pub nonce: [u8; Self::NONCE_LEN],
}

impl Header {
    /// Length of the header, in bytes.
    pub const LEN: usize = 68;
    /// Length of the nonce or stream salt, in bytes.
    pub const NONCE_LEN: usize = 24;
    /// Where the suite is.
    pub const SUITE: usize = 5;
    /// Where the DEK version is, as a big-endian u32: `substr(envelope, 9, 4)` in SQL,
    /// which counts from 1. Compare it with
    /// [`DekVersion::to_be_bytes`](crate::DekVersion::to_be_bytes).
    pub const DEK_VERSION: Range<usize> = 8..12;
    /// Where the key id is: `substr(envelope, 13, 32)` in SQL.
    pub const KEY_ID: Range<usize> = 12..44;
    /// Length of the part in front of the nonce, which the AEAD authenticates as
    /// associated data, in bytes.
    pub(crate) const PREFIX_LEN: usize = Self::LEN - Self::NONCE_LEN;

    /// Reads the header at the start of `envelope`.
    ///
    /// ```
    /// use bulla_core::{Header, HeaderError};
    ///
    /// assert_eq!(Header::parse(b"BUL"), Err(HeaderError::TooShort { len: 3 }));
    /// ```
    ///
    /// # Errors
    /// [`HeaderError`] when the bytes are no header of format version 1.
    pub fn parse(envelope: &[u8]) -> Result<Self, HeaderError> {
        let Some((header, _)) = envelope.split_first_chunk::<{ Self::LEN }>() else {
            return Err(HeaderError::TooShort { len: envelope.len() });
        };
        let [m0, m1, m2, format, kind, suite, codec, chunk_log2, v0, v1, v2, v3, rest @ ..] =
            header;
        if [*m0, *m1, *m2] != *MAGIC {
            return Err(HeaderError::NotAnEnvelope);
        }
        if *format != FORMAT_VERSION {
            return Err(HeaderError::UnsupportedFormat(*format));
        }
        //= spec 2.5
        //# Unknown values of kind, suite and codec are errors of the header and MUST NOT be
        //# reported as a failed authentication.
        let kind = Kind::from_byte(*kind).ok_or(HeaderError::UnknownKind(*kind))?;
        //= spec 2.3
        //# A sealer MUST NOT write a reserved or unassigned suite and an opener MUST refuse it as
        //# unsupported
        let suite = Suite::from_byte(*suite).ok_or(HeaderError::UnknownSuite(*suite))?;
        let codec = Codec::from_byte(*codec).ok_or(HeaderError::UnknownCodec(*codec))?;
        let chunk_log2 = match (kind.is_chunked(), *chunk_log2) {
            (false, 0) => None,
            (true, log2 @ 12..=22) => Some(log2),
            (_, log2) => return Err(HeaderError::BadChunkSize(log2)),
        };
        let version = u32::from_be_bytes([*v0, *v1, *v2, *v3]);
        let dek_version = DekVersion::new(version);
        if dek_version.is_some() == kind.is_self_contained() {
            return Err(HeaderError::BadDekVersion(version));
        }
        let mut key_id = [0; KeyId::LEN];
        let mut nonce = [0; Self::NONCE_LEN];
        key_id.copy_from_slice(&rest[..KeyId::LEN]);
        nonce.copy_from_slice(&rest[KeyId::LEN..]);
        Ok(Self {
            kind,
            suite,
            codec,
            chunk_log2,
            dek_version,
            key_id: KeyId::from_bytes(key_id),
            nonce,
        })
    }

    /// The key id in the bytes of a header.
    pub(crate) fn key_id_at(header: &[u8; Self::LEN]) -> KeyId {
        let mut key_id = [0; KeyId::LEN];
        key_id.copy_from_slice(&header[Self::KEY_ID]);
        KeyId::from_bytes(key_id)
    }

    /// The header as the 68 bytes drawn above.
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..3].copy_from_slice(MAGIC);
        bytes[3] = FORMAT_VERSION;
        bytes[4] = self.kind as u8;
        bytes[5] = self.suite as u8;
        bytes[6] = self.codec.as_byte();
        bytes[7] = self.chunk_log2.unwrap_or(0);
        bytes[Self::DEK_VERSION]
            .copy_from_slice(&self.dek_version.map_or(0, DekVersion::get).to_be_bytes());
        bytes[Self::KEY_ID].copy_from_slice(self.key_id.as_bytes());
        bytes[44..].copy_from_slice(&self.nonce);
        bytes
    }
}

/// One line that a person can read: `referenced one-shot, XAES-256-GCM, DEK v3 of …`.
impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}, {}", self.kind, self.suite, self.codec)?;
        if let Some(log2) = self.chunk_log2 {
            write!(f, ", chunks of {} KiB", 1_u32 << (log2 - 10))?;
        }
        match self.dek_version {
            Some(version) => write!(f, ", DEK version {version}, key id {}", self.key_id),
            None => write!(f, ", single-use DEK, key id {}", self.key_id),
        }
    }
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Header({self}, nonce ")?;
        self.nonce.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

/// Declares a one-byte registry of the format: the enum, its reader and its names.
macro_rules! registry {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $byte:literal, $text:literal;)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        #[repr(u8)]
        pub enum $name { $($(#[$variant_doc])* $variant = $byte,)+ }

        impl $name {
            /// All of them, in the order of their bytes.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// `None` when the format does not know the byte.
            pub const fn from_byte(byte: u8) -> Option<Self> {
                match byte {
                    $($byte => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $text,)+ })
            }
        }
    };
}

registry! {
    /// What follows the header (spec, "Kinds").
    Kind {
        /// One AEAD ciphertext under a stored DEK: a field, a document.
        ReferencedOneShot = 0x01, "referenced one-shot";
        /// A stream of chunks under a stored DEK.
        ReferencedChunked = 0x02, "referenced chunked";
        /// One AEAD ciphertext that carries its own wrapped DEK.
        SelfContainedOneShot = 0x11, "self-contained one-shot";
        /// A stream of chunks that carries its own wrapped DEK.
        SelfContainedChunked = 0x12, "self-contained chunked";
    }
}

impl Kind {
    /// Whether the payload is a stream of chunks.
    pub const fn is_chunked(self) -> bool {
        matches!(self, Self::ReferencedChunked | Self::SelfContainedChunked)
    }

    /// Whether the envelope carries its own wrapped DEK.
    pub const fn is_self_contained(self) -> bool {
        matches!(self, Self::SelfContainedOneShot | Self::SelfContainedChunked)
    }
}

registry! {
    /// The algorithms of an envelope (spec, "Suites").
    Suite {
        /// XAES-256-GCM (C2SP v1.0.1); streams use AES-256-GCM. The default.
        Xaes256Gcm = 0x01, "XAES-256-GCM";
        /// The XAES derivation with AES-256-GCM-SIV (RFC 8452), which survives a
        /// repeated nonce: for places where machines are cloned or snapshotted.
        Xaes256GcmSiv = 0x02, "XAES-256-GCM-SIV";
    }
}

/// A set of suites, for an opener's allow-list. The suite byte of an envelope is read
/// before anything is authenticated: the list keeps a weakness in one suite away from
/// data that was never sealed in it. The default is suite 1 alone.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Suites(u8);

impl Suites {
    /// The set of `suite` alone.
    pub const fn only(suite: Suite) -> Self {
        Self(1 << suite as u8)
    }

    /// This set and `suite`.
    pub const fn and(self, suite: Suite) -> Self {
        Self(self.0 | 1 << suite as u8)
    }

    /// Whether `suite` is in the set.
    pub const fn contains(self, suite: Suite) -> bool {
        self.0 & (1 << suite as u8) != 0
    }
}

impl Default for Suites {
    fn default() -> Self {
        //= spec 2.3
        //# Its default MUST be suite 1 alone, to be widened by the caller for one use.
        Self::only(Suite::Xaes256Gcm)
    }
}

impl fmt::Debug for Suites {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(Suite::ALL.iter().filter(|suite| self.contains(**suite))).finish()
    }
}

/// How the plaintext encodes a value (spec, "Codecs"); authenticated with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Codec(u8);

impl Codec {
    /// The plaintext is the caller's bytes.
    pub const RAW: Self = Self(0);
    /// bincode 2 with `config::standard()`.
    pub const BINCODE: Self = Self(1);
    /// One JSON text (RFC 8259).
    pub const JSON: Self = Self(2);

    /// `None` for 3 to 127, which are reserved. 128 to 255 are for private use.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            //= spec 2.4
            //# Reserved codecs MUST NOT be written and MUST be refused as unsupported.
            3..=127 => None,
            codec => Some(Self(codec)),
        }
    }

    /// The byte in the header.
    pub const fn as_byte(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("raw bytes"),
            1 => f.write_str("bincode"),
            2 => f.write_str("JSON"),
            codec => write!(f, "private codec {codec}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header() -> Header {
        Header {
            kind: Kind::ReferencedOneShot,
            suite: Suite::Xaes256Gcm,
            codec: Codec::RAW,
            chunk_log2: None,
            dek_version: DekVersion::new(3),
            key_id: KeyId::from_bytes([0xab; 32]),
            nonce: [0xcd; 24],
        }
    }

    #[test]
    fn the_layout_is_the_drawn_one() {
        let bytes = header().to_bytes();
        assert_eq!(bytes[..12], [b'B', b'U', b'L', 1, 1, 1, 0, 0, 0, 0, 0, 3]);
        assert_eq!(bytes[12..44], [0xab; 32]);
        assert_eq!(bytes[44..], [0xcd; 24]);
    }

    #[test]
    fn each_malformed_field_is_refused_by_its_own_error() {
        let parse_with = |at: usize, byte: u8| {
            let mut bytes = header().to_bytes();
            bytes[at] = byte;
            Header::parse(&bytes).unwrap_err()
        };
        assert_eq!(parse_with(0, b'b'), HeaderError::NotAnEnvelope);
        assert_eq!(parse_with(3, 2), HeaderError::UnsupportedFormat(2));
        assert_eq!(parse_with(4, 3), HeaderError::UnknownKind(3));
        assert_eq!(parse_with(4, 0x11), HeaderError::BadDekVersion(3));
        assert_eq!(parse_with(4, 0x02), HeaderError::BadChunkSize(0));
        assert_eq!(parse_with(5, 3), HeaderError::UnknownSuite(3));
        assert_eq!(parse_with(6, 3), HeaderError::UnknownCodec(3));
        assert_eq!(parse_with(6, 127), HeaderError::UnknownCodec(127));
        assert_eq!(parse_with(7, 16), HeaderError::BadChunkSize(16));
        assert_eq!(parse_with(11, 0), HeaderError::BadDekVersion(0));
        assert_eq!(Header::parse(&[0; 67]), Err(HeaderError::TooShort { len: 67 }));
    }

    #[test]
    fn a_person_can_read_it() {
        let text = header().to_string();
        assert!(text.starts_with("referenced one-shot, XAES-256-GCM, raw bytes, DEK version 3"));
        let debug = format!("{:?}", header());
        assert_eq!(debug, format!("Header({text}, nonce {})", "cd".repeat(24)));
        assert_eq!(format!("{:?}", Suites::default()), "{Xaes256Gcm}");
    }

    proptest! {
        /// Whatever parses is written back to the same bytes: one encoding each.
        #[test]
        fn parsing_is_injective(
            mut bytes in prop::collection::vec(any::<u8>(), 68),
            kind in prop::sample::select(vec![1_u8, 2, 0x11, 0x12, 3]),
            suite in 0_u8..5,
            chunk_log2 in prop::sample::select(vec![0_u8, 11, 12, 22, 23]),
            version in prop::sample::select(vec![0_u32, 1, u32::MAX]),
        ) {
            let codec = bytes[6];
            bytes[..8].copy_from_slice(&[b'B', b'U', b'L', 1, kind, suite, codec, chunk_log2]);
            bytes[Header::DEK_VERSION].copy_from_slice(&version.to_be_bytes());
            if let Ok(header) = Header::parse(&bytes) {
                prop_assert_eq!(&header.to_bytes()[..], &bytes[..]);
            }
        }
    }
}
