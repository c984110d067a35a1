//! `bulla-core` against the reference implementation: the same inputs make the same bytes, and
//! whatever is opened is opened, or refused by the same class, by both. `PROPTEST_CASES` says
//! how often; the default is 256 times.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests")]

#[path = "differential/cases.rs"]
mod cases;
#[path = "differential/changes.rs"]
mod changes;

use std::cell::RefCell;
use std::collections::BTreeMap;

use bulla_core::Library;
use bulla_testkit::reference::{Entry, header};
use bulla_testkit::vectors::{
    Core, Implementation, Keks, Operation, Output, Reference, Refusal, Sealing, Vector,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{TestCaseResult, TestError, TestRunner};

fn runner() -> TestRunner {
    TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })
}

/// Checks that all implementations agree on `vector`, and returns what they agree on: a class,
/// or success.
fn agree(vector: &Vector) -> Result<String, TestCaseError> {
    let result = |implementation: &dyn Implementation| {
        let keks = Keks::new(vector);
        (implementation.run(vector, &keks), keks.asked())
    };
    let (expected, asked) = result(&Reference);
    // A tail that is longer than the plaintext has no class.
    let is_long_tail = matches!(vector.operation, Operation::Tail(_));
    let outcome = |result: &Result<Output, Refusal>| match result {
        Ok(output) => Ok(output.clone()),
        Err(refusal) => Err(refusal.class()),
    };
    for library in Library::ALL {
        let (found, asked_too) = result(&Core(*library));
        prop_assert_eq!(outcome(&found), outcome(&expected), "{:?}, {:?}", found, expected);
        prop_assert!(outcome(&found) != Err(None) || is_long_tail, "{:?}", found);
        // The other operations of the reference unwrap twice.
        if matches!(vector.operation, Operation::Open | Operation::Range(..)) {
            prop_assert_eq!(asked_too, asked.clone());
        }
    }
    Ok(match expected {
        Ok(_) => "success".to_owned(),
        Err(refusal) => refusal.class().map_or_else(String::new, |class| class.to_string()),
    })
}

/// As often as there are cases: one made by `strategy` and what `test` counts it as.
fn count<S: Strategy>(
    strategy: S,
    test: impl Fn(S::Value) -> Result<String, TestCaseError>,
) -> BTreeMap<String, usize> {
    let counts = RefCell::new(BTreeMap::new());
    let result = runner().run(&strategy, |value| -> TestCaseResult {
        *counts.borrow_mut().entry(test(value)?).or_default() += 1;
        Ok(())
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(reason, value)) => panic!("{reason}\nfor {value:?}"),
        Err(TestError::Abort(reason)) => panic!("{reason}"),
    }
    let counts = counts.into_inner();
    println!("{counts:?}");
    counts
}

#[test]
fn the_same_inputs_make_the_same_bytes() {
    let counts = count(cases::sealings(), |sealing| {
        let expected = Reference.seal(&sealing).map_err(|refusal| refusal.class());
        for library in Library::ALL {
            let sealed = Core(*library).seal(&sealing).map_err(|refusal| refusal.class());
            prop_assert!(sealed == expected, "{:?}: {:?}", library, sealed.err());
        }
        Ok(format!("{:02x} {}", sealing.kind, expected.is_ok()))
    });
    if counts.values().sum::<usize>() >= 256 {
        for kind in header::KINDS {
            assert!(counts[&format!("{kind:02x} true")] > 0);
        }
    }
}

/// An envelope, an operation and changes to both.
fn changed() -> impl Strategy<Value = (Sealing, Operation, Vec<changes::Change>, Vec<Entry>)> {
    cases::good_sealings().prop_flat_map(|sealing| {
        let operations = cases::operations(sealing.kind, sealing.plaintext.len() as u64);
        (Just(sealing), operations, changes::changes(), cases::new_wraps())
    })
}

#[test]
fn whatever_is_changed_has_the_same_result() {
    let counts = count(changed(), |(sealing, operation, changes, wraps)| {
        let envelope = Reference.seal(&sealing).unwrap();
        let mut vector = cases::opener(&sealing, envelope, operation);
        cases::add_new(&mut vector, &sealing.inputs.dek, wraps);
        changes::apply(&changes, &mut vector, &sealing.inputs.dek);
        agree(&vector)
    });
    // As many cases as there are by default reach what matters most.
    if counts.values().sum::<usize>() >= 256 {
        for class in ["success", "malformed", "not accepted", "unknown key", "authentication error"]
        {
            assert!(counts.contains_key(class), "{class}");
        }
    }
}

#[test]
fn what_was_sealed_by_one_is_opened_by_the_other() {
    let cases = cases::good_sealings().prop_flat_map(|sealing| {
        let operations = cases::operations(sealing.kind, sealing.plaintext.len() as u64);
        (Just(sealing), operations)
    });
    count(cases, |(sealing, operation)| {
        let envelope = Core(Library::default()).seal(&sealing).unwrap();
        let mut vector = cases::opener(&sealing, envelope, operation);
        vector.wraps = sealing.entries.clone();
        agree(&vector)
    });
}

#[test]
fn garbage_has_the_same_result() {
    let header = (
        prop_oneof![9 => Just(1_u8), 1 => any::<u8>()],
        prop_oneof![9 => proptest::sample::select(&header::KINDS[..]), 1 => any::<u8>()],
        prop_oneof![9 => 1..=2_u8, 1 => any::<u8>()],
        prop_oneof![9 => 0..=3_u8, 1 => any::<u8>()],
        proptest::sample::select(&[0, 0, 0, 12, 22, 11, 23][..]),
        proptest::sample::select(&[0_u32, 1, u32::MAX][..]),
    );
    let bytes = prop_oneof![vec(any::<u8>(), 0..300), vec(0..3_u8, 60..120)];
    let strategy = (header, bytes, any::<bool>(), cases::good_sealings());
    count(strategy, |(header, bytes, with_header, sealing)| {
        let (format, kind, suite, codec, chunk_log2, version) = header;
        let mut envelope = [b'B', b'U', b'L', format, kind, suite, codec, chunk_log2].to_vec();
        envelope.extend(version.to_be_bytes());
        if !with_header {
            envelope.clear();
        }
        envelope.extend(bytes);
        let mut vector = cases::opener(&sealing, envelope, Operation::Open);
        vector.kinds = header::KINDS.to_vec();
        vector.suites = Some(vec![1, 2]);
        vector.codec = None;
        agree(&vector)
    });
}
