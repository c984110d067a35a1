//! Keys that were let go are not in memory: one process uses keys and lets go of them,
//! and another, which knows them too, looks for them in its memory.
//!
//! The helper opens a key file and a key store that the observer has made, and seals and
//! opens through the manager, on several threads. The observer has the keys from the same
//! key file and store; nothing secret passes between the two. It derives all that the
//! helper has derived, with the reference implementation of the format: keys, key
//! schedules, hash keys, pads and states of HMAC. Then it reads all memory that the helper
//! can write (`/proc/PID/mem`) and looks for any 16 consecutive bytes of any of it.
//!
//! While a DEK is warm, its derived keys have to be found, and the DEK itself must not be;
//! after it was let go, in each of the ways in which that happens, nothing is found. What
//! is not looked at: registers, the kernel's buffers, pieces shorter than 16 bytes.
//!
//! # By hand
//!
//! With a debugger's eyes, `gcore` of gdb for example. The tests stop wherever nothing was
//! found, name the helper, and write down what they looked for:
//!
//! ```text
//! BULLA_MEMORY_TEST_PAUSE=1 cargo test -p bulla --test memory a_revoked_kek -- --nocapture
//!     AwsLcRs, revoked: the helper is 4711; remove /tmp/.tmpXXXXXX/secrets to go on
//! gcore -o core 4711
//! while read -r hex name; do
//!     LC_ALL=C grep -qaP "$(sed 's/../\\x&/g' <<< "${hex:0:32}")" core.4711 && echo "$name"
//! done < /tmp/.tmpXXXXXX/secrets
//! ```
//!
//! That prints what was found, by the first 16 bytes. A core dump has less in it than the
//! memory: `bulla_sys::LockedBytes` keeps the unlock key and DEKs out of it.
#![cfg(target_os = "linux")]
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests"
)]

#[path = "memory/aes.rs"]
mod aes;
#[path = "memory/helper.rs"]
mod helper;
#[path = "memory/keys.rs"]
mod keys;
#[path = "memory/observer.rs"]
mod observer;
#[path = "memory/search.rs"]
mod search;

use bulla::backend::{DekState, KeyAdmin as _};
use bulla::{Library, Suite};
use data_encoding::HEXLOWER;
use observer::{MADE_HERE, Observer};
use search::Secrets;

/// Not a test: the process that is observed.
#[test]
fn helper() {
    if std::env::var_os(helper::DIRECTORY).is_some() {
        helper::run();
    }
}

/// The test of the tests.
#[tokio::test]
async fn the_search_finds_what_is_there_and_only_while_it_is() {
    let mut observer = Observer::new(Library::default(), 10).await;
    let mut bytes = [0; 48];
    getrandom::fill(&mut bytes).unwrap();
    let mut secrets = Secrets::default();
    secrets.add("planted", bytes);
    observer.finds_nothing(&secrets, "before");
    let masked = bytes.map(|byte| byte ^ helper::MASK);
    observer.tell(&format!("plant {}", HEXLOWER.encode(&masked)));
    assert_eq!(observer.search(&secrets).copies_of("planted"), 1);
    // Any piece will do.
    for part in [&bytes[..16], &bytes[7..23], &bytes[32..]] {
        let mut secrets = Secrets::default();
        secrets.add("part", part);
        assert_eq!(observer.search(&secrets).copies_of("part"), 1);
    }
    observer.tell("unplant");
    observer.finds_nothing(&secrets, "after");
}

/// Uses two scopes, of which the helper has made one and the observer the other, and
/// looks for what has to be there and for what must not.
async fn warm(observer: &mut Observer) -> Secrets {
    let tenants = [MADE_HERE[0], "there"];
    for tenant in tenants {
        observer.tell(&format!("use {tenant}"));
    }
    let mut secrets = Secrets::default();
    for tenant in tenants {
        let of_tenant = observer.secrets_of_active(tenant).await;
        check_warm(observer, tenant, &of_tenant);
        secrets.extend(of_tenant);
    }
    secrets
}

fn check_warm(observer: &Observer, tenant: &str, secrets: &Secrets) {
    let found = observer.search(secrets);
    for part in ["suite 1: stream key", "suite 2: stream key", "suite 1: K1", "suite 2: K1"] {
        assert!(found.copies_of(part) > 0, "{tenant}: no {part} {found:?}");
    }
    let hash_key = found.copies_of("suite 1: Kx: H") + found.copies_of("suite 2: Kx: H");
    assert!(hash_key > 0, "{tenant}: no hash key {found:?}");
    // Elsewhere schedules have a form of their own.
    if cfg!(target_arch = "aarch64") || is_x86_with_aes() {
        for part in ["suite 1: seal key and schedule", "suite 1: Kx and schedule"] {
            assert!(found.copies_of(part) > 0, "{tenant}: no {part} {found:?}");
        }
    }
    for part in ["raw key", "wraps key", "suite 1: L", "suite 2: L"] {
        observer.finds_nothing(&secrets.of(&format!("{tenant}: {part}")), "while it is warm");
    }
}

fn is_x86_with_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::is_x86_feature_detected!("aes");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

#[tokio::test]
async fn an_evicted_dek_leaves_nothing() {
    for library in Library::ALL {
        let mut observer = Observer::new(*library, 1).await;
        observer.tell("use there");
        let secrets = observer.secrets_of_active("there").await;
        observer.tell(&format!("use {}", MADE_HERE[0]));
        observer.finds_nothing(&secrets, &format!("{library:?}, evicted"));
        let other = observer.secrets_of_active(MADE_HERE[0]).await;
        check_warm(&observer, MADE_HERE[0], &other);
        observer.tell("use there");
        observer.finds_nothing(&other, &format!("{library:?}, evicted too"));
    }
}

