//! Test vectors of the envelope format, and what runs them.
//!
//! `docs/spec/vectors/README.md` says what a vector file holds. [`read_dir`] reads such files,
//! [`check`] runs one vector through one [`Implementation`], and [`run`] runs all of them
//! through several and counts. Two implementations are here: [`Core`], which is `bulla-core`
//! with one of its AEAD libraries, and [`Reference`], the plain one beside this module. A
//! vector that does not come out of a file serves as well: the differential tests make theirs.
//!
//! | module | what |
//! |---|---|
//! | `vector`, `parse`, `blob` | a vector, as the file has it |
//! | `keks` | the opener's key-management services, as tables |
//! | `implementation` | what is run: operations in, [`Output`] or [`Refusal`] out |
//! | `core`, `reference` | the two implementations |
//! | `check`, `values`, `typed` | what one vector demands of one implementation |
//! | `report` | what ran, and what failed |

mod blob;
mod check;
mod core;
mod implementation;
mod keks;
mod parse;
mod reference;
mod report;
mod typed;
mod values;
mod vector;

use std::path::Path;

pub use blob::Blob;
pub use check::{Checked, check};
pub use core::Core;
pub use implementation::{Implementation, Output, Refusal, Sealing};
pub use keks::{Asked, Keks};
pub use parse::VectorError;
pub use reference::Reference;
pub use report::{Report, run};
pub use typed::Typed;
pub use values::Value;
pub use vector::{Expect, KmsFailure, Operation, StoredDek, Unwraps, Vector};

/// The vectors of all files `*.vec` in `dir`, sorted by name.
///
/// # Errors
/// [`VectorError`] for the first file that cannot be read or is no vector.
pub fn read_dir(dir: &Path) -> Result<Vec<Vector>, VectorError> {
    let unreadable = |error: std::io::Error| VectorError::of(&dir.to_string_lossy(), error);
    let mut vectors = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        if path.extension().is_some_and(|extension| extension == "vec") {
            let file = std::fs::read(&path).map_err(|error| VectorError::of(&name, error))?;
            vectors.push(Vector::parse(&name, &file)?);
        }
    }
    vectors.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(vectors)
}
