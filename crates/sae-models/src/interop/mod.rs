//! SAEs in the files of other tools: SAELens, dictionary_learning, sparsify, the published SoftSAE.

mod dictionary_learning;
mod pickle;
mod saelens;
mod softsae;
mod sparsify;
mod torch_file;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use atomic_write_file::AtomicWriteFile;
use sae_config::{
    ArchitectureConfig, AuxKConfig, KEstimator, Normalization, SoftConfig, TopKConfig,
};
use serde_json::{Map, Value};
use tch::{Device, Kind, Tensor};

use crate::tensors::io;
use crate::{Error, ModelConfig, Result, Sae, Tensors, build};

/// The key under which exports keep our own configuration, which others ignore.
const OWN_KEY: &str = "softsae_config";

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
}

/// Where the activations came from, as other tools name it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// Name of the host model.
    pub host: Option<String>,
    /// Hook point, as `resid_post.15`.
    pub hook_point: Option<String>,
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

/// Writes `sae` into the folder `dir`, which is created if need be, as `format` has it.
///
/// Normalisation is written into the weights ([`Sae::fold`]), or left to the tool where it has the
/// same. The configuration is kept in the tool's own, under `softsae_config`.
///
/// # Errors
/// An architecture or normalisation that the tool does not have; a file that cannot be written.
pub fn export(sae: &dyn Sae, format: Format, origin: &Origin, dir: &Path) -> Result<Exported> {
    std::fs::create_dir_all(dir).map_err(|e| io(dir, e))?;
    let mut sae = copy(sae)?;
    match sae.config().normalization {
        Normalization::UnitNorm | Normalization::LayerNorm if format == Format::SaeLens => {}
        _ => sae.fold()?,
    }
    let _guard = tch::no_grad_guard();
    match format {
        Format::SaeLens => saelens::export(sae.as_ref(), origin, dir),
        Format::DictionaryLearning => dictionary_learning::export(sae.as_ref(), origin, dir),
        Format::Sparsify => sparsify::export(sae.as_ref(), dir),
        Format::SoftSae => softsae::export(sae.as_ref(), origin, dir),
    }
}

/// Reads the model in the folder `dir`, as a model of ours in f32 on the CPU.
///
/// Settings of training that a file does not tell are those of a default, or 0 where there is none.
///
/// # Errors
/// A file that cannot be read, a key or tensor that is absent or wrong, or an architecture that we
/// do not have; by name.
pub fn import(dir: &Path, format: Format) -> Result<Box<dyn Sae>> {
    let _guard = tch::no_grad_guard();
    match format {
        Format::SaeLens => saelens::import(dir),
        Format::DictionaryLearning => dictionary_learning::import(dir),
        Format::Sparsify => sparsify::import(dir),
        Format::SoftSae => softsae::import(dir),
    }
}

/// The same model with tensors of its own.
fn copy(sae: &dyn Sae) -> Result<Box<dyn Sae>> {
    let base = sae.base();
    let constants = base.normalizer.tensors();
    let constants = constants.iter().map(|(name, tensor)| (*name, tensor));
    let all = sae.parameters().into_iter().chain(sae.buffers()).chain(constants);
    let map = all.map(|(name, tensor)| (name.to_owned(), tensor.detach().copy())).collect();
    build(base.config.clone(), Tensors::new(map, base.kind(), base.device()))
}

