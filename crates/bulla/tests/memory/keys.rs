//! What the helper must not leave behind, derived on this side.

use bulla_core::{Header, KeyId, Suite};
use bulla_testkit::reference::{derive, one_shot};
use polyval::Polyval;
use polyval::universal_hash::UniversalHash as _;
use sha2::block_api::compress256;

use super::aes;
use super::search::Secrets;

/// Chunks in the longest stream that the helper seals, and some more.
const CHUNKS_MAX: u8 = 4;
/// How many powers of a hash key are looked for.
const POWERS: usize = 16;

/// The key of a lineage, of a wrapping version or of a file: they are all of one kind.
pub(crate) struct KnownKey {
    name: String,
    key: [u8; 32],
    key_id: [u8; 32],
}

impl KnownKey {
    /// `name` begins the names of all secrets.
    pub(crate) fn new(name: &str, key: &[u8; 32], key_id: KeyId) -> Self {
        Self { name: name.into(), key: *key, key_id: *key_id.as_bytes() }
    }

    /// The key itself; the keys of `suites` that it has whatever was sealed.
    pub(crate) fn secrets(&self, suites: &[u8]) -> Secrets {
        let Self { name, key, key_id } = self;
        let mut secrets = Secrets::default();
        add_mac_key(&mut secrets, &format!("{name}: raw key"), key);
        add_mac_key(&mut secrets, &format!("{name}: wraps key"), &derive::wraps_key(key, key_id));
        for suite in suites {
            let seal_key = derive::seal_key(key, *suite, key_id);
            let of_suite = format!("{name}: suite {suite}");
            add_key(&mut secrets, &format!("{of_suite}: seal key"), &seal_key);
            let xaes = one_shot::xaes(&seal_key, &[0; 24]);
            secrets.add(format!("{of_suite}: L"), xaes.l);
            secrets.add(format!("{of_suite}: K1"), xaes.k1);
            let stream_key = derive::stream_key(key, *suite, key_id);
            add_mac_key(&mut secrets, &format!("{of_suite}: stream key"), &stream_key);
        }
        secrets
    }

    /// The keys of one envelope, of which `record` is the encoded context.
    pub(crate) fn of_envelope(&self, envelope: &[u8], record: &[u8]) -> Secrets {
        let mut secrets = Secrets::default();
        let header = Header::parse(envelope).unwrap();
        assert_eq!(*header.key_id.as_bytes(), self.key_id, "an envelope of another key");
        let suite = header.suite as u8;
        let of_suite = format!("{}: suite {suite}", self.name);
        if header.chunk_log2.is_some() {
            let stream_key = derive::stream_key(&self.key, suite, &self.key_id);
            let keys = derive::chunks(&stream_key, envelope[..68].try_into().unwrap(), record);
            let name = format!("{of_suite}: chunk key");
            let nonces = (0..CHUNKS_MAX).map(|index| {
                let mut nonce = keys.base_nonce;
                nonce[11] ^= index;
                nonce
            });
            add_aead_key(&mut secrets, &name, header.suite, &keys.chunk_key, nonces);
        } else {
            let seal_key = derive::seal_key(&self.key, suite, &self.key_id);
            let xaes = one_shot::xaes(&seal_key, &header.nonce);
            let name = format!("{of_suite}: Kx");
            add_aead_key(&mut secrets, &name, header.suite, &xaes.kx, [xaes.nx]);
        }
        secrets
    }

    /// Whether `envelope` was sealed under this key.
    pub(crate) fn sealed(&self, envelope: &[u8]) -> bool {
        envelope[12..44] == self.key_id
    }
}

