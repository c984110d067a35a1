//! Wiping what calls have left on the stack, and in vector registers: when a value that
//! is not initialised is copied, what happens to be in a register goes to the stack.
#![allow(unsafe_code, reason = "volatile writes, and code for processors with AVX")]

use std::mem::{self, MaybeUninit};

/// Runs `work` in a stack frame of its own, then wipes that frame and those below it: keys
/// are hashed, expanded and moved in there, and nobody else wipes the copies. What `work`
/// returns is moved, so it should not be a key by value.
///
/// The limits are those of [`wipe_stack`]. Takes about a third of a microsecond longer than
/// `work`.
///
/// ```
/// let mut key = bulla_sys::LockedBytes::<32>::zeroed();
/// bulla_sys::apart(|| key.as_bytes_mut().fill(7));
/// ```
pub fn apart<T>(work: impl FnOnce() -> T) -> T {
    #[inline(never)]
    fn in_a_frame_of_its_own<T>(work: impl FnOnce() -> T) -> T {
        work()
    }
    let if_it_panics = Wiping;
    let done = in_a_frame_of_its_own(work);
    mem::forget(if_it_panics);
    // From here: the frames of a destructor would lie over the first bytes to be wiped.
    wipe_stack();
    done
}

struct Wiping;

impl Drop for Wiping {
    fn drop(&mut self) {
        wipe_stack();
    }
}

/// Overwrites 16 KiB of the stack below the caller with zeros.
///
/// A key that is moved, hashed or expanded leaves copies in stack frames that nobody
/// wipes when their functions return. They stay until later calls happen to overwrite
/// them. So: derive in a function that is not inlined, and wipe from the frame that
/// called it, as [`apart`] does.
///
/// # Limits
/// The caller's own frame is not touched, nor are registers (but for the vector registers
/// of x86-64), and what the system saved of them on a signal's own stack. Frames deeper
/// than 16 KiB below the caller are missed, and so is what was inlined into the caller.
/// The thread needs that much stack left, and a third of a microsecond; unoptimised builds
/// take longer.
#[inline(never)]
pub fn wipe_stack() {
    // Several times what deriving a key and setting up its cipher take (HKDF-SHA-256 some
    // 1 KiB, an AES-256 key schedule 240 bytes, each a few times over). In this very frame,
    // and by the widest writes that every processor has: what dispatches to wider ones is
    // one frame more, below which the first bytes under the caller would stay.
    const BYTES: usize = 16 * 1024;
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: every x86-64 has SSE2.
    overwrite_with::<_, BYTES>(unsafe { std::arch::x86_64::_mm_setzero_si128() });
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    overwrite_with::<u64, BYTES>(0);
    brush_stack(0);
}

/// Overwrites at least `bytes` of the stack below the caller with zeros, 128 KiB at most: as
/// [`wipe_stack`], with its limits, for those who know how deep a call has left keys and do
/// it with every record. 1 KiB takes some 10 ns.
///
/// Not all of what its caller's callees had at the very top of their frames: of the first 192
/// bytes below the caller some stay as they are (320 in unoptimised code). There, a function
/// in between (that of a cipher, say) has its return address and the registers that it saves,
/// and keys lie deeper. Take `wipe_stack` where they do not.
// Not generic and not to be inlined, so that it is compiled as this crate is: in a frame of
// unoptimised code, what is overwritten would begin too deep.
#[inline(never)]
pub fn brush_stack(bytes: usize) {
    match bytes {
        0..=1024 => overwrite::<1024>(),
        1025..=3072 => overwrite::<3072>(),
        3073..=16_384 => overwrite::<16_384>(),
        16_385..=32_768 => overwrite::<32_768>(),
        _ => overwrite::<131_072>(),
    }
}

#[inline(always)]
fn overwrite<const BYTES: usize>() {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        if std::arch::is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has AVX-512.
            return unsafe { overwrite_by_avx512::<BYTES>() };
        }
        if std::arch::is_x86_feature_detected!("avx") {
            // SAFETY: the processor has AVX.
            return unsafe { overwrite_by_avx::<BYTES>() };
        }
    }
    overwrite_by_words::<BYTES>();
}

