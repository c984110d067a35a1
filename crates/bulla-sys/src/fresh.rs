//! New vectors that are filled without being zeroed first.
//!
//! Zeroing costs as much as a fifth of encrypting what is written next.
//!
//! # Safety argument
//! The bytes of a new allocation are uninitialised, and code must not read such bytes.
//! [`initialised`] hands the address to an empty piece of assembly that, as far as the
//! compiler knows, writes there: from then on each byte has some value. The value is
//! whatever the memory held, so who fills the vector writes every byte and reads none that
//! it has not written. The vector gets its length only behind a fill that succeeded.
//!
//! A value that does not change by itself, either: pages that an allocator has offered to the
//! kernel (`MADV_FREE`) may turn to zeros until somebody writes to them, so each page is
//! written to first. Builds with debug assertions write all bytes, none of them zero, so that
//! tests notice who leaves some.
#![allow(unsafe_code, reason = "takes the spare capacity of a vector as bytes")]

use std::mem::MaybeUninit;

/// A new vector of `len` bytes, written by `fill`, in one allocation of that size.
///
/// `fill` gets all of it, and **must write every byte**: what it leaves is whatever the
/// memory held. After an error of `fill` the memory is given back as it is, so `fill`
/// wipes what must not stay.
///
/// ```
/// let bytes = bulla_sys::filled_vec(3, |out| {
///     out.copy_from_slice(b"abc");
///     Ok::<_, std::convert::Infallible>(())
/// })?;
/// assert_eq!(bytes, b"abc");
/// # Ok::<_, std::convert::Infallible>(())
/// ```
///
/// # Errors
/// That of `fill`.
#[inline]
pub fn filled_vec<E>(
    len: usize,
    fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
) -> Result<Vec<u8>, E> {
    let mut bytes = Vec::with_capacity(len);
    extend_filled(&mut bytes, len, fill)?;
    Ok(bytes)
}

/// `len` bytes more at the end of `bytes`, written by `fill`, as [`filled_vec`]. After an
/// error, or a panic, of `fill` there are no more than there were.
///
/// # Errors
/// That of `fill`.
#[inline]
pub fn extend_filled<E>(
    bytes: &mut Vec<u8>,
    len: usize,
    fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
) -> Result<(), E> {
    bytes.reserve(len);
    fill(initialised(&mut bytes.spare_capacity_mut()[..len]))?;
    // SAFETY: there is room for `len` bytes more, and each has a value.
    unsafe { bytes.set_len(bytes.len() + len) };
    Ok(())
}

/// No page is smaller.
const PAGE_BYTES_MIN: usize = 4096;
/// What a byte may be found to be that `fill` did not write.
const UNWRITTEN: u8 = 0xa5;

#[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
#[inline]
fn initialised(bytes: &mut [MaybeUninit<u8>]) -> &mut [u8] {
    if cfg!(debug_assertions) {
        bytes.fill(MaybeUninit::new(UNWRITTEN));
    }
    let (start, len) = (bytes.as_mut_ptr().cast::<u8>(), bytes.len());
    for at in (0..len).step_by(PAGE_BYTES_MIN).chain(len.checked_sub(1)) {
        // SAFETY: within the slice.
        unsafe { start.add(at).write_volatile(UNWRITTEN) };
    }
    // SAFETY: does nothing. It is not declared to leave memory alone, so the compiler has to
    // take it for a write to what the address leads to.
    unsafe { std::arch::asm!("/* {0} */", in(reg) start, options(nostack, preserves_flags)) };
    // SAFETY: the same memory, borrowed for as long, each byte with some value by now.
    unsafe { std::slice::from_raw_parts_mut(start, len) }
}

#[cfg(not(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri))))]
fn initialised(bytes: &mut [MaybeUninit<u8>]) -> &mut [u8] {
    bytes.fill(MaybeUninit::new(UNWRITTEN));
    // SAFETY: the same memory, borrowed for as long, and all of it was just written.
    unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), bytes.len()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_as_long_as_asked_and_holds_what_was_written() {
        for len in [0, 1, 84, 4096, 100_000] {
            let bytes = filled_vec(len, |out| {
                assert_eq!(out.len(), len);
                out.iter_mut().enumerate().for_each(|(at, byte)| *byte = (at % 251) as u8);
                Ok::<_, ()>(())
            });
            let expected: Vec<_> = (0..len).map(|at| (at % 251) as u8).collect();
            assert_eq!(bytes, Ok(expected));
        }
    }

    #[test]
    fn an_error_is_passed_on() {
        assert_eq!(filled_vec(8, |_| Err("no")), Err("no"));
        let mut bytes = b"before".to_vec();
        assert_eq!(extend_filled(&mut bytes, 8, |_| Err("no")), Err("no"));
        assert_eq!(bytes, b"before");
    }

    #[test]
    fn what_was_there_stays() {
        let mut bytes = b"before".to_vec();
        for added in ["", " and", " after"] {
            let fill = |out: &mut [u8]| {
                out.copy_from_slice(added.as_bytes());
                Ok::<_, ()>(())
            };
            assert_eq!(extend_filled(&mut bytes, added.len(), fill), Ok(()));
        }
        assert_eq!(bytes, b"before and after");
    }
}
