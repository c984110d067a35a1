//! Every value between the DEK and an envelope, as appendix B lists them.

use super::context::{self, Pairs};
use super::derive::{self, StreamKeys};
use super::header::{self, Parsed};
use super::one_shot::{self, Xaes};
use super::{Class, wraps};

/// What an envelope of this header is sealed with under a DEK and contexts, be they the
/// right ones or not: nothing is compared with the envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// CTX(scope), section 3.1.
    pub ctx_scope: Vec<u8>,
    /// CTX(record), section 3.1.
    pub ctx_record: Vec<u8>,
    /// CTX(KMS), section 3.2, for the version in the header.
    pub ctx_kms: Vec<u8>,
    /// The key id, section 4.3.
    pub key_id: [u8; 32],
    /// What only a one-shot payload has.
    pub one_shot: Option<OneShotTrace>,
    /// What only a chunked payload has.
    pub chunked: Option<ChunkedTrace>,
    /// What only a self-contained envelope has.
    pub wraps: Option<WrapsTrace>,
}

/// Section 5.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneShotTrace {
    /// The seal key, section 4.2.
    pub seal_key: [u8; 32],
    /// L, K1, M1, M2, Kx and Nx, section 5.2.
    pub xaes: Xaes,
    /// The AAD, section 5.1.
    pub aad: Vec<u8>,
}

/// Section 7.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkedTrace {
    /// The stream key, section 4.2.
    pub stream_key: [u8; 32],
    /// Chunk key, base nonce and commitment, section 4.2. [`nonce`](super::chunks::nonce)
    /// makes the nonce of a chunk.
    pub keys: StreamKeys,
}

/// Section 6.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrapsTrace {
    /// The wraps MAC key, section 4.2.
    pub wraps_key: [u8; 32],
    /// The MAC that the envelope should have, section 6.3.
    pub mac: [u8; 32],
}

impl Trace {
    /// Of an envelope that parses, with contexts that are allowed. All keys are derived from
    /// the key id of DEK, version and scope, not from the one in the header.
    pub fn new(
        dek: &[u8; 32],
        scope: &Pairs,
        record: &Pairs,
        envelope: &[u8],
    ) -> Result<Self, Class> {
        let ctx_scope = context::ctx_scope(scope)?;
        let ctx_record = context::ctx_record(record)?;
        let Parsed { header, wraps, .. } = header::parse(envelope)?;
        let ctx_kms = context::ctx_kms(scope, header.version)?;
        let key_id = derive::key_id(dek, header.version, &ctx_scope);

        let one_shot = (!header.is_chunked()).then(|| {
            let seal_key = derive::seal_key(dek, header.suite, &key_id);
            let xaes = one_shot::xaes(&seal_key, &header.nonce);
            OneShotTrace { seal_key, xaes, aad: one_shot::aad(&header.encode(), &ctx_record) }
        });
        let chunked = header.is_chunked().then(|| {
            let stream_key = derive::stream_key(dek, header.suite, &key_id);
            let keys = derive::chunks(&stream_key, &header.encode(), &ctx_record);
            ChunkedTrace { stream_key, keys }
        });
        let wraps = wraps.map(|wraps| {
            let wraps_key = derive::wraps_key(dek, &key_id);
            let before_mac = &envelope[..38 + usize::from(wraps.wraps_len)];
            WrapsTrace { wraps_key, mac: wraps::mac(&wraps_key, before_mac) }
        });
        Ok(Self { ctx_scope, ctx_record, ctx_kms, key_id, one_shot, chunked, wraps })
    }
}