/// In suite 2 every message has keys of its own, which not even a warm DEK leaves behind.
#[tokio::test]
async fn messages_of_suite_2_leave_nothing() {
    for library in Library::ALL {
        let mut observer = Observer::new_in(Suite::Xaes256GcmSiv, *library, 1).await;
        observer.tell("use there");
        let secrets = observer.secrets_of_active("there").await;
        let found = observer.search(&secrets);
        for part in ["suite 2: stream key", "suite 2: K1"] {
            assert!(found.copies_of(part) > 0, "no {part} {found:?}");
        }
        if cfg!(target_arch = "aarch64") || is_x86_with_aes() {
            assert!(found.copies_of("suite 2: Kx and schedule") > 0, "{found:?}");
        }
        let of_messages = secrets.only("message's");
        observer.finds_nothing(&of_messages, &format!("{library:?}, while the DEK is warm"));
        observer.tell(&format!("use {}", MADE_HERE[0]));
        observer.finds_nothing(&secrets, &format!("{library:?}, evicted"));
    }
}

#[tokio::test]
async fn a_shredded_dek_leaves_nothing() {
    for library in Library::ALL {
        let mut observer = Observer::new(*library, 10).await;
        warm(&mut observer).await;
        for tenant in [MADE_HERE[0], "there"] {
            let dek = observer.dek(tenant).await;
            let secrets = observer.secrets_of(tenant, &dek).await;
            observer.change_state(&dek, DekState::Active, DekState::Shredded).await;
            assert_eq!(observer.tell("sync"), "Ok(())");
            observer.finds_nothing(&secrets, &format!("{library:?}, shredded"));
        }
    }
}

#[tokio::test]
async fn a_disabled_dek_leaves_nothing() {
    for library in Library::ALL {
        let mut observer = Observer::new(*library, 10).await;
        for tenant in [MADE_HERE[0], "there"] {
            observer.tell(&format!("use {tenant}"));
            let first = observer.dek(tenant).await;
            assert_eq!(observer.tell(&format!("rotate {tenant}")), "2");
            observer.tell(&format!("use {tenant}"));
            let secrets = observer.secrets_of(tenant, &first).await;
            check_warm(&observer, tenant, &secrets);
            observer.change_state(&first, DekState::DecryptOnly, DekState::Disabled).await;
            assert_eq!(observer.tell("sync"), "Ok(())");
            observer.finds_nothing(&secrets, &format!("{library:?}, disabled"));
            let second = observer.secrets_of_active(tenant).await;
            check_warm(&observer, tenant, &second);
        }
    }
}

#[tokio::test]
async fn a_revoked_kek_leaves_nothing() {
    for library in Library::ALL {
        let mut observer = Observer::new(*library, 10).await;
        let secrets = warm(&mut observer).await;
        observer.embedded().kek.disable().await.unwrap();
        assert_eq!(observer.tell("sync"), "Ok(())");
        observer.finds_nothing(&secrets, &format!("{library:?}, revoked"));
    }
}

#[tokio::test]
async fn a_closed_or_dropped_manager_leaves_nothing() {
    for library in Library::ALL {
        for end in ["close", "drop"] {
            let mut observer = Observer::new(*library, 10).await;
            let secrets = warm(&mut observer).await;
            observer.tell(end);
            observer.finds_nothing(&secrets, &format!("{library:?}, {end}"));
        }
    }
}

/// Between calls the unlock key is all that `bulla-local` keeps.
#[tokio::test]
async fn a_local_kek_is_in_memory_while_it_is_used_only() {
    for library in Library::ALL {
        let mut observer = Observer::new(*library, 10).await;
        warm(&mut observer).await;
        let deks = [observer.dek(MADE_HERE[0]).await, observer.dek("there").await];
        let wraps = deks.each_ref().map(|dek| {
            let context = dek.scope.context().kms_context(dek.version);
            (dek, bulla::RecordContext::from(&context))
        });
        let secrets = observer.secrets_of_kek(&wraps);
        let found = observer.search(&secrets);
        assert_eq!(found.copies_of("unlock key: raw key"), 1, "{found:?}");
        observer.finds_nothing(&secrets.without("unlock key: raw key"), "between calls");
        observer.finds_nothing(&secrets.of("unlock key: raw key,"), "between calls");
        observer.tell("drop-all");
        observer.finds_nothing(&secrets, &format!("{library:?}, dropped"));
    }
}

/// The core without the manager: streams, both suites, self-contained envelopes.
#[tokio::test]
async fn keys_sealers_and_openers_leave_nothing() {
    for library in Library::ALL {
        let mut observer = Observer::new(*library, 10).await;
        observer.tell(&format!("hold {}", MADE_HERE[0]));
        let dek = observer.dek(MADE_HERE[0]).await;
        let secrets = observer.secrets_of(MADE_HERE[0], &dek).await;
        let found = observer.search(&secrets);
        let single_use = observer.secrets_of_self_contained(dek.scope.context()).await;
        for suite in [1, 2] {
            for part in ["stream key", "chunk key", "K1"] {
                let part = format!("suite {suite}: {part}");
                assert!(found.copies_of(&part) > 0, "no {part} {found:?}");
            }
        }
        assert!(observer.search(&single_use).copies_of("raw key") > 0);
        observer.tell("let-go");
        observer.finds_nothing(&secrets, &format!("{library:?}, dropped"));
        observer.finds_nothing(&single_use, &format!("{library:?}, single use"));
    }
}
