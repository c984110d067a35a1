//! Typed values: what a codec makes of them is sealed, and the codec is authenticated
//! with it (spec, section 2.4).

#[cfg(any(feature = "json", feature = "bincode"))]
use bulla_sys::WipedVec;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::error::{OpenError, SealError};
use crate::{Codec, EnvelopeKey, RecordContext};

/// A way to write values as bytes, with a number in the format.
///
/// `Json` and `Bincode` come with the features `json` and `bincode`. A codec of your own
/// takes a number from 128 to 255, by agreement between all who seal and open.
///
/// Both functions get and give plaintext: an error must not quote from it.
pub trait ValueCodec {
    /// Its number in the header.
    const CODEC: Codec;

    /// Writes `value`.
    ///
    /// # Errors
    /// [`ValueError::Encode`] for a value that the codec cannot express.
    fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Zeroizing<Vec<u8>>, ValueError>;

    /// Reads a value that takes up the whole of `bytes`. Allocates in proportion to
    /// them, whatever they claim.
    ///
    /// # Errors
    /// [`ValueError::Decode`] for bytes that are no such value, or not only.
    fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ValueError>;
}

/// A value could not be sealed or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// The codec cannot express the value.
    #[error("{0} cannot express this value")]
    Encode(Codec),
    /// The plaintext is authentic, and is not what the codec makes of such a value: the
    /// type has changed since it was sealed.
    #[error("the opened plaintext is no {0} of this type")]
    Decode(Codec),
    /// Sealing failed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Opening failed.
    #[error(transparent)]
    Open(#[from] OpenError),
}

impl EnvelopeKey {
    /// Seals `value` as `C` writes it, one-shot.
    ///
    /// ```
    /// # #[cfg(feature = "json")] {
    /// use bulla_core::{DataKey, DekVersion, EnvelopeKey, Json, KeyOptions, RecordContext, ScopeContext};
    ///
    /// let scope = ScopeContext::new([("tenant", "t-9f2c"), ("purpose", "people")])?;
    /// let key = EnvelopeKey::derive(
    ///     &DataKey::generate()?, DekVersion::FIRST, &scope, KeyOptions::default())?;
    /// let record = RecordContext::new([("row", "42")])?;
    ///
    /// let sealed = key.seal_value::<Json, _>(&("ada@example.org", 36), &record)?;
    /// let (email, age): (String, u8) = key.open_value::<Json, _>(&sealed, &record)?;
    /// assert_eq!((&*email, age), ("ada@example.org", 36));
    /// assert!(key.open(&sealed, &record).is_err(), "it is not raw bytes");
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ValueError::Encode`], [`ValueError::Seal`].
    pub fn seal_value<C: ValueCodec, T: Serialize + ?Sized>(
        &self,
        value: &T,
        context: &RecordContext,
    ) -> Result<Vec<u8>, ValueError> {
        Ok(self.seal_as(C::CODEC, &C::encode(value)?, context)?)
    }

    /// Opens a value that was sealed as `C` writes it.
    ///
    /// # Errors
    /// [`ValueError::Open`], with [`OpenError::WrongCodec`] if it was sealed by another
    /// codec; [`ValueError::Decode`].
    pub fn open_value<C: ValueCodec, T: DeserializeOwned>(
        &self,
        envelope: &[u8],
        context: &RecordContext,
    ) -> Result<T, ValueError> {
        C::decode(&Zeroizing::new(self.open_as(C::CODEC, envelope, context)?))
    }
}

/// Codec 2: one JSON text (RFC 8259), by `serde_json`. JSON has no infinity and no NaN:
/// both are written as `null`, and do not come back.
#[cfg(feature = "json")]
#[derive(Debug, Clone, Copy)]
pub struct Json;

#[cfg(feature = "json")]
impl ValueCodec for Json {
    const CODEC: Codec = Codec::JSON;

    fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Zeroizing<Vec<u8>>, ValueError> {
        let mut bytes = WipedVec::default();
        // The error may quote the value: it is dropped.
        match serde_json::to_writer(&mut bytes, value) {
            Ok(()) => Ok(Zeroizing::new(bytes.into_inner())),
            Err(_) => Err(ValueError::Encode(Self::CODEC)),
        }
    }

    fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ValueError> {
        serde_json::from_slice(bytes).map_err(|_| ValueError::Decode(Self::CODEC))
    }
}

/// Codec 1: bincode 2 with `config::standard()`, by `bincode`. Compact; not
/// self-describing: a type that changes does not read what it wrote before. Memory is
/// bounded in proportion to the plaintext; time is not for sequences of elements of no
/// size, such as `Vec<()>`, nor is the depth of types that contain themselves. Do not open
/// such types from strangers, whose self-contained envelopes are authentic, too.
#[cfg(feature = "bincode")]
#[derive(Debug, Clone, Copy)]
pub struct Bincode;

#[cfg(feature = "bincode")]
impl ValueCodec for Bincode {
    const CODEC: Codec = Codec::BINCODE;

    fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Zeroizing<Vec<u8>>, ValueError> {
        let mut bytes = WipedVec::default();
        match bincode::serde::encode_into_std_write(value, &mut bytes, bincode::config::standard())
        {
            Ok(_) => Ok(Zeroizing::new(bytes.into_inner())),
            Err(_) => Err(ValueError::Encode(Self::CODEC)),
        }
    }

    fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ValueError> {
        use bincode::config::standard;
        use bincode::serde::decode_from_slice;
        // bincode allocates what a length claims. A limit, which is part of a
        // configuration's type and not of the bytes, keeps that in proportion: a value
        // claims up to 16 bytes for one (a u128 of 1 byte). The next power of 4 above the
        // plaintext is the limit, times 16.
        macro_rules! decode_up_to {
            ($($log2:literal)+) => {
                match bytes.len() {
                    $(len if len <= 1 << $log2 => {
                        decode_from_slice(bytes, standard().with_limit::<{ limit($log2) }>())
                    })+
                    _ => return Err(ValueError::Decode(Self::CODEC)),
                }
            };
        }
        let decoded = decode_up_to!(10 12 14 16 18 20 22 24 26 28 30);
        match decoded {
            Ok((value, read)) if read == bytes.len() => Ok(value),
            _ => Err(ValueError::Decode(Self::CODEC)),
        }
    }
}

/// 16 times 2^`log2`, as far as there are addresses.
#[cfg(feature = "bincode")]
const fn limit(log2: u32) -> usize {
    match 16_usize.checked_mul(1 << log2) {
        Some(limit) => limit,
        None => usize::MAX,
    }
}

#[cfg(test)]
mod tests;
