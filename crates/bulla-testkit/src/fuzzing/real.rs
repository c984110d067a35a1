//! `bulla-core`, made to look like the reference: pairs and bytes go in, a [`Class`] comes
//! out.

use std::io::{self, Read};

use bulla_core::{
    ChunkOpener, Codec, DataKey, DekVersion, Envelope, EnvelopeKey, ErrorClass, Head, KeyOptions,
    Kind, Library, NonceMode, OpenError, OpenReader, RecordContext, ScopeContext, SealError,
    StreamOptions, Suite, UnwrappedKey, Wrap, Wraps, hazmat,
};

use super::case::{Ask, Case, Keks};
use crate::reference::header::{REFERENCED_CHUNKED, REFERENCED_ONE_SHOT, SELF_CONTAINED_ONE_SHOT};
use crate::reference::{Class, Entry, Header, Pairs};

/// The class of the specification's name.
pub(super) fn class(class: ErrorClass) -> Class {
    match class {
        ErrorClass::Malformed => Class::Malformed,
        ErrorClass::Unsupported => Class::Unsupported,
        ErrorClass::NotAccepted => Class::NotAccepted,
        ErrorClass::UnknownKey => Class::UnknownKey,
        ErrorClass::Authentication => Class::Authentication,
        ErrorClass::OutOfRange => Class::OutOfRange,
        class => panic!("an opener of bytes in memory reports a {class}"),
    }
}

fn open_class(error: OpenError) -> Class {
    class(error.class())
}

/// The class of an error of `Read`; `None` if it is none of ours.
pub(super) fn io_class(error: &io::Error) -> Option<Class> {
    let error = error.get_ref()?;
    let opening = error.downcast_ref::<OpenError>().map(|error| class(error.class()));
    opening.or_else(|| error.downcast_ref::<Class>().copied())
}

/// Compares two openers of `envelope`.
pub(super) fn agree(
    ask: &Ask,
    envelope: &[u8],
    real: &Result<Vec<u8>, Class>,
    reference: &Result<Vec<u8>, Class>,
) {
    // A referenced stream is opened by its first 100 bytes. It may refuse a self-contained
    // kind without a look at the wraps section, which may be malformed (section 8.1).
    let by_head_alone = ask.kind == REFERENCED_CHUNKED
        && *real == Err(Class::NotAccepted)
        && *reference == Err(Class::Malformed)
        && Header::parse(envelope).is_ok_and(|header| header.is_self_contained());
    assert!(real == reference || by_head_alone, "{ask:?}: {real:?} and {reference:?}");
}

pub(super) fn data_key(dek: &[u8; 32]) -> DataKey {
    DataKey::init_with(|bytes| *bytes = *dek)
}

pub(super) fn scope(pairs: &Pairs) -> Result<ScopeContext, Class> {
    ScopeContext::new(pairs.iter().map(|(key, value)| (key, value))).map_err(|_| Class::Context)
}

pub(super) fn record(pairs: &Pairs) -> Result<RecordContext, Class> {
    RecordContext::new(pairs.iter().map(|(key, value)| (key, value))).map_err(|_| Class::Context)
}

pub(super) fn wrap(entry: &Entry) -> Wrap {
    let Entry { backend, kek_id, kek_version, blob } = entry.clone();
    Wrap::new(backend, kek_id, kek_version, blob)
}

pub(super) fn options(library: Library, suites: &[u8]) -> KeyOptions {
    let mut suites = suites.iter().map(|suite| Suite::from_byte(*suite).expect("suite 1 or 2"));
    let first = suites.next().expect("a suite");
    let options = KeyOptions::default().with_library(library).with_suite(first);
    suites.fold(options, KeyOptions::accepting)
}

pub(super) fn codec(codec: u8) -> Codec {
    Codec::from_byte(codec).expect("a codec that is not reserved")
}

