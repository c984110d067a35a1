//! A self-contained envelope in pieces, to be put together again whether it is true or not.

use bulla_core::{DataKey, Envelope, Header, Wrap};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

const MAC_LEN: usize = 32;

pub(crate) struct Section {
    pub(crate) header: Vec<u8>,
    pub(crate) generation: u32,
    pub(crate) entries: Vec<Wrap>,
    pub(crate) mac: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

impl Section {
    /// `None` if `envelope` is a referenced one.
    pub(crate) fn of(envelope: &[u8]) -> Option<Self> {
        let parsed = Envelope::parse(envelope).unwrap();
        let wraps = parsed.head().wraps()?;
        let end = parsed.head().payload_offset();
        Some(Self {
            header: envelope[..Header::LEN].to_vec(),
            generation: wraps.generation(),
            entries: wraps.entries().to_vec(),
            mac: envelope[end - MAC_LEN..end].to_vec(),
            payload: envelope[end..].to_vec(),
        })
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        [&self.before_mac()[..], &self.mac, &self.payload].concat()
    }

    /// With the MAC that somebody who has the DEK can make.
    pub(crate) fn write_with_mac_by(&self, dek: &DataKey) -> Vec<u8> {
        let hmac = |key: &[u8], parts: &[&[u8]]| {
            let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
            parts.iter().for_each(|part| mac.update(part));
            mac.finalize().into_bytes()
        };
        // X of spec section 4.1: one block of HKDF-Expand.
        let info = [b"bulla.v1/wraps\0", &self.header[12..44], &[1]];
        let key = hmac(dek.expose_secret(), &info);
        let before = self.before_mac();
        [&before[..], &hmac(&key, &[&before]), &self.payload].concat()
    }

    fn before_mac(&self) -> Vec<u8> {
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
        let wraps_len = ((body.len() + MAC_LEN) as u16).to_be_bytes();
        [&self.header[..], &wraps_len, &body].concat()
    }
}
