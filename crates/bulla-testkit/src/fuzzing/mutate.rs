//! What may happen to an envelope between seal and open.

use arbitrary::{Result, Unstructured};

use super::case::{Ask, codec, text};
use crate::reference::Pairs;
use crate::reference::header::KINDS;

/// Where chunks begin: what is cut and moved there is the hardest to notice.
#[derive(Clone, Copy)]
pub(super) struct Grid {
    /// Where the first one does.
    pub(super) start: usize,
    /// Length of a full one with its tag.
    pub(super) block_len: usize,
}

/// Up to four changes of `bytes`, which may cancel each other out.
pub(super) fn envelope(u: &mut Unstructured<'_>, bytes: &mut Vec<u8>, grid: Grid) -> Result<()> {
    for _ in 0..u.int_in_range(0..=4)? {
        change(u, bytes, grid)?;
    }
    Ok(())
}

fn change(u: &mut Unstructured<'_>, bytes: &mut Vec<u8>, grid: Grid) -> Result<()> {
    let at = offset(u, bytes.len(), grid)?;
    let block_len = grid.block_len;
    let operation = u.int_in_range(0..=10_u8)?;
    if bytes.is_empty() && operation != 3 {
        return Ok(());
    }
    match operation {
        0 => bytes[at] ^= 1 << u.int_in_range(0..=7)?,
        1 => bytes[at] = u.arbitrary()?,
        2 => bytes.truncate(at),
        3 => {
            let more = u.int_in_range(1..=40)?;
            bytes.extend(std::iter::repeat_n(0, more));
        }
        4 => drop(bytes.drain(at..(at + u.int_in_range(1..=40)?).min(bytes.len()))),
        5 => bytes.insert(at, u.arbitrary()?),
        // Chunks change places, are repeated and go missing.
        6..=8 => {
            let end = |at: usize| Some(at + block_len).filter(|end| *end <= bytes.len());
            let other = offset(u, bytes.len(), grid)?;
            let (Some(at_end), Some(other_end)) = (end(at), end(other)) else { return Ok(()) };
            let block = bytes[at..at_end].to_vec();
            match operation {
                6 => bytes.copy_within(other..other_end, at),
                7 => drop(bytes.drain(at..at_end)),
                _ => drop(bytes.splice(other..other, block.iter().copied())),
            }
            if operation == 6 && u.arbitrary()? && at.abs_diff(other) >= block_len {
                bytes[other..other_end].copy_from_slice(&block);
            }
        }
        9 => bytes.truncate(bytes.len().saturating_sub(block_len)),
        // The fields that a parser looks at, with values that it knows.
        _ if bytes.len() > 12 => match u.int_in_range(0..=4_u8)? {
            0 => bytes[4] = *u.choose(&KINDS)?,
            1 => bytes[5] = u.int_in_range(0..=4)?,
            2 => bytes[6] = codec(u)?,
            3 => bytes[7] = *u.choose(&[0, 11, 12, 13, 16, 22, 23])?,
            _ => bytes[8..12].copy_from_slice(&u.int_in_range(0..=2_u32)?.to_be_bytes()),
        },
        _ => {}
    }
    Ok(())
}

/// A place in `len` bytes: near the start, near the end, where a chunk begins, or anywhere.
fn offset(u: &mut Unstructured<'_>, len: usize, grid: Grid) -> Result<usize> {
    let last = len.saturating_sub(1);
    Ok(match u.int_in_range(0..=3_u8)? {
        0 => u.int_in_range(0..=last.min(79))?,
        1 => last - u.int_in_range(0..=last.min(63))?,
        2 => (grid.start + u.int_in_range(0..=3)? * grid.block_len).min(last),
        _ => u.int_in_range(0..=last)?,
    })
}

/// What is asked for, more often than not unchanged.
pub(super) fn ask(u: &mut Unstructured<'_>, ask: &mut Ask) -> Result<()> {
    match u.int_in_range(0..=15_u8)? {
        9 => pairs(u, &mut ask.scope)?,
        10 => pairs(u, &mut ask.record)?,
        11 => std::mem::swap(&mut ask.scope, &mut ask.record),
        12 => ask.suites = vec![1, 2],
        13 => ask.suites = vec![u.int_in_range(1..=2)?],
        14 => ask.codec = codec(u)?,
        15 => ask.kind = *u.choose(&KINDS)?,
        _ => {}
    }
    Ok(())
}

fn pairs(u: &mut Unstructured<'_>, pairs: &mut Pairs) -> Result<()> {
    match u.int_in_range(0..=4_u8)? {
        0 => pairs.push((text(u, 4)?, text(u, 4)?)),
        1 => drop(pairs.pop()),
        2 => pairs.reverse(),
        3 if !pairs.is_empty() => pairs[0].1.push(b'x'),
        4 if pairs.len() > 1 => {
            let value = std::mem::take(&mut pairs[0].1);
            pairs[0].1 = std::mem::replace(&mut pairs[1].1, value);
        }
        _ => {}
    }
    Ok(())
}
