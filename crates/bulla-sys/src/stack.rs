//! Wiping what calls have left on the stack, and in vector registers: when a value that
//! is not initialised is copied, what happens to be in a register goes to the stack.
#![allow(unsafe_code, reason = "calls what needs a feature of the processor")]

use std::hint::black_box;

use zeroize::Zeroize;

/// Bytes that are overwritten: several times what deriving a key and setting up its
/// cipher take (HKDF-SHA-256 some 1 KiB, an AES-256 key schedule 240 bytes, each a few
/// times over).
const WIPED_BYTES: usize = 16 * 1024;

/// Overwrites 16 KiB of the stack below the caller with zeros.
///
/// A key that is moved, hashed or expanded leaves copies in stack frames that nobody
/// wipes when their functions return. They stay until later calls happen to overwrite
/// them. So: derive in a function that is not inlined, and wipe from the frame that
/// called it.
///
/// ```
/// #[inline(never)]
/// fn derive(key: &mut bulla_sys::LockedBytes<32>) {
///     // copies of the key end up in this frame and in those below
///     key.as_bytes_mut().fill(7);
/// }
///
/// let mut key = bulla_sys::LockedBytes::zeroed();
/// derive(&mut key);
/// bulla_sys::wipe_stack();
/// ```
///
/// # Limits
/// The caller's own frame is not touched, nor are registers (but for the vector registers
/// of x86-64), and what the system saved of them on a signal's own stack. Frames deeper
/// than 16 KiB below the caller are missed, and so is what was inlined into the caller.
/// The thread needs that much stack left, and about a microsecond; unoptimised
/// builds take longer.
#[inline(never)]
pub fn wipe_stack() {
    // Words: byte by byte, volatile writes would take eight times as long.
    let mut below = [0_u64; WIPED_BYTES / 8];
    // The array's address escapes, so it has to be there; the writes are volatile, so
    // they have to happen.
    black_box(&mut below).zeroize();
    clear_vector_registers();
}

/// Overwrites `BYTES` of the stack below the caller with zeros: as [`wipe_stack`], with
/// its limits, but so fast that it can be done with every record (4 KiB in some 50 ns).
///
/// The writes are kept by [`black_box`] alone, which in practice is enough and in
/// principle is no promise. So test that it works where you rely on it.
#[inline(never)]
pub fn brush_stack<const BYTES: usize>() {
    black_box(&mut [0_u8; BYTES]);
    clear_vector_registers();
}

/// The lower 16 of them, which are all that code for every x86-64 knows of.
#[cfg(all(target_arch = "x86_64", not(miri)))]
fn clear_vector_registers() {
    #[target_feature(enable = "avx")]
    fn clear() {
        std::arch::x86_64::_mm256_zeroall();
    }
    if std::arch::is_x86_feature_detected!("avx") {
        // SAFETY: the processor has AVX.
        unsafe { clear() };
    }
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
fn clear_vector_registers() {}
