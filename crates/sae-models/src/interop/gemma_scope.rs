//! Gemma Scope: `params.npz`, JumpReLU with a threshold a feature (arXiv:2408.05147).
//!
//! There is no configuration beside the arrays: host, layer and site are in the names of the
//! folders, `gemma-scope-2b-pt-res/layer_12/width_16k/average_l0_82`.

use std::collections::BTreeMap;
use std::path::Path;

use sae_config::{Code, Normalization};
use tch::Tensor;

use super::files::{FileTensors, floats};
use super::own::model;
use super::{Imported, Origin, npz, positive};
use crate::{Error, ModelConfig, Result};

const WEIGHTS_FILE: &str = "params.npz";

pub(super) fn import(dir: &Path) -> Result<Imported> {
    let path = dir.join(WEIGHTS_FILE);
    let site = Site::of(&dir.canonicalize().unwrap_or_else(|_| dir.into()));
    let refused = |got: &str| Error::Format {
        path: path.clone(),
        expected: "an autoencoder of activations, as the folder's name has it".into(),
        got: got.into(),
    };
    match site.name.as_deref() {
        Some("transcoders") => return Err(refused("a transcoder, whose output is not its input")),
        _ if site.is_embedding => return Err(refused("one of embeddings, which are scaled")),
        _ => {}
    }
    // Some files have the matrices in lower case.
    let named = |(name, array): (String, Tensor)| match name.strip_prefix("w_") {
        Some(rest) => (format!("W_{rest}"), array),
        None => (name, array),
    };
    let arrays: BTreeMap<_, _> = npz::read(&path)?.into_iter().map(named).collect();
    let [d, f] = *arrays.get("W_enc").map(Tensor::size).unwrap_or_default() else {
        let error = Error::MissingTensor { name: "W_enc".into(), expected: vec![] };
        return Err(error.in_file(path));
    };
    let mut file = floats(&path, arrays);
    let mut notes = Vec::new();
    check_ones(&mut file, f)?;
    let tensors = [
        ("encoder.weight", file.take("W_enc", &[d, f])?.tr()),
        ("encoder.bias", file.take("b_enc", &[f])?),
        ("decoder.weight", file.take("W_dec", &[f, d])?),
        ("decoder.bias", file.take("b_dec", &[d])?),
        ("threshold", positive(&file.take("threshold", &[f])?, &mut notes)),
    ];
    notes.extend(file.finish("jumprelu")?);
    if site.name.is_none() {
        notes.push(
            "the folder's name does not tell the site: a transcoder of Gemma Scope has the same \
             arrays, and would be read as an autoencoder"
                .into(),
        );
    }
    let config = ModelConfig {
        d_model: d as usize,
        d_out: None,
        n_features: f as usize,
        normalization: Normalization::None,
        code: Code::JumpRelu { subtract_b_dec: false },
    };
    Ok(Imported { sae: model(&path, None, config, tensors)?, origin: site.origin(), notes })
}

/// Refuses a factor of features that is not 1.
fn check_ones(file: &mut FileTensors, f: i64) -> Result<()> {
    match file.take_either(&["scaling_factor"], &[f])? {
        Some(factor) if !factor.allclose(&factor.ones_like(), 1e-5, 1e-8, false) => {
            let error = sae_config::Error::value("scaling_factor", "ones", "other numbers");
            Err(Error::from(error).in_file(&file.path))
        }
        _ => Ok(()),
    }
}

/// What the names of the folders tell.
#[derive(Debug, Default, PartialEq)]
struct Site {
    host: Option<String>,
    /// `res`, `mlp`, `att` or `transcoders`.
    name: Option<String>,
    layer: Option<u32>,
    is_embedding: bool,
}

impl Site {
    fn of(dir: &Path) -> Self {
        let mut site = Self::default();
        for part in dir.components().filter_map(|part| part.as_os_str().to_str()) {
            if let Some((_, rest)) = part.split_once("gemma-scope-") {
                if let [size @ ("2b" | "9b" | "27b"), tuning @ ("pt" | "it"), name, ..] =
                    rest.split('-').collect::<Vec<_>>()[..]
                {
                    let suffix = if tuning == "it" { "-it" } else { "" };
                    site.host = Some(format!("gemma-2-{size}{suffix}"));
                    site.name = Some(name.into());
                }
            } else if let Some(layer) = part.strip_prefix("layer_") {
                site.layer = layer.parse().ok();
            } else if part == "embedding" {
                site.is_embedding = true;
            }
        }
        site
    }

    /// By names that are certain.
    fn origin(&self) -> Origin {
        let hook = match (self.name.as_deref(), self.layer) {
            (Some("res"), Some(layer)) => Some(format!("blocks.{layer}.hook_resid_post")),
            (Some("mlp"), Some(layer)) => Some(format!("blocks.{layer}.hook_mlp_out")),
            (Some("att"), Some(layer)) => Some(format!("blocks.{layer}.attn.hook_z")),
            _ => None,
        };
        Origin::of_transformer_lens(self.host.as_deref(), hook.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::Site;

    #[test]
    fn folders_tell_host_and_hook_point() {
        let of = |path: &str| {
            let origin = Site::of(Path::new(path)).origin();
            (origin.host, origin.hook_point)
        };
        let some = |text: &str| Some(text.to_owned());
        let cached =
            "/c/models--google--gemma-scope-2b-pt-res/snapshots/1/layer_12/width_16k/canonical";
        assert_eq!(of(cached), (some("gemma-2-2b"), some("resid_post.12")));
        let it = "gemma-scope-9b-it-res/layer_9/width_16k/average_l0_88";
        assert_eq!(of(it), (some("gemma-2-9b-it"), some("resid_post.9")));
        let mlp = "gemma-scope-2b-pt-mlp/layer_3/width_16k";
        assert_eq!(of(mlp), (some("gemma-2-2b"), some("blocks.3.hook_mlp_out")));
        assert_eq!(of("sae/layer_12/width_16k"), (None, None));
        assert_eq!(of("gemma-scope-2-270m-pt/resid_post/layer_12"), (None, None));
    }
}