/// The envelope of `case`; streams in pieces of `piece_len` bytes.
pub(super) fn seal(library: Library, case: &Case, piece_len: usize) -> Result<Vec<u8>, Class> {
    let inputs = &case.inputs;
    let (scope, context) = (scope(&inputs.scope)?, record(&inputs.record)?);
    let options = options(library, &[inputs.suite]);
    let (dek, codec) = (data_key(&inputs.dek), codec(inputs.codec));
    let stream = StreamOptions::default().with_chunk_log2(case.chunk_log2).with_codec(codec);
    let plaintext = &case.plaintext[..];
    let refused = |_: SealError| Class::Refused;

    let sealer = match case.kind {
        REFERENCED_ONE_SHOT | REFERENCED_CHUNKED => {
            let version = DekVersion::new(case.version).ok_or(Class::Refused)?;
            let key = EnvelopeKey::derive(&dek, version, &scope, options).unwrap();
            if case.kind == REFERENCED_ONE_SHOT {
                return hazmat::seal(&key, inputs.nonce, codec, plaintext, &context)
                    .map_err(refused);
            }
            hazmat::chunk_sealer(&key, inputs.nonce, &context, stream)
        }
        kind => {
            let wraps = Wraps::new(case.entries.iter().map(wrap)).map_err(|_| Class::Refused)?;
            let key = hazmat::single_use_key(dek, &scope, options).unwrap();
            let nonce = inputs.nonce;
            if kind == SELF_CONTAINED_ONE_SHOT {
                return hazmat::seal_self_contained(key, nonce, &wraps, codec, plaintext, &context)
                    .map_err(refused);
            }
            hazmat::self_contained_chunk_sealer(key, nonce, &wraps, &context, stream)
        }
    };
    let mut writer = sealer.map_err(refused)?.into_writer(Vec::new());
    for piece in plaintext.chunks(piece_len) {
        io::Write::write_all(&mut writer, piece).unwrap();
    }
    Ok(writer.finish().unwrap())
}

/// Envelopes of a referenced one-shot `case`, with nonces of the library's: by themselves, in
/// an epoch, into a buffer, and, without a codec, many at a time.
pub(super) fn seal_with_own_nonces(library: Library, case: &Case) -> Vec<Vec<u8>> {
    let inputs = &case.inputs;
    let (scope, context) = (scope(&inputs.scope).unwrap(), record(&inputs.record).unwrap());
    let options = options(library, &[inputs.suite]).with_nonces(NonceMode::Epoch);
    let version = DekVersion::new(case.version).expect("what was sealed has a version");
    let key = EnvelopeKey::derive(&data_key(&inputs.dek), version, &scope, options).unwrap();
    let (plaintext, codec) = (&case.plaintext[..], codec(inputs.codec));
    let mut sealed: Vec<_> =
        (0..3).map(|_| key.seal_as(codec, plaintext, &context).unwrap()).collect();
    let mut out = vec![0xa5; plaintext.len() + EnvelopeKey::OVERHEAD + 7];
    let len = key.seal_as_into(codec, plaintext, &context, &mut out).unwrap();
    assert_eq!(out[len..], [0xa5; 7]);
    out.truncate(len);
    sealed.push(out);
    if codec == Codec::RAW {
        let many = key.seal_many([(plaintext, &context); 3]).unwrap();
        sealed.extend(many.iter().map(<[u8]>::to_vec));
    }
    sealed
}

