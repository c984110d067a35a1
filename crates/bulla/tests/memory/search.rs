//! Looks for secrets in the memory of another process.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use data_encoding::HEXLOWER;

/// A piece of a secret that is as long as this is found, wherever it begins, in the
/// secret and in memory.
pub(crate) const PIECE: usize = 16;

const PAGE: usize = 4096;

/// What is looked for.
#[derive(Default, Clone)]
pub(crate) struct Secrets(Vec<(String, Vec<u8>)>);

impl Secrets {
    /// Looks for every piece of `bytes`, too.
    pub(crate) fn add(&mut self, name: impl Into<String>, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref().to_vec();
        assert!(bytes.len() >= PIECE);
        let secret = (name.into(), bytes);
        if !self.0.contains(&secret) {
            self.0.push(secret);
        }
    }

    pub(crate) fn extend(&mut self, others: Self) {
        others.0.into_iter().for_each(|(name, bytes)| self.add(name, bytes));
    }

    /// Those of which the name begins with `prefix`.
    pub(crate) fn of(&self, prefix: &str) -> Self {
        Self(self.0.iter().filter(|(name, _)| name.starts_with(prefix)).cloned().collect())
    }

    /// One line each: hexadecimal and name.
    pub(crate) fn to_text(&self) -> String {
        let lines = self.0.iter();
        lines.map(|(name, bytes)| format!("{} {name}\n", HEXLOWER.encode(bytes))).collect()
    }

    /// Those with `part` in their names.
    pub(crate) fn only(&self, part: &str) -> Self {
        Self(self.0.iter().filter(|(name, _)| name.contains(part)).cloned().collect())
    }

    pub(crate) fn without(&self, part: &str) -> Self {
        Self(self.0.iter().filter(|(name, _)| !name.contains(part)).cloned().collect())
    }

    /// Searches the memory of the process `pid`: all that it can write, and all that comes
    /// from no file.
    pub(crate) fn search(&self, pid: u32) -> Found {
        assert!(!self.0.is_empty(), "there is nothing to look for");
        let index = Index::of(self);
        let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
        let mut found = Found::default();
        for region in regions(pid) {
            let mut bytes = vec![0; region.end - region.start];
            // Pages behind a file that became shorter cannot be read.
            let Ok(len) = memory.read_at(&mut bytes, region.start as u64) else { continue };
            bytes.truncate(len);
            found.bytes += len;
            index.search(self, &region, &bytes, &mut found);
        }
        assert!(found.bytes > 1 << 20, "only {} bytes could be read", found.bytes);
        found
    }
}

/// What was found where.
#[derive(Default)]
pub(crate) struct Found {
    /// By name: places, and how long what is there is.
    places: BTreeMap<String, Vec<(String, usize)>>,
    /// Memory that was read.
    bytes: usize,
}

impl Found {
    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// How many copies there are of all secrets whose names contain `part`.
    pub(crate) fn copies_of(&self, part: &str) -> usize {
        let of_this = self.places.iter().filter(|(name, _)| name.contains(part));
        of_this.map(|(_, places)| places.len()).sum()
    }
}

impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "in {} KiB of memory:", self.bytes >> 10)?;
        for (name, places) in &self.places {
            for (place, len) in places {
                writeln!(f, "  {len:3} bytes of {name} at {place}")?;
            }
        }
        Ok(())
    }
}

/// Pieces by their first eight bytes.
struct Index {
    /// Which hashes occur at all.
    filter: Vec<bool>,
    pieces: HashMap<u64, Vec<(usize, usize)>>,
}

impl Index {
    fn of(secrets: &Secrets) -> Self {
        let (mut filter, mut pieces) = (vec![false; 1 << 20], HashMap::<_, Vec<_>>::new());
        for (which, (_, bytes)) in secrets.0.iter().enumerate() {
            for (at, piece) in bytes.windows(PIECE).enumerate() {
                let start = first_word(piece);
                filter[hash(start)] = true;
                pieces.entry(start).or_default().push((which, at));
            }
        }
        Self { filter, pieces }
    }

    fn search(&self, secrets: &Secrets, region: &Region, bytes: &[u8], found: &mut Found) {
        // Where the last piece of each secret was found: in the secret, in memory, and how
        // long the run of pieces is that it ended.
        let mut runs: HashMap<usize, (usize, usize)> = HashMap::new();
        for page in (0..bytes.len()).step_by(PAGE) {
            let end = (page + PAGE).min(bytes.len());
            if bytes[page..end] == [0; PAGE][..end - page] {
                continue;
            }
            for place in page..end.min((bytes.len() + 1).saturating_sub(PIECE)) {
                let start = first_word(&bytes[place..]);
                if !self.filter[hash(start)] {
                    continue;
                }
                for (which, at) in self.pieces.get(&start).into_iter().flatten() {
                    let (name, secret) = &secrets.0[*which];
                    if secret[*at..*at + PIECE] != bytes[place..place + PIECE] {
                        continue;
                    }
                    let places = found.places.entry(name.clone()).or_default();
                    let (before, offset) = (place.wrapping_sub(1), place.wrapping_sub(*at));
                    match (runs.insert(*which, (place, offset)), places.last_mut()) {
                        (Some(run), Some(last)) if run == (before, offset) => last.1 += 1,
                        _ => places.push((region.at(place), PIECE)),
                    }
                }
            }
        }
    }
}

fn first_word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[..8]);
    u64::from_le_bytes(word)
}

fn hash(word: u64) -> usize {
    (word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44) as usize
}

struct Region {
    start: usize,
    end: usize,
    name: String,
}

impl Region {
    fn at(&self, place: usize) -> String {
        let Self { start, end, name } = self;
        let (at, left) = (start + place, end - start - place);
        format!("{at:#x}, {left:#x} before the end of {start:x}-{end:x} {name}")
    }
}

fn regions(pid: u32) -> Vec<Region> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    maps.lines().filter_map(region).collect()
}

/// A line like `7f0c9a000000-7f0c9a021000 rw-p 00000000 00:00 0  [heap]`.
fn region(line: &str) -> Option<Region> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let (access, _offset, _device) = (words.next()?, words.next()?, words.next()?);
    let of_a_file = words.next()? != "0";
    let name = words.collect::<Vec<_>>().join(" ");
    let readable = access.starts_with('r') && (access.contains('w') || !of_a_file);
    if !readable || ["[vvar]", "[vvar_vclock]", "[vsyscall]", "[vdso]"].contains(&&*name) {
        return None;
    }
    let parse = |hex| usize::from_str_radix(hex, 16).ok();
    Some(Region { start: parse(start)?, end: parse(end)?, name })
}
