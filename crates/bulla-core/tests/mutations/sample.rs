//! Valid envelopes, and how they are opened.

use std::error::Error;
use std::fmt;
use std::io::{Cursor, Read, Write};

use bulla_core::{
    ChunkOpener, Codec, DataKey, DekVersion, Envelope, EnvelopeKey, Head, Header, KeyOptions, Kind,
    NonceMode, RecordContext, ScopeContext, SingleUseKey, StreamOptions, Suite, UnwrappedKey, Wrap,
    Wraps,
};

use crate::Cell;
use crate::rng::{Rng, hex};

const CHUNK: usize = 4096;

/// A valid envelope, and all that was needed to make it.
pub(crate) struct Sample {
    cell: Cell,
    codec: Codec,
    pub(crate) dek: DataKey,
    /// Opens referenced envelopes, in every suite.
    key: EnvelopeKey,
    pub(crate) scope: ScopeContext,
    pub(crate) record: RecordContext,
    wraps: Wraps,
    pub(crate) plaintext: Vec<u8>,
    pub(crate) envelope: Vec<u8>,
}

/// What is opened instead.
pub(crate) struct Forged {
    pub(crate) envelope: Vec<u8>,
    pub(crate) record: RecordContext,
    pub(crate) scope: ScopeContext,
    /// The DEK and the version that the opener holds, where they are not the sample's.
    pub(crate) dek: Option<DataKey>,
    pub(crate) version: DekVersion,
}

impl Sample {
    /// With several chunks if `long`, or by chance; and if it is a stream.
    pub(crate) fn new(cell: Cell, long: bool, rng: &mut Rng) -> Self {
        let scope = ScopeContext::new([("tenant", hex(&rng.bytes(3)))]).unwrap();
        let record = (0..rng.below(4)).map(|i| (format!("k{i}"), rng.bytes(4)));
        let record = RecordContext::new(record.collect::<Vec<_>>()).unwrap();
        let bytes = rng.bytes(32);
        let dek = DataKey::init_with(|dek| dek.copy_from_slice(&bytes));
        let len = match cell.0.is_chunked() {
            true if long => 3 * CHUNK + rng.below(30),
            true if rng.one_in(large_one_in(cell)) => rng.below(5) * CHUNK + rng.below(30),
            _ => rng.below(100),
        };
        let plaintext = rng.bytes(len);
        let codec = Codec::from_byte(rng.pick(&[0, 0, 1, 2, 128, 255])).unwrap();
        let entries = match rng.below(4) {
            0 => 1,
            1 => 8,
            _ => 2 + rng.below(3),
        };
        let entries = (0..entries).map(|i| {
            // Of equal names there can be one only, hence the lengths.
            let (id, version) = (rng.bytes(1 + i), rng.bytes(i));
            Wrap::new(rng.pick(&[1, 2, 3, 200]), id, version, rng.bytes(16))
        });
        let wraps = Wraps::new(entries.collect::<Vec<_>>()).unwrap();
        Self::seal(cell, codec, dek, scope, record, wraps, plaintext, rng)
    }

    /// Another envelope, as much like this one as can be: with wraps of the same lengths, and
    /// the DEK of this one if it is referenced. Its plaintext, record and codec are others by
    /// chance.
    pub(crate) fn sibling(&self, rng: &mut Rng) -> Self {
        let plaintext = match rng.one_in(2) {
            true => self.plaintext.clone(),
            false => rng.bytes(self.plaintext.len()),
        };
        let record = match rng.one_in(3) {
            true => RecordContext::new([("k", rng.bytes(4))]).unwrap(),
            false => self.record.clone(),
        };
        let codec = match rng.one_in(3) {
            true => Codec::from_byte(rng.pick(&[0, 1, 2, 129])).unwrap(),
            false => self.codec,
        };
        let same_names = rng.one_in(2);
        let entries = self.wraps.entries().iter().map(|wrap| {
            let blob = rng.bytes(wrap.blob.len());
            let (id, version) = match same_names {
                true => (wrap.kek_id.to_vec(), wrap.kek_version.to_vec()),
                false => (rng.bytes(wrap.kek_id.len()), rng.bytes(wrap.kek_version.len())),
            };
            Wrap::new(wrap.backend, id, version, blob)
        });
        let wraps = Wraps::new(entries.collect::<Vec<_>>()).unwrap();
        let (dek, scope) = (copy(&self.dek), self.scope.clone());
        Self::seal(self.cell, codec, dek, scope, record, wraps, plaintext, rng)
    }

