//! Many records at a time.

use super::{EnvelopeKey, write_header};
use crate::aead::wiping_after;
use crate::context::RecordContext;
use crate::error::SealError;
use crate::{Codec, Envelopes, one_shot};

impl EnvelopeKey {
    /// Seals many records, in their order, all or none. What a seal does besides encrypting
    /// is done once for all of them: take it for bulk work. The stack is wiped at the end, so
    /// what `items` does in between runs above what was left there.
    ///
    /// # Errors
    /// [`SealError`], the first; nothing is released then.
    pub fn seal_many<'a>(
        &self,
        items: impl IntoIterator<Item = (&'a [u8], &'a RecordContext)>,
    ) -> Result<Envelopes, SealError> {
        let mut envelopes = Envelopes::default();
        self.seal_many_onto(items, &mut envelopes)?;
        Ok(envelopes)
    }

    /// [`seal_many`](Self::seal_many), with the new envelopes behind those in `envelopes`.
    ///
    /// # Errors
    /// As [`seal_many`](Self::seal_many); `envelopes` is then as it was. (If `items` panics,
    /// those that were sealed before stay.)
    pub fn seal_many_onto<'a>(
        &self,
        items: impl IntoIterator<Item = (&'a [u8], &'a RecordContext)>,
        envelopes: &mut Envelopes,
    ) -> Result<(), SealError> {
        let before = envelopes.len();
        let mut items = items.into_iter();
        let sealed = match self.sealing.one_shot.batch() {
            Some(mut batch) => wiping_after(|| {
                items.try_for_each(|(plaintext, context)| {
                    envelopes.add(Self::sealed_len(plaintext.len())?, |out| {
                        self.sealing.with_prefix(Codec::RAW, context, |prefix, aad| {
                            let blocks = one_shot::blocks(plaintext, aad);
                            batch.with_sealer(blocks, |derived, tail| {
                                let payload = write_header(prefix, derived, tail, out);
                                let aead = &derived.aead;
                                one_shot::encrypt_unwiped(aead, tail, aad, plaintext, payload)
                            })
                        })
                    })
                })
            }),
            None => items.try_for_each(|(plaintext, context)| {
                envelopes.add(Self::sealed_len(plaintext.len())?, |out| {
                    self.seal_whole(Codec::RAW, plaintext, context, out)
                })
            }),
        };
        if sealed.is_err() {
            envelopes.truncate(before);
        }
        sealed
    }
}
