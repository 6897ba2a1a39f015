//! The frequencies of rotary positions as `config.json` gives them, computed as transformers does:
//! in f32, in the same order.
//!
//! Older files have `rope_scaling` beside `rope_theta`, newer ones both in `rope_parameters`.

use tch::{Device, Kind, Tensor};

use crate::Result;
use crate::config::HostConfig;

/// What a family calls its rotary settings outside of `rope_parameters`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RotaryKeys {
    pub(crate) theta: &'static str,
    /// The share of each head's dimensions that turn, and its default, in families where it is not
    /// always 1.
    pub(crate) share: Option<(&'static str, f64)>,
}

impl Default for RotaryKeys {
    fn default() -> Self {
        Self { theta: "rope_theta", share: None }
    }
}

/// How frequencies are changed for sequences longer than those of training.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Scaling {
    None,
    /// Divided by a factor (Chen et al. 2023).
    Linear {
        factor: f32,
    },
    /// Divided by a factor where a turn is long, left as they are where it is short, and between
    /// the two in between (Llama 3.1).
    Llama3 {
        factor: f32,
        low: f64,
        high: f64,
        original: f64,
    },
}

/// The number of dimensions that turn and the frequency of each pair.
pub(super) fn read(config: &HostConfig, head_dim: i64, keys: RotaryKeys) -> Result<(i64, Tensor)> {
    let section = match (config.section("rope_parameters")?, config.section("rope_scaling")?) {
        (Some(_), Some(_)) => {
            let expected = "either it or `rope_parameters`";
            return Err(config.wrong("rope_scaling", expected, "both"));
        }
        (parameters, scaling) => parameters.or(scaling),
    };
    let section = section.as_ref();
    let theta = agreed(config, keys.theta, section, "rope_theta")?.unwrap_or(10_000.0);
    config.only_number("rope_theta", theta)?;
    let (key, default) = keys.share.unwrap_or(("partial_rotary_factor", 1.0));
    let share = agreed(config, key, section, "partial_rotary_factor")?.unwrap_or(default);
    config.only_number("partial_rotary_factor", share)?;
    if keys.share.is_none() && share != 1.0 {
        return Err(config.wrong("partial_rotary_factor", 1, share));
    }
    let scaling = section.map_or(Ok(Scaling::None), Scaling::read)?;
    if let Some(section) = section {
        section.finish(&[])?;
    }
    let size = (head_dim as f64 * share) as i64;
    if size < 2 || size % 2 != 0 || size > head_dim {
        let expected = format!("an even size of at most {head_dim} for rotary embedding");
        return Err(config.wrong("head_dim", expected, size));
    }
    let exponents = Tensor::arange_start_step(0, size, 2, (Kind::Float, Device::Cpu)) / size as f64;
    let frequencies: Vec<f32> =
        Tensor::pow_scalar(theta, &exponents).reciprocal().try_into().expect("one dimension");
    let scaled: Vec<f32> = frequencies.into_iter().map(|f| scaling.apply(f)).collect();
    Ok((size, Tensor::from_slice(&divided(config, scaled)?)))
}

/// The frequencies, each divided by its number in `rope_factors`, which settings read from GGUF may
/// have.
fn divided(config: &HostConfig, frequencies: Vec<f32>) -> Result<Vec<f32>> {
    let Some(factors) = config.floats("rope_factors")? else { return Ok(frequencies) };
    if factors.len() != frequencies.len() {
        let expected = format!("{} numbers", frequencies.len());
        return Err(config.wrong("rope_factors", expected, factors.len()));
    }
    Ok(frequencies.into_iter().zip(factors).map(|(f, factor)| f / factor as f32).collect())
}

/// A number that both the settings and a section of them may have, if they agree.
fn agreed(
    config: &HostConfig,
    key: &str,
    section: Option<&HostConfig>,
    key_in_section: &str,
) -> Result<Option<f64>> {
    let inner = section.map_or(Ok(None), |section| section.float_optional(key_in_section))?;
    match inner {
        Some(inner) => config.only_number(key, inner).map(|()| Some(inner)),
        None => config.float_optional(key),
    }
}

impl Scaling {
    fn read(section: &HostConfig) -> Result<Self> {
        let key = if section.has("rope_type") { "rope_type" } else { "type" };
        let kind = if section.has(key) { section.string(key)? } else { "default" };
        section.only("type", kind)?;
        match kind {
            "default" => Ok(Self::None),
            "linear" => Ok(Self::Linear { factor: section.float("factor")? as f32 }),
            "llama3" => {
                let low = section.float("low_freq_factor")?;
                let high = section.float("high_freq_factor")?;
                if high <= low {
                    return Err(section.wrong("high_freq_factor", format!("above {low}"), high));
                }
                let original = section.float("original_max_position_embeddings")?;
                Ok(Self::Llama3 { factor: section.float("factor")? as f32, low, high, original })
            }
            other => {
                let expected = "`default`, `linear` or `llama3`";
                Err(section.wrong(key, expected, format!("`{other}`")))
            }
        }
    }

