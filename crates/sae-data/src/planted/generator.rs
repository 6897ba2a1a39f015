//! Making the rows: each from a generator of its own, so that they come out the same in parallel.

use std::path::Path;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};
use rayon::prelude::*;

use super::config::PlantedConfig;
use super::truth::PlantedTruth;
use crate::store::to_usize;
use crate::{Dtype, Provenance, Result, RowMeta, StoreSpec, StoreWriter};

/// Rows made at a time.
const ROWS_AT_ONCE: u64 = 4096;

/// Draws before the next free feature is taken in order.
const MAX_DRAWS: usize = 64;

impl PlantedConfig {
    /// Writes a native store of planted rows to `dir`, and the truth beside it; one that was cut
    /// off is finished.
    ///
    /// # Errors
    /// A setting out of range; a directory that holds a finished or another store, or that cannot
    /// be written.
    pub fn write(&self, dir: &Path, dtype: Dtype) -> Result<()> {
        self.check()?;
        let provenance = Provenance {
            host: "planted".to_owned(),
            hook_point: "planted".to_owned(),
            settings: [("config".to_owned(), serde_json::json!(self).to_string())].into(),
            ..Provenance::default()
        };
        let spec = StoreSpec { provenance, ..StoreSpec::new(self.d_model, dtype) };
        self.write_spec(dir, spec)
    }

    fn write_spec(&self, dir: &Path, spec: StoreSpec) -> Result<()> {
        let world = World::new(self);
        let mut writer = StoreWriter::resume(dir, spec)?;
        let present = self.first_row + writer.n_rows();
        let mut truth = PlantedTruth::new(self.n_features, self.d_model, world.dictionary.clone());
        let end = self.first_row + self.n_rows;
        let mut start = self.first_row;
        while start < end {
            let next = end.min(start + ROWS_AT_ONCE);
            let rows: Vec<Row> = (start..next).into_par_iter().map(|i| world.row(i)).collect();
            for row in &rows {
                truth.push(&row.active, row.intrinsic_dimension);
            }
            let missing = &rows[rows.len().min(to_usize(present.saturating_sub(start)))..];
            let values: Vec<f32> =
                missing.iter().flat_map(|row| row.values.iter().copied()).collect();
            let first_missing = start + (rows.len() - missing.len()) as u64;
            let meta: Vec<RowMeta> = (first_missing..next)
                .map(|i| RowMeta {
                    document: (i & u64::from(u32::MAX)) as u32,
                    ..RowMeta::default()
                })
                .collect();
            writer.append(&values, &meta)?;
            start = next;
        }
        truth.write(dir)?;
        writer.finish()
    }
}

/// What all rows share.
struct World<'a> {
    config: &'a PlantedConfig,
    /// `[n_features, d_model]`, unit rows.
    dictionary: Vec<f32>,
    offset: Vec<f32>,
    /// For each torus, `[2·dimension, d_model]` of unit rows.
    tori: Vec<Vec<f32>>,
    /// Running sums of the features' frequencies.
    cumulative: Vec<f64>,
}

/// A row and its truth.
struct Row {
    values: Vec<f32>,
    /// Feature and activation, by feature.
    active: Vec<(u32, f32)>,
    intrinsic_dimension: u32,
}

impl<'a> World<'a> {
    fn new(config: &'a PlantedConfig) -> Self {
        let vectors = |name, n| unit_vectors(&mut rng(config.seed, name, 0), n, config.d_model);
        let mut offset = vectors("offset", 1);
        offset.iter_mut().for_each(|v| *v *= config.offset as f32);
        let dimensions = config.manifolds.iter().flat_map(|m| &m.dimensions);
        let mut torus_rng = rng(config.seed, "tori", 0);
        let tori = dimensions.map(|m| unit_vectors(&mut torus_rng, 2 * m, config.d_model));
        let mut sum = 0.0;
        let frequency = |i: usize| ((i + 1) as f64).powf(-config.frequency_exponent);
        let cumulative = (0..config.n_features).map(|i| {
            sum += frequency(i);
            sum
        });
        Self {
            config,
            dictionary: vectors("dictionary", config.n_features),
            offset,
            tori: tori.collect(),
            cumulative: cumulative.collect(),
        }
    }

    fn row(&self, number: u64) -> Row {
        let config = self.config;
        let rng = &mut rng(config.seed, "row", number);
        let k = config.k_min + below(rng, config.k_max - config.k_min + 1);
        let mut chosen = self.choose(k, rng);
        chosen.sort_unstable();
        let mut values = self.offset.clone();
        let mut active = Vec::with_capacity(k);
        for feature in chosen {
            let drawn = config.magnitude + config.magnitude_sd * normal(rng);
            let a = drawn.max(0.1 * config.magnitude) as f32;
            add(&mut values, a, vector(&self.dictionary, feature, config.d_model));
            active.push((feature as u32, a));
        }
        let mut intrinsic_dimension = k;
        if let Some(manifolds) = &config.manifolds {
            let which = below(rng, self.tori.len());
            let dimension = manifolds.dimensions[which];
            let radius = manifolds.radius / (dimension as f64).sqrt();
            for i in 0..dimension {
                let (sin, cos) = (std::f64::consts::TAU * uniform(rng)).sin_cos();
                for (j, coordinate) in [cos, sin].into_iter().enumerate() {
                    let direction = vector(&self.tori[which], 2 * i + j, config.d_model);
                    add(&mut values, (radius * coordinate) as f32, direction);
                }
            }
            intrinsic_dimension += dimension;
        }
        let sd = config.noise / (config.d_model as f64).sqrt();
        values.iter_mut().for_each(|v| *v += (sd * normal(rng)) as f32);
        Row { values, active, intrinsic_dimension: intrinsic_dimension as u32 }
    }

