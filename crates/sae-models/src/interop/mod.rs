//! SAEs in the files of other tools: SAELens, dictionary_learning, sparsify, the published SoftSAE,
//! Gemma Scope.

mod dictionary_learning;
mod files;
mod gemma_scope;
mod npz;
mod origin;
mod own;
mod pickle;
mod saelens;
mod settings;
mod softsae;
mod sparsify;
#[cfg(test)]
mod tests;
mod torch_file;

use std::path::{Path, PathBuf};

use sae_config::{EstimatorNetwork, Normalization, SoftCode};
use tch::{Device, Kind, Tensor};

use crate::tensors::io;
use crate::{Error, Result, Sae, Tensors, build};

pub use origin::Origin;

/// A tool whose files are read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// SAELens: `cfg.json` and `sae_weights.safetensors`.
    SaeLens,
    /// dictionary_learning: `config.json` and `ae.pt`.
    DictionaryLearning,
    /// sparsify: `cfg.json` and `sae.safetensors`.
    Sparsify,
    /// The published code of SoftSAE: `config.json` and `ae.pt`.
    SoftSae,
    /// Gemma Scope: `params.npz`; read alone.
    GemmaScope,
}

impl Format {
    /// The tool, for people.
    const fn tool(self) -> &'static str {
        match self {
            Self::SaeLens => "SAELens",
            Self::DictionaryLearning => "dictionary_learning",
            Self::Sparsify => "sparsify",
            Self::SoftSae => "the published SoftSAE",
            Self::GemmaScope => "Gemma Scope",
        }
    }
}

/// What an export wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// The files.
    pub files: Vec<PathBuf>,
    /// In what the files differ from the model when the tool reads them; empty where in nothing but
    /// rounding.
    pub differences: Vec<String>,
}

/// What an import read.
pub struct Imported {
    /// The model, in f32 on the CPU.
    pub sae: Sae,
    /// Where its activations came from, as far as the files name it.
    pub origin: Origin,
    /// Sentences on what a user has to know: what rounding changed, what was done to the host.
    pub notes: Vec<String>,
}

/// Writes `sae` into the folder `dir`, which is created if need be, as `format` has it.
///
/// Normalisation is written into the weights ([`Sae::fold`]), or left to the tool where it has the
/// same. The configuration is kept in the tool's own, under `softsae_config`.
///
/// # Errors
/// An architecture or normalisation that the tool does not have; a file that cannot be written.
pub fn export(sae: &Sae, format: Format, origin: &Origin, dir: &Path) -> Result<Exported> {
    if sae.config().is_transcoder() {
        let expected = "an autoencoder, whose output is its input, to export";
        return Err(sae_config::Error::value("model", expected, "a transcoder").into());
    }
    check_counterpart(sae, format)?;
    let _guard = tch::no_grad_guard();
    let kind = sae.kind();
    let mut sae = copy(sae)?;
    match sae.config().normalization {
        Normalization::UnitNorm | Normalization::LayerNorm if format == Format::SaeLens => {}
        _ => sae.fold()?,
    }
    std::fs::create_dir_all(dir).map_err(|e| io(dir, e))?;
    let mut exported = match format {
        Format::SaeLens => saelens::export(&sae, origin, dir),
        Format::DictionaryLearning => dictionary_learning::export(&sae, origin, dir),
        Format::Sparsify => sparsify::export(&sae, dir),
        Format::SoftSae => softsae::export(&sae, origin, dir),
        Format::GemmaScope => Err(no_counterpart(&sae)),
    }?;
    if kind == Kind::Double {
        exported.differences.push("weights are f32 there, f64 here".into());
    }
    Ok(exported)
}

/// Reads the model in the folder `dir`, as a model of ours in f32 on the CPU.
///
/// # Errors
/// A file that cannot be read, a key or tensor that is absent, wrong or not known, or an
/// architecture that we do not have; by name.
pub fn import(dir: &Path, format: Format) -> Result<Imported> {
    let _guard = tch::no_grad_guard();
    refuse_transcoders(dir)?;
    match format {
        Format::SaeLens => saelens::import(dir),
        Format::DictionaryLearning => dictionary_learning::import(dir),
        Format::Sparsify => sparsify::import(dir),
        Format::SoftSae => softsae::import(dir),
        Format::GemmaScope => gemma_scope::import(dir),
    }
}

/// Refuses the folders of circuit-tracer.
fn refuse_transcoders(dir: &Path) -> Result<()> {
    let path = dir.join("config.yaml");
    let kinds = ["transcoder_set", "cross_layer_transcoder"];
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    match kinds.iter().find(|kind| text.contains(*kind)) {
        None => Ok(()),
        Some(kind) => Err(Error::Format {
            path,
            expected: "an autoencoder, whose output is its input".into(),
            got: format!("`model_kind: {kind}` of circuit-tracer"),
        }),
    }
}

