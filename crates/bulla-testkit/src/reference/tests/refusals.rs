//! Table B.6, row by row. The table is read from the specification: a row that is added or
//! reworded there fails here.

use super::spec::{blocks, table};
use super::*;
use crate::reference::{header, seal, wraps};

/// The envelope and the opener that a row speaks of.
fn row(example: &str, change: &str) -> (Vec<u8>, Opener<'static>) {
    let mut opener = opener();
    let mut envelope = match example {
        "B.1" => blocks("### B.1 ")[0].hex("envelope"),
        "B.3, 4096 bytes" => seal::referenced_chunked(&stream_inputs(), 1, 12, &[0; 4096]).unwrap(),
        "B.4" => blocks("### B.4 ")[0].hex("envelope"),
        other => panic!("no example {other}"),
    };
    let len = envelope.len();
    match change {
        "only the first 67 bytes" => envelope.truncate(67),
        "last byte missing" => envelope.truncate(len - 1),
        "last 16 bytes missing" => envelope.truncate(len - 16),
        "one byte added" => envelope.push(0),
        "byte 5 is `02`, suites 1 and 2 accepted" => {
            envelope[5] = 0x02;
            opener.suites = &[1, 2];
        }
        "scope {tenant: acme}" => opener.scope = pairs(&[("tenant", "acme")]),
        "record context with row: 43" => {
            opener.record = pairs(&[("column", "email"), ("row", "43"), ("table", "customers")]);
        }
        "record context with another pair, bulla-x: 1" => {
            opener.record.extend(pairs(&[("bulla-x", "1")]));
        }
        "the two entries change places" => {
            let Some(parsed) = header::parse(&envelope).unwrap().wraps else { panic!("no wraps") };
            let swapped: Vec<_> = parsed.entries.into_iter().rev().collect();
            let section = wraps::encode(0, &swapped).unwrap();
            envelope[68..68 + section.len()].copy_from_slice(&section);
        }
        single => {
            // "byte 73 (generation) is `01`"
            let words: Vec<_> = single.split(' ').collect();
            assert_eq!(words[0], "byte", "no such change: {single}");
            let offset: usize = words[1].parse().unwrap();
            let value = words.last().unwrap().trim_matches('`');
            envelope[offset] = u8::from_str_radix(value, 16).unwrap();
        }
    }
    (envelope, opener)
}

#[test]
fn every_row_of_b6_is_refused_as_it_says() {
    let rows = table("### B.6 ");
    assert_eq!(rows.len(), 22);
    for columns in rows {
        let [example, change, error] = columns[..] else { panic!("three columns: {columns:?}") };
        let (envelope, opener) = row(example, change);
        let class = opener.open(&envelope).unwrap_err();
        assert_eq!(class.to_string(), error, "{example}, {change}");
    }
}

/// The control: without the change nothing is refused.
#[test]
fn the_examples_of_b6_open_unchanged() {
    for example in ["B.1", "B.3, 4096 bytes", "B.4"] {
        let (mut envelope, opener) = row(example, "one byte added");
        envelope.pop();
        assert!(opener.open(&envelope).is_ok(), "{example}");
    }
}
