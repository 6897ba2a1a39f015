//! The tensor types of GGUF that are read, and their weights in f32.
//!
//! The formulas and their order of operations are those of ggml's reference code, so that the
//! weights are its own to the bit.

use half::{bf16, f16};

use super::k_quants;

/// A tensor type: blocks of weights that share a scale, or plain floats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TensorType {
    F32,
    F16,
    Bf16,
    /// 32 weights: f16 scale, 32 four-bit integers less 8, low halves first.
    Q4_0,
    /// 32 weights: f16 scale, f16 offset, 32 four-bit integers, low halves first.
    Q4_1,
    /// 32 weights: f16 scale, 32 fifth bits, 32 four-bit integers, low halves first; less 16.
    Q5_0,
    /// 32 weights: f16 scale, f16 offset, fifth bits, four-bit integers.
    Q5_1,
    /// 32 weights: f16 scale, 32 signed bytes.
    Q8_0,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
}

const BLOCK: usize = 32;

impl TensorType {
    /// All, by their names, their numbers in the format, and the weights and bytes of a block.
    const ALL: [(Self, &'static str, u32, usize, usize); 13] = [
        (Self::F32, "F32", 0, 1, 4),
        (Self::F16, "F16", 1, 1, 2),
        (Self::Q4_0, "Q4_0", 2, BLOCK, 18),
        (Self::Q4_1, "Q4_1", 3, BLOCK, 20),
        (Self::Q5_0, "Q5_0", 6, BLOCK, 22),
        (Self::Q5_1, "Q5_1", 7, BLOCK, 24),
        (Self::Q8_0, "Q8_0", 8, BLOCK, 34),
        (Self::Q2K, "Q2_K", 10, k_quants::BLOCK, k_quants::Q2_K_BYTES),
        (Self::Q3K, "Q3_K", 11, k_quants::BLOCK, k_quants::Q3_K_BYTES),
        (Self::Q4K, "Q4_K", 12, k_quants::BLOCK, k_quants::Q4_K_BYTES),
        (Self::Q5K, "Q5_K", 13, k_quants::BLOCK, k_quants::Q5_K_BYTES),
        (Self::Q6K, "Q6_K", 14, k_quants::BLOCK, k_quants::Q6_K_BYTES),
        (Self::Bf16, "BF16", 30, 1, 2),
    ];

    pub(super) fn from_id(id: u32) -> Option<Self> {
        Self::ALL.iter().find(|(_, _, number, ..)| *number == id).map(|(kind, ..)| *kind)
    }

    /// The names and numbers of all, for an error.
    pub(super) fn known() -> String {
        Self::ALL.map(|(_, name, id, ..)| format!("{name} ({id})")).join(", ")
    }

    fn sizes(self) -> (usize, usize) {
        let found = Self::ALL.iter().find(|(kind, ..)| *kind == self);
        let (_, _, _, weights, bytes) = found.expect("all types are in the table");
        (*weights, *bytes)
    }

    /// Weights of a block.
    pub(super) fn block_weights(self) -> u64 {
        self.sizes().0 as u64
    }

    /// Bytes of a block.
    pub(super) fn block_bytes(self) -> u64 {
        self.sizes().1 as u64
    }

    /// The weights of whole blocks.
    pub(super) fn dequantize(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Self::F32 => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            Self::F16 => bytes.as_chunks().0.iter().map(|b| half(*b)).collect(),
            Self::Bf16 => {
                bytes.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect()
            }
            Self::Q4_0 => blocks(bytes, |block: &[u8; 18], out| {
                let [d0, d1, quants @ ..] = block;
                let scale = half([*d0, *d1]);
                halves(quants, out, |_, quant| f32::from(quant.cast_signed() - 8) * scale);
            }),
            Self::Q4_1 => blocks(bytes, |block: &[u8; 20], out| {
                let [d0, d1, m0, m1, quants @ ..] = block;
                let (scale, offset) = (half([*d0, *d1]), half([*m0, *m1]));
                halves(quants, out, |_, quant| scale * f32::from(quant) + offset);
            }),
            Self::Q5_0 => blocks(bytes, |block: &[u8; 22], out| {
                let [d0, d1, h0, h1, h2, h3, quants @ ..] = block;
                let (scale, fifth) = (half([*d0, *d1]), u32::from_le_bytes([*h0, *h1, *h2, *h3]));
                halves(quants, out, |at, quant| {
                    f32::from((quant | fifth_bit(fifth, at)).cast_signed() - 16) * scale
                });
            }),
            Self::Q5_1 => blocks(bytes, |block: &[u8; 24], out| {
                let [d0, d1, m0, m1, h0, h1, h2, h3, quants @ ..] = block;
                let (scale, offset) = (half([*d0, *d1]), half([*m0, *m1]));
                let fifth = u32::from_le_bytes([*h0, *h1, *h2, *h3]);
                halves(quants, out, |at, quant| {
                    scale * f32::from(quant | fifth_bit(fifth, at)) + offset
                });
            }),
            Self::Q8_0 => blocks(bytes, |block: &[u8; 34], out: &mut [f32; BLOCK]| {
                let [d0, d1, quants @ ..] = block;
                let scale = half([*d0, *d1]);
                for (out, byte) in out.iter_mut().zip(quants) {
                    *out = scale * f32::from(byte.cast_signed());
                }
            }),
            Self::Q2K => blocks(bytes, k_quants::q2_k),
            Self::Q3K => blocks(bytes, k_quants::q3_k),
            Self::Q4K => blocks(bytes, k_quants::q4_k),
            Self::Q5K => blocks(bytes, k_quants::q5_k),
            Self::Q6K => blocks(bytes, k_quants::q6_k),
        }
    }
}