    fn apply(self, frequency: f32) -> f32 {
        match self {
            Self::None => frequency,
            Self::Linear { factor } => frequency / factor,
            Self::Llama3 { factor, low, high, original } => {
                let wavelength = (2.0 * std::f64::consts::PI) as f32 / frequency;
                let longest = (original / low) as f32;
                let shortest = (original / high) as f32;
                if wavelength > longest {
                    frequency / factor
                } else if wavelength < shortest {
                    frequency
                } else {
                    let smooth = (original as f32 / wavelength - low as f32) / (high - low) as f32;
                    (1.0 - smooth) * frequency / factor + smooth * frequency
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::*;

    fn read_json(values: Value) -> Result<Vec<f32>, String> {
        let config = HostConfig::new(Path::new("config.json"), values.as_object().unwrap().clone());
        match read(&config, 8, RotaryKeys::default()) {
            Ok((_, frequencies)) => Ok(frequencies.try_into().unwrap()),
            Err(error) => Err(error.to_string().replace("config.json: ", "")),
        }
    }

    #[test]
    fn both_spellings_of_each_kind_are_the_same() {
        let plain = read_json(json!({"rope_theta": 500.0})).unwrap();
        let llama3 = json!({"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                            "original_max_position_embeddings": 64});
        for (kind, more) in
            [("default", json!({})), ("linear", json!({"factor": 4})), ("llama3", llama3)]
        {
            let mut seen = Vec::new();
            for key in ["rope_type", "type"] {
                let mut scaling = more.clone();
                scaling[key] = kind.into();
                seen.push(read_json(json!({"rope_theta": 500.0, "rope_scaling": scaling})));
                scaling["rope_theta"] = 500.0.into();
                seen.push(read_json(json!({"rope_parameters": scaling})));
                scaling["type"] = kind.into();
                scaling["rope_type"] = kind.into();
                seen.push(read_json(json!({"rope_theta": 500, "rope_parameters": scaling})));
            }
            assert!(seen.iter().all(|one| one.is_ok() && *one == seen[0]), "{kind}: {seen:?}");
            assert_eq!(*seen[0].as_ref().unwrap() == plain, kind == "default");
        }
    }

    #[test]
    fn linear_divides_and_llama3_leaves_short_turns() {
        let plain = read_json(json!({})).unwrap();
        let linear = read_json(json!({"rope_scaling": {"type": "linear", "factor": 4.0}})).unwrap();
        assert!(plain.iter().zip(&linear).all(|(plain, linear)| plain / 4.0 == *linear));
        let scaling = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                             "high_freq_factor": 4.0, "original_max_position_embeddings": 64});
        let llama3 = read_json(json!({ "rope_scaling": scaling })).unwrap();
        assert_eq!(llama3[0], plain[0]);
        assert_eq!(llama3[3], plain[3] / 8.0);
    }

    #[test]
    fn factors_divide_each_frequency() {
        let plain = read_json(json!({})).unwrap();
        let divided = read_json(json!({"rope_factors": [1.0, 2.0, 4.0, 8.0]})).unwrap();
        assert_eq!(divided, [plain[0], plain[1] / 2.0, plain[2] / 4.0, plain[3] / 8.0]);
        let error = read_json(json!({"rope_factors": [1.0]})).unwrap_err();
        assert_eq!(error, "`rope_factors`: expected 4 numbers, got 1");
    }

    #[test]
    fn what_is_not_known_or_does_not_agree_is_named() {
        for (values, expected) in [
            (
                json!({"rope_scaling": {"type": "yarn", "factor": 4.0}}),
                "`rope_scaling.type`: expected `default`, `linear` or `llama3`, got `yarn`",
            ),
            (
                json!({"rope_parameters": {"rope_type": "dynamic"}}),
                "`rope_parameters.rope_type`: expected `default`, `linear` or `llama3`, got `dynamic`",
            ),
            (
                json!({"rope_scaling": {"type": "linear", "rope_type": "default"}}),
                "`rope_scaling.type`: expected \"default\", got \"linear\"",
            ),
            (
                json!({"rope_scaling": {"type": "linear"}}),
                "`rope_scaling.factor`: expected a number above 0, got nothing",
            ),
            (
                json!({"rope_scaling": {"type": "linear", "factor": 2.0, "mscale": 1.0}}),
                "`rope_scaling.mscale`: expected no such key in this model, got 1.0",
            ),
            (
                json!({"rope_parameters": {"full_attention": {"rope_theta": 1e4}}}),
                "`rope_parameters.full_attention`: expected no such key in this model, got {\"rope_theta\":10000.0}",
            ),
            (
                json!({"rope_parameters": {"rope_theta": 1e6}, "rope_theta": 1e4}),
                "`rope_theta`: expected 1000000, got 10000.0",
            ),
            (
                json!({"rope_parameters": {}, "rope_scaling": {}}),
                "`rope_scaling`: expected either it or `rope_parameters`, got both",
            ),
            (json!({"partial_rotary_factor": 0.5}), "`partial_rotary_factor`: expected 1, got 0.5"),
        ] {
            assert_eq!(read_json(values).unwrap_err(), expected);
        }
    }
}
