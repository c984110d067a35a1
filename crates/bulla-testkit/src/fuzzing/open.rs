//! Target `open`: envelopes that were changed after they were sealed.

use arbitrary::{Result, Unstructured};
use bulla_core::Library;

use super::case::{ALL, Case};
use super::{mutate, real};

/// Seals an envelope of any kind, changes it, the contexts, the KEKs and what is asked for,
/// and opens it with the reference and both AEAD libraries: they agree on plaintext and
/// class, what was not changed opens, and what was changed does not.
pub fn open(data: &[u8]) {
    // Bytes that are used up end the case early.
    let _ = run(&mut Unstructured::new(data));
}

fn run(u: &mut Unstructured<'_>) -> Result<()> {
    let case = Case::take(u, &ALL)?;
    let Ok(sealed) = case.seal() else { return Ok(()) };
    let (mut ask, mut keks, mut envelope) = (case.ask(), case.keks(), sealed.clone());
    mutate::envelope(u, &mut envelope, case.grid(&sealed))?;
    mutate::ask(u, &mut ask)?;
    let spoiled = keks.spoil(u)?;

    let reference = ask.opener(&case, &keks).open(&envelope);
    for library in Library::ALL {
        let opened = real::open(*library, &ask, &case, &keks, &envelope);
        real::agree(&ask, &envelope, &opened, &reference);
    }
    let genuine = envelope == sealed && ask.is_for(&case);
    match reference {
        Ok(plaintext) => {
            assert!(genuine, "changed, and opened");
            assert_eq!(plaintext, case.plaintext);
        }
        Err(class) => assert!(!genuine || spoiled, "not changed, and refused: {class}"),
    }
    Ok(())
}
