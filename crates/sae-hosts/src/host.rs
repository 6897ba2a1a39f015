//! A loaded host: activations at a hook point, logits, and logits with activations replaced.

mod checks;
mod passes;
mod prefix;

use std::path::{Path, PathBuf};

pub use prefix::Prefix;
use tch::{Device, Kind};

use crate::families::{self, Family};
use crate::hub::{self, Place};
use crate::images::{ImageProcessor, PROCESSOR_FILE};
use crate::tokenizer::HostTokenizer;
use crate::weights::Weights;
use crate::{Error, Result, gguf, huggingface, onnx};

/// What a host is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HostInfo {
    /// Its family, as `model_type` in `config.json` names it.
    pub family: String,
    /// Number of layers.
    pub n_layers: usize,
    /// Dimension of the residual stream.
    pub d_model: usize,
    /// What it reads.
    pub input: HostInput,
}

impl HostInfo {
    /// The context length that suits most language models: 128, or as many as the host has.
    pub fn context_length(&self) -> usize {
        match self.input {
            HostInput::Tokens { max_positions, .. } => max_positions.min(128),
            HostInput::Images { .. } => 128,
        }
    }
}

/// What a host reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HostInput {
    /// Token ids `[batch, positions]`.
    Tokens {
        /// Number of tokens.
        vocabulary: usize,
        /// Longest sequence.
        max_positions: usize,
    },
    /// Images as pixels `[batch, channels, size, size]`, already scaled as the host expects.
    Images {
        /// Colours.
        channels: usize,
        /// Height and width.
        size: usize,
        /// Whether the first position is a class token; the others are patches.
        class_token: bool,
        /// Other heights and widths are read too if they are multiples of this.
        multiple_of: Option<usize>,
    },
}

/// A host model on a device.
pub struct HostModel {
    path: PathBuf,
    name: String,
    info: HostInfo,
    tokenizer: Option<HostTokenizer>,
    family: Box<dyn Family>,
    weight_bytes: u64,
    device: Device,
    kind: Kind,
}

impl std::fmt::Debug for HostModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostModel")
            .field("path", &self.path)
            .field("info", &self.info)
            .field("device", &self.device)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl HostModel {
    /// Loads a host in f32: a GGUF file, a folder with `config.json` and `model.safetensors`, or an
    /// ONNX file of DINOv2; one of the hub by its name, `hf:owner/name[/path][@revision]`.
    ///
    /// # Errors
    /// [`Error::Io`] if a file cannot be read; [`Error::File`], which names the file and field, if
    /// one is truncated, corrupt, or of an architecture that is not supported.
    pub fn load(path: &Path, device: Device) -> Result<Self> {
        Self::load_as(path, device, Kind::Float)
    }

    /// Loads a host that computes in `kind`: f32, f16 or bf16.
    ///
    /// # Errors
    /// As [`HostModel::load`]; [`Error::Input`] if `kind` is none of the three.
    pub fn load_as(path: &Path, device: Device, kind: Kind) -> Result<Self> {
        if !matches!(kind, Kind::Float | Kind::Half | Kind::BFloat16) {
            return Err(Error::input("kind", "Float, Half or BFloat16", format!("{kind:?}")));
        }
        let Place { path, name } = hub::host(path)?;
        let path = path.as_path();
        let is_folder = std::fs::metadata(path).map_err(Error::io(path))?.is_dir();
        let (config, source, tokenizer) = if is_folder {
            huggingface::open(path)?
        } else if onnx::is_onnx(path) {
            let (config, source) = onnx::open(path)?;
            (config, source, None)
        } else {
            let (config, source, tokenizer) = gguf::open(path)?;
            (config, source, Some(tokenizer))
        };
        let weights = Weights::new(source, device, kind);
        let (info, family) = tch::no_grad(|| families::load(&config, &weights))?;
        let (path, weight_bytes) = (path.to_path_buf(), weights.n_bytes());
        Ok(Self { path, name, info, tokenizer, family, weight_bytes, device, kind })
    }

    /// The file or folder it was loaded from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its name in provenance: that of its file or folder, or the one on the hub at its commit.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is.
    pub fn info(&self) -> &HostInfo {
        &self.info
    }

    /// Its tokenizer.
    ///
    /// # Errors
    /// [`Error::File`] if its folder has no `tokenizer.json`.
    pub fn tokenizer(&self) -> Result<&HostTokenizer> {
        let missing = || {
            let others = ["vocab.json", "vocab.txt", "tokenizer.model", "spiece.model"];
            let other = others.iter().find(|name| self.path.join(name).exists());
            let got = other.map_or("none".to_owned(), |other| {
                format!("{other} alone; AutoTokenizer of transformers loads and saves it as one")
            });
            Error::file(&self.path, "tokenizer.json", "the file", got)
        };
        self.tokenizer.as_ref().ok_or_else(missing)
    }

    /// Checks that the host has all tokens: a tokenizer may have more than its model.
    ///
    /// # Errors
    /// [`Error::Input`] with the first that it lacks.
    pub fn check_ids(&self, ids: &[u32]) -> Result<()> {
        let HostInput::Tokens { vocabulary, .. } = self.info.input else {
            return self.check_language();
        };
        match ids.iter().find(|id| **id as usize >= vocabulary) {
            Some(id) => {
                let token = self.tokenizer.as_ref().and_then(|tokenizer| tokenizer.token(*id));
                let expected = format!("ids from 0 to {} of the host", vocabulary - 1);
                let got = token.map_or(id.to_string(), |token| format!("{id} (`{token}`)"));
                Err(Error::input("tokens of the text", expected, got))
            }
            None => Ok(()),
        }
    }

    /// What is done to images before it reads them.
    ///
    /// # Errors
    /// As [`ImageProcessor::read`], of `preprocessor_config.json` in its folder.
    pub fn image_processor(&self) -> Result<ImageProcessor> {
        match self.processor_file() {
            Some(file) => ImageProcessor::read(&file),
            None => Ok(onnx::image_processor()),
        }
    }

    /// The file that says how it wants its images; an ONNX file has none.
    pub(crate) fn processor_file(&self) -> Option<PathBuf> {
        (!onnx::is_onnx(&self.path)).then(|| self.path.join(PROCESSOR_FILE))
    }

    /// Bytes of its weights on the device.
    pub fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    /// Where its weights lie.
    pub fn device(&self) -> Device {
        self.device
    }

    /// What it computes in.
    pub fn kind(&self) -> Kind {
        self.kind
    }
}