/// A key of HMAC-SHA256: with either pad, in the words of the hash, and what the hash
/// makes of it, which is as good.
pub(crate) fn add_mac_key(secrets: &mut Secrets, name: &str, key: &[u8; 32]) {
    secrets.add(name, key);
    secrets.add(format!("{name}, in words"), in_words(key));
    for (pad, byte) in [("ipad", 0x36), ("opad", 0x5c)] {
        let mut block = [byte; 64];
        block.iter_mut().zip(key).for_each(|(padded, key)| *padded ^= key);
        secrets.add(format!("{name}, {pad}"), &block[..32]);
        secrets.add(format!("{name}, {pad}, in words"), in_words(&block[..32]));
        let mut state = [
            0x6a09_e667,
            0xbb67_ae85,
            0x3c6e_f372,
            0xa54f_f53a,
            0x510e_527f,
            0x9b05_688c,
            0x1f83_d9ab,
            0x5be0_cd19,
        ];
        compress256(&mut state, &[block]);
        let name = format!("{name}, state after {pad}");
        secrets.add(&name, state.map(u32::to_ne_bytes).concat());
        // As the SHA instructions of x86-64 hold it, in two registers.
        let [a, b, c, d, e, f, g, h] = state;
        for (order, words) in [("ABEF", [f, e, b, a]), ("CDGH", [h, g, d, c])] {
            secrets.add(format!("{name}, {order}"), words.map(u32::to_ne_bytes).concat());
        }
    }
}

/// A key of AES-256, and its schedule, which begins with the key.
fn add_key(secrets: &mut Secrets, name: &str, key: &[u8; 32]) {
    secrets.add(format!("{name} and schedule"), aes::schedule(key));
    secrets.add(format!("{name}, in words"), in_words(key));
}

/// A key of the AEAD of `suite`, and what that makes of it for messages of these `nonces`.
fn add_aead_key(
    secrets: &mut Secrets,
    name: &str,
    suite: Suite,
    key: &[u8; 32],
    nonces: impl IntoIterator<Item = [u8; 12]>,
) {
    add_key(secrets, name, key);
    if suite == Suite::Xaes256Gcm {
        return add_ghash_key(secrets, name, one_shot::aes_block(key, [0; 16]));
    }
    // RFC 8452, section 4: every message has keys of its own.
    for nonce in nonces {
        let mut keys = Vec::new();
        for counter in 0..6_u32 {
            let mut block = [0; 16];
            block[..4].copy_from_slice(&counter.to_le_bytes());
            block[4..].copy_from_slice(&nonce);
            let block = one_shot::aes_block(key, block);
            secrets.add(format!("{name}: block of a message's keys"), block);
            keys.extend_from_slice(&block[..8]);
        }
        let (hash_key, key) = keys.split_first_chunk().unwrap();
        add_powers(secrets, &format!("{name}: a message's H"), *hash_key);
        add_key(secrets, &format!("{name}: a message's key"), key.try_into().unwrap());
    }
}

/// The hash key H of GCM, as it is and as it is used.
fn add_ghash_key(secrets: &mut Secrets, name: &str, h: [u8; 16]) {
    let number = u128::from_be_bytes(h);
    // Times x, in the bit order of POLYVAL (RFC 8452, appendix A).
    let carry = if number >> 127 == 1 { 0xc200_0000_0000_0000_0000_0000_0000_0001 } else { 0 };
    secrets.add(format!("{name}: H"), h);
    secrets.add(format!("{name}: H, reversed"), number.to_le_bytes());
    add_powers(secrets, &format!("{name}: H for POLYVAL"), ((number << 1) ^ carry).to_le_bytes());
}

/// A hash key of POLYVAL and its powers, of which the libraries keep tables.
fn add_powers(secrets: &mut Secrets, name: &str, h: [u8; 16]) {
    let mut power = h;
    for exponent in 1..=POWERS {
        let number = u128::from_le_bytes(power);
        let halves = [(number >> 64) as u64, number as u64].map(u64::to_le_bytes).concat();
        secrets.add(format!("{name}, to the {exponent}"), power);
        secrets.add(format!("{name}, to the {exponent}, reversed"), number.to_be_bytes());
        secrets.add(format!("{name}, to the {exponent}, swapped"), halves);
        let mut polyval = Polyval::new(&h.into());
        polyval.update(&[power.into()]);
        power = polyval.finalize().into();
    }
}

/// As SHA-256 reads it: words of 32 bits, most significant byte first.
fn in_words(bytes: &[u8]) -> Vec<u8> {
    let words = bytes.as_chunks::<4>().0.iter();
    words.flat_map(|word| u32::from_be_bytes(*word).to_ne_bytes()).collect()
}
