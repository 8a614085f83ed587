//! CRC-32C of a payload that is zero-padded to whole 8-byte words.
//!
//! # What it computes
//!
//! CRC-32C (Castagnoli): generator polynomial 0x1EDC6F41, processed bit-reflected (0x82F63B78),
//! initial value and final XOR 0xFFFFFFFF. The input is the payload followed by as many zero
//! bytes as complete its last 8-byte word, so the checksum of an empty payload is 0, and the
//! padding bytes never have to exist in memory. For a length that is a multiple of 8 the result is
//! the CRC-32C of iSCSI, ext4 and the `crc32c` crate.
//!
//! # Why own code
//!
//! Records of a log are short, and a general-purpose CRC spends more time finding out what to do
//! with a short buffer (aligning, byte prologue and epilogue, choosing a kernel through a function
//! pointer) than with the bytes. Padding to words removes the byte loops: a short payload is one
//! predictable loop of one instruction a word, plus one instruction for the partial word. The
//! dispatch inlines into the caller, which pays a flag test, a length test and one call; an append of a short record
//! not even these, see [`Short`].
//!
//! # How
//!
//! * x86-64 with SSE4.2: the `crc32` instruction, a word at a time. It is written as assembly, since the
//!   intrinsic inlines only into functions that are compiled for SSE4.2 as a whole. It has a latency of three
//!   cycles but starts every cycle, so from [`LANES_FROM`] bytes on and with PCLMULQDQ three
//!   independent lanes run interleaved and their results are combined by carry-less multiplication.
//!   That scheme, and the combination formula (see [`SHIFT`]), are from V. Gopal et al., "Fast CRC
//!   Computation for iSCSI Polynomial Using CRC32 Instruction", Intel white paper 323405, 2011.
//!   Where the paper has fixed block sizes, the lane length here is a third of whatever is left, up
//!   to [`MAX_LANE`], so that no length falls between two block sizes.
//! * 64-bit Arm with the `crc` extension: `crc32cd`, a word at a time.
//! * Everything else: slice-by-8 tables (8 KiB, made at compile time).
//!
//! All of them give the same value for the same bytes, on either endianness.
//!
//! # What it never does
//!
//! It never allocates, never panics, never reads outside the slice it was given, and has no state
//! besides the standard library's cached CPU detection. `unsafe` serves only to run instructions
//! whose CPU features have just been checked; every memory access is an ordinary safe one. And a
//! CRC detects accidental damage only: it is no defence against somebody forging a record. Since
//! the padding is not told apart from payload bytes that are zero, the length needs protection of
//! its own (for example, by being part of the checksummed bytes).

/// The generator polynomial without its x^32 term, bit-reflected: bit 31 is the coefficient of
/// x^0, bit 0 that of x^31. All polynomials in this file are stored this way.
const POLY: u32 = 0x82F6_3B78;

/// CRC-32C of `bytes`, zero-padded to a multiple of 8 bytes. Empty input gives 0.
#[inline]
#[must_use]
pub(crate) fn crc32c_padded(bytes: &[u8]) -> u32 {
    Crc::new().update(bytes).finish()
}

/// The same checksum for short payloads, on a CPU that computes it in a few instructions: inlined as a whole, so that a
/// caller that asks for it beforehand pays neither a call nor a test.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Short {
    #[cfg(target_arch = "x86_64")]
    word: x86::Word,
    #[cfg(not(target_arch = "x86_64"))]
    never: std::convert::Infallible,
}

impl Short {
    /// `None` where there is nothing better than [`crc32c_padded`].
    pub(crate) fn new() -> Option<Short> {
        #[cfg(target_arch = "x86_64")]
        // An interpreter does not run assembly.
        if !cfg!(miri)
            && std::arch::is_x86_feature_detected!("sse4.2")
            && std::arch::is_x86_feature_detected!("pclmulqdq")
        {
            // SAFETY: both were just found on this CPU.
            return Some(Short { word: unsafe { x86::Word::new() } });
        }
        None
    }

