//! Tensor types of 256 weights: 8 or 16 groups whose scales are small integers times one f16.
//!
//! Weight w lies in the half w / 128, there in the quarter j = (w mod 128) / 32, at l = w mod 32.

use super::dequantize::half;

pub(super) const BLOCK: usize = 256;
pub(super) const Q2_K_BYTES: usize = 84;
pub(super) const Q3_K_BYTES: usize = 110;
pub(super) const Q4_K_BYTES: usize = 144;
pub(super) const Q5_K_BYTES: usize = 176;
pub(super) const Q6_K_BYTES: usize = 210;

/// 16 scales and offsets of four bits each, 64 bytes of two-bit integers, their f16 scales.
pub(super) fn q2_k(block: &[u8; Q2_K_BYTES], out: &mut [f32; BLOCK]) {
    let (scales, quants) = (&block[..16], &block[16..80]);
    let (d, d_min) = (half([block[80], block[81]]), half([block[82], block[83]]));
    for (w, out) in out.iter_mut().enumerate() {
        let scale = scales[w / 16];
        let (scale, offset) = (d * f32::from(scale & 15), d_min * f32::from(scale >> 4));
        *out = scale * f32::from(two_bits(quants, w)) - offset;
    }
}

/// 32 bytes of third bits, 64 of two-bit integers, 16 scales of six bits, their f16 scale.
pub(super) fn q3_k(block: &[u8; Q3_K_BYTES], out: &mut [f32; BLOCK]) {
    let (thirds, quants, scales) = (&block[..32], &block[32..96], &block[96..108]);
    let d = half([block[108], block[109]]);
    for (w, out) in out.iter_mut().enumerate() {
        let group = w / 16;
        let low = (scales[group % 8] >> (4 * (group / 8))) & 15;
        let high = (scales[8 + group % 4] >> (2 * (group / 4))) & 3;
        let scale = d * f32::from((low | high << 4).cast_signed() - 32);
        let third = (thirds[w % 32] >> (w / 32)) & 1;
        *out = scale * f32::from((two_bits(quants, w) | third << 2).cast_signed() - 4);
    }
}

/// f16 scales of scales and of offsets, 8 of each in six bits, 128 bytes of four-bit integers.
pub(super) fn q4_k(block: &[u8; Q4_K_BYTES], out: &mut [f32; BLOCK]) {
    let quants = &block[16..];
    for (group, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, offset) = scale_and_offset(block, group);
        for (l, out) in out.iter_mut().enumerate() {
            *out = scale * f32::from(four_bits(quants, group, l)) - offset;
        }
    }
}

/// As Q4_K, with 32 bytes of fifth bits before the four-bit integers.
pub(super) fn q5_k(block: &[u8; Q5_K_BYTES], out: &mut [f32; BLOCK]) {
    let (fifths, quants) = (&block[16..48], &block[48..]);
    for (group, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, offset) = scale_and_offset(block, group);
        for (l, out) in out.iter_mut().enumerate() {
            let fifth = (fifths[l] >> group) & 1;
            *out = scale * f32::from(four_bits(quants, group, l) | fifth << 4) - offset;
        }
    }
}

/// 128 bytes of four-bit integers, 64 of their upper two bits, 16 signed scales, their f16 scale.
pub(super) fn q6_k(block: &[u8; Q6_K_BYTES], out: &mut [f32; BLOCK]) {
    let (lows, highs, scales) = (&block[..128], &block[128..192], &block[192..208]);
    let d = half([block[208], block[209]]);
    for (w, out) in out.iter_mut().enumerate() {
        let (in_half, j, l) = (w / 128, w % 128 / 32, w % 32);
        let low = (lows[in_half * 64 + j % 2 * 32 + l] >> (4 * (j / 2))) & 15;
        let quant = (low | two_bits(highs, w) << 4).cast_signed() - 32;
        *out = d * f32::from(scales[w / 16].cast_signed()) * f32::from(quant);
    }
}

/// The two bits of a weight: those of the four quarters of a half share a byte.
fn two_bits(bytes: &[u8], w: usize) -> u8 {
    (bytes[w / 128 * 32 + w % 32] >> (2 * (w % 128 / 32))) & 3
}

/// The four bits of a weight: those of two groups of 32 share 32 bytes.
fn four_bits(bytes: &[u8], group: usize, l: usize) -> u8 {
    (bytes[group / 2 * 32 + l] >> (4 * (group % 2))) & 15
}

/// The scale and offset of one of the 8 groups of a block that starts with its two f16 scales and
/// the 12 bytes of six-bit integers.
fn scale_and_offset(block: &[u8], group: usize) -> (f32, f32) {
    let (d, d_min) = (half([block[0], block[1]]), half([block[2], block[3]]));
    let packed = &block[4..16];
    let (scale, offset) = if group < 4 {
        (packed[group] & 63, packed[group + 4] & 63)
    } else {
        let (low, high) = (packed[group + 4] & 15, packed[group + 4] >> 4);
        (low | packed[group - 4] >> 6 << 4, high | packed[group] >> 6 << 4)
    };
    (d * f32::from(scale), d_min * f32::from(offset))
}
