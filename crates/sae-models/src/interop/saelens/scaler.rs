//! The scale that a save of SAELens in mid-training has beside its weights, not in them.

use std::path::Path;

use serde_json::Value;

use super::super::settings::{Keys, Settings};
use crate::{Error, Result};

const SCALER_FILE: &str = "activation_scaler.json";
const WHITENING_FILE: &str = "activation_whitening.safetensors";

pub(in super::super) const KEYS: Keys = Keys {
    read: &["scaling_factor"],
    neutral: &[("has_whitening", &["false"], "a whitening of the activations")],
    ignored: &[],
};

/// The factor that activations are multiplied by before encoding, 1 where there is none;
/// `normalize_activations` of `cfg.json` is `mode`.
///
/// # Errors
/// A factor that is missing where `mode` asks for one, or there where it does not.
pub(super) fn scale(dir: &Path, settings: &Settings, mode: &str) -> Result<f64> {
    let path = dir.join(SCALER_FILE);
    let scaler = if path.exists() { Settings::read(path)? } else { Settings::none(path) };
    scaler.check(&[&KEYS])?;
    // Read by SAELens where `has_whitening` does not deny it.
    let whitening = dir.join(WHITENING_FILE);
    if whitening.exists() && scaler.path.exists() && !scaler.map.contains_key("has_whitening") {
        return Err(Error::Format {
            path: whitening,
            expected: "activations that are not whitened".into(),
            got: "a whitening that is not in the weights".into(),
        });
    }
    let factor = match scaler.value("scaling_factor") {
        Value::Null => None,
        _ => Some(scaler.number("scaling_factor")?),
    };
    match (mode, factor) {
        ("expected_average_only_in", Some(s)) if s.is_finite() && s > 0.0 => Ok(s),
        ("expected_average_only_in", Some(s)) => {
            Err(scaler.wrong("scaling_factor", "a number above 0", s))
        }
        ("expected_average_only_in", None) => {
            let expected = format!(
                "`none`, or {SCALER_FILE} beside it with the `scaling_factor` that \
                 activations are multiplied by (1 where it is in the weights)"
            );
            Err(settings.wrong("normalize_activations", &expected, mode))
        }
        (_, None) => Ok(1.0),
        (_, Some(s)) => {
            let expected = format!("null, as `normalize_activations` of cfg.json is {mode}");
            Err(scaler.wrong("scaling_factor", &expected, s))
        }
    }
}
