//! Target `header`: any bytes as an envelope.

use bulla_core::{
    Codec, Envelope, EnvelopeKey, ErrorClass, Head, Header, HeaderError, Kind, Suite, Suites,
};

use super::real::class;
use crate::reference::{Class, Entry, header, wraps};

/// Parses `data`, as envelope, head and header: no panic, the answers of the reference, and
/// what parses is written back to the same bytes.
pub fn header(data: &[u8]) {
    let refused = |error: HeaderError| {
        assert!(!error.to_string().is_empty());
        class(error.class())
    };
    let real = Header::parse(data).map_err(refused);
    let plain = header::Header::parse(data);
    assert_eq!(real.map(|header| header.to_bytes()), plain.map(|header| header.encode()));
    if let Ok(header) = &real {
        assert_eq!(header.to_bytes(), data[..Header::LEN]);
        assert!(!format!("{header} {header:?}").is_empty());
    }

    let real = Envelope::parse(data).map_err(refused);
    let plain = header::parse(data);
    assert_eq!(real.as_ref().err(), plain.as_ref().err());
    if let (Ok(real), Ok(plain)) = (&real, &plain) {
        same(data, real, plain);
    }
    head(data, plain.as_ref().err().copied());
    accepted(data, &plain);
}

fn same(data: &[u8], real: &Envelope<'_>, plain: &header::Parsed) {
    assert!(!format!("{real} {real:?} {:?}", real.head()).is_empty());
    assert_eq!(real.head().payload_offset(), plain.payload_offset);
    assert_eq!(real.payload(), &data[plain.payload_offset..]);
    assert_eq!(real.layout().is_some(), plain.header.is_chunked());
    assert_eq!(real.plaintext_len(), plaintext_len(&plain.header, real.payload().len() as u64));
    assert_eq!(real.head().wraps().is_some(), plain.wraps.is_some());
    let (Some(real), Some(plain)) = (real.head().wraps(), &plain.wraps) else { return };
    assert_eq!(real.generation(), plain.generation);
    let entries: Vec<Entry> = real
        .entries()
        .iter()
        .map(|wrap| Entry {
            backend: wrap.backend,
            kek_id: wrap.kek_id.to_vec(),
            kek_version: wrap.kek_version.to_vec(),
            blob: wrap.blob.to_vec(),
        })
        .collect();
    assert_eq!(entries, plain.entries);
    // There is one encoding of a set of wraps.
    let section = wraps::encode(real.generation(), &entries).unwrap();
    assert_eq!(section, data[Header::LEN..Header::LEN + section.len()]);
}

/// What the length of the payload says (spec, sections 5.3 and 7.3).
fn plaintext_len(header: &header::Header, payload: u64) -> u64 {
    if !header.is_chunked() {
        return payload - 16;
    }
    let (chunks, chunk) = (payload - 32, 1 << header.chunk_log2);
    chunks / (chunk + 16) * chunk + (chunks % (chunk + 16)).saturating_sub(16)
}

/// A head is read in two steps, without what follows it. It lacks the check of the payload's
/// length alone, which comes last.
fn head(data: &[u8], plain: Option<Class>) {
    let start = &data[..data.len().min(Head::LEN_MIN)];
    let len = Head::len_of(start);
    let head = Head::parse(data);
    if let Ok(head) = &head {
        let len = *len.as_ref().unwrap();
        assert_eq!(len, head.payload_offset());
        let alone = Head::parse(&data[..len]).unwrap();
        assert_eq!((alone.header(), alone.wraps()), (head.header(), head.wraps()));
        assert!(Head::parse(&data[..len - 1]).is_err());
    }
    if let Err(error) = head {
        assert_eq!(Some(class(error.class())), plain);
    }
}

/// What can be said about a one-shot envelope before its key is fetched.
fn accepted(data: &[u8], plain: &Result<header::Parsed, Class>) {
    let both = Suites::only(Suite::Xaes256Gcm).and(Suite::Xaes256GcmSiv);
    for (suites, list) in [(Suites::default(), &[1][..]), (both, &[1, 2])] {
        let real = EnvelopeKey::header_of(data, Codec::RAW, suites);
        let plain = plain.as_ref().map_err(|class| *class).and_then(|parsed| {
            let header = &parsed.header;
            let kind = header.kind == header::REFERENCED_ONE_SHOT;
            let accepted = kind && list.contains(&header.suite) && header.codec == 0;
            if accepted { Ok(header) } else { Err(Class::NotAccepted) }
        });
        let real = real.map_err(|error| class(error.class()));
        assert_eq!(real.map(|header| header.to_bytes()), plain.map(header::Header::encode));
        if real.is_ok() {
            let len = EnvelopeKey::opened_len(data).unwrap();
            assert_eq!(len + EnvelopeKey::OVERHEAD, data.len());
        }
    }
    if let Err(error) = EnvelopeKey::opened_len(data) {
        assert_eq!(error.class(), ErrorClass::Malformed);
    }
    if let Ok(head) = Head::parse(data) {
        let accepts = |kind: &&Kind| head.accept(**kind, head.header().codec, both).is_ok();
        let kinds: Vec<_> = Kind::ALL.iter().filter(accepts).collect();
        assert_eq!(kinds, [&head.header().kind]);
    }
}