#[inline(never)]
fn overwrite_by_words<const BYTES: usize>() {
    // Words: byte by byte, volatile writes would take eight times as long.
    overwrite_with::<u64, BYTES>(0);
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline(never)]
#[target_feature(enable = "avx512f")]
fn overwrite_by_avx512<const BYTES: usize>() {
    overwrite_with::<_, BYTES>(std::arch::x86_64::_mm512_setzero_si512());
    clear_vector_registers();
    // The others are not used by code for every x86-64, but are saved on the stack with the
    // next signal.
    // SAFETY: changes these registers alone, and says so.
    unsafe {
        std::arch::asm!(
            "vpxord zmm16, zmm16, zmm16", "vpxord zmm17, zmm17, zmm17",
            "vpxord zmm18, zmm18, zmm18", "vpxord zmm19, zmm19, zmm19",
            "vpxord zmm20, zmm20, zmm20", "vpxord zmm21, zmm21, zmm21",
            "vpxord zmm22, zmm22, zmm22", "vpxord zmm23, zmm23, zmm23",
            "vpxord zmm24, zmm24, zmm24", "vpxord zmm25, zmm25, zmm25",
            "vpxord zmm26, zmm26, zmm26", "vpxord zmm27, zmm27, zmm27",
            "vpxord zmm28, zmm28, zmm28", "vpxord zmm29, zmm29, zmm29",
            "vpxord zmm30, zmm30, zmm30", "vpxord zmm31, zmm31, zmm31",
            out("zmm16") _, out("zmm17") _, out("zmm18") _, out("zmm19") _,
            out("zmm20") _, out("zmm21") _, out("zmm22") _, out("zmm23") _,
            out("zmm24") _, out("zmm25") _, out("zmm26") _, out("zmm27") _,
            out("zmm28") _, out("zmm29") _, out("zmm30") _, out("zmm31") _,
            options(nomem, nostack, preserves_flags),
        );
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline(never)]
#[target_feature(enable = "avx")]
fn overwrite_by_avx<const BYTES: usize>() {
    overwrite_with::<_, BYTES>(std::arch::x86_64::_mm256_setzero_si256());
    clear_vector_registers();
}

/// The lower 16 of them. (`vzeroall` says the same and takes four times as long.)
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
#[target_feature(enable = "avx")]
fn clear_vector_registers() {
    // SAFETY: changes these registers alone, and says so.
    unsafe {
        std::arch::asm!(
            "vpxor xmm0, xmm0, xmm0", "vpxor xmm1, xmm1, xmm1",
            "vpxor xmm2, xmm2, xmm2", "vpxor xmm3, xmm3, xmm3",
            "vpxor xmm4, xmm4, xmm4", "vpxor xmm5, xmm5, xmm5",
            "vpxor xmm6, xmm6, xmm6", "vpxor xmm7, xmm7, xmm7",
            "vpxor xmm8, xmm8, xmm8", "vpxor xmm9, xmm9, xmm9",
            "vpxor xmm10, xmm10, xmm10", "vpxor xmm11, xmm11, xmm11",
            "vpxor xmm12, xmm12, xmm12", "vpxor xmm13, xmm13, xmm13",
            "vpxor xmm14, xmm14, xmm14", "vpxor xmm15, xmm15, xmm15",
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
            out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
            out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
            out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
            options(nomem, nostack, preserves_flags),
        );
    }
}

/// A piece of the stack, aligned for writes of `T`.
#[repr(C)]
struct Below<T, const BYTES: usize> {
    _aligned: [T; 0],
    _bytes: [u8; BYTES],
}

/// Fills a piece of the caller's stack frame with copies of `zeros`.
#[inline(always)]
fn overwrite_with<T: Copy, const BYTES: usize>(zeros: T) {
    const { assert!(BYTES.is_multiple_of(size_of::<T>())) };
    // As a whole: one that is put together from fields is moved here by unoptimised code, and
    // what lies where it was put together is not overwritten.
    let mut below = MaybeUninit::<Below<T, BYTES>>::uninit();
    let start = below.as_mut_ptr().cast::<T>();
    for at in 0..BYTES / size_of::<T>() {
        // SAFETY: within `below`, which is aligned for `T`. Volatile: nobody reads it, and
        // it has to happen all the same.
        unsafe { start.add(at).write_volatile(zeros) };
    }
}

#[cfg(all(test, target_arch = "x86_64", not(miri)))]
mod tests {
    use super::*;

    /// The vector registers that no code of this test uses: as a cipher would leave them.
    #[target_feature(enable = "avx512f")]
    fn fill_high_registers() {
        // SAFETY: changes these registers alone, and says so.
        unsafe {
            std::arch::asm!(
                "vpternlogd zmm16, zmm16, zmm16, 0xff",
                "vpternlogd zmm24, zmm24, zmm24, 0xff",
                "vpternlogd zmm31, zmm31, zmm31, 0xff",
                out("zmm16") _, out("zmm24") _, out("zmm31") _,
                options(nomem, nostack, preserves_flags),
            );
        }
    }

    /// Whether any bit is set in them.
    #[target_feature(enable = "avx512f")]
    fn high_registers_hold_something() -> bool {
        let mut held = [0_u64; 8];
        // SAFETY: writes 64 bytes to `held`, which is as long.
        unsafe {
            std::arch::asm!(
                "vpord zmm16, zmm16, zmm24",
                "vpord zmm16, zmm16, zmm31",
                "vmovdqu64 [{held}], zmm16",
                held = in(reg) held.as_mut_ptr(),
                out("zmm16") _, out("zmm24") _, out("zmm31") _,
                options(nostack, preserves_flags),
            );
        }
        held != [0; 8]
    }

    #[test]
    fn the_registers_that_a_signal_would_save_are_cleared() {
        if !std::arch::is_x86_feature_detected!("avx512f") {
            return;
        }
        // SAFETY: the processor has AVX-512.
        unsafe {
            fill_high_registers();
            assert!(high_registers_hold_something(), "the control");
            fill_high_registers();
            brush_stack(1024);
            assert!(!high_registers_hold_something());
        }
    }

    const PAINT: u8 = 0xa5;
    const PAINTED: usize = 24 * 1024;

    extern "C" fn wipe(_: usize) {
        wipe_stack();
    }

    extern "C" fn brush(bytes: usize) {
        brush_stack(bytes);
    }

    extern "C" fn nothing(_: usize) {}

    /// Paints the stack below, calls `function` on it, and returns how far below the caller of
    /// `function` paint is left, in bytes. In one piece of assembly: there is no frame in
    /// between, whatever the compiler makes of the code around it.
    fn paint_left_by(function: extern "C" fn(usize), argument: usize) -> Vec<usize> {
        let mut below = vec![0_u8; PAINTED];
        // SAFETY: writes to what of the thread's own stack is not in use, which is longer,
        // calls a function as its ABI says, and writes `PAINTED` bytes to `below`.
        unsafe {
            std::arch::asm!(
                "lea rdi, [rsp - {painted}]", "mov rcx, {painted}", "mov al, {paint}",
                "cld", "rep stosb",
                "mov rdi, r13", "call r12",
                "lea rsi, [rsp - {painted}]", "mov rdi, r14", "mov rcx, {painted}",
                "cld", "rep movsb",
                painted = const PAINTED,
                paint = const PAINT,
                in("r12") function,
                in("r13") argument,
                in("r14") below.as_mut_ptr(),
                clobber_abi("C"),
            );
        }
        let painted = below.iter().rev().zip(1..).filter(|(byte, _)| **byte == PAINT);
        painted.map(|(_, below)| below).collect()
    }

    /// The frame of `wipe` and `brush`, which are between the caller and what is tested.
    const OWN_FRAME: usize = 32;

    #[test]
    fn what_was_left_below_the_caller_is_gone() {
        assert!(paint_left_by(nothing, 0).len() > PAINTED - 256, "the control");
        let left = paint_left_by(wipe, 0);
        // Single bytes within the registers that unoptimised code saves.
        let left: Vec<_> = left.into_iter().filter(|below| *below > OWN_FRAME).collect();
        let near = left.iter().filter(|below| **below < 16 * 1024).count();
        assert!(near <= if cfg!(debug_assertions) { 16 } else { 0 }, "{:?}", &left[..near]);
        assert!(left.len() > near, "no deeper than it has to");
    }

    #[test]
    fn a_brush_goes_as_deep_as_asked_and_begins_where_it_says() {
        let begins = OWN_FRAME + if cfg!(debug_assertions) { 320 } else { 192 };
        for bytes in [1024, 3072, 16 * 1024] {
            let left = paint_left_by(brush, bytes);
            assert!(!left.iter().any(|below| (begins..bytes).contains(below)), "{bytes}: {left:?}");
            assert!(left.iter().any(|below| *below > bytes), "no deeper than it has to");
        }
    }
}
