//! "Any byte flipped, cut, added or moved is an error" (spec, property 2), for every kind,
//! suite and library: random envelopes, random changes.
//!
//! `BULLA_MUTATIONS` is the number of changes, `BULLA_SEED` where they start from.
//!
//! ```text
//! BULLA_MUTATIONS=10000000 cargo test --release -p bulla-core --all-features \
//!     --test mutations -- --nocapture
//! ```
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests")]

use std::env;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::thread;

use bulla_core::{
    ChunkOpener, Codec, DataKey, DekVersion, Envelope, EnvelopeKey, Header, KeyOptions, Kind,
    Library, RecordContext, ScopeContext, SingleUseKey, StreamOptions, Suite, UnwrappedKey, Wrap,
    Wraps,
};

/// As many changes for each envelope that is made.
const CHANGES_PER_ENVELOPE: usize = 32;

#[test]
fn any_change_is_refused() {
    let number = |name: &str| env::var(name).ok().map(|value| value.parse::<u64>().unwrap());
    let wanted = number("BULLA_MUTATIONS").unwrap_or(20_000) as usize;
    let seed = number("BULLA_SEED").unwrap_or_else(|| {
        let bytes = DataKey::generate().unwrap();
        u64::from(u32::from_be_bytes(*bytes.expose_secret().first_chunk().unwrap()))
    });
    println!("{wanted} changes, BULLA_SEED={seed}");
    let threads = thread::available_parallelism().unwrap().get();
    let counts = thread::scope(|scope| {
        let work = (0..threads)
            .map(|thread| scope.spawn(move || run(seed + thread as u64, wanted / threads)));
        work.collect::<Vec<_>>()
            .into_iter()
            .map(|work| work.join().unwrap())
            .fold([0; Change::ALL.len()], |sum, counts| {
                std::array::from_fn(|at| sum[at] + counts[at])
            })
    });
    for (change, count) in Change::ALL.iter().zip(counts) {
        println!("{count:>9} {change:?}");
        assert!(wanted < 10_000 || count > 0, "{change:?} was never made");
    }
}

