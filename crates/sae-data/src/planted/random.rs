//! Random numbers that follow from a seed, a name and a number.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};

pub(super) fn rng(seed: u64, name: &str, number: u64) -> ChaCha8Rng {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.update(&number.to_le_bytes());
    hasher.update(name.as_bytes());
    ChaCha8Rng::from_seed(*hasher.finalize().as_bytes())
}

/// Uniform in [0, 1).
pub(super) fn uniform(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 * 2f64.powi(-53)
}

/// Uniform in `0..n`.
pub(super) fn below(rng: &mut ChaCha8Rng, n: usize) -> usize {
    ((u128::from(rng.next_u64()) * n as u128) >> 64) as usize
}

/// Standard normal, by Box and Muller.
pub(super) fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let radius = (-2.0 * (1.0 - uniform(rng)).ln()).sqrt();
    radius * (std::f64::consts::TAU * uniform(rng)).cos()
}

/// `n` random directions, `[n, d_model]`.
pub(super) fn unit_vectors(rng: &mut ChaCha8Rng, n: usize, d_model: usize) -> Vec<f32> {
    let mut vectors = Vec::with_capacity(n * d_model);
    for _ in 0..n {
        let direction: Vec<f64> = (0..d_model).map(|_| normal(rng)).collect();
        let norm = direction.iter().map(|x| x * x).sum::<f64>().sqrt();
        vectors.extend(direction.iter().map(|x| (x / norm) as f32));
    }
    vectors
}
