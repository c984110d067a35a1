//! What is compared: one module for each library.

mod asherah;
#[cfg(feature = "aws-esdk")]
mod aws_esdk;
mod bulla_core;
mod bulla_manager;
mod orion;
mod raw;
mod ring;
mod rust_crypto;
mod tink;

use std::hint::black_box;

use crate::host::Versions;

pub(crate) use self::raw::Raw;

/// The packages of the peers, whose versions a run states.
pub(crate) const PACKAGES: &[&str] = &[
    "aes-gcm",
    "asherah",
    #[cfg(feature = "aws-esdk")]
    "aws-esdk",
    "aws-lc-rs",
    "orion",
    "ring",
    "tink-aead",
];

/// Something that seals a record to bytes and opens it from bytes, with its keys at hand.
///
/// What each seals under is fixed when it is made. All bind what they can of the same
/// context: an ordinary cell of an ordinary table.
pub(crate) trait Peer {
    /// What it is called in the figures.
    fn name(&self, versions: &Versions) -> anyhow::Result<String>;

    /// How it was set up.
    fn settings(&self) -> &'static str;

    /// What its two operations are called in the figures.
    fn ops(&self) -> Ops {
        Ops { seal: "seal", open: Some("open") }
    }

    /// Everything that is needed to open it again, but for keys and context.
    fn seal(&mut self, plaintext: &[u8]) -> anyhow::Result<Vec<u8>>;

    /// The plaintext again.
    fn open(&mut self, envelope: &[u8]) -> anyhow::Result<Vec<u8>>;

    /// Seals so many times: what is measured. It is `seal`, unless futures are driven, bytes
    /// go into a ready buffer or no bytes are made.
    fn seal_times(&mut self, plaintext: &[u8], calls: u64) -> anyhow::Result<()> {
        for _ in 0..calls {
            black_box(self.seal(black_box(plaintext))?);
        }
        Ok(())
    }

    /// Opens so many times: what is measured.
    fn open_times(&mut self, envelope: &[u8], calls: u64) -> anyhow::Result<()> {
        for _ in 0..calls {
            black_box(self.open(black_box(envelope))?);
        }
        Ok(())
    }
}

/// Names of operations.
pub(crate) struct Ops {
    pub(crate) seal: &'static str,
    /// None if only sealing is measured.
    pub(crate) open: Option<&'static str>,
}

impl Ops {
    /// Bytes go into a buffer of the caller's.
    const INTO: Self = Self { seal: "seal_into", open: Some("open_into") };
}

/// Every subject, ready.
pub(crate) fn all() -> anyhow::Result<Vec<Box<dyn Peer>>> {
    Ok(vec![
        Box::new(Raw::new()?),
        Box::new(ring::Ring::new()?),
        Box::new(rust_crypto::RustCrypto::new()?),
        Box::new(bulla_core::CoreInto::new()?),
        Box::new(bulla_core::Core::new()?),
        Box::new(bulla_manager::ManagerInto::new()?),
        Box::new(bulla_manager::Manager::new()?),
        Box::new(asherah::AsherahStruct::new()?),
        Box::new(asherah::Asherah::new()?),
        #[cfg(feature = "aws-esdk")]
        Box::new(aws_esdk::AwsEsdk::new(aws_esdk::Suite::Committing)?),
        #[cfg(feature = "aws-esdk")]
        Box::new(aws_esdk::AwsEsdk::new(aws_esdk::Suite::CommittingAndSigned)?),
        Box::new(tink::Keyset::new()?),
        Box::new(tink::Envelope::new()?),
        Box::new(orion::Orion::new()?),
    ])
}

/// What records are bound to, where a library can.
const CONTEXT: [(&str, &str); 3] =
    [("table", "customers"), ("column", "email"), ("row", "1234567")];

/// Associated data of the length that an envelope of Bulla authenticates under that context:
/// 44 bytes of header, then the encoded context.
fn associated_data() -> anyhow::Result<Vec<u8>> {
    let context = ::bulla_core::RecordContext::new(CONTEXT)?;
    Ok([&[1; 44], context.as_bytes()].concat())
}

/// Nonces of 96 bits from a counter: the least that a caller can do who has one key in one
/// process. Random ones would cost a system call for each record.
#[derive(Default)]
struct Counter(u64);

impl Counter {
    fn next(&mut self) -> [u8; 12] {
        self.0 += 1;
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&self.0.to_be_bytes());
        nonce
    }
}