/// A tensor of `sae` by our name, in f32 on the CPU.
fn tensor(sae: &dyn Sae, name: &str) -> Result<Tensor> {
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
fn hidden_layer(sae: &dyn Sae, config: &SoftConfig) -> Result<(Tensor, Tensor)> {
    let weight = match config.k_estimator {
        KEstimator::Mlp | KEstimator::Narrow { .. } => tensor(sae, "k_estimator.hidden.weight")?,
        KEstimator::LowRank { .. } => {
            let down = tensor(sae, "k_estimator.down.weight")?;
            tensor(sae, "k_estimator.up.weight")?.mm(&down)
        }
        // Its hidden layer is the encoder itself.
        KEstimator::Shared => {
            return Ok((tensor(sae, "encoder.weight")?, tensor(sae, "encoder.bias")?));
        }
    };
    Ok((weight, tensor(sae, "k_estimator.hidden.bias")?))
}

/// Writes a file: to a temporary one, synced, then renamed.
fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = AtomicWriteFile::open(path).map_err(|e| io(path, e))?;
    file.write_all(bytes).map_err(|e| io(path, e))?;
    file.commit().map_err(|e| io(path, e))
}

/// Settings of TopK and BatchTopK that a file tells.
fn top_k(k: usize) -> TopKConfig {
    TopKConfig { k, k_anneal_steps: 0, threshold_start_step: None, auxk: AuxKConfig::default() }
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

/// The error of an architecture that a tool does not have.
fn no_counterpart(tool: &str, has: &str, sae: &dyn Sae) -> Error {
    let expected = format!("{has}, which {tool} has");
    sae_config::Error::value("architecture", expected, sae.config().architecture.name()).into()
}

/// Our own configuration in the settings of another tool, if we wrote them.
fn own_config(settings: &Map<String, Value>, path: &Path) -> Result<Option<ModelConfig>> {
    let Some(value) = settings.get(OWN_KEY) else { return Ok(None) };
    let config = serde_json::from_value(value.clone()).map_err(|e| Error::Format {
        path: path.into(),
        expected: format!("our own configuration under `{OWN_KEY}`"),
        got: e.to_string(),
    })?;
    Ok(Some(config))
}

/// A model of these tensors, under our names, which the file at `path` has.
///
/// `own` adds what the settings of the file cannot say to `config`, which is what they say.
fn model(
    path: &Path,
    own: Option<ModelConfig>,
    config: ModelConfig,
    tensors: impl IntoIterator<Item = (&'static str, Tensor)>,
) -> Result<Box<dyn Sae>> {
    let mut config = config;
    if let Some(own) = own.filter(|o| rule(&o.architecture) == rule(&config.architecture)) {
        let said = std::mem::replace(&mut config.architecture, own.architecture);
        config.parity = own.parity;
        take_said(&mut config.architecture, said);
    }
    let plain = |(name, tensor): (&str, Tensor)| (name.to_owned(), tensor.contiguous());
    let map = tensors.into_iter().map(plain).collect();
    build(config, Tensors::new(map, Kind::Float, Device::Cpu)).map_err(|e| e.in_file(path))
}

/// Puts what the settings of a file say of inference into our own.
fn take_said(own: &mut ArchitectureConfig, said: ArchitectureConfig) {
    use ArchitectureConfig::{BatchTopK, JumpRelu, MatryoshkaBatchTopK, Soft, TopK};
    match (own, said) {
        (TopK(own), TopK(said)) | (BatchTopK(own), BatchTopK(said)) => own.k = said.k,
        (MatryoshkaBatchTopK(own), MatryoshkaBatchTopK(said)) => own.k = said.k,
        (JumpRelu(own), JumpRelu(said)) => own.subtract_b_dec = said.subtract_b_dec,
        (Soft(own), Soft(said)) => {
            if own.k_bound() != said.k_bound() {
                own.k_max = said.k_max;
            }
            // Files have the hidden layer, however it came about.
            if let KEstimator::Shared | KEstimator::LowRank { .. } = own.k_estimator {
                own.k_estimator = KEstimator::Mlp;
            }
        }
        _ => {}
    }
}

/// The rule of inference of an architecture, which several may share.
fn rule(architecture: &ArchitectureConfig) -> &'static str {
    match architecture {
        ArchitectureConfig::StandardApril(_) | ArchitectureConfig::PAnneal(_) => "standard",
        ArchitectureConfig::MatryoshkaBatchTopK(_) => "batch_topk",
        other => other.name(),
    }
}

/// The tensors of a file: floats, brought to f32, and whole numbers.
fn floats(path: &Path, map: BTreeMap<String, Tensor>) -> FileTensors {
    let (floats, whole): (BTreeMap<_, _>, _) =
        map.into_iter().partition(|(_, tensor)| tensor.is_floating_point());
    let floats = floats.into_iter().map(|(name, t)| (name, t.to_kind(Kind::Float))).collect();
    FileTensors { path: path.into(), floats: Tensors::new(floats, Kind::Float, Device::Cpu), whole }
}

/// Tensors of a file, which errors name.
struct FileTensors {
    path: PathBuf,
    floats: Tensors,
    whole: BTreeMap<String, Tensor>,
}

impl FileTensors {
    fn take(&mut self, name: &str, shape: &[i64]) -> Result<Tensor> {
        self.floats.take(name, shape).map_err(|e| e.in_file(&self.path))
    }

    /// A list of whole numbers above 0.
    fn sizes(&mut self, name: &str) -> Result<Vec<usize>> {
        let missing = || Error::MissingTensor { name: name.into(), expected: vec![] };
        let tensor = self.whole.remove(name).ok_or_else(|| missing().in_file(&self.path))?;
        let numbers: Vec<i64> = tensor.to_kind(Kind::Int64).flatten(0, -1).try_into()?;
        let size = |n: &i64| usize::try_from(*n).ok().filter(|n| *n > 0);
        numbers.iter().map(size).collect::<Option<_>>().ok_or_else(|| Error::Format {
            path: self.path.clone(),
            expected: format!("whole numbers above 0 in tensor `{name}`"),
            got: format!("{numbers:?}"),
        })
    }

    /// A whole number above 0.
    fn size(&mut self, name: &str) -> Result<usize> {
        match self.sizes(name)?[..] {
            [size] => Ok(size),
            ref sizes => Err(Error::Format {
                path: self.path.clone(),
                expected: format!("one number in tensor `{name}`"),
                got: format!("{}", sizes.len()),
            }),
        }
    }

    fn finish(self, architecture: &'static str) -> Result<()> {
        if let Some(name) = self.whole.into_keys().next() {
            return Err(Error::UnexpectedTensor { name, architecture }.in_file(self.path));
        }
        self.floats.finish(architecture).map_err(|e| e.in_file(self.path))
    }
}

/// Settings of a JSON file, which errors name.
struct Settings {
    path: PathBuf,
    map: Map<String, Value>,
}

impl Settings {
    fn read(path: PathBuf) -> Result<Self> {
        let map = sae_config::read_json(&path)?;
        Ok(Self { path, map })
    }

    /// The settings under `key`, or none.
    fn inner(&self, key: &str) -> Self {
        let map = self.map.get(key).and_then(Value::as_object).cloned().unwrap_or_default();
        Self { path: self.path.clone(), map }
    }

    fn text(&self, key: &str) -> Result<&str> {
        self.get(key, "a string", Value::as_str)
    }

    fn size(&self, key: &str) -> Result<usize> {
        let size = |v: &Value| v.as_u64().filter(|n| *n > 0).and_then(|n| usize::try_from(n).ok());
        self.get(key, "a whole number above 0", size)
    }

    fn flag(&self, key: &str, absent: bool) -> Result<bool> {
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(absent),
            Some(_) => self.get(key, "true or false", Value::as_bool),
        }
    }

    fn get<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<T> {
        let value = self.map.get(key).unwrap_or(&Value::Null);
        read(value).ok_or_else(|| self.wrong(key, expected, value))
    }

    fn wrong(&self, key: &str, expected: &str, got: impl std::fmt::Display) -> Error {
        Error::Format {
            path: self.path.clone(),
            expected: format!("`{key}` {expected}"),
            got: got.to_string(),
        }
    }
}