    #[expect(clippy::too_many_arguments, reason = "all that there is")]
    fn seal(
        cell: Cell,
        codec: Codec,
        dek: DataKey,
        scope: ScopeContext,
        record: RecordContext,
        wraps: Wraps,
        plaintext: Vec<u8>,
        rng: &mut Rng,
    ) -> Self {
        let options = options(cell);
        let key = EnvelopeKey::derive(&dek, DekVersion::FIRST, &scope, options).unwrap();
        let stream = StreamOptions::default().with_chunk_log2(12).with_codec(codec);
        let write = |sealer: bulla_core::ChunkSealer| {
            let mut writer = sealer.into_writer(Vec::with_capacity(plaintext.len() + 500));
            writer.write_all(&plaintext).unwrap();
            writer.finish().unwrap()
        };
        let (envelope, dek) = match cell.0 {
            Kind::ReferencedOneShot => {
                // The first record has a nonce of its own; those after it are of an epoch, whose
                // key is the one at hand when they are opened.
                for _ in 0..rng.below(3) {
                    key.seal(b"before", &record).unwrap();
                }
                (key.seal_as(codec, &plaintext, &record).unwrap(), dek)
            }
            Kind::ReferencedChunked => (write(key.chunk_sealer(&record, stream).unwrap()), dek),
            // These make their own DEK.
            kind => {
                let single_use = SingleUseKey::generate(&scope, options).unwrap();
                let dek = copy(single_use.data_key());
                let envelope = match kind {
                    Kind::SelfContainedOneShot => {
                        single_use.seal(&wraps, codec, &plaintext, &record).unwrap()
                    }
                    _ => write(single_use.chunk_sealer(&wraps, &record, stream).unwrap()),
                };
                (envelope, dek)
            }
        };
        let key = match cell.0.is_self_contained() || rng.one_in(2) {
            true => EnvelopeKey::derive(&dek, DekVersion::FIRST, &scope, options).unwrap(),
            false => key,
        };
        Self { cell, codec, dek, key, scope, record, wraps, plaintext, envelope }
    }

    pub(crate) fn kind(&self) -> Kind {
        self.cell.0
    }

    pub(crate) fn as_it_is(&self) -> Forged {
        Forged {
            envelope: self.envelope.clone(),
            record: self.record.clone(),
            scope: self.scope.clone(),
            dek: None,
            version: DekVersion::FIRST,
        }
    }

    /// This envelope after a rewrap to fresh wraps; `None` if it is referenced.
    pub(crate) fn rewrapped(&self, rng: &mut Rng) -> Option<Vec<u8>> {
        let parsed = Envelope::parse(&self.envelope).unwrap();
        let entries = parsed.head().wraps()?.entries().iter().map(|wrap| {
            let blob = rng.bytes(wrap.blob.len());
            Wrap::new(wrap.backend, wrap.kek_id.clone(), wrap.kek_version.clone(), blob)
        });
        let wraps = self.wraps.replaced_by(entries.collect::<Vec<_>>()).unwrap();
        let head = parsed.head();
        let key =
            UnwrappedKey::check(copy(&self.dek), head, self.codec, &self.scope, options(self.cell));
        Some([&key.unwrap().rewrap(&wraps).unwrap()[..], parsed.payload()].concat())
    }

