//! Section 6: the wraps section of a self-contained envelope.

use super::Class;
use super::derive::hmac_sha256;

/// Section 6.1: wraps_len is at least this.
pub const WRAPS_LEN_MIN: usize = 45;
/// Section 6.1: wraps_len is at most this.
pub const WRAPS_LEN_MAX: usize = 16_384;

/// Section 6.1: one wrap of the DEK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The service, by the table of section 6.1.
    pub backend: u8,
    /// 1 to 512 bytes.
    pub kek_id: Vec<u8>,
    /// 0 to 255 bytes.
    pub kek_version: Vec<u8>,
    /// 1 to 1024 bytes: what the KEK made of the DEK.
    pub blob: Vec<u8>,
}

impl Entry {
    /// Section 6.1: what entries are sorted by and no two agree in.
    pub fn triple(&self) -> (u8, &[u8], &[u8]) {
        (self.backend, &self.kek_id, &self.kek_version)
    }
}

/// Section 6.1: the section, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wraps {
    /// The bytes between itself and the payload.
    pub wraps_len: u16,
    /// 0 when sealed, one more with each rewrap.
    pub generation: u32,
    /// One to eight, in order.
    pub entries: Vec<Entry>,
    /// Not yet verified.
    pub mac: [u8; 32],
}

/// Section 6.2: the wraps section of an envelope whose header has passed.
pub fn parse(envelope: &[u8]) -> Result<Wraps, Class> {
    // 1
    if envelope.len() < 70 {
        return Err(Class::Malformed);
    }
    let wraps_len = u16::from_be_bytes([envelope[68], envelope[69]]);
    let wraps_len_bytes = usize::from(wraps_len);
    if !(WRAPS_LEN_MIN..=WRAPS_LEN_MAX).contains(&wraps_len_bytes) {
        return Err(Class::Malformed);
    }
    if envelope.len() < 70 + wraps_len_bytes {
        return Err(Class::Malformed);
    }
    let mac_offset = 38 + wraps_len_bytes;
    let mut mac = [0; 32];
    mac.copy_from_slice(&envelope[mac_offset..mac_offset + 32]);
    let generation = u32::from_be_bytes([envelope[70], envelope[71], envelope[72], envelope[73]]);
    // 2
    let count = envelope[74];
    if !(1..=8).contains(&count) {
        return Err(Class::Malformed);
    }
    // 3
    let mut rest = &envelope[75..mac_offset];
    let mut entries: Vec<Entry> = Vec::new();
    for _ in 0..count {
        entries.push(parse_entry(&mut rest)?);
    }
    // 4
    for i in 1..entries.len() {
        if entries[i].triple() <= entries[i - 1].triple() {
            return Err(Class::Malformed);
        }
    }
    // 5
    if !rest.is_empty() {
        return Err(Class::Malformed);
    }
    Ok(Wraps { wraps_len, generation, entries, mac })
}

/// Section 6.2, step 3. `rest` ends where the MAC begins.
fn parse_entry(rest: &mut &[u8]) -> Result<Entry, Class> {
    let backend = take(rest, 1)?[0];
    let kek_id_len = take(rest, 2)?;
    let kek_id_len = usize::from(u16::from_be_bytes([kek_id_len[0], kek_id_len[1]]));
    let kek_id = take(rest, kek_id_len)?;
    let kek_version_len = usize::from(take(rest, 1)?[0]);
    let kek_version = take(rest, kek_version_len)?;
    let blob_len = take(rest, 2)?;
    let blob_len = usize::from(u16::from_be_bytes([blob_len[0], blob_len[1]]));
    let blob = take(rest, blob_len)?;
    if backend == 0 || !(1..=512).contains(&kek_id_len) || !(1..=1024).contains(&blob_len) {
        return Err(Class::Malformed);
    }
    Ok(Entry { backend, kek_id, kek_version, blob })
}

fn take(rest: &mut &[u8], n: usize) -> Result<Vec<u8>, Class> {
    if rest.len() < n {
        return Err(Class::Malformed);
    }
    let (taken, left) = rest.split_at(n);
    *rest = left;
    Ok(taken.to_vec())
}

/// Section 6.1: wraps_len, generation, count and entries, in the order given. No rule is
/// checked but that lengths fit their fields, so that a test can write what is not allowed.
pub fn encode(generation: u32, entries: &[Entry]) -> Result<Vec<u8>, Class> {
    let mut content = generation.to_be_bytes().to_vec();
    content.push(u8::try_from(entries.len()).map_err(|_| Class::Refused)?);
    for entry in entries {
        content.push(entry.backend);
        content.extend(u16_be(entry.kek_id.len())?);
        content.extend(&entry.kek_id);
        content.push(u8::try_from(entry.kek_version.len()).map_err(|_| Class::Refused)?);
        content.extend(&entry.kek_version);
        content.extend(u16_be(entry.blob.len())?);
        content.extend(&entry.blob);
    }
    let wraps_len = u16_be(content.len() + 32)?;
    Ok([&wraps_len[..], &content].concat())
}

fn u16_be(n: usize) -> Result<[u8; 2], Class> {
    u16::try_from(n).map(u16::to_be_bytes).map_err(|_| Class::Refused)
}

/// Section 6.3: MAC = `HMAC-SHA256(wraps MAC key, envelope[0 : 38 + wraps_len])`.
/// `before_mac` is the envelope up to the MAC, be it whole or still being written.
pub fn mac(wraps_key: &[u8; 32], before_mac: &[u8]) -> [u8; 32] {
    hmac_sha256(wraps_key, before_mac)
}