/// What is opened of `envelope`, as asked, with the DEK of `case` or one that a KEK unwraps.
pub(super) fn open(
    library: Library,
    ask: &Ask,
    case: &Case,
    keks: &Keks,
    envelope: &[u8],
) -> Result<Vec<u8>, Class> {
    match ask.kind {
        REFERENCED_ONE_SHOT => {
            let (key, context) = (lineage_key(library, ask, case)?, record(&ask.record)?);
            key.open_as(codec(ask.codec), envelope, &context).map_err(open_class)
        }
        SELF_CONTAINED_ONE_SHOT => {
            let context = record(&ask.record)?;
            let (key, head_len) = unwrapped(library, ask, keks, envelope)?;
            key.open(&envelope[head_len..], &context).map_err(open_class)
        }
        _ => {
            let mut plaintext = Vec::new();
            let mut reader = reader(library, ask, case, keks, envelope)
                .map_err(|error| io_class(&error).expect("a reader in memory"))?;
            match reader.read_to_end(&mut plaintext) {
                Ok(_) => Ok(plaintext),
                Err(error) => Err(io_class(&error).expect("a reader in memory")),
            }
        }
    }
}

/// A stream on its way out of `inner`: refused with a [`Class`] or an [`OpenError`] inside.
pub(super) fn reader<R: Read>(
    library: Library,
    ask: &Ask,
    case: &Case,
    keks: &Keks,
    mut inner: R,
) -> io::Result<OpenReader<R>> {
    let context = record(&ask.record).map_err(io::Error::other)?;
    if ask.kind == REFERENCED_CHUNKED {
        let key = lineage_key(library, ask, case).map_err(io::Error::other)?;
        return key.open_reader(inner, &context, codec(ask.codec));
    }
    scope(&ask.scope).map_err(io::Error::other)?;
    let mut start = Vec::new();
    inner.by_ref().take(Head::LEN_MIN as u64).read_to_end(&mut start)?;
    let len = Head::len_of(&start).map_err(OpenError::from)? + ChunkOpener::COMMITMENT_LEN;
    let rest = len.saturating_sub(start.len());
    inner.by_ref().take(rest as u64).read_to_end(&mut start)?;
    let (key, head_len) = unwrapped(library, ask, keks, &start).map_err(io::Error::other)?;
    Ok(key.chunk_opener(&start[head_len..], &context)?.into_reader(inner))
}

/// The key of `case`, in the scope that is asked for.
pub(super) fn lineage_key(library: Library, ask: &Ask, case: &Case) -> Result<EnvelopeKey, Class> {
    let (scope, dek) = (scope(&ask.scope)?, data_key(&case.inputs.dek));
    record(&ask.record)?;
    // A case of a self-contained kind has no version; whoever asks for another has one.
    let version = DekVersion::new(case.version).unwrap_or(DekVersion::FIRST);
    Ok(EnvelopeKey::derive(&dek, version, &scope, options(library, &ask.suites)).unwrap())
}

/// The checked key of a self-contained `envelope`, and the length of its head.
pub(super) fn unwrapped(
    library: Library,
    ask: &Ask,
    keks: &Keks,
    envelope: &[u8],
) -> Result<(UnwrappedKey, usize), Class> {
    let scope = scope(&ask.scope)?;
    record(&ask.record)?;
    let options = options(library, &ask.suites);
    let parsed = Envelope::parse(envelope).map_err(|error| class(error.class()))?;
    let kind = Kind::from_byte(ask.kind).expect("a kind");
    parsed.head().accept(kind, codec(ask.codec), options.accepted).map_err(open_class)?;
    let dek = choose(parsed.head(), keks)?;
    let codec = codec(ask.codec);
    let key = UnwrappedKey::check(data_key(&dek), parsed.head(), codec, &scope, options);
    Ok((key.map_err(open_class)?, parsed.head().payload_offset()))
}

/// Section 6.4, which `bulla-core` leaves to those who know a KMS.
fn choose(head: &Head, keks: &Keks) -> Result<[u8; 32], Class> {
    let mut result = Err(Class::UnknownKey);
    for wrap in head.wraps().expect("self-contained").entries() {
        if !keks.names.contains(&(wrap.backend, wrap.kek_id.to_vec())) {
            continue;
        }
        match keks.unwrap(&wrap.blob) {
            None => result = Err(Class::KmsFailure),
            Some(dek) => return dek.try_into().map_err(|_| Class::UnknownKey),
        }
    }
    result
}
