//! Edits of the key file, down to the byte; needs to see inside it.

use bulla_backend::{KeyAdmin, KmsErrorKind};
use bulla_core::{DataKey, DekVersion};
use proptest::prelude::*;

use crate::file::{
    FILE_BYTES_MAX, FORMAT, FileId, KeyFile, KeyStatus, Mac, Method, VERSIONS_MAX, VersionStatus,
};
use crate::kek::new_version;
use crate::keys::UnlockKey;
use crate::{LocalKek, Unlock};

fn raw() -> Unlock {
    Unlock::raw_key(DataKey::init_with(|bytes| bytes.fill(7)))
}

fn unlock_key() -> UnlockKey {
    UnlockKey::of_file(raw(), &Method::Raw {}).unwrap()
}

/// Three versions: one destroyed, one disabled, one current.
fn sample() -> KeyFile {
    let (key, id) = (unlock_key(), FileId([0xab; 16]));
    let version = |number| new_version(&key, id, DekVersion::new(number).unwrap()).unwrap();
    let mut file = KeyFile {
        format: FORMAT.into(),
        name: "dev".into(),
        id,
        unlock: Method::Raw {},
        generation: 5,
        status: KeyStatus::Enabled,
        versions: (1..=3).map(version).collect(),
        mac: Mac::default(),
    };
    file.versions[0].status = VersionStatus::Destroyed;
    file.versions[0].material = None;
    file.versions[1].status = VersionStatus::Disabled;
    key.authenticate(&mut file).unwrap();
    file
}

/// What opening does with the text of a file.
fn accept(text: &[u8]) -> Result<KeyFile, KmsErrorKind> {
    let file = KeyFile::parse(text).map_err(|failure| failure.kind())?;
    unlock_key().verify(&file).map_err(|failure| failure.kind())?;
    Ok(file)
}

#[test]
fn what_is_written_is_accepted() {
    let file = sample();
    assert_eq!(accept(&file.to_text().unwrap()), Ok(file));
}

type Edit = fn(&mut KeyFile);

/// Each edit that somebody might try by hand.
const EDITS: &[(&str, Edit)] = &[
    ("enable a disabled version", |file| file.versions[1].status = VersionStatus::Enabled),
    ("disable the current version", |file| file.versions[2].status = VersionStatus::Disabled),
    ("disable the key", |file| file.status = KeyStatus::Disabled),
    ("forget the last version", |file| file.versions.truncate(2)),
    ("forget the first version", |file| file.versions = file.versions.split_off(1)),
    ("swap the material of versions", |file| {
        let material = file.versions[1].material.take();
        file.versions[1].material = file.versions[2].material.replace(material.unwrap());
    }),
    ("swap versions", |file| file.versions.swap(1, 2)),
    ("swap versions, not their numbers", |file| {
        file.versions.swap(1, 2);
        let numbers = (file.versions[1].version, file.versions[2].version);
        (file.versions[2].version, file.versions[1].version) = numbers;
    }),
    ("bring back a destroyed version", |file| {
        file.versions[0].status = VersionStatus::Enabled;
        file.versions[0].material = file.versions[1].material.clone();
    }),
    ("claim that a version was destroyed", |file| {
        file.versions[1].status = VersionStatus::Destroyed;
        file.versions[1].material = None;
    }),
    ("keep the material of a destroyed version", |file| {
        file.versions[1].status = VersionStatus::Destroyed;
    }),
    ("change a date", |file| file.versions[1].created_at = jiff::Timestamp::UNIX_EPOCH),
    ("change the generation", |file| file.generation = 4),
    ("change the name", |file| file.name = "prod".into()),
    ("change the id", |file| file.id.0[15] ^= 1),
    ("change the format", |file| file.format = "bulla-key-file/2".into()),
    ("claim a passphrase", |file| {
        file.unlock =
            Method::Passphrase { m_cost_kib: 64, t_cost: 1, p_cost: 1, salt: Default::default() };
    }),
    ("zero the MAC", |file| file.mac = Mac::default()),
    ("cut the MAC's last bit", |file| file.mac.0[31] ^= 1),
    ("remove all versions", |file| file.versions.clear()),
];

#[test]
fn every_edit_is_refused() {
    for (what, edit) in EDITS {
        let mut file = sample();
        edit(&mut file);
        let text = serde_json::to_vec(&file).unwrap();
        let result = accept(&text);
        let expected = match *what {
            // The id is part of the key ids: after this, nothing looks sealed by us.
            "change the id" => KmsErrorKind::Unauthenticated,
            _ => KmsErrorKind::Misconfigured,
        };
        assert_eq!(result, Err(expected), "{what}");
    }
}

