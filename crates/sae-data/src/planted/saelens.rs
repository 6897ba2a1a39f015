//! Models of SynthSAEBench's kind as SAELens 6 saves them.
//!
//! Weights, firing probabilities and the hierarchy are read. Means and spreads of the activations
//! are not saved: they follow from the configuration and its seed. Keys that tell how saved tensors
//! came about are known by name and decide nothing.

use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;

use super::forest::{Forest, Node};
use super::synth::{Copula, SynthModel, compensated, linear, zipf};
use super::torch_random::randn;
use crate::{Error, Result};

const CONFIG: &str = "synthetic_model_config.json";
const WEIGHTS: &str = "synthetic_model.safetensors";
const HIERARCHY: &str = "hierarchy.json";

/// The tensors of the weights.
const TENSORS: [&str; 5] =
    ["bias", "correlation_diag", "correlation_factor", "feature_vectors", "firing_probabilities"];

/// Largest difference of a saved probability from the one that the configuration leads to, relative
/// to it: SAELens itself thresholds by the second.
const PROBABILITY_TOLERANCE: f32 = 1e-4;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    num_features: usize,
    hidden_dim: usize,
    firing_probability: Probabilities,
    hierarchy: Option<HierarchyConfig>,
    #[serde(rename = "orthogonalization")]
    _orthogonalization: Option<Orthogonalization>,
    correlation: Option<Correlation>,
    std_firing_magnitudes: Value,
    mean_firing_magnitudes: Value,
    #[serde(rename = "bias")]
    _bias: IgnoredAny,
    dtype: String,
    seed: Option<u64>,
}

#[derive(Deserialize)]
#[serde(tag = "generator_name", rename_all = "snake_case", deny_unknown_fields)]
enum Probabilities {
    Zipfian { exponent: f64, max_prob: f64, min_prob: f64 },
    Linear { max_prob: f64, min_prob: f64 },
    Constant { probability: f64 },
}

/// A rule for the values of all features; a number stands for the same value of all.
#[derive(Deserialize)]
#[serde(tag = "generator_name", rename_all = "snake_case", deny_unknown_fields)]
enum Magnitudes {
    Constant { value: f64 },
    Linear { start: f64, end: f64 },
    Exponential { start: f64, end: f64 },
    FoldedNormal { mean: f64, std: f64, min_value: Option<f64>, max_value: Option<f64> },
}

/// How the trees in the other file were drawn; they are read as they are.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HierarchyConfig {
    #[serde(rename = "total_root_nodes")]
    _total_root_nodes: IgnoredAny,
    #[serde(rename = "branching_factor")]
    _branching_factor: IgnoredAny,
    #[serde(rename = "max_depth")]
    _max_depth: IgnoredAny,
    #[serde(rename = "mutually_exclusive_portion")]
    _mutually_exclusive_portion: IgnoredAny,
    #[serde(rename = "mutually_exclusive_min_depth")]
    _mutually_exclusive_min_depth: IgnoredAny,
    #[serde(rename = "mutually_exclusive_max_depth")]
    _mutually_exclusive_max_depth: IgnoredAny,
    compensate_probabilities: bool,
    #[serde(rename = "scale_children_by_parent")]
    _scale_children_by_parent: IgnoredAny,
}

