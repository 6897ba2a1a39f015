//! Rows that are sums of known features, of points on tori and of noise.

use rand_chacha::ChaCha8Rng;

use super::config::PlantedConfig;
use super::generator::Row;
use super::random::{below, normal, rng, uniform, unit_vectors};

/// Draws before the next free feature is taken in order.
const MAX_DRAWS: usize = 64;

/// What all rows share.
pub(super) struct World<'a> {
    config: &'a PlantedConfig,
    /// `[n_features, d_model]`, unit rows.
    pub(super) dictionary: Vec<f32>,
    offset: Vec<f32>,
    /// For each torus, `[2·dimension, d_model]` of unit rows.
    tori: Vec<Vec<f32>>,
    /// Running sums of the features' frequencies.
    cumulative: Vec<f64>,
}

impl<'a> World<'a> {
    pub(super) fn new(config: &'a PlantedConfig) -> Self {
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

    /// The row of this number.
    pub(super) fn row(&self, number: u64) -> Row {
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
