//! The one pass over a row: indices of the elements above a guess.

use pulp::Simd;

/// Elements tested at once before any of them is looked at.
const BLOCK: usize = 32;

/// Elements of a row from which a first guess is made.
const SAMPLE: usize = 1024;

/// Buffers of one row, and the guess that its neighbours left.
#[derive(Debug)]
pub(super) struct Scratch {
    /// Indices of candidates; only a prefix is meaningful.
    pub(super) candidates: Vec<u32>,
    /// Value and index of each candidate as one ordered number.
    pub(super) keys: Vec<u64>,
    /// Activations of a part of the row.
    pub(super) part: Vec<f32>,
    /// Zeros, as long as `part`.
    pub(super) zeros: Vec<f32>,
    sample: Vec<u32>,
    /// The boundary of the last row, NaN if there is none.
    last: f32,
    /// How far below the last boundary the next guess lies, relative to it.
    margin: f32,
}

impl Default for Scratch {
    fn default() -> Self {
        Self {
            candidates: Vec::new(),
            keys: Vec::new(),
            part: Vec::new(),
            zeros: Vec::new(),
            sample: Vec::new(),
            last: f32::NAN,
            margin: 0.15,
        }
    }
}

impl Scratch {
    /// A guess below the k-th largest activation of this row.
    pub(super) fn guess(&mut self, z: &[f32], bias: &[f32], k: usize) -> f32 {
        if self.last.is_nan() {
            self.guess_from_sample(z, bias, k)
        } else {
            self.last * (1.0 - self.margin)
        }
    }

    /// A guess from evenly spread blocks of the row: about 1.5 k elements lie above it.
    pub(super) fn guess_from_sample(&mut self, z: &[f32], bias: &[f32], k: usize) -> f32 {
        const RUN: usize = 16;
        if z.len() < 4 * SAMPLE {
            return 0.0;
        }
        self.sample.clear();
        let stride = z.len() / (SAMPLE / RUN);
        for start in (0..z.len() - RUN).step_by(stride) {
            let run = z[start..start + RUN].iter().zip(&bias[start..start + RUN]);
            self.sample.extend(run.map(|(z, b)| (z + b).max(0.0).to_bits()));
        }
        let n = self.sample.len();
        let rank = k * n / z.len();
        let rank = rank + rank / 2 + 8;
        if rank >= n {
            return 0.0;
        }
        f32::from_bits(*self.sample.select_nth_unstable_by(rank, |a, b| b.cmp(a)).1)
    }

    /// Remembers the boundary of a row, and tunes the margin by how many candidates it had.
    pub(super) fn learn(&mut self, boundary: f32, n_candidates: usize, k: usize, missed: bool) {
        self.last = boundary;
        if missed {
            self.margin = (self.margin * 1.3).min(0.6);
        } else if n_candidates > 2 * k {
            self.margin = (self.margin * 0.97).max(0.02);
        }
    }

    /// Forgets the boundary: too few elements of the row were positive.
    pub(super) fn forget(&mut self) {
        self.last = f32::NAN;
    }

    /// Collects the indices with z + b > `threshold`, ascending.
    #[inline(always)]
    pub(super) fn collect<S: Simd>(
        &mut self,
        simd: S,
        z: &[f32],
        bias: &[f32],
        threshold: f32,
    ) -> usize {
        self.reserve(z.len());
        let at = simd.splat_f32s(threshold);
        let mut n = 0;
        let blocks = z.chunks_exact(BLOCK).zip(bias.chunks_exact(BLOCK));
        for (block, (z, b)) in blocks.enumerate() {
            let (z_simd, b_simd) = (S::as_simd_f32s(z).0, S::as_simd_f32s(b).0);
            let mut any = simd.greater_than_f32s(simd.add_f32s(z_simd[0], b_simd[0]), at);
            for i in 1..BLOCK / S::F32_LANES {
                let above = simd.greater_than_f32s(simd.add_f32s(z_simd[i], b_simd[i]), at);
                any = simd.or_m32s(any, above);
            }
            if simd.first_true_m32s(any) < S::F32_LANES {
                let first = (block * BLOCK) as u32;
                n += append(&mut self.candidates[n..n + BLOCK], z, b, first, |v, _| v > threshold);
            }
        }
        let done = z.len() - z.len() % BLOCK;
        let out = &mut self.candidates[n..n + BLOCK];
        n + append(out, &z[done..], &bias[done..], done as u32, |v, _| v > threshold)
    }

    /// Collects the indices for which `keep(index, z + b)` holds, ascending.
    pub(super) fn collect_where(
        &mut self,
        z: &[f32],
        bias: &[f32],
        keep: &impl Fn(usize, f32) -> bool,
    ) -> &[u32] {
        self.reserve(z.len());
        let mut n = 0;
        for (block, (z, b)) in z.chunks(BLOCK).zip(bias.chunks(BLOCK)).enumerate() {
            let first = block * BLOCK;
            let out = &mut self.candidates[n..n + BLOCK];
            n += append(out, z, b, first as u32, |v, j| keep(first + j, v));
        }
        &self.candidates[..n]
    }

    fn reserve(&mut self, len: usize) {
        if self.candidates.len() < len + BLOCK {
            self.candidates.resize(len + BLOCK, 0);
        }
    }
}

/// Writes the indices that `keep` wants to the front of `out`, without a branch.
#[inline(always)]
fn append(
    out: &mut [u32],
    z: &[f32],
    bias: &[f32],
    first: u32,
    keep: impl Fn(f32, usize) -> bool,
) -> usize {
    let out: &mut [u32; BLOCK] = out.try_into().expect("a block of candidates");
    let mut n = 0;
    for (j, (z, b)) in z.iter().zip(bias).enumerate() {
        out[n % BLOCK] = first + j as u32;
        n += usize::from(keep(z + b, j));
    }
    n
}