    /// [`crc32c_padded`] of `bytes`: of any length, but worth it up to some hundred.
    #[inline(always)]
    pub(crate) fn crc32c_padded(self, bytes: &[u8]) -> u32 {
        #[cfg(target_arch = "x86_64")]
        return !self.word.advance(!0, bytes);
        #[cfg(not(target_arch = "x86_64"))]
        {
            let _ = bytes;
            match self.never {}
        }
    }

    /// The same of `front`, whose length is a multiple of 8, and `bytes` behind it, up to [`MAX_LANE`] words. Neither waits for the
    /// other: what comes from a clock is known so much later than `bytes` that by then these have been fed.
    #[inline(always)]
    pub(crate) fn crc32c_padded_behind(self, front: &[u8], bytes: &[u8]) -> u32 {
        #[cfg(target_arch = "x86_64")]
        {
            let behind = self.word.advance(0, bytes);
            let before = self.word.advance(!0, front);
            !(self.word.past(before, bytes.len().div_ceil(8)) ^ behind)
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            let _ = (front, bytes);
            match self.never {}
        }
    }
}

/// The same checksum over bytes that lie in several places.
///
/// The pieces count as concatenated. Only the last [`update`](Self::update) may have a length that
/// is no multiple of 8: its partial word is zero-padded there and then, so an update that followed
/// would checksum a different string of bytes (with the zeros in the middle).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crc {
    /// The register as the CPU instructions keep it: before the final XOR.
    state: u32,
}

impl Crc {
    /// The checksum of nothing so far.
    #[inline]
    #[must_use]
    pub(crate) const fn new() -> Self {
        Self { state: !0 }
    }

    /// Appends `bytes`, zero-padded to a multiple of 8 bytes; see the type on unaligned lengths.
    #[inline]
    #[must_use]
    pub(crate) fn update(self, bytes: &[u8]) -> Self {
        Self { state: advance(self.state, bytes) }
    }

    /// The checksum of everything appended.
    #[inline]
    #[must_use]
    pub(crate) const fn finish(self) -> u32 {
        !self.state
    }
}

/// Feeds `bytes`, padded, into the register with the best code this CPU can run.
///
/// The detection macros are constant where the build already enables the feature, and otherwise
/// test a bit of a cached word, so there is nothing to gain from caching a function pointer.
#[inline]
fn advance(state: u32, bytes: &[u8]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected;

        if is_x86_feature_detected!("sse4.2") {
            // PCLMULQDQ is asked for separately because the two do not come together: the first
            // SSE4.2 CPUs lack it, and builds for x86-64-v2 and v3 do not assume it.
            if bytes.len() >= LANES_FROM && is_x86_feature_detected!("pclmulqdq") {
                // SAFETY: both features the function enables were just found on this CPU.
                return unsafe { x86::advance_lanes(state, bytes) };
            }
            // SAFETY: the one feature the function enables was just found on this CPU.
            return unsafe { x86::advance_serial(state, bytes) };
        }
    }
    #[cfg(target_arch = "aarch64")]
    {
        use std::arch::is_aarch64_feature_detected;

        if is_aarch64_feature_detected!("crc") {
            // SAFETY: the one feature the function enables was just found on this CPU.
            return unsafe { aarch64::advance(state, bytes) };
        }
    }
    portable::advance(state, bytes)
}

/// The partial last word of `bytes`, zero-padded, if there is one.
#[inline]
fn partial_word(bytes: &[u8]) -> Option<u64> {
    let (_, rest) = bytes.as_chunks::<8>();
    (!rest.is_empty()).then(|| match bytes.last_chunk::<8>() {
        // The last 8 bytes are one load, though it overlaps the word before: the shift drops the
        // bytes already counted and brings in the zeros of the padding.
        Some(last) => u64::from_le_bytes(*last) >> (64 - 8 * rest.len()),
        None => short_word(rest),
    })
}

/// `bytes`, of which there are 1 to 7, as a zero-padded little-endian word.
///
/// Two loads that may overlap: where they do, both have the same bytes, and OR leaves them alone.
#[inline]
fn short_word(bytes: &[u8]) -> u64 {
    let len = bytes.len();
    if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk()) {
        let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
        u64::from(first) | u64::from(last) << (8 * (len - 4))
    } else if let (Some(first), Some(last)) = (bytes.first_chunk::<2>(), bytes.last_chunk()) {
        let (first, last) = (u16::from_le_bytes(*first), u16::from_le_bytes(*last));
        u64::from(first) | u64::from(last) << (8 * (len - 2))
    } else {
        bytes.first().map_or(0, |&byte| u64::from(byte))
    }
}

