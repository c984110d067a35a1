//! Wrapped keys as transit writes them: `vault:v<version>:<base64>`.

use std::sync::Arc;

use base64ct::{Base64, Encoding};
use bulla_backend::{KekVersion, WrappedKey};
use bulla_core::DataKey;

use crate::failure::Failure;

/// Tag of every AEAD that transit has, in bytes.
const TAG_BYTES: usize = 16;
/// Longest wrap: 20 digits of version, and a nonce of 24 bytes.
const TEXT_BYTES_MAX: usize = 9 + 20 + 4 * (24 + DataKey::LEN + TAG_BYTES) / 3 + 4;

/// A wrap that has the form of one, with nothing before, after or between.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Blob<'a> {
    pub(crate) text: &'a str,
    version: &'a str,
}

impl<'a> Blob<'a> {
    /// Reads a wrap of a data key by an AEAD with nonces of this length.
    ///
    /// Vault takes base64 with line breaks in it, and with stray bits at its end: two texts
    /// that it would take for one wrap. Only one of them gets so far.
    pub(crate) fn parse(bytes: &'a [u8], nonce_bytes: usize) -> Option<Self> {
        if bytes.len() > TEXT_BYTES_MAX {
            return None;
        }
        let text = str::from_utf8(bytes).ok()?;
        let (version, base64) = text.strip_prefix("vault:v")?.split_once(':')?;
        version_number(version)?;
        let mut buffer = [0; TEXT_BYTES_MAX];
        let sealed = Base64::decode(base64, &mut buffer).ok()?;
        let expected = nonce_bytes + DataKey::LEN + TAG_BYTES;
        (sealed.len() == expected).then_some(Self { text, version })
    }

    /// The version that the text names.
    pub(crate) fn version(&self) -> KekVersion {
        KekVersion::Parsed(Arc::from(self.version))
    }
}

/// The wrap in `wrapped`, as parsed by [`Blob::parse`].
pub(crate) fn of_wrapped(wrapped: &WrappedKey, nonce_bytes: usize) -> Result<Blob<'_>, Failure> {
    let blob = Blob::parse(&wrapped.blob, nonce_bytes);
    blob.ok_or_else(|| Failure::tampered("this is no wrap that transit has made of a data key"))
}

/// The number of a version: 1 and up, in one way to write it.
pub(crate) fn version_number(label: &str) -> Option<u64> {
    let canonical = label.bytes().all(|byte| byte.is_ascii_digit()) && !label.starts_with('0');
    canonical.then(|| label.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 60 bytes.
    const SEALED: &str =
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7";

    #[test]
    fn one_form_and_no_other() {
        let text = format!("vault:v12:{SEALED}");
        let blob = Blob::parse(text.as_bytes(), 12).unwrap();
        assert_eq!((blob.text, blob.version().label()), (&*text, Some("12")));
        assert!(Blob::parse(text.as_bytes(), 24).is_none(), "too short for the longer nonce");

        let short = &SEALED[..76];
        for other in [
            String::new(),
            "vault:v1:".into(),
            format!("vault:v0:{SEALED}"),
            format!("vault:v01:{SEALED}"),
            format!("vault:v+1:{SEALED}"),
            format!("vault:v:{SEALED}"),
            format!("vault:v99999999999999999999:{SEALED}"),
            format!("vault:v1:{SEALED}\n"),
            format!("vault:v1:\n{SEALED}"),
            format!(" vault:v1:{SEALED}"),
            format!("Vault:v1:{SEALED}"),
            format!("vault:v1:{short}"),
            format!("vault:v1:{SEALED}AAAA"),
            format!("vault:v1:{}====", short),
            format!("vault:v1:{}", SEALED.replace('A', "-")),
        ] {
            assert!(Blob::parse(other.as_bytes(), 12).is_none(), "{other:?}");
        }
        assert!(Blob::parse(&[0xff; 89], 12).is_none());
        assert!(Blob::parse(&[b'A'; 4096], 12).is_none());
    }

    #[test]
    fn base64_has_no_second_spelling() {
        // 59 bytes and 61 bytes end within a group: the last character has spare bits.
        for (len, spare) in [(59, 2), (61, 4)] {
            let mut buffer = [0; 128];
            let text = Base64::encode(&vec![7; len], &mut buffer).unwrap().to_owned();
            let nonce_bytes = len - DataKey::LEN - TAG_BYTES;
            let parse = |text: &str| {
                Blob::parse(format!("vault:v1:{text}").as_bytes(), nonce_bytes).is_some()
            };
            assert!(parse(&text));
            let last = text.trim_end_matches('=').len() - 1;
            let mut bytes = text.clone().into_bytes();
            bytes[last] += 1;
            let other = String::from_utf8(bytes).unwrap();
            assert!(!parse(&other), "{other} has {spare} stray bits");
        }
    }
}
