//! Target `context`: pairs as contexts.

use arbitrary::{Result, Unstructured};
use bulla_core::{DekVersion, RecordContext, ScopeContext};

use crate::reference::{Pairs, context as plain};

/// Makes record, scope and KMS contexts of any pairs: encoding and refusal are those of the
/// reference, the order of the pairs has no meaning, and the pairs are read back.
pub fn context(data: &[u8]) {
    let _ = run(&mut Unstructured::new(data));
}

fn run(u: &mut Unstructured<'_>) -> Result<()> {
    let pairs = pairs(u)?;
    let mut sorted = pairs.clone();
    sorted.sort();
    let owned = |(key, value): (&[u8], &[u8])| (key.to_vec(), value.to_vec());

    let record = RecordContext::new(pairs.iter().map(|(key, value)| (key, value)));
    let ctx = record.as_ref().map(RecordContext::as_bytes);
    assert_eq!(ctx.ok(), plain::ctx_record(&pairs).as_deref().ok());
    match &record {
        Ok(record) => {
            assert_eq!(record.pairs().map(owned).collect::<Pairs>(), sorted);
            assert_eq!(*record, RecordContext::new(sorted.clone()).unwrap());
            assert!(!format!("{record:?}").is_empty());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }

    let scope = ScopeContext::new(pairs.iter().map(|(key, value)| (key, value)));
    let ctx = scope.as_ref().map(ScopeContext::as_bytes);
    assert_eq!(ctx.ok(), plain::ctx_scope(&pairs).as_deref().ok());
    let Ok(scope) = scope else { return Ok(()) };
    let text = |(key, value): (&str, &str)| (key.as_bytes().to_vec(), value.as_bytes().to_vec());
    assert_eq!(scope.pairs().map(text).collect::<Pairs>(), sorted);
    assert_eq!(scope, ScopeContext::new(sorted).unwrap());

    let version = u.arbitrary().unwrap_or_default();
    let kms = match DekVersion::new(version) {
        Some(version) => scope.kms_context(version),
        None => scope.single_use_kms_context(),
    };
    assert_eq!(kms.as_bytes(), plain::ctx_kms(&pairs, version).unwrap());
    let mut all = plain::kms_pairs(&pairs, version);
    all.sort();
    assert_eq!(kms.pairs().map(text).collect::<Pairs>(), all);
    assert_eq!(RecordContext::from(&kms).as_bytes(), kms.as_bytes());
    assert!(!format!("{scope:?} {kms:?}").is_empty());
    Ok(())
}

/// Pairs around every limit, and from few enough keys that some occur twice.
fn pairs(u: &mut Unstructured<'_>) -> Result<Pairs> {
    let mut pairs = Pairs::new();
    for at in 0..u.int_in_range(0..=35_u8)? {
        let mut key = piece(u, 64)?;
        match u.int_in_range(0..=7_u8)? {
            0 => key = b"bulla".to_vec(),
            1 => key.splice(..0, *b"bull").for_each(drop),
            // Distinct from the others, so that many pairs are allowed.
            2..=5 => key.push(at),
            _ => {}
        }
        pairs.push((key, piece(u, 1024)?));
    }
    Ok(pairs)
}

/// Some bytes; rarely as many as `max` or around it.
fn piece(u: &mut Unstructured<'_>, max: usize) -> Result<Vec<u8>> {
    let len = u.int_in_range(0..=9_usize)?;
    let mut piece = u.bytes(len.min(u.len()))?.to_vec();
    if len == 9 {
        piece.resize(u.int_in_range(max - 6..=max + 2)?, b'x');
    }
    Ok(piece)
}