/// `poly` times x, modulo the generator polynomial.
const fn times_x(poly: u32) -> u32 {
    let carry = poly & 1;
    (poly >> 1) ^ (POLY * carry)
}

/// Payload length in bytes from which three lanes are used.
///
/// Measured on a Zen CPU: waited for, the result is earlier with lanes from 128 bytes on; but when
/// calls overlap (the CPU starts the next while this one's `crc32` chain drains), one chain is as
/// fast up to 256 bytes, with fewer branches to mispredict. Log code rarely waits for a checksum.
#[cfg(target_arch = "x86_64")]
const LANES_FROM: usize = 256;

/// The longest lane in words. Combining three such lanes takes some 3 % of the time to fill them.
/// Longer ones gained nothing measurable below a megabyte, and each word is 8 bytes of [`SHIFT`].
#[cfg(target_arch = "x86_64")]
const MAX_LANE: usize = 256;

/// For each lane length of n words, what to multiply the registers of the (first, second) lane
/// with in order to combine them with the third: x^(128n-33) and x^(64n-33) mod P.
///
/// Behind the first lane come 2n more words, behind the second n, and a register moves past n words
/// by being multiplied by x^(64n) mod P. The exponents are lower by 33 because two steps of the
/// computation multiply already. In the carry-less product of two reflected 32-bit values bit 62,
/// not bit 63, is x^0; taken as a 64-bit word that is the product times x. Then the `crc32`
/// instruction, which reduces the word modulo P, multiplies it by x^32, as for any message word.
#[cfg(target_arch = "x86_64")]
static SHIFT: [(u32, u32); MAX_LANE + 1] = {
    // powers[n] = x^(64n-33); the smallest is x^31, which is bit 0. Lanes of no words do not occur.
    let mut powers = [0; 2 * MAX_LANE + 1];
    let mut power = 1;
    let mut n = 1;
    while n < powers.len() {
        powers[n] = power;
        let mut bit = 0;
        while bit < 64 {
            power = times_x(power);
            bit += 1;
        }
        n += 1;
    }

    let mut shift = [(0, 0); MAX_LANE + 1];
    let mut n = 1;
    while n < shift.len() {
        shift[n] = (powers[2 * n], powers[n]);
        n += 1;
    }
    shift
};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::asm;
    use std::arch::x86_64::{
        __m128i, _mm_clmulepi64_si128, _mm_crc32_u64, _mm_cvtsi64_si128, _mm_cvtsi128_si64, _mm_xor_si128,
    };

    use super::{LANES_FROM, MAX_LANE, SHIFT, partial_word};

    /// The `crc32` instruction, on a CPU that has it.
    #[derive(Clone, Copy, Debug)]
    pub(super) struct Word(());

    impl Word {
        /// # Safety
        ///
        /// This CPU has SSE4.2, and if [`Word::past`] is called PCLMULQDQ.
        #[inline(always)]
        pub(super) unsafe fn new() -> Word {
            Word(())
        }

        /// Feeds one word into the register.
        #[inline(always)]
        fn next(self, mut state: u64, word: u64) -> u64 {
            // SAFETY: the CPU has this instruction, by the contract of `new`; it changes nothing but its first operand.
            unsafe {
                asm!(
                    "crc32 {state}, {word}",
                    state = inout(reg) state,
                    word = in(reg) word,
                    options(pure, nomem, nostack, preserves_flags),
                );
            }
            state
        }

        /// Feeds four words into the register, each by one instruction that loads it, too.
        #[inline(always)]
        fn next_four(self, mut state: u64, words: &[[u8; 8]; 4]) -> u64 {
            // SAFETY: as in `next`; and it reads these 32 bytes.
            unsafe {
                asm!(
                    "crc32 {state}, qword ptr [{words}]",
                    "crc32 {state}, qword ptr [{words} + 8]",
                    "crc32 {state}, qword ptr [{words} + 16]",
                    "crc32 {state}, qword ptr [{words} + 24]",
                    state = inout(reg) state,
                    words = in(reg) words,
                    options(pure, readonly, nostack, preserves_flags),
                );
            }
            state
        }

        /// One word after the other: the code for short payloads, where setting up lanes costs more
        /// than it saves.
        #[inline(always)]
        pub(super) fn advance(self, state: u32, bytes: &[u8]) -> u32 {
            self.finish(u64::from(state), bytes.as_chunks().0, bytes)
        }

        /// The register `state` with so many zero words fed into it, at most [`MAX_LANE`].
        #[inline(always)]
        #[expect(clippy::cast_possible_truncation, reason = "the instruction zeroes the upper half")]
        pub(super) fn past(self, state: u32, words: usize) -> u32 {
            if words == 0 {
                return state;
            }
            let mut product = u64::from(state);
            // SAFETY: the CPU has these instructions, by the contract of `new`; they change nothing but their operands.
            unsafe {
                asm!(
                    "movq {a}, {product}",
                    "movq {b}, {by}",
                    "pclmulqdq {a}, {b}, 0",
                    "movq {product}, {a}",
                    product = inout(reg) product,
                    by = in(reg) u64::from(SHIFT[words].1),
                    a = out(xmm_reg) _,
                    b = out(xmm_reg) _,
                    options(pure, nomem, nostack, preserves_flags),
                );
            }
            self.next(0, product) as u32
        }

        /// The last `words` of `bytes`, and the partial one.
        #[inline(always)]
        #[expect(clippy::cast_possible_truncation, reason = "the instruction zeroes the upper half")]
        fn finish(self, mut state: u64, words: &[[u8; 8]], bytes: &[u8]) -> u32 {
            let next = |state, word: &[u8; 8]| self.next(state, u64::from_le_bytes(*word));
            // By fours, and without a loop for what is left: most records are short.
            let (fours, rest) = words.as_chunks::<4>();
            for four in fours {
                state = self.next_four(state, four);
            }
            let (twos, one) = rest.as_chunks::<2>();
            if let [[a, b], ..] = twos {
                state = next(next(state, a), b);
            }
            if let [a, ..] = one {
                state = next(state, a);
            }
            if let Some(word) = partial_word(bytes) {
                state = self.next(state, word);
            }
            state as u32
        }
    }

    /// The same as a function.
    #[target_feature(enable = "sse4.2")]
    pub(super) fn advance_serial(state: u32, bytes: &[u8]) -> u32 {
        // SAFETY: this function is compiled for a CPU that has SSE4.2.
        unsafe { Word::new() }.advance(state, bytes)
    }

    /// Three lanes, then the remaining words and the partial one serially.
    #[target_feature(enable = "sse4.2,pclmulqdq")]
    pub(super) fn advance_lanes(state: u32, bytes: &[u8]) -> u32 {
        let mut words = bytes.as_chunks::<8>().0;
        let mut state = u64::from(state);
        while words.len() >= LANES_FROM / 8 {
            let lane = (words.len() / 3).min(MAX_LANE);
            let (first, rest) = words.split_at(lane);
            let (second, rest) = rest.split_at(lane);
            let (third, rest) = rest.split_at(lane);
            words = rest;

            // The lanes after the first start from 0, so that theirs is what their words alone
            // contribute: the CRC is linear, and contributions add up by XOR.
            let (mut a, mut b, mut c) = (state, 0, 0);
            for ((x, y), z) in first.iter().zip(second).zip(third) {
                a = _mm_crc32_u64(a, u64::from_le_bytes(*x));
                b = _mm_crc32_u64(b, u64::from_le_bytes(*y));
                c = _mm_crc32_u64(c, u64::from_le_bytes(*z));
            }
            let (past_two, past_one) = SHIFT[lane];
            let moved = _mm_xor_si128(multiply(a, past_two), multiply(b, past_one));
            // One reduction for both products, which may be added before it.
            state = c ^ _mm_crc32_u64(0, _mm_cvtsi128_si64(moved).cast_unsigned());
        }
        // SAFETY: this function is compiled for a CPU that has SSE4.2.
        let word = unsafe { Word::new() };
        word.finish(state, words, bytes)
    }

    /// Carry-less product of a register (which has 32 bits) and a constant, in the lower half.
    #[inline]
    #[target_feature(enable = "pclmulqdq")]
    fn multiply(register: u64, by: u32) -> __m128i {
        let register = _mm_cvtsi64_si128(register.cast_signed());
        let by = _mm_cvtsi64_si128(i64::from(by));
        _mm_clmulepi64_si128::<0>(register, by)
    }
}