    /// Draws `k` different features.
    fn choose(&self, k: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
        let mut chosen: Vec<usize> = Vec::with_capacity(k);
        let mut draws = 0;
        while chosen.len() < k {
            let mut feature = self.draw(&chosen, rng);
            draws += 1;
            if draws > MAX_DRAWS * k {
                let free = (0..self.config.n_features).find(|i| !chosen.contains(i));
                feature = free.unwrap_or_default();
            }
            if let Some(parent) = self.parent(feature).filter(|p| !chosen.contains(p)) {
                feature = parent;
            }
            if !chosen.contains(&feature) {
                chosen.push(feature);
            }
        }
        chosen
    }

    fn draw(&self, chosen: &[usize], rng: &mut ChaCha8Rng) -> usize {
        let config = self.config;
        if !chosen.is_empty() && uniform(rng) < config.correlation {
            let group = chosen[below(rng, chosen.len())] / config.group_size;
            let first = group * config.group_size;
            return first + below(rng, config.group_size.min(config.n_features - first));
        }
        let total = self.cumulative[config.n_features - 1];
        let place = uniform(rng) * total;
        self.cumulative.partition_point(|&sum| sum <= place).min(config.n_features - 1)
    }

    /// The feature without which this one is never active. Of `children_per_parent + 1` features
    /// in a row the first is the parent.
    fn parent(&self, feature: usize) -> Option<usize> {
        let family = self.config.children_per_parent + 1;
        let parent = feature / family * family;
        (parent != feature).then_some(parent)
    }
}

fn vector(matrix: &[f32], row: usize, d_model: usize) -> &[f32] {
    &matrix[row * d_model..][..d_model]
}

fn add(to: &mut [f32], weight: f32, vector: &[f32]) {
    for (to, v) in to.iter_mut().zip(vector) {
        *to += weight * v;
    }
}

/// `n` random directions, `[n, d_model]`.
fn unit_vectors(rng: &mut ChaCha8Rng, n: usize, d_model: usize) -> Vec<f32> {
    let mut vectors = Vec::with_capacity(n * d_model);
    for _ in 0..n {
        let direction: Vec<f64> = (0..d_model).map(|_| normal(rng)).collect();
        let norm = direction.iter().map(|x| x * x).sum::<f64>().sqrt();
        vectors.extend(direction.iter().map(|x| (x / norm) as f32));
    }
    vectors
}

fn rng(seed: u64, name: &str, number: u64) -> ChaCha8Rng {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.update(&number.to_le_bytes());
    hasher.update(name.as_bytes());
    ChaCha8Rng::from_seed(*hasher.finalize().as_bytes())
}

/// Uniform in [0, 1).
fn uniform(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 * 2f64.powi(-53)
}

/// Uniform in `0..n`.
fn below(rng: &mut ChaCha8Rng, n: usize) -> usize {
    ((u128::from(rng.next_u64()) * n as u128) >> 64) as usize
}

/// Standard normal, by Box and Muller.
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let radius = (-2.0 * (1.0 - uniform(rng)).ln()).sqrt();
    radius * (std::f64::consts::TAU * uniform(rng)).cos()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::open_store;

    fn read_all(dir: &Path) -> Vec<f32> {
        let store = open_store(dir).unwrap();
        let mut rows = vec![0.0; to_usize(store.n_rows()) * store.d_model()];
        store.read_rows(0, &mut rows).unwrap();
        rows
    }

    #[test]
    fn a_store_cut_off_is_finished_with_the_same_rows() {
        let config = PlantedConfig {
            n_rows: 2 * ROWS_AT_ONCE + 500,
            first_row: 77,
            d_model: 4,
            n_features: 20,
            ..PlantedConfig::default()
        };
        let spec = StoreSpec { rows_per_shard: 1500, ..StoreSpec::new(4, Dtype::F32) };
        let whole = tempfile::tempdir().unwrap();
        config.write_spec(whole.path(), spec.clone()).unwrap();
        let rows = read_all(whole.path());
        for cut in [0, 1500, 4500, 8692] {
            let dir = tempfile::tempdir().unwrap();
            let mut writer = StoreWriter::create(dir.path(), spec.clone()).unwrap();
            writer.append(&rows[..cut * 4], &vec![RowMeta::default(); cut]).unwrap();
            drop(writer);
            config.write_spec(dir.path(), spec.clone()).unwrap();
            assert!(read_all(dir.path()) == rows, "cut after {cut} rows");
            let truth = PlantedTruth::load(dir.path()).unwrap();
            assert_eq!(truth, PlantedTruth::load(whole.path()).unwrap());
            assert_eq!(truth.n_rows() * 4, rows.len());
        }
    }
}
