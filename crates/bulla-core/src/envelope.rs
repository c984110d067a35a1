//! What an envelope says about itself, before any key is at hand.

use std::fmt;

use crate::error::{HeaderError, OpenError};
use crate::stream::{COMMITMENT_LEN, StreamLayout};
use crate::wraps::{LEN_FIELD, MAC_LEN, Wraps};
use crate::{Codec, Header, Kind, Suite, Suites, aead, one_shot};

/// Everything in front of the payload: the header and, in a self-contained envelope,
/// its wraps.
///
/// A stream is read from its head: take [`Head::LEN_MIN`] bytes, ask
/// [`len_of`](Self::len_of) how many there are in all, read the rest and
/// [`parse`](Self::parse). Nothing in it is authenticated until the envelope is opened.
#[derive(Clone)]
pub struct Head {
    header: Header,
    header_bytes: [u8; Header::LEN],
    wraps: Option<Section>,
}

/// A wraps section, as parsed and as read.
#[derive(Clone)]
struct Section {
    wraps: Wraps,
    /// `wraps_len` to the last entry.
    bytes: Box<[u8]>,
    mac: [u8; MAC_LEN],
}

impl Head {
    /// Bytes that tell how long a head is: the header and `wraps_len`. No envelope is
    /// shorter.
    pub const LEN_MIN: usize = Header::LEN + LEN_FIELD;

    /// Length of the head that starts with `bytes`, of which [`LEN_MIN`](Self::LEN_MIN)
    /// are looked at: 68 bytes if the envelope is referenced, at most 16,454 if it is
    /// self-contained.
    ///
    /// # Errors
    /// [`HeaderError`] for a header that cannot be read, or a length out of bounds.
    pub fn len_of(bytes: &[u8]) -> Result<usize, HeaderError> {
        let header = Header::parse(bytes)?;
        match header.kind.is_self_contained() {
            true => Ok(Header::LEN + Wraps::section_len(&bytes[Header::LEN..])?),
            false => Ok(Header::LEN),
        }
    }

    /// Reads the head at the start of `bytes`.
    ///
    /// # Errors
    /// [`HeaderError`] when the bytes are no head, or not the whole of it.
    pub fn parse(bytes: &[u8]) -> Result<Self, HeaderError> {
        let header = Header::parse(bytes)?;
        let mut header_bytes = [0; Header::LEN];
        header_bytes.copy_from_slice(&bytes[..Header::LEN]);
        let wraps = match header.kind.is_self_contained() {
            true => Some(Section::parse(&bytes[Header::LEN..])?),
            false => None,
        };
        Ok(Self { header, header_bytes, wraps })
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The wraps; `None` if the envelope is referenced.
    pub fn wraps(&self) -> Option<&Wraps> {
        self.wraps.as_ref().map(|section| &section.wraps)
    }

    /// Where the payload begins, in bytes.
    pub fn payload_offset(&self) -> usize {
        Header::LEN + self.wraps.as_ref().map_or(0, |section| section.bytes.len() + MAC_LEN)
    }

    /// Checks that the envelope is of a kind, codec and suite that the caller asks for.
    /// Do this before a key is looked up, or a KMS is asked: it is cheaper, and the
    /// order in which the specification wants refusals (section 8.1).
    ///
    /// # Errors
    /// [`OpenError::WrongKind`], [`OpenError::SuiteNotAllowed`],
    /// [`OpenError::WrongCodec`].
    pub fn accept(&self, kind: Kind, codec: Codec, suites: Suites) -> Result<(), OpenError> {
        accept(&self.header, kind, codec, suites)
    }

    pub(crate) fn header_bytes(&self) -> &[u8; Header::LEN] {
        &self.header_bytes
    }

    /// What the MAC of the wraps covers behind the header, and the MAC.
    pub(crate) fn section(&self) -> Option<(&[u8], &[u8; MAC_LEN])> {
        self.wraps.as_ref().map(|section| (&*section.bytes, &section.mac))
    }
}

impl Section {
    fn parse(bytes: &[u8]) -> Result<Self, HeaderError> {
        let len = Wraps::section_len(bytes)?;
        let section = bytes.get(..len).ok_or(crate::WrapsError::SectionLength)?;
        let (wraps, mac) = Wraps::parse(section)?;
        Ok(Self { wraps, bytes: section[..len - MAC_LEN].into(), mac })
    }
}

pub(crate) fn accept(
    header: &Header,
    kind: Kind,
    codec: Codec,
    suites: Suites,
) -> Result<(), OpenError> {
    if header.kind != kind {
        return Err(OpenError::WrongKind(header.kind));
    }
    if !suites.contains(header.suite) {
        return Err(OpenError::SuiteNotAllowed(header.suite));
    }
    //= spec 2.4
    //# An opener MUST be told the codec to expect and MUST refuse every other one.
    if header.codec != codec {
        let (found, expected) = (header.codec.as_byte(), codec.as_byte());
        return Err(OpenError::WrongCodec { found, expected });
    }
    Ok(())
}

/// A whole envelope, taken apart: what can be said without a key.
///
/// `Display` says in some lines what protects a record, for operators and logs: it
/// holds no plaintext and no key.
///
/// ```
/// use bulla_core::{DataKey, DekVersion, Envelope, EnvelopeKey, KeyOptions, RecordContext, ScopeContext};
///
/// let scope = ScopeContext::new([("tenant", "t-9f2c"), ("purpose", "people")])?;
/// let dek = DataKey::generate()?;
/// let key = EnvelopeKey::derive(&dek, DekVersion::FIRST, &scope, KeyOptions::default())?;
/// let sealed = key.seal(b"ada@example.org", &RecordContext::empty())?;
///
/// let envelope = Envelope::parse(&sealed)?;
/// assert_eq!(envelope.plaintext_len(), 15);
/// assert!(envelope.to_string().starts_with("referenced one-shot envelope, format 1"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Envelope<'a> {
    head: Head,
    payload: &'a [u8],
    layout: Option<StreamLayout>,
}

