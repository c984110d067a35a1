//! A KEK in the transit engine of HashiCorp Vault or OpenBao.
//!
//! [`VaultKek`] is one key of one engine; [`VaultOptions`] says where it is and [`VaultAuth`]
//! how to log in. `docs/backends/vault.md` is the guide: how to set up the engine, keys,
//! policies and logins.
//!
//! | here | transit |
//! |---|---|
//! | `generate_data_key` | `datakey/plaintext`; `encrypt` where keys do not derive |
//! | `wrap_key`, `unwrap_key` | `encrypt`, `decrypt` |
//! | `rewrap_key` | `rewrap`; `decrypt` and `encrypt` where keys do not derive |
//! | context | `context` of keys made with `derived=true`, else `associated_data` |
//! | version | the `v2` of `vault:v2:...` |
//! | `describe` | a read of the key |
//! | `disable_version`, `destroy_version` | `min_decryption_version`, `trim`, in their order |
//! | `disable`, `enable` | soft deletion, in OpenBao only |
//! | rotation period | `auto_rotate_period` |
//! | clock | `sys/health` |
//!
//! # Security
//! What holds:
//! - Vault binds each wrap to its context. That is tried before anything is wrapped, by
//!   wrapping under one context and unwrapping under another: servers and keys that ignore the
//!   context are refused.
//! - A blob that is not exactly what transit writes never reaches Vault.
//! - Tokens, credentials and data keys are wiped from the buffers of this crate, requests and
//!   answers included, and appear in no error and no `Debug`.
//! - No redirect is followed, as the token would go with it; `http` is refused but for this
//!   machine.
//!
//! What does not:
//! - **Copies remain in libraries**: what reqwest, hyper and rustls read into their own
//!   buffers, or encrypt from there, is not wiped; a data key is in there as base64. It is
//!   overwritten as the connection is used, and freed with it.
//! - **`encrypt` makes a key that does not exist** if the policy allows `create`. The policies in
//!   `policies/` do not.
//! - A key that is deleted and made again under the same name, as one of another kind, is
//!   noticed by the next process that connects.
#![forbid(unsafe_code)]

mod admin;
mod auth;
mod batch;
mod blob;
mod clock;
mod failure;
mod kek;
mod key;
mod options;
mod transit;
mod wire;

pub use admin::{CreateOptions, VaultKeyType};
pub use auth::{VaultAuth, VaultSecret};
pub use kek::VaultKek;
pub use options::VaultOptions;
