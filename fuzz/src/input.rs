//! Choices and numbers out of the bytes that the fuzzer makes. When there are no more, everything is zero.

/// The bytes that are left.
#[derive(Clone, Debug)]
pub struct Input<'i>(&'i [u8]);

/// Numbers at which something changes, as differences from what matters in a file: its length, its capacity.
const EDGES: [u64; 24] = [
    0,
    1,
    2,
    7,
    8,
    9,
    15,
    16,
    24,
    31,
    32,
    127,
    128,
    255,
    256,
    4088,
    4095,
    4096,
    4097,
    8192,
    65536,
    1 << 20,
    1 << 28,
    1 << 31,
];
/// The same near the ends of what a number can be.
const FAR: [u64; 12] = [
    u32::MAX as u64,
    1 << 32,
    1 << 44,
    1 << 45,
    (1 << 45) + 4096,
    1 << 46,
    1 << 47,
    1 << 62,
    1 << 63,
    (1 << 63) + 1,
    u64::MAX - 7,
    u64::MAX,
];

impl<'i> Input<'i> {
    /// All of them.
    pub fn new(bytes: &'i [u8]) -> Input<'i> {
        Input(bytes)
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is left.
    pub fn rest(&self) -> &'i [u8] {
        self.0
    }

    /// The next `len` bytes, or as many as there are.
    pub fn take(&mut self, len: usize) -> &'i [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    /// A number below `bound`, which is at most 256.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound.max(1)
    }

    /// The next two bytes.
    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// The next eight bytes.
    pub fn u64(&mut self) -> u64 {
        let mut word = [0; 8];
        let taken = self.take(8);
        word[..taken.len()].copy_from_slice(taken);
        u64::from_le_bytes(word)
    }

    /// A number that is likely to matter: near an edge, near one of `marks`, or any.
    pub fn number(&mut self, marks: &[u64]) -> u64 {
        let choice = self.byte();
        let edge = |n: u8| EDGES[usize::from(n) % EDGES.len()];
        match choice {
            0..64 => edge(choice),
            64..96 => FAR[usize::from(choice) % FAR.len()],
            96..128 if !marks.is_empty() => marks[usize::from(choice) % marks.len()],
            128..160 if !marks.is_empty() => {
                marks[usize::from(choice) % marks.len()].wrapping_add(edge(self.byte()))
            }
            160..192 if !marks.is_empty() => {
                marks[usize::from(choice) % marks.len()].wrapping_sub(edge(self.byte()))
            }
            192..224 => u64::from(self.u16()),
            224..240 => u64::from(self.u16()) * 8,
            _ => self.u64(),
        }
    }
}
