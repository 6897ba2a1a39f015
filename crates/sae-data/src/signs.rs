//! What a store says before anything is trained on it: what will go wrong, and what helps.

mod advice;

use std::sync::atomic::{AtomicBool, Ordering};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};
use serde::{Deserialize, Serialize};

pub use advice::{Advice, Remedy};

use crate::norms::{for_each_piece, median_norm, norm, norms, sorted, squared_norm};
use crate::statistics::Moments;
use crate::{ActivationStore, Result, sidecar};

/// A row whose norm exceeds this multiple of the median one is massive.
const MASSIVE: f64 = 10.0;

/// A dimension whose mean exceeds this multiple of the root mean variance is an outlier.
const OUTLIER: f64 = 5.0;

/// Outliers listed at most, the largest first.
const MAX_OUTLIERS: usize = 16;

/// Random directions that are tried.
const N_DIRECTIONS: usize = 128;

/// Signs of what training on a store will meet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signs {
    /// Rows.
    pub n_rows: u64,
    /// Rows of zeros.
    pub n_zero_rows: u64,
    /// Rows equal to an earlier one, by 64 bits of a hash of their values.
    pub n_duplicate_rows: u64,
    /// Rows whose norm exceeds ten times the median norm of rows that are not zero.
    pub n_massive_rows: u64,
    /// Their share of Σ‖x‖².
    pub massive_share: f64,
    /// The largest norm over that median.
    pub largest_ratio: f64,
    /// γ = ‖μ‖/‖σ‖, with μ the mean row and σ² the variance of each dimension (Simon et al. 2026,
    /// arXiv:2605.31518), of all rows; none where they are equal.
    pub gamma: Option<f64>,
    /// The same of the rows that are not massive, as all below.
    pub gamma_without_massive: Option<f64>,
    /// Dimensions whose mean exceeds five times ‖σ‖/√d_model, at most 16.
    pub outlier_dimensions: Vec<MeanOutlier>,
    /// Share of 128 random directions on which every row is projected to 0 or less: features that
    /// start in such a direction with biases of 0 never fire.
    pub dead_directions: f64,
}

/// A dimension whose mean is large against how rows vary.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeanOutlier {
    /// The dimension.
    pub dimension: usize,
    /// |μ_d| over ‖σ‖/√d_model.
    pub ratio: f64,
    /// Its share of ‖μ‖².
    pub share: f64,
}

impl Signs {
    /// Reads the whole store twice: for the norms, and for all else.
    ///
    /// # Errors
    /// A row that cannot be read or is not finite.
    pub fn of(store: &dyn ActivationStore) -> Result<Self> {
        let norms = sorted(&norms(store)?);
        let median = median_norm(&norms).unwrap_or_default();
        let limit = MASSIVE * median;
        let d_model = store.d_model();
        let directions = Directions::new(d_model);
        let mut seen = Seen {
            all: Moments::zero(d_model),
            kept: Moments::zero(d_model),
            hashes: vec![],
            massive: 0.0,
        };
        for_each_piece(
            store,
            |_, rows| Ok(Seen::of(rows, d_model, limit, &directions)),
            |piece| seen.merge(piece),
        )?;
        Ok(seen.finish(&norms, limit, median, &directions))
    }

    /// The same, kept in a hidden file beside the store under the hash of its rows. A store that
    /// cannot be written to is read anew each time.
    ///
    /// # Errors
    /// As [`Signs::of`].
    pub fn cached(store: &dyn ActivationStore) -> Result<Self> {
        let Some(path) = store.path() else { return Self::of(store) };
        let hash = store.content_hash()?;
        let sidecar = sidecar::path(path, &format!("signs-{}.json", &hash[..16]));
        if let Some(found) = sidecar::read(&sidecar).filter(|of: &Self| of.n_rows == store.n_rows())
        {
            return Ok(found);
        }
        let signs = Self::of(store)?;
        sidecar::write(&sidecar, &signs);
        Ok(signs)
    }
}

/// Random directions, and whether some row has a positive projection on each.
struct Directions {
    rows: Vec<f32>,
    alive: Vec<AtomicBool>,
}

impl Directions {
    fn new(d_model: usize) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let mut uniform = || (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        // Box and Muller's normal draws; only the direction of a row counts.
        let mut normal = || {
            let radius = libm::sqrt(-2.0 * libm::log(1.0 - uniform()));
            (radius * libm::cos(std::f64::consts::TAU * uniform())) as f32
        };
        let rows = (0..N_DIRECTIONS * d_model).map(|_| normal()).collect();
        Self { rows, alive: (0..N_DIRECTIONS).map(|_| AtomicBool::new(false)).collect() }
    }

