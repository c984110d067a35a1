//! Typed values, as a codec of the format writes them.

use std::fmt;

use bulla_core::{RecordContext, ValueCodec};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::{Error, Freshness, Scope};

/// An opened value. Its `Debug` leaves the value out.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenedValue<T> {
    /// The value.
    pub value: T,
    /// Whether the record should be resealed.
    pub freshness: Freshness,
}

impl<T> fmt::Debug for OpenedValue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenedValue").field("freshness", &self.freshness).finish_non_exhaustive()
    }
}

impl Scope {
    /// Seals `value` as the codec `C` writes it. The codec is authenticated: the envelope
    /// opens as a value of that codec and as nothing else.
    ///
    /// ```
    /// # #[cfg(feature = "json")] {
    /// # use std::sync::Arc;
    /// # use bulla_manager::{Manager, MemoryKeyStore, Profile, SystemClock};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let kek = Arc::new(bulla_testkit::TestKms::new("example"));
    /// # let store = Arc::new(MemoryKeyStore::new(Arc::new(SystemClock))?);
    /// # let manager = Manager::builder(Profile::Development, kek, store).start().await?;
    /// use bulla_core::{Json, RecordContext};
    ///
    /// let people = manager.scope("t-9f2c", "people")?;
    /// let record = RecordContext::new([("table", "people"), ("row", "42")])?;
    /// let sealed = people.seal_value::<Json, _>(&("ada@example.org", 36), &record).await?;
    /// let opened = people.open_value::<Json, (String, u8)>(&sealed, &record).await?;
    /// assert_eq!(opened.value.1, 36);
    /// # Ok(())
    /// # }
    /// # main().unwrap();
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Value`] if the codec cannot express the value; otherwise as
    /// [`seal`](Self::seal).
    pub async fn seal_value<C: ValueCodec, T: Serialize + ?Sized>(
        &self,
        value: &T,
        context: &RecordContext,
    ) -> Result<Vec<u8>, Error> {
        self.seal_as(C::CODEC, &C::encode(value)?, context).await
    }

    /// Opens a value that was sealed as the codec `C` writes it.
    ///
    /// # Errors
    /// [`Error::Open`] with `WrongCodec` if it was sealed by another codec, or as raw
    /// bytes; [`Error::Value`] if it is of another type; otherwise as
    /// [`open`](Self::open).
    pub async fn open_value<C: ValueCodec, T: DeserializeOwned>(
        &self,
        envelope: &[u8],
        context: &RecordContext,
    ) -> Result<OpenedValue<T>, Error> {
        let opened = self.open_as(C::CODEC, envelope, context).await?;
        let value = C::decode(&Zeroizing::new(opened.plaintext))?;
        Ok(OpenedValue { value, freshness: opened.freshness })
    }
}
