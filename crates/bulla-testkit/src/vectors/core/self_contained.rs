//! Self-contained envelopes: a small opener over [`Head`] and [`UnwrappedKey`], whose
//! key-management services are tables.

use bulla_core::{ChunkOpener, DataKey, Head, Kind, UnwrappedKey, Wrap};

use super::streams::{self, Pieces};
use super::{Call, data_key, unexpected};
use crate::reference::Class;
use crate::vectors::{Operation, Output, Refusal};

impl Call<'_> {
    /// Kinds 11 and 12, and one-shot kinds where a part of a stream is asked for.
    pub(super) fn open_self_contained(&self) -> Result<Output, Refusal> {
        let (head, layout) = self.accept()?;
        let key = self.unlock(&head)?;
        let (record, payload) = (&self.record, head.payload_offset());
        if self.kind == Kind::SelfContainedOneShot {
            return Ok(Output::Plaintext(key.open(&self.envelope()?[payload..], record)?));
        }
        let chunks = payload + ChunkOpener::COMMITMENT_LEN;
        if self.vector.operation == Operation::Open {
            let envelope = self.envelope()?;
            let opened = streams::in_pieces(&envelope[chunks..], |pieces: Pieces<'_>| {
                let opener = key.chunk_opener(&envelope[payload..chunks], record)?;
                Ok(opener.into_reader(pieces))
            });
            return opened.map(Output::Plaintext);
        }
        let blob = &self.vector.envelope;
        let layout = layout.ok_or_else(|| unexpected("a stream without a layout"))?;
        let commitment = blob.prefix().get(payload..chunks).unwrap_or_default();
        let opener = key.chunk_opener(commitment, record)?;
        let ranges = opener.into_range(layout, streams::source(blob));
        streams::read(ranges, self.vector.operation)
    }

    /// Section 6.6.
    pub(super) fn rewrap(&self) -> Result<Output, Refusal> {
        let (old_head, _) = self.accept()?;
        let key = self.unlock(&old_head)?;
        let context = self.scope.single_use_kms_context();
        let mut entries = Vec::new();
        for wrap in &self.vector.wraps {
            let (backend, kek_id, blob) = (wrap.backend, &wrap.kek_id[..], &wrap.blob[..]);
            let unwrapped = self.keks.unwrap(backend, kek_id, blob, context.as_bytes());
            let unwrapped = unwrapped.ok().and_then(|bytes| data_key(&bytes));
            if unwrapped.as_ref() != Some(key.data_key()) {
                return Err(Class::Refused.into());
            }
            entries.push(Wrap::new(backend, kek_id, &wrap.kek_version[..], blob));
        }
        let wraps = key.head().wraps().ok_or_else(|| unexpected("no wraps"))?;
        let wraps = wraps.replaced_by(entries).map_err(bulla_core::SealError::from)?;
        let head = key.rewrap(&wraps)?;
        let payload = &self.envelope()?[old_head.payload_offset()..];
        let envelope = [&head[..], payload].concat();
        Ok(Output::Rewrapped { head, envelope })
    }

    /// Steps 4 to 6 of section 8.1.
    fn unlock(&self, head: &Head) -> Result<UnwrappedKey, Refusal> {
        let dek = self.unwrap(head)?;
        let codec = head.header().codec;
        Ok(UnwrappedKey::check(dek, head, codec, &self.scope, self.options)?)
    }

    /// Section 6.4: the entries in the order of the envelope, of which those count whose KEK
    /// is on the opener's list; on to the next after a failure of the KEK, and after nothing
    /// else.
    fn unwrap(&self, head: &Head) -> Result<DataKey, Refusal> {
        let context = self.scope.single_use_kms_context();
        let entries = head.wraps().map_or(&[][..], |wraps| wraps.entries());
        let mut result = Err(Class::UnknownKey.into());
        for entry in entries {
            if !self.keks.holds(entry.backend, &entry.kek_id) {
                continue;
            }
            match self.keks.unwrap(entry.backend, &entry.kek_id, &entry.blob, context.as_bytes()) {
                Ok(dek) => return data_key(&dek).ok_or_else(|| Class::UnknownKey.into()),
                Err(failure) => {
                    result = Err(Refusal::Class(Class::KmsFailure, format!("{failure:?}")));
                }
            }
        }
        result
    }
}
