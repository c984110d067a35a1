//! Referenced envelopes: a store has the DEKs, and [`EnvelopeKey`] opens.

use bulla_core::{DekVersion, EnvelopeKey, Header, Kind, StreamLayout};

use super::streams::{self, Pieces};
use super::{Call, data_key};
use crate::reference::Class;
use crate::vectors::{Operation, Output, Refusal, StoredDek};

impl Call<'_> {
    /// Kind 01.
    pub(super) fn open_one_shot(&self) -> Result<Output, Refusal> {
        let envelope = self.envelope()?;
        let accepted = EnvelopeKey::header_of(&envelope, self.codec, self.suites);
        let found = accepted.map_err(Refusal::from).and_then(|header| self.key_of(&header));
        self.by_every_key(found, |key| {
            let opened = key.open_as(self.codec, &envelope, &self.record);
            if self.codec == bulla_core::Codec::RAW {
                // A buffer of the caller's, which must not hold plaintext after a failure.
                let mut out = vec![0xa5; envelope.len()];
                let len = key.open_into(&envelope, &self.record, &mut out);
                let is_clean = out.iter().all(|byte| *byte == 0xa5 || *byte == 0);
                let agrees = match (&opened, &len) {
                    (Ok(plaintext), Ok(len)) => plaintext == &out[..*len],
                    (Err(error), Err(into)) => error == into && is_clean,
                    _ => false,
                };
                if !agrees {
                    return Err(super::unexpected("open_as and open_into disagree"));
                }
            }
            Ok(Output::Plaintext(opened?))
        })
    }

    /// Kind 02, whole or in part.
    pub(super) fn open_stream(&self) -> Result<Output, Refusal> {
        let accepted = self.accept();
        let layout = accepted.as_ref().ok().and_then(|(_, layout)| *layout);
        let found = accepted.and_then(|(head, _)| self.key_of(head.header()));
        self.by_every_key(found, |key| self.open_stream_with(key, layout))
    }

    fn open_stream_with(
        &self,
        key: &EnvelopeKey,
        layout: Option<StreamLayout>,
    ) -> Result<Output, Refusal> {
        let (record, codec) = (&self.record, self.codec);
        if self.vector.operation == Operation::Open {
            let envelope = self.envelope()?;
            let opened = streams::in_pieces(&envelope, |pieces: Pieces<'_>| {
                key.open_reader(pieces, record, codec)
            });
            return opened.map(Output::Plaintext);
        }
        let blob = &self.vector.envelope;
        let ranges = key.open_range_with(streams::source(blob), blob.len(), record, codec)?;
        let read = streams::read(ranges, self.vector.operation)?;
        match layout {
            Some(_) => Ok(read),
            None => Err(super::unexpected("a range of an envelope that does not parse")),
        }
    }

    /// Steps 4 and 5 of section 8.1, with a store in which each DEK has a version and a key
    /// id; the keys are derived for the scope of the caller.
    fn key_of(&self, header: &Header) -> Result<EnvelopeKey, Refusal> {
        let named = self.vector.deks.iter().find(|stored| {
            Some(stored.version) == header.dek_version.map(|version| version.get())
                && stored.key_id == header.key_id.as_bytes()
        });
        let key = named.and_then(|stored| self.derive(stored));
        key.unwrap_or_else(|| Err(Class::UnknownKey.into()))
    }

    /// `None` for what is no DEK of a lineage, by its length or version.
    fn derive(&self, stored: &StoredDek) -> Option<Result<EnvelopeKey, Refusal>> {
        let (dek, version) = (data_key(&stored.dek)?, DekVersion::new(stored.version)?);
        let key = EnvelopeKey::derive(&dek, version, &self.scope, self.options);
        Some(key.map_err(Refusal::from))
    }

    /// Opens with the key that was found; and if none was, for whatever reason, asks one at
    /// hand to open the envelope all the same: it must refuse by the same class. (But for a
    /// malformed wraps section: a stream is begun with its first 100 bytes, which need not
    /// hold all of it, so that a self-contained envelope is refused for its kind.)
    fn by_every_key(
        &self,
        found: Result<EnvelopeKey, Refusal>,
        open: impl Fn(&EnvelopeKey) -> Result<Output, Refusal>,
    ) -> Result<Output, Refusal> {
        let refusal = match found {
            Ok(key) => return open(&key),
            Err(refusal) => refusal,
        };
        for key in self.vector.deks.iter().filter_map(|stored| self.derive(stored)) {
            match open(&key?) {
                Err(other) if other.class() == refusal.class() => {}
                Err(other)
                    if self.kind == Kind::ReferencedChunked
                        && self.vector.envelope.byte(4).is_some_and(|kind| kind & 0x10 != 0)
                        && refusal.class() == Some(Class::Malformed)
                        && other.class() == Some(Class::NotAccepted) => {}
                other => {
                    let text = format!("before a key: {refusal}; with a key: {other:?}");
                    return Err(super::unexpected(text));
                }
            }
        }
        Err(refusal)
    }
}