/// Makes `wanted` changes and counts them.
fn run(seed: u64, wanted: usize) -> [usize; Change::ALL.len()] {
    let mut rng = Rng(seed);
    let (mut counts, mut made) = ([0; Change::ALL.len()], 0);
    while made < wanted {
        // Long streams are slow, so there are few; but what is only done to them has to be done.
        let sample = Sample::new(&mut rng, made < wanted / 20);
        let other = sample.sibling(&mut rng);
        let opened = sample.open(&sample.as_it_is(), &other);
        assert_eq!(opened.as_deref(), Ok(&sample.plaintext[..]), "the control");
        for _ in 0..CHANGES_PER_ENVELOPE {
            let at = rng.below(Change::ALL.len());
            let change = Change::ALL[at];
            let Some(forged) = change.make(&sample, &other, &mut rng) else { continue };
            let opened = sample.open(&forged, &other);
            if let Ok(opened) = opened {
                panic!(
                    "opened after {change:?}, BULLA_SEED={seed}, change number {made}:\n\
                     plaintext {}\nDEK {}\nrecord {:?} {:?}\nscope {:?}\n{:?}\n\
                     envelope {}\nforged {}",
                    hex(&opened),
                    hex(sample.dek.expose_secret()),
                    hex(sample.record.as_bytes()),
                    hex(forged.record.as_bytes()),
                    (&sample.scope, &forged.scope),
                    sample.options,
                    hex(&sample.envelope),
                    hex(&forged.envelope),
                );
            }
            counts[at] += 1;
            made += 1;
        }
    }
    counts
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// SplitMix64: short, and good enough to choose changes.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

/// A valid envelope, and all that was needed to make it.
struct Sample {
    kind: Kind,
    options: KeyOptions,
    codec: Codec,
    dek: DataKey,
    /// Opens referenced envelopes, in every suite.
    key: EnvelopeKey,
    scope: ScopeContext,
    record: RecordContext,
    wraps: Wraps,
    plaintext: Vec<u8>,
    envelope: Vec<u8>,
}

impl Sample {
    /// With several chunks if `long`, or by chance; and if it is a stream.
    fn new(rng: &mut Rng, long: bool) -> Self {
        let kind = rng.pick(Kind::ALL);
        let suite = rng.pick(Suite::ALL);
        let options = KeyOptions::default().with_library(rng.pick(Library::ALL)).with_suite(suite);
        let codec = Codec::from_byte(rng.pick(&[0, 0, 1, 2, 128, 255])).unwrap();
        let scope = ScopeContext::new([("tenant", hex(&rng.bytes(3)))]).unwrap();
        let pairs = 1 + rng.below(3);
        let record = (0..pairs).map(|i| (format!("k{i}"), rng.bytes(4)));
        let record = RecordContext::new(record.collect::<Vec<_>>()).unwrap();
        let entries = (0..1 + rng.below(3)).map(|i| {
            let (id, version) = (rng.bytes(1 + i), rng.bytes(i));
            Wrap::new(rng.pick(&[1, 2, 3, 200]), id, version, rng.bytes(16))
        });
        // Two of one name would not do.
        let wraps = Wraps::new(entries.collect::<Vec<_>>()).unwrap();
        let bytes = rng.bytes(32);
        let dek = DataKey::init_with(|dek| dek.copy_from_slice(&bytes));
        let len = match kind.is_chunked() {
            false => rng.below(100),
            true if long || rng.one_in(large_one_in(&options)) => {
                rng.below(3) * 4096 + rng.below(30)
            }
            true => rng.below(100),
        };
        let plaintext = vec![rng.next() as u8; len];
        Self::seal(kind, options, codec, dek, scope, record, wraps, plaintext)
    }

    #[expect(clippy::too_many_arguments, reason = "all that there is")]
    fn seal(
        kind: Kind,
        options: KeyOptions,
        codec: Codec,
        dek: DataKey,
        scope: ScopeContext,
        record: RecordContext,
        wraps: Wraps,
        plaintext: Vec<u8>,
    ) -> Self {
        let all = Suite::ALL.iter().fold(options, |options, suite| options.accepting(*suite));
        let key = EnvelopeKey::derive(&dek, DekVersion::FIRST, &scope, all).unwrap();
        let stream = StreamOptions::default().with_chunk_log2(12).with_codec(codec);
        let write = |sealer: bulla_core::ChunkSealer| {
            let mut writer = sealer.into_writer(Vec::with_capacity(plaintext.len() + 500));
            writer.write_all(&plaintext).unwrap();
            writer.finish().unwrap()
        };
        let (envelope, dek) = match kind {
            Kind::ReferencedOneShot => (key.seal_as(codec, &plaintext, &record).unwrap(), dek),
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
        Self { kind, options: all, codec, dek, key, scope, record, wraps, plaintext, envelope }
    }

    /// Another envelope, as much like this one as can be; its plaintext is another one
    /// half of the times.
    fn sibling(&self, rng: &mut Rng) -> Self {
        let plaintext = match rng.one_in(2) {
            true => self.plaintext.clone(),
            false => vec![rng.next() as u8; self.plaintext.len()],
        };
        Self::seal(
            self.kind,
            self.options.with_suite(self.key.suite()),
            self.codec,
            copy(&self.dek),
            self.scope.clone(),
            self.record.clone(),
            self.wraps.clone(),
            plaintext,
        )
    }

    fn as_it_is(&self) -> Forged {
        Forged {
            envelope: self.envelope.clone(),
            record: self.record.clone(),
            scope: self.scope.clone(),
        }
    }

    /// Opens what the header says it is, as a tool does that moves payloads. What is
    /// released before an error has to be true, too: of this one or, when `forged` begins
    /// as `other`, of that one.
    fn open(&self, forged: &Forged, other: &Self) -> Result<Vec<u8>, String> {
        let Forged { envelope, record, scope } = forged;
        let truth = match envelope.starts_with(&other.envelope[..Header::LEN]) {
            true => &other.plaintext,
            false => &self.plaintext,
        };
        let text = |error: &dyn std::error::Error| error.to_string();
        let parsed = Envelope::parse(envelope).map_err(|error| text(&error))?;
        let codec = parsed.header().codec;
        let other_key;
        let mut key = &self.key;
        if *scope != self.scope {
            let derived = EnvelopeKey::derive(&self.dek, DekVersion::FIRST, scope, self.options);
            other_key = derived.unwrap();
            key = &other_key;
        }
        let (head, options) = (parsed.head(), self.options);
        let check = || UnwrappedKey::check(copy(&self.dek), head, codec, scope, options);
        match parsed.header().kind {
            Kind::ReferencedOneShot => {
                key.open_as(codec, envelope, record).map_err(|error| text(&error))
            }
            Kind::ReferencedChunked => {
                let reader =
                    key.open_reader(&envelope[..], record, codec).map_err(|error| text(&error))?;
                read(reader, truth)
            }
            Kind::SelfContainedOneShot => check()
                .and_then(|key| key.open(parsed.payload(), record))
                .map_err(|error| text(&error)),
            _ => {
                let (commitment, chunks) = parsed.payload().split_at(ChunkOpener::COMMITMENT_LEN);
                let opener = check()
                    .and_then(|key| key.chunk_opener(commitment, record))
                    .map_err(|error| text(&error))?;
                read(opener.into_reader(chunks), truth)
            }
        }
    }
}

/// With a buffer that chunks are opened into, or one that is too small for that.
fn read(mut reader: impl Read, truth: &[u8]) -> Result<Vec<u8>, String> {
    let size = if truth.len().is_multiple_of(4) { 100 } else { 4096 };
    let (mut plaintext, mut buf) = (Vec::new(), vec![0; size]);
    loop {
        match reader.read(&mut buf) {
            Ok(0) => return Ok(plaintext),
            Ok(read) => plaintext.extend_from_slice(&buf[..read]),
            Err(error) => {
                let whole_chunks = plaintext.len() % 4096 == 0;
                assert!(whole_chunks && truth.starts_with(&plaintext), "untrue data came out");
                return Err(error.to_string());
            }
        }
    }
}

fn copy(dek: &DataKey) -> DataKey {
    DataKey::init_with(|bytes| bytes.copy_from_slice(dek.expose_secret()))
}

/// Streams of several chunks are rarer where they take long: AES without optimisation.
fn large_one_in(options: &KeyOptions) -> usize {
    let slow = cfg!(debug_assertions) && format!("{:?}", options.library) == "RustCrypto";
    if slow { 40 } else { 3 }
}

/// What is opened instead of the sample.
struct Forged {
    envelope: Vec<u8>,
    record: RecordContext,
    scope: ScopeContext,
}

#[derive(Debug, Clone, Copy)]
enum Change {
    BitFlip,
    HeaderBitFlip,
    ByteSet,
    SeveralBytes,
    Truncate,
    Extend,
    Insert,
    Remove,
    MoveWithin,
    Splice,
    TakeRange,
    TakeHeader,
    TakeNonce,
    TakeHead,
    TakePayload,
    TakeSection,
    SetKind,
    SetSuite,
    SetCodec,
    SetChunkSize,
    SetVersion,
    SwapChunks,
    DuplicateChunk,
    RemoveChunk,
    TakeChunk,
    SwapWraps,
    SwapBlobs,
    DuplicateWrap,
    RemoveWrap,
    AddWrap,
    SetGeneration,
    RecordContext,
    Scope,
}

impl Change {
    const ALL: [Self; 33] = [
        Self::BitFlip,
        Self::HeaderBitFlip,
        Self::ByteSet,
        Self::SeveralBytes,
        Self::Truncate,
        Self::Extend,
        Self::Insert,
        Self::Remove,
        Self::MoveWithin,
        Self::Splice,
        Self::TakeRange,
        Self::TakeHeader,
        Self::TakeNonce,
        Self::TakeHead,
        Self::TakePayload,
        Self::TakeSection,
        Self::SetKind,
        Self::SetSuite,
        Self::SetCodec,
        Self::SetChunkSize,
        Self::SetVersion,
        Self::SwapChunks,
        Self::DuplicateChunk,
        Self::RemoveChunk,
        Self::TakeChunk,
        Self::SwapWraps,
        Self::SwapBlobs,
        Self::DuplicateWrap,
        Self::RemoveWrap,
        Self::AddWrap,
        Self::SetGeneration,
        Self::RecordContext,
        Self::Scope,
    ];

    /// `None` where the change does not apply, or changes nothing.
    fn make(self, sample: &Sample, other: &Sample, rng: &mut Rng) -> Option<Forged> {
        let mut forged = sample.as_it_is();
        match self {
            Self::RecordContext => forged.record = other_record(&sample.record, rng)?,
            Self::Scope => forged.scope = other_scope(&sample.scope, rng),
            Self::SwapChunks | Self::DuplicateChunk | Self::RemoveChunk | Self::TakeChunk => {
                self.make_in_chunks(&mut forged.envelope, other, rng)?;
            }
            Self::SwapWraps
            | Self::SwapBlobs
            | Self::DuplicateWrap
            | Self::RemoveWrap
            | Self::AddWrap
            | Self::SetGeneration => {
                let mut section = Section::of(&sample.envelope)?;
                self.make_in_wraps(&mut section, rng)?;
                forged.envelope = section.write();
            }
            _ => self.make_in_bytes(&mut forged.envelope, other, rng)?,
        }
        // A change that made the other envelope has made an authentic one.
        let changed = forged.envelope != sample.envelope && forged.envelope != other.envelope
            || forged.record != sample.record
            || forged.scope != sample.scope;
        changed.then_some(forged)
    }

    fn make_in_bytes(self, bytes: &mut Vec<u8>, other: &Sample, rng: &mut Rng) -> Option<()> {
        let (len, theirs) = (bytes.len(), &other.envelope);
        let at = rng.below(len);
        let (begin, end) = {
            let end = rng.below(len + 1);
            (at.min(end), at.max(end))
        };
        let some = 1 + rng.below(24);
        let payload = |envelope: &[u8]| Envelope::parse(envelope).unwrap().head().payload_offset();
        match self {
            Self::BitFlip => bytes[at] ^= 1 << rng.below(8),
            Self::HeaderBitFlip => bytes[at % Header::LEN] ^= 1 << rng.below(8),
            Self::ByteSet => bytes[at] = rng.next() as u8,
            Self::SeveralBytes => (0..1 + rng.below(5)).for_each(|_| {
                let at = rng.below(len);
                bytes[at] = rng.next() as u8;
            }),
            Self::Truncate if rng.one_in(2) => bytes.truncate(len.saturating_sub(some)),
            Self::Truncate => bytes.truncate(at),
            Self::Extend => bytes.extend(rng.bytes(some)),
            Self::Insert => drop(bytes.splice(at..at, rng.bytes(some))),
            Self::Remove => drop(bytes.drain(at..len.min(at + some))),
            Self::MoveWithin => bytes[begin..end].rotate_left(some.min(end - begin)),
            Self::Splice => {
                let from = rng.below(theirs.len() + 1);
                *bytes = [&bytes[..at], &theirs[from..]].concat();
            }
            Self::TakeRange => take(bytes, theirs, begin..end)?,
            Self::TakeHeader => take(bytes, theirs, 0..Header::LEN)?,
            Self::TakeNonce => take(bytes, theirs, 44..Header::LEN)?,
            Self::TakeHead => {
                let (ours, from) = (payload(bytes), payload(theirs));
                bytes.splice(..ours, theirs[..from].iter().copied());
            }
            Self::TakePayload => {
                bytes.truncate(payload(bytes));
                bytes.extend_from_slice(&theirs[payload(theirs)..]);
            }
            Self::TakeSection => {
                let end = payload(bytes);
                take(bytes, theirs, Header::LEN..end)?;
            }
            Self::SetKind => {
                // Together with what has to fit it, so that the header is well-formed.
                let kind = rng.pick(Kind::ALL);
                bytes[4] = kind as u8;
                bytes[7] = if kind.is_chunked() { 12 } else { 0 };
                bytes[11] = u8::from(!kind.is_self_contained());
            }
            Self::SetSuite => bytes[5] = rng.pick(Suite::ALL) as u8,
            Self::SetCodec => bytes[6] = rng.pick(&[0, 1, 2, 128, 129, 255]),
            Self::SetChunkSize => bytes[7] = 12 + rng.below(11) as u8,
            Self::SetVersion => bytes[8 + rng.below(4)] = rng.pick(&[0, 1, 2, 255]),
            _ => return None,
        }
        Some(())
    }

    fn make_in_chunks(self, bytes: &mut Vec<u8>, other: &Sample, rng: &mut Rng) -> Option<()> {
        let layout = Envelope::parse(bytes).unwrap().layout()?;
        let chunk = |index: usize| {
            let block = layout.block(index as u64);
            block.start as usize..block.end as usize
        };
        let chunks = layout.chunks() as usize;
        let (a, b) = match self {
            Self::SwapChunks if chunks < 2 => return None,
            // Two of them.
            Self::SwapChunks => {
                let a = rng.below(chunks);
                (a, (a + 1 + rng.below(chunks - 1)) % chunks)
            }
            _ => (rng.below(chunks), rng.below(chunks)),
        };
        let (first, second) = (chunk(a.min(b)), chunk(a.max(b)));
        match self {
            Self::SwapChunks => {
                let between = bytes[first.end.min(second.start)..second.start].to_vec();
                let swapped = [&bytes[second.clone()], &between, &bytes[first.clone()]].concat();
                bytes.splice(first.start..second.end, swapped);
            }
            Self::DuplicateChunk => {
                let copy = bytes[first].to_vec();
                bytes.splice(second.start..second.start, copy);
            }
            Self::RemoveChunk => drop(bytes.drain(first)),
            _ => take(bytes, &other.envelope, first)?,
        }
        Some(())
    }

    fn make_in_wraps(self, section: &mut Section, rng: &mut Rng) -> Option<()> {
        let entries = &mut section.entries;
        let (a, b) = (rng.below(entries.len()), rng.below(entries.len()));
        match self {
            Self::SwapWraps => entries.swap(a, b),
            Self::SwapBlobs => {
                let (one, two) = (entries[a].blob.clone(), entries[b].blob.clone());
                (entries[a].blob, entries[b].blob) = (two, one);
            }
            Self::DuplicateWrap => entries.insert(b, entries[a].clone()),
            Self::RemoveWrap => drop(entries.remove(a)),
            Self::AddWrap => {
                // Last in the order, so that the section is well-formed.
                entries.push(Wrap::new(255, rng.bytes(4), rng.bytes(1), rng.bytes(16)));
            }
            _ => section.generation = rng.pick(&[0, 1, 2, u32::MAX]),
        }
        Some(())
    }
}

/// Copies `range` from `theirs`, where both reach that far.
fn take(ours: &mut [u8], theirs: &[u8], range: std::ops::Range<usize>) -> Option<()> {
    ours.get_mut(range.clone())?.copy_from_slice(theirs.get(range)?);
    Some(())
}

fn other_record(record: &RecordContext, rng: &mut Rng) -> Option<RecordContext> {
    let mut pairs: Vec<_> = record.pairs().map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
    let at = rng.below(pairs.len());
    match rng.below(5) {
        0 => drop(pairs.remove(at)),
        1 => pairs.push((b"k9".to_vec(), Vec::new())),
        2 => pairs[at].1[0] ^= 1 << rng.below(8),
        // From value to key: the same bytes, divided otherwise.
        3 => {
            let byte = pairs[at].1.remove(0);
            pairs[at].0.push(byte);
        }
        _ => pairs.clear(),
    }
    RecordContext::new(pairs).ok()
}

fn other_scope(scope: &ScopeContext, rng: &mut Rng) -> ScopeContext {
    let mut pairs: Vec<_> = scope.pairs().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    match rng.below(4) {
        0 => pairs.clear(),
        1 => pairs.push(("purpose".to_owned(), String::new())),
        2 => pairs[0].1.push('0'),
        _ => pairs[0].0.push('0'),
    }
    ScopeContext::new(pairs).unwrap()
}

/// A self-contained envelope in pieces, to be put together with the MAC that it had.
struct Section {
    header: Vec<u8>,
    generation: u32,
    entries: Vec<Wrap>,
    mac_and_payload: Vec<u8>,
}

impl Section {
    fn of(envelope: &[u8]) -> Option<Self> {
        let parsed = Envelope::parse(envelope).unwrap();
        let wraps = parsed.head().wraps()?;
        Some(Self {
            header: envelope[..Header::LEN].to_vec(),
            generation: wraps.generation(),
            entries: wraps.entries().to_vec(),
            mac_and_payload: envelope[parsed.head().payload_offset() - 32..].to_vec(),
        })
    }

    fn write(&self) -> Vec<u8> {
        let mut body = self.generation.to_be_bytes().to_vec();
        body.push(self.entries.len() as u8);
        for entry in &self.entries {
            body.push(entry.backend);
            body.extend((entry.kek_id.len() as u16).to_be_bytes());
            body.extend(&entry.kek_id);
            body.push(entry.kek_version.len() as u8);
            body.extend(&entry.kek_version);
            body.extend((entry.blob.len() as u16).to_be_bytes());
            body.extend(&entry.blob);
        }
        let wraps_len = (body.len() as u16 + 32).to_be_bytes();
        [&self.header[..], &wraps_len, &body, &self.mac_and_payload].concat()
    }
}