impl<'a> Envelope<'a> {
    /// Takes apart `envelope`, in the order of the specification, section 2.5.
    ///
    /// # Errors
    /// [`HeaderError`] for everything that is malformed or unsupported.
    pub fn parse(envelope: &'a [u8]) -> Result<Self, HeaderError> {
        let head = Head::parse(envelope)?;
        let payload = &envelope[head.payload_offset()..];
        check_payload_len(head.header.kind, payload.len())?;
        let layout = match head.header.chunk_log2 {
            Some(log2) => {
                Some(StreamLayout::new(head.payload_offset() as u64, log2, envelope.len() as u64)?)
            }
            None => None,
        };
        Ok(Self { head, payload, layout })
    }

    /// Header and wraps.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.head.header
    }

    /// What follows the head: ciphertext and tag, or commitment and chunks.
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Where the chunks of a stream are; `None` if it is one-shot.
    pub fn layout(&self) -> Option<StreamLayout> {
        self.layout
    }

    /// Length of the plaintext, in bytes. A claim until the envelope is opened.
    pub fn plaintext_len(&self) -> u64 {
        match self.layout {
            Some(layout) => layout.claimed_plaintext_len(),
            None => (self.payload.len() - aead::TAG_LEN) as u64,
        }
    }
}

/// Step 9 of section 2.5, but for the total length of streams.
pub(crate) fn check_payload_len(kind: Kind, len: usize) -> Result<(), HeaderError> {
    match kind.is_chunked() {
        true if len < COMMITMENT_LEN => {
            Err(HeaderError::PayloadTooShort { len, min: COMMITMENT_LEN })
        }
        true => Ok(()),
        false => one_shot::check_payload_len(len),
    }
}

/// The header of a whole one-shot envelope that is referenced and acceptable: what
/// [`EnvelopeKey::header_of`](crate::EnvelopeKey::header_of) says, without the copies
/// that [`Envelope::parse`] makes.
pub(crate) fn referenced_one_shot(
    envelope: &[u8],
    codec: Codec,
    suites: Suites,
) -> Result<Header, OpenError> {
    let header = Header::parse(envelope)?;
    if header.kind != Kind::ReferencedOneShot {
        // The rest of the envelope decides whether it is malformed first.
        Envelope::parse(envelope)?;
    }
    check_payload_len(header.kind, envelope.len() - Header::LEN)?;
    accept(&header, Kind::ReferencedOneShot, codec, suites)?;
    Ok(header)
}

impl fmt::Display for Envelope<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = self.header();
        writeln!(f, "{} envelope, format 1", header.kind)?;
        match (header.suite, header.kind.is_chunked()) {
            (Suite::Xaes256Gcm, true) => writeln!(f, "suite       1, AES-256-GCM chunks")?,
            (Suite::Xaes256GcmSiv, true) => writeln!(f, "suite       2, AES-256-GCM-SIV chunks")?,
            (suite, false) => writeln!(f, "suite       {}, {suite}", suite as u8)?,
        }
        writeln!(f, "codec       {}, {}", header.codec.as_byte(), header.codec)?;
        match header.dek_version {
            Some(version) => writeln!(f, "DEK         version {version} of its scope")?,
            None => writeln!(f, "DEK         single-use, carried in the envelope")?,
        }
        writeln!(f, "key id      {}", header.key_id)?;
        write!(f, "{}", if header.kind.is_chunked() { "salt        " } else { "nonce       " })?;
        header.nonce.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        writeln!(f)?;
        if let Some(wraps) = self.head.wraps() {
            writeln!(
                f,
                "wraps       {}, generation {}",
                wraps.entries().len(),
                wraps.generation()
            )?;
            wraps.entries().iter().try_for_each(|wrap| writeln!(f, "            {wrap:?}"))?;
        }
        if let Some(layout) = self.layout {
            writeln!(f, "chunks      {} of {} KiB", layout.chunks(), layout.chunk_len() / 1024)?;
        }
        writeln!(f, "plaintext   {} bytes", self.plaintext_len())?;
        f.write_str("Nothing of this is authenticated until the envelope is opened.")
    }
}

/// The text of `Display` in one line.
impl fmt::Debug for Envelope<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Envelope({}, {} bytes)", self.head.header, self.plaintext_len())
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Head({}", self.header)?;
        if let Some(wraps) = self.wraps() {
            write!(f, ", {wraps:?}")?;
        }
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests;