pub(super) fn half(bytes: [u8; 2]) -> f32 {
    f16::from_le_bytes(bytes).to_f32()
}

/// The 32 weights of 16 bytes: first those of the low halves, then those of the high ones.
fn halves(quants: &[u8; 16], out: &mut [f32; BLOCK], weight: impl Fn(usize, u8) -> f32) {
    for (at, byte) in quants.iter().enumerate() {
        out[at] = weight(at, byte & 15);
        out[at + BLOCK / 2] = weight(at + BLOCK / 2, byte >> 4);
    }
}

/// Bit `at`, where it stands above four others.
fn fifth_bit(bits: u32, at: usize) -> u8 {
    (((bits >> at) & 1) << 4) as u8
}

fn blocks<const BYTES: usize, const WEIGHTS: usize>(
    bytes: &[u8],
    decode: impl Fn(&[u8; BYTES], &mut [f32; WEIGHTS]),
) -> Vec<f32> {
    let (blocks, _) = bytes.as_chunks::<BYTES>();
    let mut weights = vec![0.0; blocks.len() * WEIGHTS];
    for (block, out) in blocks.iter().zip(weights.as_chunks_mut().0) {
        decode(block, out);
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_in_the_table_once_and_has_whole_blocks() {
        for (at, (kind, _, id, weights, bytes)) in TensorType::ALL.into_iter().enumerate() {
            assert_eq!(TensorType::from_id(id), Some(kind));
            assert!(TensorType::ALL[..at].iter().all(|(other, ..)| *other != kind));
            assert_eq!(kind.dequantize(&vec![0; 3 * bytes]), vec![0.0; 3 * weights]);
        }
        assert_eq!(TensorType::from_id(4), None);
    }

    #[test]
    fn q4_1_takes_low_halves_first() {
        let mut block = [0_u8; 20];
        block[..2].copy_from_slice(&f16::from_f32(0.5).to_le_bytes());
        block[2..4].copy_from_slice(&f16::from_f32(-1.0).to_le_bytes());
        block[4] = 0x3f;
        block[19] = 0xa1;
        let weights = TensorType::Q4_1.dequantize(&block);
        assert_eq!(weights.len(), 32);
        assert_eq!((weights[0], weights[16]), (6.5, 0.5));
        assert_eq!((weights[15], weights[31]), (-0.5, 4.0));
        assert!(weights[1..15].iter().all(|weight| *weight == -1.0));
    }

    #[test]
    fn q8_0_bytes_are_signed() {
        let mut block = [0_u8; 34];
        block[..2].copy_from_slice(&f16::from_f32(0.25).to_le_bytes());
        block[2] = 0x80;
        block[33] = 0x7f;
        let weights = TensorType::Q8_0.dequantize(&block);
        assert_eq!((weights[0], weights[1], weights[31]), (-32.0, 0.0, 31.75));
    }

    #[test]
    fn plain_floats_are_little_endian() {
        assert_eq!(TensorType::F32.dequantize(&1.5_f32.to_le_bytes()), [1.5]);
        assert_eq!(TensorType::F16.dequantize(&f16::from_f32(-2.5).to_le_bytes()), [-2.5]);
        assert_eq!(TensorType::Bf16.dequantize(&bf16::from_f32(-2.5).to_le_bytes()), [-2.5]);
    }
}
