//! The k largest activations of one row.

use pulp::{Simd, WithSimd};

use super::Rank;
use super::candidates::Scratch;

/// Appends the codes of one row: its k largest activations by `rank`, among `features` if given.
pub(super) struct SelectRow<'a> {
    pub(super) z: &'a [f32],
    pub(super) bias: &'a [f32],
    pub(super) k: usize,
    pub(super) rank: Rank,
    pub(super) features: Option<&'a [u32]>,
    pub(super) scratch: &'a mut Scratch,
    pub(super) indices: &'a mut Vec<u32>,
    pub(super) values: &'a mut Vec<f32>,
}

impl WithSimd for SelectRow<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { z, bias, k, rank, features, scratch, indices, values } = self;
        if let (Rank::Value, None) = (rank, features) {
            select(simd, z, bias, k, scratch, |i, v| {
                indices.push(i);
                values.push(v);
            });
            return;
        }
        let mut part = std::mem::take(&mut scratch.part);
        part.clear();
        match features {
            Some(features) => {
                part.extend(features.iter().map(|&f| rank.key(z[f as usize] + bias[f as usize])));
            }
            None => part.extend(z.iter().zip(bias).map(|(z, b)| rank.key(z + b))),
        }
        let mut zeros = std::mem::take(&mut scratch.zeros);
        zeros.resize(part.len(), 0.0);
        select(simd, &part, &zeros, k, scratch, |i, _| {
            let f = features.map_or(i, |features| features[i as usize]);
            indices.push(f);
            values.push(z[f as usize] + bias[f as usize]);
        });
        (scratch.part, scratch.zeros) = (part, zeros);
    }
}

#[inline(always)]
fn select<S: Simd>(
    simd: S,
    z: &[f32],
    bias: &[f32],
    k: usize,
    scratch: &mut Scratch,
    mut emit: impl FnMut(u32, f32),
) {
    if k == 0 {
        return;
    }
    let mut threshold = scratch.guess(z, bias, k);
    let mut n = scratch.collect(simd, z, bias, threshold);
    let missed = n < k && threshold > 0.0;
    if missed {
        let sampled = scratch.guess_from_sample(z, bias, k);
        threshold = if sampled < threshold { sampled } else { 0.0 };
        n = scratch.collect(simd, z, bias, threshold);
        if n < k && threshold > 0.0 {
            n = scratch.collect(simd, z, bias, 0.0);
        }
    }
    let activation = |i: u32| z[i as usize] + bias[i as usize];
    if n <= k {
        for &i in &scratch.candidates[..n] {
            emit(i, activation(i));
        }
        scratch.forget();
        return;
    }
    let candidates = &scratch.candidates[..n];
    scratch.keys.clear();
    scratch.keys.extend(candidates.iter().map(|&i| key(activation(i), i)));
    let boundary = *scratch.keys.select_nth_unstable_by(k - 1, |a, b| b.cmp(a)).1;
    for &i in candidates {
        let v = activation(i);
        if key(v, i) >= boundary {
            emit(i, v);
        }
    }
    scratch.learn(f32::from_bits((boundary >> 32) as u32), n, k, missed);
}

/// Orders positive activations by value, equal ones by falling index.
#[inline(always)]
fn key(v: f32, i: u32) -> u64 {
    (u64::from(v.to_bits()) << 32) | u64::from(!i)
}