/// Unlike JSON readers that let the last one win or look away.
#[test]
fn unknown_and_repeated_fields_are_refused() {
    let text = String::from_utf8(sample().to_text().unwrap()).unwrap();
    for (field, twice) in [
        ("\"generation\": 5,", "\"generation\": 5, \"generation\": 5,"),
        ("\"generation\": 5,", "\"generation\": 5, \"note\": \"hello\","),
        ("\"generation\": 5,", "\"generation\": 5.0,"),
        ("\"generation\": 5,", "\"generation\": 5e0,"),
        ("\"generation\": 5,", "\"generation\": \"5\","),
        ("\"kind\": \"raw\"", "\"kind\": \"raw\", \"salt\": \"\""),
        ("\"kind\": \"raw\"", "\"kind\": \"raw\", \"kind\": \"raw\""),
        ("\"version\": 1,", "\"version\": 1, \"version\": 1,"),
        ("\"version\": 1,", "\"version\": 1, \"note\": 1,"),
        ("abab", "ABAB"),
    ] {
        let changed = text.replacen(field, twice, 1);
        assert_ne!(changed, text, "{field}");
        assert_eq!(accept(changed.as_bytes()), Err(KmsErrorKind::Misconfigured), "{twice}");
    }
    let behind = format!("{text}{{}}");
    assert_eq!(accept(behind.as_bytes()), Err(KmsErrorKind::Misconfigured));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// A changed, removed or added byte is refused, unless the document is still the
    /// same, as it is with white space.
    #[test]
    fn any_change_of_the_text_is_refused_or_means_nothing(
        at in any::<prop::sample::Index>(),
        change in 0..3,
        byte in any::<u8>(),
    ) {
        let file = sample();
        let mut text = file.to_text().unwrap();
        let at = at.index(text.len());
        match change {
            0 => text[at] = byte,
            1 => drop(text.remove(at)),
            _ => text.insert(at, byte),
        }
        if let Ok(accepted) = accept(&text) {
            prop_assert_eq!(accepted, file);
        }
    }

    /// Nor does a stranger's text do any harm.
    #[test]
    fn any_text_is_parsed_or_refused(text in "[{}\\[\\]\":,a-z0-9 ]{0,200}") {
        prop_assert!(accept(text.as_bytes()).is_err());
    }
}

#[test]
fn every_bit_of_the_text_counts() {
    let file = sample();
    let text = file.to_text().unwrap();
    let mut refused = 0;
    for at in 0..text.len() {
        for bit in 0..8 {
            let mut changed = text.clone();
            changed[at] ^= 1 << bit;
            match accept(&changed) {
                Ok(accepted) => assert_eq!(accepted, file, "byte {at}, bit {bit}"),
                Err(_) => refused += 1,
            }
        }
    }
    // White space may become other white space, and dates have more than one spelling.
    assert!(refused > text.len() * 7, "{refused} of {} refused", text.len() * 8);
}

#[tokio::test]
async fn ten_thousand_versions_fit_and_no_more() {
    let (key, mut file) = (unlock_key(), sample());
    let current = file.versions.pop().unwrap();
    file.versions = (1..=VERSIONS_MAX as u32)
        .map(|number| {
            let mut version = current.clone();
            version.version = DekVersion::new(number).unwrap();
            version
        })
        .collect();
    file.generation = u64::MAX - 1;
    key.authenticate(&mut file).unwrap();
    let text = file.to_text().unwrap();
    assert!((text.len() as u64) < FILE_BYTES_MAX, "{}", text.len());
    assert!(accept(&text).is_ok());

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("full.key");
    std::fs::write(&path, text).unwrap();
    let kek = LocalKek::open(&path, raw()).await.unwrap();
    let error = kek.rotate().await.unwrap_err();
    assert_eq!(error.kind(), KmsErrorKind::Misconfigured);
    assert!(error.to_string().contains("create a new key"), "{error}");

    let mut version = current;
    version.version = DekVersion::new(VERSIONS_MAX as u32 + 1).unwrap();
    file.versions.push(version);
    key.authenticate(&mut file).unwrap();
    assert_eq!(accept(&file.to_text().unwrap()), Err(KmsErrorKind::Misconfigured));
}

/// Argon2id with the parameters of this crate, pinned: another key for the same
/// passphrase would lock everybody out.
#[test]
fn stretching_is_pinned() {
    let method = Method::Passphrase {
        m_cost_kib: 64,
        t_cost: 3,
        p_cost: 2,
        salt: crate::file::Bytes([5; 16]),
    };
    let unlock = Unlock::passphrase("correct horse".into());
    let key = UnlockKey::of_file(unlock, &method).unwrap();
    let mut file = sample();
    file.unlock = method;
    for version in &mut file.versions {
        version.created_at = jiff::Timestamp::UNIX_EPOCH;
        version.material = None;
    }
    key.authenticate(&mut file).unwrap();
    assert_eq!(
        data_encoding::HEXLOWER.encode(&file.mac.0),
        "69666dd7ae608a5965c66efc759be0cb457e582f75b9044752124c78b339ed08"
    );
}
