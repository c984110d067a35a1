use super::*;

/// The header of a vector with `lines` put in.
fn file(lines: &str) -> Vec<u8> {
    let header = "bulla-vector: 1\ncomment: a: b\nspec: 2\nexpect: success\noperation: open\n\
                  accept-kinds: 01 12\naccept-suites: 1 2\ncodec: 0\n";
    [header.as_bytes(), lines.as_bytes(), b"\nBUL\n\n\x01"].concat()
}

fn parse(lines: &str) -> Result<Vector, String> {
    Vector::parse("x", &file(lines)).map_err(|error| error.message)
}

#[test]
fn a_vector_is_read() {
    let vector = parse("scope: 61=\nrecord: =62\nrecord: 00ff=-\n");
    assert!(vector.is_err(), "`-` is no side of a pair");
    let vector = parse(
        "scope: 61=\nrecord: =62\ndek: 7 01 02\nunwraps: 1 61 - 03 any\nunwraps: 1 61 05 03 0000\n\
         wrap: 2 61 - 04\nplaintext: counting 250 3\nnx: 0102\nchunks: 18446744073709551615\n",
    )
    .unwrap();
    assert_eq!((&*vector.name, &*vector.comment), ("x", "a: b"));
    assert_eq!((&vector.kinds[..], vector.suites.as_deref()), (&[1, 0x12][..], Some(&[1, 2][..])));
    assert_eq!(vector.codec, Some(0));
    assert_eq!(vector.scope, [(b"a".to_vec(), vec![])]);
    assert_eq!(vector.record, [(vec![], b"b".to_vec())]);
    assert_eq!(vector.deks, [StoredDek { version: 7, key_id: vec![1], dek: vec![2] }]);
    assert_eq!(vector.unwraps[0].context, None);
    assert_eq!(vector.unwraps[1].context, Some(vec![0, 0]));
    assert_eq!(vector.plaintext, Some(vec![250, 0, 1]));
    assert_eq!(vector.values["chunks"], Value::Number(u64::MAX));
    assert_eq!(vector.values["nx"], Value::Bytes(vec![1, 2]));
    assert_eq!(vector.envelope.prefix(), b"BUL\n\n\x01");
}

#[test]
fn holes_are_put_in() {
    let vector = parse("hole: 3 5\nhole: 9 1\n").unwrap();
    assert_eq!(&*vector.envelope.dense().unwrap(), b"BUL\0\0\0\0\0\n\0\n\x01");
    assert!(parse("hole: 7 1\n").is_err());
}

#[test]
fn a_key_that_is_not_known_is_refused() {
    assert!(parse("colour: red\n").unwrap_err().contains("colour"));
}

#[test]
fn a_key_that_may_not_be_repeated_is_refused_the_second_time() {
    assert!(parse("codec: 0\n").unwrap_err().contains("twice"));
    assert!(parse("record: 61=\nrecord: 61=\n").is_ok());
}

#[test]
fn a_key_that_is_missing_is_named() {
    let without = String::from_utf8_lossy(&file("")).replace("operation: open\n", "");
    let error = Vector::parse("x", without.as_bytes()).unwrap_err();
    assert_eq!(error.to_string(), "x: `operation` is missing");
}

#[test]
fn values_that_are_not_well_formed_are_refused() {
    for line in [
        "plaintext: hex 0A\n",
        "plaintext: hex 0\n",
        "plaintext: hex 00 00\n",
        "plaintext: zeros -1\n",
        "plaintext: zeros 99999999999\n",
        "length: +1\n",
        "length: 18446744073709551616\n",
        "kek: 256 61\n",
        "kek: 1  61\n",
        "kms-failure: lost\n",
        "also-conforming: maybe\n",
        "no colon\n",
    ] {
        assert!(parse(line).is_err(), "{line}");
    }
}

#[test]
fn a_file_that_does_not_begin_or_end_its_header_is_refused() {
    assert!(Vector::parse("x", b"bulla-vector: 2\n\n").is_err());
    assert!(Vector::parse("x", b"bulla-vector: 1\n").is_err());
}