/// How the saved vectors were made.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Orthogonalization {
    #[serde(rename = "num_steps")]
    _num_steps: IgnoredAny,
    #[serde(rename = "lr")]
    _lr: IgnoredAny,
    #[serde(rename = "chunk_size")]
    _chunk_size: IgnoredAny,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Correlation {
    rank: usize,
    #[serde(rename = "correlation_scale")]
    _correlation_scale: IgnoredAny,
    #[serde(rename = "seed")]
    _seed: IgnoredAny,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Hierarchy {
    roots: Vec<Node>,
}

/// Reads a model, and what stands for the content of its files.
pub(super) fn read(folder: &Path) -> Result<(SynthModel, String)> {
    let (config_path, weights_path) = (folder.join(CONFIG), folder.join(WEIGHTS));
    let hierarchy_path = folder.join(HIERARCHY);
    let mut hasher = blake3::Hasher::new();
    let mut bytes_of = |path: &Path| {
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(&bytes);
        Ok::<_, Error>(bytes)
    };
    let config: Config = parse(&config_path, &bytes_of(&config_path)?)?;
    if config.dtype != "float32" {
        return Err(Error::format(&config_path, "dtype float32", &config.dtype));
    }
    // SAELens leaves the file out where there is no hierarchy.
    let trees = match hierarchy_path.try_exists().map_err(Error::io(&hierarchy_path))? {
        true => parse::<Hierarchy>(&hierarchy_path, &bytes_of(&hierarchy_path)?)?.roots,
        false if config.hierarchy.is_none() => Vec::new(),
        false => {
            let expected = format!("hierarchy null where there is no {HIERARCHY}");
            return Err(Error::format(&config_path, expected, "a hierarchy"));
        }
    };
    let n_features = config.num_features;
    let forest = Forest::new(n_features, &trees)
        .map_err(|(expected, got)| Error::format(&hierarchy_path, expected, got))?;
    let weights = Weights::read(&weights_path, &bytes_of(&weights_path)?, &config)?;
    config.check_probabilities(&trees, &weights.probabilities, &weights_path)?;
    let magnitudes = |key: &str, rule: &Value, offset: u64| {
        let drawn =
            Magnitudes::of(rule, n_features, config.seed.map(|seed| seed.wrapping_add(offset)));
        let wrong =
            |expected: String, got| Error::format(&config_path, format!("{key}: {expected}"), got);
        let drawn = drawn.map_err(|(expected, got)| wrong(expected, got))?;
        let least = if offset == MEAN_SEED { f32::MIN_POSITIVE } else { 0.0 };
        match drawn.iter().find(|v| !(v.is_finite() && **v >= least)) {
            Some(v) => Err(wrong("finite numbers, means above 0".to_owned(), v.to_string())),
            None => Ok(drawn),
        }
    };
    let model = SynthModel {
        n_features,
        d_model: config.hidden_dim,
        dictionary: weights.dictionary,
        bias: weights.bias,
        probabilities: weights.probabilities,
        copula: weights.copula,
        forest,
        mean: magnitudes("mean_firing_magnitudes", &config.mean_firing_magnitudes, MEAN_SEED)?,
        spread: magnitudes("std_firing_magnitudes", &config.std_firing_magnitudes, SPREAD_SEED)?,
    };
    Ok((model, hasher.finalize().to_hex().to_string()))
}

/// Added to the model's seed to draw spreads.
const SPREAD_SEED: u64 = 1;

/// Added to the model's seed to draw means.
const MEAN_SEED: u64 = 2;

impl Config {
    /// Refuses saved probabilities that are not the configuration's.
    fn check_probabilities(&self, trees: &[Node], saved: &[f32], path: &Path) -> Result<()> {
        let n = self.num_features;
        let own = match self.firing_probability {
            Probabilities::Zipfian { exponent, max_prob, min_prob } => {
                zipf(n, exponent, max_prob, min_prob)
            }
            Probabilities::Linear { max_prob, min_prob } => linear(n, max_prob, min_prob),
            Probabilities::Constant { probability } => vec![probability as f32; n],
        };
        let is_compensated = self.hierarchy.as_ref().is_some_and(|h| h.compensate_probabilities);
        let own = if is_compensated { compensated(trees, &own) } else { own };
        for (feature, (own, saved)) in own.iter().zip(saved).enumerate() {
            // Written so that a NaN is refused.
            let is_same = (own - saved).abs() <= PROBABILITY_TOLERANCE * own;
            if !(is_same && (0.0..=1.0).contains(saved)) {
                let expected = format!("firing_probabilities[{feature}] {own} as {CONFIG} says");
                return Err(Error::format(path, expected, saved));
            }
        }
        Ok(())
    }
}

impl Magnitudes {
    /// The value of each feature by a rule; what is expected and got where it cannot be known.
    fn of(rule: &Value, n: usize, seed: Option<u64>) -> Result<Vec<f32>, (String, String)> {
        if let Some(value) = rule.as_f64() {
            return Ok(vec![value as f32; n]);
        }
        let rule = Self::deserialize(rule)
            .map_err(|e| ("a number or a generator of SAELens 6".to_owned(), e.to_string()))?;
        match rule {
            Magnitudes::Constant { value } => Ok(vec![value as f32; n]),
            Magnitudes::Linear { start, end } => Ok(linear(n, start, end)),
            Magnitudes::Exponential { start, end } => {
                let exponents = linear(n, 0.0, 1.0).into_iter().map(f64::from);
                Ok(exponents.map(|t| (start * (end / start).powf(t)) as f32).collect())
            }
            Magnitudes::FoldedNormal { mean, std, min_value, max_value } => {
                let Some(seed) = seed else {
                    let expected = "a seed, which draws what is not saved";
                    return Err((expected.to_owned(), "seed null".to_owned()));
                };
                let low = min_value.unwrap_or(0.0) as f32;
                let high = max_value.map_or(f32::INFINITY, |v| v as f32);
                if low.is_nan() || high.is_nan() || low > high {
                    let expected = format!("min_value of at most max_value {high}");
                    return Err((expected, low.to_string()));
                }
                let drawn = randn(seed, n).into_iter();
                Ok(drawn.map(|v| (mean as f32 + v * std as f32).abs().clamp(low, high)).collect())
            }
        }
    }
}

/// What the weights file holds.
struct Weights {
    dictionary: Vec<f32>,
    bias: Vec<f32>,
    probabilities: Vec<f32>,
    copula: Copula,
}

impl Weights {
    fn read(path: &Path, bytes: &[u8], config: &Config) -> Result<Self> {
        let tensors = SafeTensors::deserialize(bytes)
            .map_err(|e| Error::format(path, "a safetensors file", e))?;
        if let Some(unknown) = tensors.names().iter().find(|name| !TENSORS.contains(name)) {
            return Err(Error::format(path, format!("tensors {}", TENSORS.join(", ")), unknown));
        }
        let (n, d) = (config.num_features, config.hidden_dim);
        let tensor = |name: &str, shape: &[usize]| tensor(&tensors, name, shape, path);
        let has_factor = tensors.names().iter().any(|name| name.starts_with("correlation"));
        let copula = match (&config.correlation, has_factor) {
            (Some(correlation), _) => {
                let rank = correlation.rank;
                let factor = tensor("correlation_factor", &[n, rank])?;
                let diagonal = tensor("correlation_diag", &[n])?;
                if let Some(got) = diagonal.iter().find(|v| **v <= 0.0) {
                    return Err(Error::format(path, "correlation_diag above 0", got));
                }
                Copula { rank, factor, diagonal }
            }
            (None, false) => Copula { rank: 0, factor: Vec::new(), diagonal: vec![1.0; n] },
            (None, true) => {
                let expected = format!("no correlation_factor, as {CONFIG} has no correlation");
                return Err(Error::format(path, expected, "one"));
            }
        };
        Ok(Self {
            dictionary: tensor("feature_vectors", &[n, d])?,
            bias: tensor("bias", &[d])?,
            probabilities: tensor("firing_probabilities", &[n])?,
            copula,
        })
    }
}

fn tensor(tensors: &SafeTensors<'_>, name: &str, shape: &[usize], path: &Path) -> Result<Vec<f32>> {
    let fail = |got: String| Error::format(path, format!("{name} of F32, shape {shape:?}"), got);
    let tensor = tensors.tensor(name).map_err(|e| fail(e.to_string()))?;
    if tensor.dtype() != Dtype::F32 || tensor.shape() != shape {
        return Err(fail(format!("{:?}, shape {:?}", tensor.dtype(), tensor.shape())));
    }
    let values: Vec<f32> =
        tensor.data().chunks_exact(4).map(bytemuck::pod_read_unaligned).collect();
    match values.iter().find(|v| !v.is_finite()) {
        Some(got) => Err(Error::format(path, format!("{name} of finite values"), got)),
        None => Ok(values),
    }
}

fn parse<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| Error::format(path, "a model of SAELens 6", e))
}