#[cfg(target_arch = "aarch64")]
mod aarch64 {
    use std::arch::aarch64::__crc32cd;

    use super::partial_word;

    #[target_feature(enable = "crc")]
    pub(super) fn advance(mut state: u32, bytes: &[u8]) -> u32 {
        for word in bytes.as_chunks().0 {
            state = __crc32cd(state, u64::from_le_bytes(*word));
        }
        if let Some(word) = partial_word(bytes) {
            state = __crc32cd(state, word);
        }
        state
    }
}

/// Slice-by-8: a word is eight table look-ups that do not wait for each other.
mod portable {
    use super::{partial_word, times_x};

    /// `TABLES[k][b]` is what byte `b` contributes to the register with k more bytes behind it.
    static TABLES: [[u32; 256]; 8] = {
        let mut tables = [[0; 256]; 8];
        let mut byte = 0_u32;
        while byte < 256 {
            // The contribution of a byte in the lowest bits, moved up one byte (8 times x) a table.
            let mut register = byte;
            let mut k = 0;
            while k < 8 {
                let mut bit = 0;
                while bit < 8 {
                    register = times_x(register);
                    bit += 1;
                }
                tables[k][byte as usize] = register;
                k += 1;
            }
            byte += 1;
        }
        tables
    };

    /// Kept out of line: callers inline the dispatch, and on common CPUs this is not what it picks.
    #[inline(never)]
    pub(super) fn advance(mut state: u32, bytes: &[u8]) -> u32 {
        for word in bytes.as_chunks().0 {
            state = step(state, u64::from_le_bytes(*word));
        }
        if let Some(word) = partial_word(bytes) {
            state = step(state, word);
        }
        state
    }

