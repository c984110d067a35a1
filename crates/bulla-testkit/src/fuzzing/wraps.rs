//! Target `wraps`: sections that are read, written and replaced.

use arbitrary::{Result, Unstructured};
use bulla_core::{Library, Wraps};

use super::case::{ALL, Ask, Case, Keks, entries};
use super::header::header;
use super::mutate::{self, Grid};
use super::real;
use crate::reference::{Class, Entry, derive, seal, wraps as plain};

/// Reads a wraps section, genuine, changed or of any bytes, under a correct MAC or not, and
/// replaces the wraps: both implementations agree on bytes and refusals.
pub fn wraps(data: &[u8]) {
    let _ = run(&mut Unstructured::new(data));
}

fn run(u: &mut Unstructured<'_>) -> Result<()> {
    let mut case = Case::take(u, &ALL[2..])?;
    case.plaintext.truncate(64);
    made(&case.entries);
    let Ok(mut envelope) = case.seal() else { return Ok(()) };
    let payload = envelope.split_off(payload_offset(&envelope));
    match u.int_in_range(0..=3_u8)? {
        0 => {}
        1 => {
            let mut section = envelope.split_off(68);
            mutate::envelope(u, &mut section, Grid { start: 7, block_len: 16 })?;
            envelope.append(&mut section);
        }
        // Another generation, entries that no sealer writes, in any order.
        2 => {
            let generation = *u.choose(&[0, 1, u32::MAX - 1, u32::MAX])?;
            let section = plain::encode(generation, &entries(u, 0)?).unwrap();
            envelope.splice(68..envelope.len() - 32, section).for_each(drop);
        }
        _ => {
            let len = u.int_in_range(0..=300)?.min(u.len());
            envelope.truncate(68);
            envelope.extend(u.bytes(len)?);
        }
    }
    if u.ratio(7, 8)? {
        authenticate(&case, &mut envelope);
    }
    let mut keks = case.keks();
    // What is replaced may have blobs of its own.
    for entry in entries_of(&envelope) {
        keks.names.push((entry.backend, entry.kek_id));
        keks.table.push((entry.blob, case.inputs.dek.to_vec()));
    }
    envelope.extend(payload);
    header(&envelope);
    replaced(&case, &keks, &envelope, &entries(u, 0)?);
    Ok(())
}

/// Making a set of wraps: what is refused, and what order they come out in.
fn made(entries: &[Entry]) {
    let Ok(wraps) = Wraps::new(entries.iter().map(real::wrap)) else { return };
    assert_eq!(wraps.generation(), 0);
    let triples: Vec<_> = wraps
        .entries()
        .iter()
        .map(|wrap| (wrap.backend, &*wrap.kek_id, &*wrap.kek_version))
        .collect();
    let mut sorted: Vec<_> = entries.iter().map(Entry::triple).collect();
    sorted.sort_unstable();
    assert_eq!(triples, sorted);
    for entry in entries {
        let mut found = wraps.by_kek(entry.backend, &entry.kek_id);
        assert!(found.any(|wrap| *wrap.blob == *entry.blob));
    }
}

/// Opens and replaces the wraps of `envelope`.
fn replaced(case: &Case, keks: &Keks, envelope: &[u8], entries: &[Entry]) {
    let ask = case.ask();
    let opener = ask.opener(case, keks);
    let reference = opener.open(envelope);
    let rewrapped = seal::rewrap(&opener, envelope, entries);
    for library in Library::ALL {
        real::agree(&ask, envelope, &real::open(*library, &ask, case, keks, envelope), &reference);
        let real = rewrap(*library, &ask, keks, envelope, entries);
        assert_eq!(real, rewrapped);
    }
    let Ok(rewrapped) = rewrapped else { return };
    header(&rewrapped);
    // The payload is as it was, and opens for the new KEKs alone.
    let table = entries.iter().map(|entry| (entry.blob.clone(), case.inputs.dek.to_vec()));
    let names = entries.iter().map(|entry| (entry.backend, entry.kek_id.clone()));
    let keks = Keks { names: names.collect(), table: table.collect() };
    let opened = ask.opener(case, &keks).open(&rewrapped);
    assert_eq!(opened, reference);
    for library in Library::ALL {
        assert_eq!(real::open(*library, &ask, case, &keks, &rewrapped), reference);
    }
}

/// Section 6.6, by `bulla-core`.
fn rewrap(
    library: Library,
    ask: &Ask,
    keks: &Keks,
    envelope: &[u8],
    entries: &[Entry],
) -> std::result::Result<Vec<u8>, Class> {
    let (key, head_len) = real::unwrapped(library, ask, keks, envelope)?;
    let wraps = key.head().wraps().unwrap().replaced_by(entries.iter().map(real::wrap));
    let mut rewrapped = key.rewrap(&wraps.map_err(|_| Class::Refused)?).unwrap();
    rewrapped.extend_from_slice(&envelope[head_len..]);
    Ok(rewrapped)
}

/// Writes `wraps_len` and the MAC that belong to the bytes of `head`, whatever they are.
fn authenticate(case: &Case, head: &mut Vec<u8>) {
    if head.len() < 70 + 32 {
        return;
    }
    let wraps_len = (head.len() - 70) as u16;
    head[68..70].copy_from_slice(&wraps_len.to_be_bytes());
    head.truncate(head.len() - 32);
    let mut key_id = [0; 32];
    key_id.copy_from_slice(&head[12..44]);
    let mac = plain::mac(&derive::wraps_key(&case.inputs.dek, &key_id), head);
    head.extend(mac);
}

/// Where the payload of a genuine envelope begins.
fn payload_offset(envelope: &[u8]) -> usize {
    70 + usize::from(u16::from_be_bytes([envelope[68], envelope[69]]))
}

fn entries_of(head: &[u8]) -> Vec<Entry> {
    plain::parse(head).map(|wraps| wraps.entries).unwrap_or_default()
}
