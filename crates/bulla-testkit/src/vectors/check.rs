//! What one vector demands of one implementation.

use sha2::{Digest, Sha256};

use super::{
    Expect, Implementation, Keks, KmsFailure, Operation, Output, Refusal, Sealing, Vector, typed,
    values,
};
use crate::reference::{Class, Inputs, header};

/// What was checked, and what disagrees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// Where the implementation and the vector disagree; none if it passes.
    pub mismatches: Vec<String>,
    /// How many intermediate values were compared.
    pub values: usize,
    /// Whether sealing made the envelope again, byte by byte.
    pub resealed: bool,
    /// The text of an authentication error: it must be the same for all of them.
    pub authentication_text: Option<String>,
}

/// Runs `vector` through `implementation`.
pub fn check(vector: &Vector, implementation: &dyn Implementation) -> Checked {
    let mut checked = Checked::default();
    let keks = Keks::new(vector);
    let result = implementation.run(vector, &keks);
    compare_result(vector, &result, &mut checked.mismatches);
    match &result {
        Err(Refusal::Class(Class::KmsFailure, _)) => {
            compare_kms_failure(vector, &keks, &mut checked)
        }
        Err(Refusal::Class(Class::Authentication, text)) => {
            checked.authentication_text = Some(text.clone());
        }
        Err(Refusal::Class(Class::Context, _)) => {
            compare_sealing(vector, implementation, &mut checked)
        }
        _ => {}
    }
    for asked in keks.asked() {
        if vector.must_not_unwrap.contains(&asked.blob) {
            checked.mismatches.push(format!("a KEK was asked to unwrap {:02x?}", asked.blob));
        }
    }
    if values::has_values(vector) {
        checked.values = values::compare(vector, implementation, &mut checked.mismatches);
    }
    if vector.expect == Expect::Success && vector.operation == Operation::Open {
        reseal(vector, implementation, &mut checked);
    }
    let is_typed = vector.value_json.is_some() || vector.value_invalid.is_some();
    if let Ok(Output::Plaintext(plaintext)) = &result
        && is_typed
        && implementation.reads_values()
    {
        typed::compare(vector, plaintext, &mut checked.mismatches);
    }
    checked
}

fn compare_result(vector: &Vector, result: &Result<Output, Refusal>, mismatches: &mut Vec<String>) {
    let conforms = |expect: &Expect| match (expect, result) {
        (Expect::Success, Ok(_)) => true,
        (Expect::Refusal(Class::Refused), Err(Refusal::Class(..))) => true,
        (Expect::Refusal(class), Err(refusal)) => refusal.class() == Some(*class),
        _ => false,
    };
    if !conforms(&vector.expect) && !vector.also_conforming.as_ref().is_some_and(conforms) {
        let outcome = match result {
            Ok(output) => format!("{output:?}"),
            Err(refusal) => refusal.to_string(),
        };
        let expected = match vector.expect {
            Expect::Success => "success".to_owned(),
            Expect::Refusal(class) => class.to_string(),
        };
        mismatches.push(format!("expected {expected}, the outcome is {outcome}"));
    }
    let is_as_stated = match result {
        Ok(Output::Plaintext(plaintext)) => Some(plaintext) == vector.plaintext.as_ref(),
        Ok(Output::Length(len)) => Some(*len) == vector.length,
        Ok(Output::Rewrapped { head, envelope }) => {
            Some(head) == vector.rewrapped_head.as_ref()
                && Some(&Sha256::digest(envelope)[..]) == vector.rewrapped_sha256.as_deref()
        }
        Ok(Output::Parsed) | Err(_) => true,
    };
    if !is_as_stated && vector.expect == Expect::Success {
        mismatches.push(format!("the outcome is {result:?}, which is not what the vector states"));
    }
}

/// The failure that is reported is the last one (section 6.4).
fn compare_kms_failure(vector: &Vector, keks: &Keks<'_>, checked: &mut Checked) {
    let last: Option<KmsFailure> = keks.asked().last().and_then(|asked| asked.failure);
    if vector.kms_failure.is_some() && last != vector.kms_failure {
        checked.mismatches.push(format!("the last failure is {last:?}"));
    }
}

/// Contexts that are refused on opening are refused on sealing.
fn compare_sealing(vector: &Vector, implementation: &dyn Implementation, checked: &mut Checked) {
    let (scope, record) = (vector.scope.clone(), vector.record.clone());
    let inputs = Inputs { suite: 1, codec: 0, dek: [1; 32], scope, record, nonce: [2; 24] };
    let sealing = Sealing {
        kind: header::REFERENCED_ONE_SHOT,
        chunk_log2: 0,
        version: 1,
        inputs,
        entries: Vec::new(),
        plaintext: Vec::new(),
    };
    let sealed = implementation.seal(&sealing).map_err(|refusal| refusal.class());
    if sealed != Err(Some(Class::Context)) {
        checked.mismatches.push(format!("sealing with these contexts: {sealed:?}"));
    }
}

/// Sealing with the nonce, the DEK and the wraps of an envelope makes the same envelope.
fn reseal(vector: &Vector, implementation: &dyn Implementation, checked: &mut Checked) {
    let parts = vector.envelope.dense().and_then(|envelope| {
        Some((header::parse(&envelope).ok()?, values::dek_of(vector)?, envelope))
    });
    let (Some((parsed, dek, envelope)), Some(plaintext)) = (parts, &vector.plaintext) else {
        return checked.mismatches.push("not all that sealing needs is given".into());
    };
    let fields = parsed.header;
    let sealing = Sealing {
        kind: fields.kind,
        chunk_log2: fields.chunk_log2,
        version: fields.version,
        inputs: Inputs {
            suite: fields.suite,
            codec: fields.codec,
            dek,
            scope: vector.scope.clone(),
            record: vector.record.clone(),
            nonce: fields.nonce,
        },
        entries: vector.entries.clone(),
        plaintext: plaintext.clone(),
    };
    let is_reserved = |backend: u8| (7..=127).contains(&backend);
    let generation = parsed.wraps.map_or(0, |wraps| wraps.generation);
    match implementation.seal(&sealing) {
        // An opener passes over such an entry, a sealer does not write it.
        Err(Refusal::Class(Class::Refused, _))
            if vector.entries.iter().any(|entry| is_reserved(entry.backend)) => {}
        Ok(sealed) if sealed == *envelope => checked.resealed = true,
        // A sealer writes generation 0, and a rewrap leaves header and payload as they are.
        Ok(sealed)
            if generation > 0
                && sealed.len() == envelope.len()
                && sealed[..68] == envelope[..68]
                && sealed[parsed.payload_offset..] == envelope[parsed.payload_offset..] => {}
        Ok(_) => checked.mismatches.push("sealing makes other bytes".into()),
        Err(refusal) => checked.mismatches.push(format!("sealing is refused: {refusal}")),
    }
}