    /// Tries a row on the directions that have had no positive one.
    fn see(&self, row: &[f32]) {
        for (direction, alive) in self.rows.chunks_exact(row.len()).zip(&self.alive) {
            if !alive.load(Ordering::Relaxed) && dot(direction, row) > 0.0 {
                alive.store(true, Ordering::Relaxed);
            }
        }
    }

    fn dead_share(&self) -> f64 {
        let n_dead = self.alive.iter().filter(|alive| !alive.load(Ordering::Relaxed)).count();
        n_dead as f64 / self.alive.len() as f64
    }
}

/// x·y in eight interleaved sums.
fn dot(x: &[f32], y: &[f32]) -> f64 {
    let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<8>(), y.as_chunks::<8>());
    let mut sums = [0.0_f64; 8];
    for (x, y) in x.iter().zip(y) {
        for ((sum, &x), &y) in sums.iter_mut().zip(x).zip(y) {
            *sum += f64::from(x) * f64::from(y);
        }
    }
    let rest: f64 = x_rest.iter().zip(y_rest).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum();
    sums.iter().sum::<f64>() + rest
}

/// What was seen of some rows.
struct Seen {
    all: Moments,
    /// Of the rows that are not massive.
    kept: Moments,
    hashes: Vec<u64>,
    /// Σ‖x‖² of massive rows.
    massive: f64,
}

impl Seen {
    fn of(rows: &[f32], d_model: usize, limit: f64, directions: &Directions) -> Self {
        let is_massive = |row: &[f32]| f64::from(norm(row)) > limit;
        let mut kept = Vec::with_capacity(rows.len());
        let (mut hashes, mut massive) = (Vec::new(), 0.0);
        for row in rows.chunks_exact(d_model) {
            let hash = blake3::hash(bytemuck::cast_slice(row));
            let (first, _) = hash.as_bytes().split_first_chunk().expect("a hash has 32 bytes");
            hashes.push(u64::from_le_bytes(*first));
            if is_massive(row) {
                massive += squared_norm(row);
                continue;
            }
            kept.extend_from_slice(row);
            directions.see(row);
        }
        let kept = match kept.is_empty() {
            true => Moments::zero(d_model),
            false => Moments::of(&kept, d_model),
        };
        Self { all: Moments::of(rows, d_model), kept, hashes, massive }
    }

    fn merge(&mut self, other: Self) {
        self.all.merge(&other.all);
        if other.kept.n_rows > 0 {
            self.kept.merge(&other.kept);
        }
        self.hashes.extend(other.hashes);
        self.massive += other.massive;
    }

    fn finish(mut self, norms: &[f32], limit: f64, median: f64, directions: &Directions) -> Signs {
        self.hashes.sort_unstable();
        let n_rows = self.hashes.len() as u64;
        self.hashes.dedup();
        let above = norms.partition_point(|norm| f64::from(*norm) <= limit);
        let largest = norms.last().copied().map_or(0.0, f64::from);
        Signs {
            n_rows,
            n_zero_rows: norms.partition_point(|norm| *norm <= 0.0) as u64,
            n_duplicate_rows: n_rows - self.hashes.len() as u64,
            n_massive_rows: (norms.len() - above) as u64,
            massive_share: if self.massive > 0.0 {
                self.massive / self.all.squared_norms
            } else {
                0.0
            },
            largest_ratio: if median > 0.0 { largest / median } else { 0.0 },
            gamma: gamma(&self.all),
            gamma_without_massive: gamma(&self.kept),
            outlier_dimensions: outliers(&self.kept),
            dead_directions: directions.dead_share(),
        }
    }
}

/// ‖σ‖².
fn total_variance(of: &Moments) -> f64 {
    of.centred.iter().sum::<f64>() / of.n.max(1.0)
}

/// ‖μ‖².
fn squared_mean(of: &Moments) -> f64 {
    of.mean.iter().map(|mean| mean * mean).sum()
}

fn gamma(of: &Moments) -> Option<f64> {
    let variance = total_variance(of);
    (variance > 0.0).then(|| (squared_mean(of) / variance).sqrt())
}

fn outliers(of: &Moments) -> Vec<MeanOutlier> {
    let deviation = (total_variance(of) / of.mean.len() as f64).sqrt();
    let total = squared_mean(of);
    if deviation <= 0.0 || total <= 0.0 {
        return Vec::new();
    }
    let outlier = |(dimension, mean): (usize, &f64)| MeanOutlier {
        dimension,
        ratio: mean.abs() / deviation,
        share: mean * mean / total,
    };
    let all = of.mean.iter().enumerate().map(outlier);
    let mut outliers: Vec<_> = all.filter(|outlier| outlier.ratio > OUTLIER).collect();
    outliers.sort_by(|a, b| b.ratio.total_cmp(&a.ratio));
    outliers.truncate(MAX_OUTLIERS);
    outliers
}
