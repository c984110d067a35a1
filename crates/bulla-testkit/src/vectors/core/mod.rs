//! `bulla-core`, on vectors: called as an application calls it, and where there are several
//! ways to do the same, by all of them, which must agree.

mod referenced;
mod seal;
mod self_contained;
mod streams;

use std::borrow::Cow;
use std::io;

use bulla_core::{
    Codec, ContextError, DataKey, DekVersion, Envelope, Head, HeaderError, KeyError, KeyOptions,
    Kind, Library, OpenError, RecordContext, ScopeContext, SealError, StreamLayout, Suite, Suites,
};

use super::{Blob, Implementation, Keks, Operation, Output, Refusal, Sealing, Value, Vector};
use crate::reference::Class;

/// `bulla-core` with one of its AEAD libraries.
#[derive(Debug, Clone, Copy)]
pub struct Core(pub Library);

impl Implementation for Core {
    fn name(&self) -> String {
        format!("bulla-core, {:?}", self.0)
    }

    fn run(&self, vector: &Vector, keks: &Keks<'_>) -> Result<Output, Refusal> {
        if vector.operation == Operation::Parse {
            parse(&vector.envelope)?;
            return Ok(Output::Parsed);
        }
        let kind = vector
            .kind_asked(|kind| match vector.operation {
                Operation::Range(..) | Operation::Length | Operation::Tail(_) => kind & 0x0f == 2,
                Operation::Rewrap => kind & 0x10 != 0,
                _ => true,
            })
            .and_then(Kind::from_byte)
            .ok_or_else(|| unexpected("none of the kinds asked for has this operation"))?;
        let call = Call::new(vector, keks, kind, self.0)?;
        match (vector.operation, kind) {
            (Operation::Rewrap, _) => call.rewrap(),
            (Operation::Open, Kind::ReferencedOneShot) => call.open_one_shot(),
            (_, Kind::ReferencedChunked) => call.open_stream(),
            _ => call.open_self_contained(),
        }
    }

    fn seal(&self, sealing: &Sealing) -> Result<Vec<u8>, Refusal> {
        seal::seal(sealing, self.0)
    }

    fn values(
        &self,
        vector: &Vector,
        dek: &[u8; 32],
    ) -> Result<Vec<(&'static str, Value)>, Refusal> {
        let scope = ScopeContext::new(vector.scope.iter().cloned())?;
        let record = RecordContext::new(vector.record.iter().cloned())?;
        let (head, layout) = parse(&vector.envelope)?;
        let dek = data_key(dek).ok_or_else(|| unexpected("a DEK of another length"))?;
        let (kms, key_id) = match head.header().dek_version {
            Some(version) => (scope.kms_context(version), dek.id(version, &scope)?),
            None => {
                let options = KeyOptions::default();
                let key = bulla_core::hazmat::single_use_key(dek, &scope, options)?;
                (scope.single_use_kms_context(), key.key_id())
            }
        };
        let payload = head.payload_offset();
        let mut values = vec![
            ("ctx-scope", Value::from(scope.as_bytes())),
            ("ctx-record", Value::from(record.as_bytes())),
            ("kms-context", Value::from(kms.as_bytes())),
            ("key-id", Value::from(&key_id.as_bytes()[..])),
            ("payload-offset", Value::Number(payload as u64)),
        ];
        if let Some(wraps) = head.wraps() {
            values.push(("wraps-len", Value::Number(payload as u64 - 70)));
            values.push(("generation", Value::Number(wraps.generation().into())));
        }
        if let Some(layout) = layout {
            values.push(("chunks", Value::Number(layout.last_chunk() + 1)));
        }
        Ok(values)
    }

    fn reads_values(&self) -> bool {
        true
    }
}

/// What a caller brings along, checked as far as the types of `bulla-core` do that.
struct Call<'v> {
    vector: &'v Vector,
    keks: &'v Keks<'v>,
    kind: Kind,
    codec: Codec,
    suites: Suites,
    options: KeyOptions,
    scope: ScopeContext,
    record: RecordContext,
}

