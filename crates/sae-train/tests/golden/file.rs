//! Recorded runs: tensors and settings of one file, under the names of our models.

use std::collections::BTreeMap;
use std::path::PathBuf;

use sae_models::{Sae, read_tensors};
use safetensors::SafeTensors;
use serde_json::Value;
use tch::Tensor;

/// Names in the published state dicts, ours, and whether a matrix is stored the other way round.
const NAMES: [(&str, &str, bool); 17] = [
    ("encoder.weight", "encoder.weight", false),
    ("W_enc", "encoder.weight", true),
    ("encoder.bias", "encoder.bias", false),
    ("b_enc", "encoder.bias", false),
    ("gate_bias", "encoder.bias", false),
    ("decoder.weight", "decoder.weight", true),
    ("W_dec", "decoder.weight", false),
    ("b_dec", "decoder.bias", false),
    ("bias", "decoder.bias", false),
    ("decoder_bias", "decoder.bias", false),
    ("threshold", "threshold", false),
    ("r_mag", "magnitude.log_scale", false),
    ("mag_bias", "magnitude.bias", false),
    ("k_estimator.0.weight", "k_estimator.hidden.weight", false),
    ("k_estimator.0.bias", "k_estimator.hidden.bias", false),
    ("k_estimator.2.weight", "k_estimator.output.weight", false),
    ("k_estimator.2.bias", "k_estimator.output.bias", false),
];

/// One recorded run.
pub(crate) struct Golden {
    pub(crate) name: String,
    pub(crate) config: Value,
    tensors: BTreeMap<String, Tensor>,
}

impl Golden {
    pub(crate) fn read(name: &str) -> Self {
        let default = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/golden");
        let folder = std::env::var("SOFTSAE_GOLDEN").unwrap_or_else(|_| default.into());
        let path = PathBuf::from(folder).join(format!("{name}.safetensors"));
        let bytes = std::fs::read(&path).unwrap();
        let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        let config = &metadata.metadata().as_ref().unwrap()["config"];
        Self {
            name: name.into(),
            config: serde_json::from_str(config).unwrap(),
            tensors: read_tensors(&path).unwrap(),
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<Tensor> {
        self.tensors.get(name).map(Tensor::shallow_clone)
    }

    pub(crate) fn tensor(&self, name: &str) -> Tensor {
        self.get(name).unwrap_or_else(|| panic!("{} has no {name}", self.name))
    }

    /// A setting of the run.
    pub(crate) fn setting(&self, key: &str) -> Option<f64> {
        self.config.get(key).and_then(Value::as_f64)
    }

    /// The tensors of a recorded state by our names, in the shapes of `sae`.
    pub(crate) fn state(&self, state: &str, sae: &Sae) -> Vec<(&'static str, Tensor)> {
        let all = sae.parameters().into_iter().chain(sae.buffers()).collect::<Vec<_>>();
        let rename = |(theirs, ours, transposed): &(&str, &'static str, bool)| {
            let tensor = self.get(&format!("{state}.{theirs}"))?;
            let (_, slot) = all.iter().find(|(name, _)| name == ours)?;
            let tensor = if *transposed { tensor.tr() } else { tensor };
            Some((*ours, tensor.reshape(slot.size())))
        };
        NAMES.iter().filter_map(rename).collect()
    }
}
