//! AES-256 as far as a search needs it: the key expansion (FIPS 197, section 5.2), to
//! know what a key schedule looks like in memory. Slow, and not in constant time.

/// 15 round keys, one behind the other.
pub(crate) const SCHEDULE_LEN: usize = 15 * 16;

/// The key schedule of AES-256, in the byte order of the standard, which is that of the
/// AES instructions of x86-64 and AArch64.
pub(crate) fn schedule(key: &[u8; 32]) -> [u8; SCHEDULE_LEN] {
    let sbox = sbox();
    let mut schedule = [0; SCHEDULE_LEN];
    schedule[..32].copy_from_slice(key);
    let mut round_constant = 1;
    for at in (32..SCHEDULE_LEN).step_by(4) {
        let mut word = [0, 1, 2, 3].map(|byte| schedule[at - 4 + byte]);
        if at % 32 == 0 {
            word.rotate_left(1);
        }
        if at % 16 == 0 {
            word = word.map(|byte| sbox[usize::from(byte)]);
        }
        if at % 32 == 0 {
            word[0] ^= round_constant;
            round_constant = times_x(round_constant);
        }
        for (byte, word) in word.into_iter().enumerate() {
            schedule[at + byte] = schedule[at - 32 + byte] ^ word;
        }
    }
    schedule
}

/// The S-box (section 5.1.1), by walking through the powers of a generator and of its
/// inverse at the same time.
fn sbox() -> [u8; 256] {
    let mut sbox = [0; 256];
    let (mut power, mut inverse) = (1_u8, 1_u8);
    loop {
        // Times 3, and divided by 3.
        power ^= times_x(power);
        inverse ^= inverse << 1;
        inverse ^= inverse << 2;
        inverse ^= inverse << 4;
        if inverse & 0x80 != 0 {
            inverse ^= 0x09;
        }
        let sum = (1..=4).fold(inverse, |sum, turn| sum ^ inverse.rotate_left(turn));
        sbox[usize::from(power)] = sum ^ 0x63;
        if power == 1 {
            sbox[0] = 0x63;
            return sbox;
        }
    }
}

/// Multiplication by x in GF(2^8) (section 4.2.1).
fn times_x(byte: u8) -> u8 {
    (byte << 1) ^ if byte & 0x80 == 0 { 0 } else { 0x1b }
}

/// FIPS 197, appendix A.3.
#[test]
fn the_key_expansion_is_that_of_the_standard() {
    let decode = |hex: &str| data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap();
    let key = decode("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4");
    let schedule = schedule(&key.try_into().unwrap());
    assert_eq!(schedule[32..48], decode("9ba354118e6925afa51a8b5f2067fcde"));
    assert_eq!(schedule[48..64], decode("a8b09c1a93d194cdbe49846eb75d5b9a"));
    assert_eq!(schedule[224..], decode("fe4890d1e6188d0b046df344706c631e"));
}