/// The same model in f64 on the CPU, so that folding rounds nothing, with tensors of its own.
fn copy(sae: &Sae) -> Result<Sae> {
    let constants = sae.constants();
    let constants = constants.iter().map(|(name, tensor)| (*name, tensor));
    let all = sae.parameters().into_iter().chain(sae.buffers()).chain(constants);
    let double = |tensor: &Tensor| {
        tensor.detach().to_device(Device::Cpu).to_kind(Kind::Double).copy().contiguous()
    };
    let map = all.map(|(name, tensor)| (name.to_owned(), double(tensor))).collect();
    build(sae.config.clone(), Tensors::new(map, Kind::Double, Device::Cpu))
}

/// A tensor of `sae` by our name, in f32 on the CPU.
fn tensor(sae: &Sae, name: &str) -> Result<Tensor> {
    let all = sae.parameters().into_iter().chain(sae.buffers());
    let found = all.into_iter().find(|(n, _)| *n == name);
    let (_, tensor) =
        found.ok_or_else(|| Error::MissingTensor { name: name.into(), expected: vec![] })?;
    Ok(tensor.detach().to_device(Device::Cpu).to_kind(Kind::Float).contiguous())
}

/// b − W·v in f64: the bias that takes the place of b where v is no longer subtracted from the
/// input; with a negative `sign` the opposite.
fn moved_bias(b: &Tensor, w: &Tensor, v: &Tensor, sign: f64) -> Tensor {
    let double = |t: &Tensor| t.to_kind(Kind::Double);
    (double(b) - double(w).mv(&double(v)) * sign).to_kind(Kind::Float)
}

/// The hidden layer of a SoftSAE's k-estimator, whatever its kind: weight and bias.
fn hidden_layer(sae: &Sae, code: &SoftCode) -> Result<(Tensor, Tensor)> {
    let weight = match code.k_estimator {
        EstimatorNetwork::TwoLayers { .. } => tensor(sae, "k_estimator.hidden.weight")?,
        EstimatorNetwork::LowRank { .. } => {
            let down = tensor(sae, "k_estimator.down.weight")?;
            tensor(sae, "k_estimator.up.weight")?.mm(&down)
        }
        // Its hidden layer is the encoder itself.
        EstimatorNetwork::Shared => {
            return Ok((tensor(sae, "encoder.weight")?, tensor(sae, "encoder.bias")?));
        }
    };
    Ok((weight, tensor(sae, "k_estimator.hidden.bias")?))
}

/// Thresholds as tools apply them that drop what is not positive, whatever its threshold.
fn positive(threshold: &Tensor, notes: &mut Vec<String>) -> Tensor {
    let n = threshold.lt(0.0).sum(Kind::Int64).int64_value(&[]);
    if n > 0 {
        notes.push(format!(
            "thresholds below 0, of which there are {n}, are 0 here: the tool keeps positive \
             features alone"
        ));
    }
    threshold.clamp_min(0.0)
}

/// Refuses thresholds below 0 where a tool drops what is not positive.
fn check_thresholds(threshold: &Tensor) -> Result<()> {
    let n = threshold.lt(0.0).sum(Kind::Int64).int64_value(&[]);
    if n == 0 {
        return Ok(());
    }
    let expected = "none below 0, as the tool keeps positive activations alone";
    Err(sae_config::Error::value("threshold", expected, format!("{n} below 0")).into())
}

/// The tools that have an architecture, beside its name.
const TOOLS: [(&str, &[Format]); 10] = [
    ("topk", &[Format::SaeLens, Format::DictionaryLearning, Format::Sparsify]),
    ("abs_topk", &[]),
    ("batch_topk", &[Format::SaeLens, Format::DictionaryLearning]),
    ("matryoshka_batch_topk", &[Format::SaeLens, Format::DictionaryLearning]),
    ("soft", &[Format::SaeLens, Format::SoftSae]),
    ("jumprelu", &[Format::SaeLens, Format::DictionaryLearning]),
    ("gated", &[Format::SaeLens, Format::DictionaryLearning]),
    ("standard", &[Format::SaeLens, Format::DictionaryLearning]),
    ("standard_april", &[Format::SaeLens, Format::DictionaryLearning]),
    ("p_anneal", &[Format::SaeLens, Format::DictionaryLearning]),
];

/// The error of an architecture that the files of a tool cannot hold.
fn no_counterpart(sae: &Sae) -> Error {
    let (expected, got) = ("one that the tool has", sae.config().code.name());
    sae_config::Error::value("architecture", expected, got).into()
}

/// Refuses an architecture that a tool does not have.
fn check_counterpart(sae: &Sae, format: Format) -> Result<()> {
    let got = sae.config().code.name();
    let has = TOOLS.iter().filter(|(_, tools)| tools.contains(&format));
    let names: Vec<&str> = has.map(|(name, _)| *name).collect();
    if names.contains(&got) {
        return Ok(());
    }
    let tool = format.tool();
    let expected = match names.as_slice() {
        [] => format!("none: files of {tool} are read alone"),
        names => format!("one that {tool} has ({})", names.join(", ")),
    };
    Err(sae_config::Error::value("architecture", expected, got).into())
}
