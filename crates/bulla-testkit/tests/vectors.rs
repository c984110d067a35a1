//! The published vectors of the format, `docs/spec/vectors`, through `bulla-core` with each of
//! its libraries and through the reference implementation.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use std::path::{Path, PathBuf};

use bulla_core::Library;
use bulla_testkit::vectors::{Core, Expect, Implementation, Reference, Value, Vector, check, run};
use bulla_testkit::{reference::Class, vectors};

fn dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/spec/vectors")
}

fn one(name: &str) -> Vector {
    Vector::parse(name, &std::fs::read(dir().join(format!("{name}.vec"))).unwrap()).unwrap()
}

#[test]
fn all_vectors_pass_in_every_implementation() {
    let vectors = vectors::read_dir(&dir()).unwrap();
    let cores: Vec<_> = Library::ALL.iter().map(|library| Core(*library)).collect();
    let mut implementations: Vec<&dyn Implementation> = vec![&Reference];
    implementations.extend(cores.iter().map(|core| core as &dyn Implementation));
    let report = run(&vectors, &implementations);
    println!("{report}");
    assert!(report.failures.is_empty(), "{report}");
    assert!(report.vectors() >= 120);
    for (name, [passed, values, resealed]) in &report.implementations {
        assert_eq!(*passed, vectors.len(), "{name}");
        assert!(*values > 500 && *resealed > 100, "{name}");
    }
}

/// A vector that is changed so that it is wrong has to be reported as failing, by each of
/// `change`, in every implementation.
fn is_found(name: &str, change: impl Fn(&mut Vector)) {
    let reference: &dyn Implementation = &Reference;
    for implementation in [reference, &Core(Library::default())] {
        let found = |vector: &Vector| check(vector, implementation).mismatches;
        assert_eq!(found(&one(name)), [""; 0], "{name} is right as it is");
        let mut vector = one(name);
        change(&mut vector);
        assert_ne!(found(&vector), [""; 0], "{name}, {}", implementation.name());
    }
}

#[test]
fn a_wrong_expectation_is_found() {
    is_found("b1", |vector| vector.expect = Expect::Refusal(Class::Authentication));
    is_found("b6-14-record", |vector| vector.expect = Expect::Success);
    is_found("b6-14-record", |vector| vector.expect = Expect::Refusal(Class::UnknownKey));
    is_found("kek-refused", |vector| {
        vector.kms_failure = Some(vectors::KmsFailure::Unavailable);
    });
}

#[test]
fn a_wrong_plaintext_is_found() {
    for name in ["b1", "b3-suite2", "b4", "b5", "range-inner", "tail-good"] {
        is_found(name, |vector| vector.plaintext = Some(b"something else".to_vec()));
    }
    is_found("length-good", |vector| vector.length = Some(1));
}

#[test]
fn a_wrong_rewrap_is_found() {
    is_found("b4-rewrap", |vector| vector.rewrapped_sha256 = Some(vec![0; 32]));
    is_found("b4-rewrap", |vector| vector.rewrapped_head = None);
}

#[test]
fn a_wrong_missing_or_superfluous_intermediate_value_is_found() {
    is_found("b1", |vector| {
        vector.values.insert("key-id".into(), Value::Bytes(vec![0; 32]));
    });
    is_found("b4", |vector| {
        vector.values.insert("payload-offset".into(), Value::Number(178));
    });
    is_found("b5", |vector| drop(vector.values.remove("mac")));
    is_found("b3-suite1", |vector| {
        vector.values.insert("aad".into(), Value::Bytes(vec![]));
    });
    is_found("b4", |vector| drop(vector.entries.pop()));
}

#[test]
fn a_blob_that_must_not_be_unwrapped_is_found() {
    is_found("b4", |vector| vector.must_not_unwrap.push(vector.unwraps[0].blob.clone()));
}

#[test]
fn a_wrong_typed_value_is_found() {
    let core = Core(Library::default());
    for name in ["codec-bincode", "codec-json", "codec-invalid-bincode-trailing"] {
        let mut vector = one(name);
        assert_eq!(check(&vector, &core).mismatches, [""; 0]);
        vector.value_json =
            Some(r#"{"id":1,"name":"","tags":[],"flag":false,"delta":0}"#.to_owned());
        assert_ne!(check(&vector, &core).mismatches, [""; 0], "{name}");
    }
}
