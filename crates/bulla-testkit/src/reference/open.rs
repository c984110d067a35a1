//! Section 8: opening, in the order of section 8.1.

use super::context::{self, Pairs};
use super::header::{self, Parsed};
use super::wraps::Entry;
use super::{Class, chunks, derive, one_shot, wraps};

/// What an opener is given besides the envelope (section 8.1).
#[derive(Debug)]
pub struct Opener<'a> {
    /// The scope context.
    pub scope: Pairs,
    /// The record context.
    pub record: Pairs,
    /// The kinds that are accepted.
    pub kinds: &'a [u8],
    /// The suites that are accepted.
    pub suites: &'a [u8],
    /// The codec that is expected.
    pub codec: u8,
    /// The source of DEKs.
    pub keys: Keys<'a>,
}

/// Where an opener finds DEKs.
#[derive(Debug, Default)]
pub struct Keys<'a> {
    /// For referenced kinds: versions and DEKs of the caller's scope.
    pub deks: Vec<(u32, [u8; 32])>,
    /// For self-contained kinds: the opener's own list of KEKs (section 6.4), each named
    /// once.
    pub recipients: Vec<Recipient<'a>>,
}

/// Unwraps the blob of an entry under CTX(KMS); `None` is any failure of the service.
pub type Unwrap<'a> = Box<dyn Fn(&Entry, &[u8]) -> Option<Vec<u8>> + 'a>;

/// One KEK of an opener.
pub struct Recipient<'a> {
    backend: u8,
    kek_id: Vec<u8>,
    unwrap: Unwrap<'a>,
}

impl std::fmt::Debug for Recipient<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recipient")
            .field("backend", &self.backend)
            .field("kek_id", &self.kek_id)
            .finish_non_exhaustive()
    }
}

impl<'a> Recipient<'a> {
    /// A KEK that unwraps by a function.
    pub fn new(backend: u8, kek_id: &[u8], unwrap: Unwrap<'a>) -> Self {
        Self { backend, kek_id: kek_id.to_vec(), unwrap }
    }

    /// A KEK that unwraps the blobs of a table, under whatever KMS context, and refuses all
    /// others.
    pub fn table(backend: u8, kek_id: &[u8], table: Vec<(Vec<u8>, Vec<u8>)>) -> Self {
        let unwrap = move |entry: &Entry, _: &[u8]| {
            table.iter().find(|(blob, _)| *blob == entry.blob).map(|(_, dek)| dek.clone())
        };
        Self::new(backend, kek_id, Box::new(unwrap))
    }
}

/// An envelope after steps 1 to 6 of section 8.1.
#[derive(Debug)]
pub struct Unlocked {
    /// The envelope's parts.
    pub parsed: Parsed,
    /// The DEK, of which the key id is that of the header.
    pub dek: [u8; 32],
    /// CTX(record), of the caller.
    pub ctx_record: Vec<u8>,
}

impl Opener<'_> {
    /// The plaintext of an envelope of an accepted kind.
    pub fn open(&self, envelope: &[u8]) -> Result<Vec<u8>, Class> {
        let unlocked = self.unlock(envelope, self.kinds)?;
        let Unlocked { parsed: Parsed { header, payload_offset, .. }, dek, ctx_record } = &unlocked;
        let payload = &envelope[*payload_offset..];
        if header.is_chunked() {
            // 7 and 8
            let stream_key = derive::stream_key(dek, header.suite, &header.key_id);
            let keys = derive::chunks(&stream_key, &header.encode(), ctx_record);
            chunks::open(header.suite, header.chunk_log2, &keys, payload)
        } else {
            // 8
            let seal_key = derive::seal_key(dek, header.suite, &header.key_id);
            one_shot::open(&seal_key, &header.encode(), ctx_record, payload)
        }
    }

    /// Section 7.3: bytes a..b of the plaintext of a chunked envelope. One-shot kinds are not
    /// accepted by this function.
    ///
    /// # Panics
    ///
    /// If a > b, for which the specification has no answer.
    pub fn open_range(&self, envelope: &[u8], a: u64, b: u64) -> Result<Vec<u8>, Class> {
        assert!(a <= b, "a range read is given a ≤ b");
        let chunked = [header::REFERENCED_CHUNKED, header::SELF_CONTAINED_CHUNKED];
        let kinds: Vec<u8> = self.kinds.iter().copied().filter(|k| chunked.contains(k)).collect();
        let unlocked = self.unlock(envelope, &kinds)?;
        let Unlocked { parsed: Parsed { header, payload_offset, .. }, dek, ctx_record } = &unlocked;
        // 7 to 9
        let stream_key = derive::stream_key(dek, header.suite, &header.key_id);
        let keys = derive::chunks(&stream_key, &header.encode(), ctx_record);
        let payload = &envelope[*payload_offset..];
        chunks::open_range(header.suite, header.chunk_log2, &keys, payload, a, b)
    }

    /// Section 8.1, steps 1 to 6: all that comes before the payload.
    pub fn unlock(&self, envelope: &[u8], kinds: &[u8]) -> Result<Unlocked, Class> {
        // 1
        let ctx_scope = context::ctx_scope(&self.scope)?;
        let ctx_record = context::ctx_record(&self.record)?;
        // 2
        let parsed = header::parse(envelope)?;
        let header = &parsed.header;
        // 3
        if !kinds.contains(&header.kind)
            || !self.suites.contains(&header.suite)
            || self.codec != header.codec
        {
            return Err(Class::NotAccepted);
        }
        // 4
        let dek = match &parsed.wraps {
            None => self.look_up(header.version, &header.key_id, &ctx_scope)?,
            Some(wraps) => self.unwrap(&wraps.entries)?,
        };
        // 5
        if derive::key_id(&dek, header.version, &ctx_scope) != header.key_id {
            return Err(Class::UnknownKey);
        }
        // 6
        if let Some(wraps) = &parsed.wraps {
            let wraps_key = derive::wraps_key(&dek, &header.key_id);
            let mac_offset = 38 + usize::from(wraps.wraps_len);
            if wraps::mac(&wraps_key, &envelope[..mac_offset]) != wraps.mac {
                return Err(Class::Authentication);
            }
        }
        Ok(Unlocked { parsed, dek, ctx_record })
    }

    /// Section 8.1, step 4, of a referenced envelope: by key id and version.
    fn look_up(
        &self,
        version: u32,
        key_id: &[u8; 32],
        ctx_scope: &[u8],
    ) -> Result<[u8; 32], Class> {
        for (of_version, dek) in &self.keys.deks {
            if *of_version == version && derive::key_id(dek, version, ctx_scope) == *key_id {
                return Ok(*dek);
            }
        }
        Err(Class::UnknownKey)
    }

    /// Section 6.4: the first entry, in the envelope's order, that a KEK of the opener
    /// unwraps.
    fn unwrap(&self, entries: &[Entry]) -> Result<[u8; 32], Class> {
        let ctx_kms = context::ctx_kms(&self.scope, 0)?;
        let mut result = Err(Class::UnknownKey); // if none qualifies
        for entry in entries {
            let names = |r: &&Recipient<'_>| r.backend == entry.backend && r.kek_id == entry.kek_id;
            let Some(recipient) = self.keys.recipients.iter().find(names) else { continue };
            match (recipient.unwrap)(entry, &ctx_kms) {
                None => result = Err(Class::KmsFailure),
                // No further entry is tried, whatever was unwrapped.
                Some(dek) => return dek.try_into().map_err(|_| Class::UnknownKey),
            }
        }
        result
    }
}
