//! "Any byte flipped, cut, added or moved is an error" (spec, property 2): every change, to
//! envelopes of every kind, in every suite, through every library.
//!
//! `BULLA_MUTATIONS` is the number of changes, `BULLA_SEED` where they start from.
//!
//! ```text
//! BULLA_MUTATIONS=10000000 cargo test --release -p bulla-core --all-features \
//!     --test mutations -- --nocapture
//! ```
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests")]

mod change;
mod rng;
mod sample;
mod section;

use std::collections::BTreeMap;
use std::env;
use std::thread;

use bulla_core::{DataKey, Kind, Library, Suite};

use self::change::Change;
use self::rng::{Rng, hex};
use self::sample::Sample;

/// What a change was made to.
type Cell = (Kind, Suite, Library);

/// How often each change was made, by kind, suite and library.
type Counts = BTreeMap<String, u64>;

#[test]
fn any_change_is_refused() {
    let number = |name: &str| env::var(name).ok().map(|value| value.parse::<u64>().unwrap());
    let wanted = number("BULLA_MUTATIONS").unwrap_or(20_000);
    let seed = number("BULLA_SEED").unwrap_or_else(|| {
        let bytes = DataKey::generate().unwrap();
        u64::from(u32::from_be_bytes(*bytes.expose_secret().first_chunk().unwrap()))
    });
    println!("{wanted} changes, BULLA_SEED={seed}");
    let threads = thread::available_parallelism().unwrap().get() as u64;
    let mut counts = Counts::new();
    thread::scope(|scope| {
        let work = (0..threads)
            .map(|thread| scope.spawn(move || run(seed + thread, wanted.div_ceil(threads))));
        for work in work.collect::<Vec<_>>() {
            for (name, count) in work.join().unwrap() {
                *counts.entry(name).or_default() += count;
            }
        }
    });
    for cell in cells() {
        for change in Change::ALL.iter().filter(|change| change.applies_to(cell.0)) {
            let name = name(cell, *change);
            let count = counts.get(&name).copied().unwrap_or_default();
            println!("{count:>9} {name}");
            assert!(wanted < 10_000 || count > 0, "never made: {name}");
        }
    }
}

fn cells() -> impl Iterator<Item = Cell> {
    Kind::ALL.iter().flat_map(|kind| {
        Suite::ALL.iter().flat_map(move |suite| {
            Library::ALL.iter().map(move |library| (*kind, *suite, *library))
        })
    })
}

fn name((kind, suite, library): Cell, change: Change) -> String {
    format!("{change:?}, {kind:?}, {suite:?}, {library:?}")
}

/// Goes round all cells and all changes until `wanted` changes have been made.
fn run(seed: u64, wanted: u64) -> Counts {
    let mut rng = Rng::new(seed);
    let (mut counts, mut made, mut first) = (Counts::new(), 0, true);
    while made < wanted {
        for cell in cells() {
            // Long streams are slow, so there are few; what is only done to them is done at once.
            let sample = Sample::new(cell, first, &mut rng);
            let other = sample.sibling(&mut rng);
            assert_eq!(sample.open(&sample.as_it_is(), &other).as_ref(), Ok(&sample.plaintext));
            for change in Change::ALL.iter().copied() {
                let Some(forged) = change.make(&sample, &other, &mut rng) else { continue };
                if let Ok(opened) = sample.open(&forged, &other) {
                    panic!(
                        "opened after {}, BULLA_SEED={seed}, change number {made}:\n\
                         plaintext {}\n{forged:?}\n{sample:?}",
                        name(cell, change),
                        hex(&opened)
                    );
                }
                *counts.entry(name(cell, change)).or_default() += 1;
                made += 1;
            }
        }
        first = false;
    }
    counts
}
