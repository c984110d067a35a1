//! `inspect`, on examples of the specification.

use data_encoding::HEXLOWER;

use crate::B1;
use crate::process::{KEYS, interop};

/// Appendix B.4.
const B4: &str = "42554c011101000000000000dbe96892220e8484fcbad5d53bc778873196e31c0daf08b20b115874\
                  130cc256404142434445464748494a4b4c4d4e4f5051525354555657006b000000000201000b6578\
                  616d706c652d6b656b000010a0a1a2a3a4a5a6a7a8a9aaabacadaeaf03000e7472616e7369742f6f\
                  726465727301370010b0b1b2b3b4b5b6b7b8b9babbbcbdbebf426ee488f90f91f951bc03fbe93920\
                  ea98d9ffa05a0cf3d0b41b730e9f8cf0cd6d321bcbdcbe6be84440355efa4455dacdd85c6a316050\
                  6c4fd223ab39ba37";

const B4_JSON: &str = r#"{
  "format": 1,
  "kind": "11",
  "kind_name": "self-contained one-shot",
  "suite": 1,
  "suite_name": "XAES-256-GCM",
  "codec": 0,
  "chunk_log2": 0,
  "dek_version": 0,
  "key_id": "dbe96892220e8484fcbad5d53bc778873196e31c0daf08b20b115874130cc256",
  "nonce": "404142434445464748494a4b4c4d4e4f5051525354555657",
  "wraps": {
    "wraps_len": 107,
    "generation": 0,
    "entries": [
      {
        "backend": 1,
        "kek_id": "6578616d706c652d6b656b",
        "kek_version": "",
        "blob": "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf"
      },
      {
        "backend": 3,
        "kek_id": "7472616e7369742f6f7264657273",
        "kek_version": "37",
        "blob": "b0b1b2b3b4b5b6b7b8b9babbbcbdbebf"
      }
    ],
    "mac": "426ee488f90f91f951bc03fbe93920ea98d9ffa05a0cf3d0b41b730e9f8cf0cd"
  },
  "payload_offset": 177,
  "payload_len": 31,
  "envelope_len": 208,
  "chunks": null,
  "plaintext_len": 15
}
"#;

fn bytes(hex: &str) -> Vec<u8> {
    HEXLOWER.decode(hex.as_bytes()).unwrap()
}

#[test]
fn an_envelope_is_shown_as_json() {
    let json = String::from_utf8(interop(&["inspect"], &bytes(B4)).succeeded()).unwrap();
    assert_eq!(json, B4_JSON);
    let json: serde_json::Value =
        serde_json::from_slice(&interop(&["inspect"], &bytes(B1)).succeeded()).unwrap();
    assert_eq!((&json["wraps"], &json["payload_offset"]), (&serde_json::Value::Null, &68.into()));
}

#[test]
fn an_envelope_is_shown_as_text() {
    let text = String::from_utf8(interop(&["inspect", "--text"], &bytes(B4)).succeeded()).unwrap();
    for part in ["self-contained one-shot", "transit/orders", "dbe96892220e8484", "15 bytes"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn a_stream_is_counted() {
    let seal = [&["seal"], &KEYS[..], &["--kind", "chunked", "--chunk-log2", "12"]].concat();
    let envelope = interop(&seal, &[7; 10_000]).succeeded();
    let json: serde_json::Value =
        serde_json::from_slice(&interop(&["inspect"], &envelope).succeeded()).unwrap();
    assert_eq!((&json["chunks"], &json["plaintext_len"]), (&3.into(), &10_000.into()));
    assert_eq!((&json["kind"], &json["chunk_log2"]), (&"02".into(), &12.into()));
}

#[test]
fn what_is_no_envelope_is_refused_by_its_class() {
    let refused = |bytes: &[u8]| interop(&["inspect"], bytes).refused().to_owned();
    let whole = bytes(B4);
    for len in [0, 67, 68, 69, 70, 100, 176, 177, 192] {
        assert!(refused(&whole[..len]).starts_with("malformed: "), "{len}");
    }
    let mut newer = whole;
    newer[3] = 2;
    assert!(refused(&newer).starts_with("unsupported: "));
    assert!(interop(&["inspect", "--text"], &newer).refused().starts_with("unsupported: "));
}
