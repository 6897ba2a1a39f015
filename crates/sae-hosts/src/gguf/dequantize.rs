//! The tensor types of GGUF that are read, and their weights in f32.

use half::f16;

/// A tensor type: blocks of weights that share a scale, or plain floats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TensorType {
    F32,
    F16,
    /// 32 weights: f16 scale, f16 offset, 32 four-bit integers, low halves first.
    Q4_1,
    /// 32 weights: f16 scale, 32 signed bytes.
    Q8_0,
}

const Q4_1_BYTES: usize = 20;
const Q8_0_BYTES: usize = 34;
const BLOCK: usize = 32;

impl TensorType {
    pub(super) fn from_id(id: u32) -> Option<Self> {
        match id {
            0 => Some(Self::F32),
            1 => Some(Self::F16),
            3 => Some(Self::Q4_1),
            8 => Some(Self::Q8_0),
            _ => None,
        }
    }

    /// Weights of a block.
    pub(super) fn block_weights(self) -> u64 {
        match self {
            Self::F32 | Self::F16 => 1,
            Self::Q4_1 | Self::Q8_0 => BLOCK as u64,
        }
    }

    /// Bytes of a block.
    pub(super) fn block_bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
            Self::Q4_1 => Q4_1_BYTES as u64,
            Self::Q8_0 => Q8_0_BYTES as u64,
        }
    }

    /// The weights of whole blocks.
    pub(super) fn dequantize(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Self::F32 => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            Self::F16 => bytes.as_chunks().0.iter().map(|b| half(*b)).collect(),
            Self::Q4_1 => blocks(bytes, |block: &[u8; Q4_1_BYTES], out| {
                let [d0, d1, m0, m1, quants @ ..] = block;
                let (scale, offset) = (half([*d0, *d1]), half([*m0, *m1]));
                let (low, high) = out.split_at_mut(BLOCK / 2);
                for ((low, high), byte) in low.iter_mut().zip(high).zip(quants) {
                    *low = scale * f32::from(byte & 15) + offset;
                    *high = scale * f32::from(byte >> 4) + offset;
                }
            }),
            Self::Q8_0 => blocks(bytes, |block: &[u8; Q8_0_BYTES], out| {
                let [d0, d1, quants @ ..] = block;
                let scale = half([*d0, *d1]);
                for (out, byte) in out.iter_mut().zip(quants) {
                    *out = scale * f32::from(byte.cast_signed());
                }
            }),
        }
    }
}

fn half(bytes: [u8; 2]) -> f32 {
    f16::from_le_bytes(bytes).to_f32()
}

fn blocks<const N: usize>(bytes: &[u8], decode: impl Fn(&[u8; N], &mut [f32; BLOCK])) -> Vec<f32> {
    let (blocks, _) = bytes.as_chunks::<N>();
    let mut weights = vec![0.0; blocks.len() * BLOCK];
    for (block, out) in blocks.iter().zip(weights.as_chunks_mut().0) {
        decode(block, out);
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q4_1_takes_low_halves_first() {
        let mut block = [0_u8; Q4_1_BYTES];
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
        let mut block = [0_u8; Q8_0_BYTES];
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
    }
}