    #[inline]
    fn step(state: u32, word: u64) -> u32 {
        let bytes = (u64::from(state) ^ word).to_le_bytes();
        // The first byte has seven more behind it, the last none.
        bytes.iter().zip(TABLES.iter().rev()).fold(0, |sum, (&byte, table)| sum ^ table[usize::from(byte)])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Crc, advance, crc32c_padded, partial_word, portable};

    /// What the module promises, in terms of somebody else's implementation.
    fn reference(bytes: &[u8]) -> u32 {
        let mut padded = bytes.to_vec();
        padded.resize(bytes.len().next_multiple_of(8), 0);
        crc32c::crc32c(&padded)
    }

    /// Bytes without a pattern (upper bits of a linear congruential generator), the same each time.
    fn noise(len: usize) -> Vec<u8> {
        let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
        let next = || {
            seed = seed.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
            (seed >> 56) as u8
        };
        std::iter::repeat_with(next).take(len).collect()
    }

    #[test]
    fn known_values() {
        assert_eq!(crc32c_padded(b""), 0);
        assert_eq!(Crc::new().finish(), 0);
        let check = *b"123456789\0\0\0\0\0\0\0";
        assert_eq!(crc32c_padded(&check[..9]), crc32c::crc32c(&check));
        assert_eq!(crc32c_padded(&check), crc32c::crc32c(&check));
        // Independent of the reference crate: RFC 3720, appendix B.4.
        assert_eq!(crc32c_padded(&[0; 32]), 0x8A91_36AA);
        assert_eq!(crc32c_padded(&[0xFF; 32]), 0x62A8_AB43);
        let ascending: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c_padded(&ascending), 0x46DD_794E);
    }

    #[test]
    fn partial_word_is_zero_padded() {
        let bytes = noise(32);
        for len in 0..=bytes.len() {
            let partial = partial_word(&bytes[..len]);
            let rest = &bytes[len / 8 * 8..len];
            let mut padded = [0; 8];
            padded[..rest.len()].copy_from_slice(rest);
            assert_eq!(partial, (!rest.is_empty()).then_some(u64::from_le_bytes(padded)));
        }
    }

    #[test]
    fn every_short_length_at_every_alignment() {
        let most = if cfg!(miri) { 200 } else { 1100 };
        let bytes = noise(most + 8);
        for start in 0..8 {
            for len in 0..=most {
                let payload = &bytes[start..start + len];
                assert_eq!(crc32c_padded(payload), reference(payload), "{start}, {len}");
            }
        }
    }

    #[test]
    fn large_sizes() {
        // Around the boundaries of one and several blocks of three full lanes (6144 bytes).
        let near = |size: usize| [size - 9, size - 8, size - 1, size, size + 1, size + 8, size + 23];
        let sizes: &[usize] =
            if cfg!(miri) { &[6144] } else { &[6144, 12_288, 65_536, 1 << 20, (1 << 22) + 1234] };
        let bytes = noise(sizes.iter().max().map_or(0, |size| size + 64));
        for size in sizes.iter().flat_map(|&size| near(size)) {
            let payload = &bytes[3..3 + size];
            assert_eq!(crc32c_padded(payload), reference(payload), "{size}");
        }
    }

    #[test]
    fn portable_equals_hardware() {
        let most = if cfg!(miri) { 300 } else { 7000 };
        let bytes = noise(most);
        for len in 0..=most {
            for state in [!0, 0, 0x1234_5678] {
                let payload = &bytes[..len];
                assert_eq!(portable::advance(state, payload), advance(state, payload), "{len}");
            }
        }
    }

    /// `advance` takes one of these by length; either has to be right at any.
    #[test]
    #[cfg(target_arch = "x86_64")]
    fn serial_equals_lanes() {
        if !is_x86_feature_detected!("sse4.2") || !is_x86_feature_detected!("pclmulqdq") {
            return;
        }
        let bytes = noise(if cfg!(miri) { 300 } else { 7000 });
        for len in 0..=bytes.len() {
            let payload = &bytes[..len];
            // SAFETY: SSE4.2 was found above.
            let serial = unsafe { super::x86::Word::new() }.advance(!0, payload);
            // SAFETY: both features were found above.
            let lanes = unsafe { super::x86::advance_lanes(!0, payload) };
            assert_eq!(serial, lanes, "{len}");
        }
    }

    #[test]
    fn a_front_and_what_is_behind_it_are_one_string() {
        let Some(short) = super::Short::new() else { return };
        let bytes = noise(200);
        for front in [8, 16, 24] {
            for len in 0..=bytes.len() - front {
                let (front, behind) = bytes[..front + len].split_at(front);
                let whole = reference(&bytes[..front.len() + len]);
                assert_eq!(short.crc32c_padded_behind(front, behind), whole, "{}, {len}", front.len());
            }
        }
    }

    #[test]
    fn streaming_equals_one_shot() {
        let bytes = noise(1003);
        let bytes = if cfg!(miri) { &bytes[..203] } else { &bytes[..] };
        let whole = crc32c_padded(bytes);
        for split in (0..bytes.len()).step_by(8) {
            let (head, tail) = bytes.split_at(split);
            assert_eq!(Crc::new().update(head).update(tail).finish(), whole, "{split}");
            assert_eq!(Crc::new().update(head).update(&[]).update(tail).finish(), whole);
        }
    }

    #[test]
    fn every_bit_counts() {
        let mut bytes = noise(300);
        let whole = crc32c_padded(&bytes);
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(crc32c_padded(&bytes), whole, "{bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: if cfg!(miri) { 4 } else { 256 },
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn pieces_of_whole_words_concatenate(
            pieces in prop::collection::vec(prop::collection::vec(any::<[u8; 8]>(), 0..120), 0..6),
            last in prop::collection::vec(any::<u8>(), 0..900),
        ) {
            let mut whole = Vec::new();
            let mut crc = Crc::new();
            for piece in &pieces {
                whole.extend_from_slice(piece.as_flattened());
                crc = crc.update(piece.as_flattened());
            }
            whole.extend_from_slice(&last);
            crc = crc.update(&last);
            prop_assert_eq!(crc.finish(), reference(&whole));
            prop_assert_eq!(crc.finish(), crc32c_padded(&whole));
        }
    }
}