impl<'v> Call<'v> {
    fn new(
        vector: &'v Vector,
        keks: &'v Keks<'v>,
        kind: Kind,
        library: Library,
    ) -> Result<Self, Refusal> {
        let scope = ScopeContext::new(vector.scope.iter().cloned())?;
        let record = match vector.operation {
            Operation::Rewrap => RecordContext::empty(),
            _ => RecordContext::new(vector.record.iter().cloned())?,
        };
        let mut options = KeyOptions::default().with_library(library);
        let mut suites = Suites::default();
        if let Some(accepted) = &vector.suites {
            let mut accepted = accepted.iter().filter_map(|suite| Suite::from_byte(*suite));
            let first = accepted.next().ok_or_else(|| unexpected("no suite is accepted"))?;
            (options, suites) = (options.with_suite(first), Suites::only(first));
            for suite in accepted {
                (options, suites) = (options.accepting(suite), suites.and(suite));
            }
        }
        // A reserved codec cannot be asked for; whatever is asked for, it is refused first.
        let codec = match Codec::from_byte(vector.codec_asked()) {
            Some(codec) => codec,
            None if vector.codec.is_none() => Codec::RAW,
            None => return Err(unexpected("a reserved codec is asked for")),
        };
        Ok(Self { vector, keks, kind, codec, suites, options, scope, record })
    }

    /// Steps 2 and 3 of section 8.1.
    fn accept(&self) -> Result<(Head, Option<StreamLayout>), Refusal> {
        let (head, layout) = parse(&self.vector.envelope)?;
        head.accept(self.kind, self.codec, self.suites)?;
        Ok((head, layout))
    }

    /// The envelope, whole.
    fn envelope(&self) -> Result<Cow<'v, [u8]>, Refusal> {
        let too_long = || unexpected("an envelope that does not fit memory");
        self.vector.envelope.dense().ok_or_else(too_long)
    }
}

/// Step 2 of section 8.1, the total length being known.
fn parse(blob: &Blob) -> Result<(Head, Option<StreamLayout>), Refusal> {
    if let Some(envelope) = blob.dense() {
        let envelope = Envelope::parse(&envelope)?;
        return Ok((envelope.head().clone(), envelope.layout()));
    }
    let head = Head::parse(blob.prefix())?;
    let layout = match head.header().chunk_log2 {
        Some(log2) => StreamLayout::new(head.payload_offset() as u64, log2, blob.len())?,
        None => return Err(Class::Malformed.into()),
    };
    Ok((head, Some(layout)))
}

/// `None` for bytes that are no DEK by their number.
fn data_key(bytes: &[u8]) -> Option<DataKey> {
    let bytes: &[u8; 32] = bytes.try_into().ok()?;
    Some(DataKey::init_with(|key| key.copy_from_slice(bytes)))
}

/// `None` for version 0, which no DEK of a store has.
fn version(version: u32) -> Result<DekVersion, Refusal> {
    DekVersion::new(version).ok_or_else(|| Class::Refused.into())
}

fn unexpected(text: impl ToString) -> Refusal {
    Refusal::Unexpected(text.to_string())
}

impl From<ContextError> for Refusal {
    fn from(error: ContextError) -> Self {
        Self::Class(Class::Context, error.to_string())
    }
}

impl From<HeaderError> for Refusal {
    fn from(error: HeaderError) -> Self {
        OpenError::from(error).into()
    }
}

impl From<OpenError> for Refusal {
    fn from(error: OpenError) -> Self {
        let text = error.to_string();
        // The words of the specification, by which the classes of both agree.
        let class = error.class().to_string();
        [
            Class::Malformed,
            Class::Unsupported,
            Class::NotAccepted,
            Class::UnknownKey,
            Class::Authentication,
            Class::OutOfRange,
        ]
        .into_iter()
        .find(|of| of.to_string() == class)
        .map_or_else(|| unexpected(&text), |class| Self::Class(class, text.clone()))
    }
}

impl From<SealError> for Refusal {
    fn from(error: SealError) -> Self {
        Self::Class(Class::Refused, error.to_string())
    }
}

impl From<KeyError> for Refusal {
    fn from(error: KeyError) -> Self {
        unexpected(error)
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<OpenError>()) {
            Some(inner) => inner.clone().into(),
            None => unexpected(error),
        }
    }
}