    /// Opens what the header says it is, as a tool does that moves payloads. What is
    /// released before an error has to be true, too: of this one or, when `forged` begins
    /// as `other`, of that one.
    pub(crate) fn open(&self, forged: &Forged, other: &Self) -> Result<Vec<u8>, String> {
        let Forged { envelope, record, scope, version, .. } = forged;
        let truth = match envelope.starts_with(&other.envelope[..Header::LEN]) {
            true => &other.plaintext,
            false => &self.plaintext,
        };
        let dek = forged.dek.as_ref().unwrap_or(&self.dek);
        let parsed = Envelope::parse(envelope).map_err(text)?;
        let codec = parsed.header().codec;
        let other_key;
        let key = match *scope == self.scope && forged.dek.is_none() && version.get() == 1 {
            true => &self.key,
            false => {
                let derived = EnvelopeKey::derive(dek, *version, scope, options(self.cell));
                other_key = derived.unwrap();
                &other_key
            }
        };
        let (head, options) = (parsed.head(), options(self.cell));
        let check = || UnwrappedKey::check(copy(dek), head, codec, scope, options);
        match parsed.header().kind {
            Kind::ReferencedOneShot => {
                let opened = key.open_as(codec, envelope, record).map_err(text);
                if opened.is_err() && codec == Codec::RAW {
                    let mut out = vec![0; envelope.len()];
                    assert!(key.open_into(envelope, record, &mut out).is_err());
                    assert!(out.iter().all(|byte| *byte == 0), "something was left");
                }
                opened
            }
            Kind::ReferencedChunked => {
                if let Ok(mut range) = key.open_range(Cursor::new(envelope), record, codec)
                    && let Ok(all) = range.read_range(0..truth.len() as u64)
                {
                    assert_eq!(all, *truth, "an untrue range");
                }
                read(key.open_reader(&envelope[..], record, codec).map_err(text)?, truth)
            }
            Kind::SelfContainedOneShot => {
                check().and_then(|key| key.open(parsed.payload(), record)).map_err(text)
            }
            _ => {
                let (commitment, chunks) = parsed.payload().split_at(ChunkOpener::COMMITMENT_LEN);
                let opener =
                    check().and_then(|key| key.chunk_opener(commitment, record)).map_err(text)?;
                read(opener.into_reader(chunks), truth)
            }
        }
    }
}

/// Everything that a person needs to see it again.
impl fmt::Debug for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sample")
            .field("dek", &hex(self.dek.expose_secret()))
            .field("scope", &self.scope)
            .field("record", &hex(self.record.as_bytes()))
            .field("head", &Head::parse(&self.envelope))
            .field("envelope", &hex(&self.envelope))
            .finish()
    }
}

impl fmt::Debug for Forged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forged")
            .field("dek", &self.dek.as_ref().map(|dek| hex(dek.expose_secret())))
            .field("version", &self.version)
            .field("scope", &self.scope)
            .field("record", &hex(self.record.as_bytes()))
            .field("envelope", &hex(&self.envelope))
            .finish()
    }
}

/// Seals in the suite of `cell` and opens every suite; counts nonces, wherever this runs.
fn options((_, suite, library): Cell) -> KeyOptions {
    let options = KeyOptions::default().with_library(library).with_nonces(NonceMode::Epoch);
    Suite::ALL.iter().fold(options.with_suite(suite), |options, suite| options.accepting(*suite))
}

/// With a buffer that chunks are opened into, or one that is too small for that.
fn read(mut reader: impl Read, truth: &[u8]) -> Result<Vec<u8>, String> {
    let size = if truth.len().is_multiple_of(4) { 100 } else { CHUNK };
    let (mut plaintext, mut buf) = (Vec::new(), vec![0; size]);
    loop {
        match reader.read(&mut buf) {
            Ok(0) => return Ok(plaintext),
            Ok(read) => plaintext.extend_from_slice(&buf[..read]),
            Err(error) => {
                let whole_chunks = plaintext.len() % CHUNK == 0;
                assert!(whole_chunks && truth.starts_with(&plaintext), "untrue data came out");
                return Err(error.to_string());
            }
        }
    }
}

fn text(error: impl Error) -> String {
    error.to_string()
}

pub(crate) fn copy(dek: &DataKey) -> DataKey {
    DataKey::init_with(|bytes| bytes.copy_from_slice(dek.expose_secret()))
}

/// Streams of several chunks are rarer where they take long: AES without optimisation.
fn large_one_in((_, _, library): Cell) -> usize {
    let slow = cfg!(debug_assertions) && format!("{library:?}") == "RustCrypto";
    if slow { 40 } else { 3 }
}
