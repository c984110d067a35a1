//! A KEK in a file, with the life cycle of a key in a cloud KMS.
//!
//! For development, continuous integration, single machines and the edge: versions,
//! rotation, disabling and destroying work as they do in a KMS, without a network.
//! One file is one KEK with versions 1 to n, unlocked by a passphrase or by 32
//! random bytes ([`Unlock`]); [`LocalKek`] is the KEK.
//!
//! Each version's key material lies in the file in an envelope of `bulla-core`,
//! sealed under the unlock key. A wrapped DEK is such an envelope too: 116 bytes,
//! whose header names the version and whose key id commits to it. A MAC covers the
//! whole file. `docs/decisions/0003-local-kek-is-an-envelope.md` has the reasons.
//!
//! # Security
//! What holds:
//! - Without the unlock key a file reveals its name, dates, states and how many
//!   versions there are, but no key; and any edit of it is refused.
//! - Every call reads the file anew. What another process rotates, disables or
//!   destroys is in force at once, and no KEK material stays in memory between
//!   calls: the unlock key alone does.
//! - Writers exclude each other, and a crash leaves the old file or the new one.
//! - A [`LocalKek`] that is open refuses a file that is older than what it has seen.
//!
//! What does not:
//! - **A copied file is a copied KEK**, for whoever has the unlock key too. Nothing
//!   counts or limits its uses, and nobody can revoke the copy.
//! - **An older file is a valid one.** Whoever can replace the file can bring back
//!   an earlier generation before a process opens it, with versions that were
//!   disabled or destroyed since. [`LocalKek::generation`] lets you keep watch.
//! - **Destroyed material may survive** in backups, in snapshots and on the medium:
//!   it is gone from the file, and sealed wherever else it is.
//! - A passphrase can be guessed offline by whoever has the file, at the price that
//!   Argon2id sets; one that people choose is often guessable at any price.
//! - The KEK is used in this process: whoever reads its memory gets the unlock key.
//!
//! For production, use a KMS or an HSM: there the key never comes out.
#![forbid(unsafe_code)]

mod admin;
mod disk;
mod failure;
mod file;
mod kek;
mod keys;
mod unlock;
mod wrap;

pub use kek::LocalKek;
pub use unlock::{Argon2Cost, Unlock, UnlockError};

#[cfg(test)]
mod tests;
