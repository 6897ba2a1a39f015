//! A loaded host: activations at a hook point, logits, and logits with activations replaced.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use tch::{Device, Kind, Tensor};

use crate::families::{self, Family};
use crate::images::{ImageProcessor, PROCESSOR_FILE};
use crate::tokenizer::HostTokenizer;
use crate::weights::Weights;
use crate::{Error, HookKind, HookPoint, Result, gguf, huggingface};

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
    info: HostInfo,
    tokenizer: Option<HostTokenizer>,
    family: Box<dyn Family>,
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

/// A host's state at a hook point, from which it can go on more than once.
///
/// [`HostModel::prefix`] makes it and [`HostModel::logits_from`] goes on, so that comparing several
/// replacements costs the layers before the hook only once.
#[derive(Debug)]
pub struct Prefix {
    hook: HookPoint,
    /// The residual stream before the hook's layer.
    layer_input: Tensor,
    activations: Tensor,
}

impl Prefix {
    /// The activations at the hook point, `[batch, positions, d_model]`.
    pub fn activations(&self) -> &Tensor {
        &self.activations
    }
}

impl HostModel {
    /// Loads a host in f32: a GGUF file, or a folder with `config.json` and `model.safetensors`.
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
        let is_folder = std::fs::metadata(path).map_err(Error::io(path))?.is_dir();
        let (config, source, tokenizer) = if is_folder {
            huggingface::open(path)?
        } else {
            let (config, source, tokenizer) = gguf::open(path)?;
            (config, source, Some(tokenizer))
        };
        let weights = Weights::new(source, device, kind);
        let (info, family) = tch::no_grad(|| families::load(&config, &weights))?;
        Ok(Self { path: path.to_path_buf(), info, tokenizer, family, device, kind })
    }

    /// The file or folder it was loaded from.
    pub fn path(&self) -> &Path {
        &self.path
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
                let got = format!("{id} (`{}`)", token.unwrap_or_default());
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
        ImageProcessor::read(&self.path.join(PROCESSOR_FILE))
    }

    /// Where its weights lie.
    pub fn device(&self) -> Device {
        self.device
    }

    /// What it computes in.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The activations at a hook point; nothing after it is computed.
    ///
    /// # Shapes
    /// Token ids `[batch, positions]` (i64), or pixels as [`HostInput::Images`] has them in the
    /// host's kind, to `[batch, positions, d_model]`. The positions of an image are its patches by
    /// rows, after the class token if the family has one.
    ///
    /// # Errors
    /// [`Error::Input`] if the input has another shape, kind or device, or ids are outside the
    /// vocabulary; [`Error::HookLayer`] if the host has no such layer.
    pub fn activations(&self, input: &Tensor, hook: HookPoint) -> Result<Tensor> {
        Ok(self.prefix(input, hook)?.activations)
    }

    /// The embedding of each image: the family's pooled output, projected if the file holds a
    /// projection.
    ///
    /// # Shapes
    /// Pixels as [`HostInput::Images`] has them to `[batch, size]`.
    ///
    /// # Errors
    /// [`Error::Input`], as [`HostModel::activations`], or if the host reads tokens.
    pub fn image_embeddings(&self, pixels: &Tensor) -> Result<Tensor> {
        if !matches!(self.info.input, HostInput::Images { .. }) {
            return Err(Error::input("host", "a vision model", &self.info.family));
        }
        self.whole(pixels)
    }

    /// The logits of the next token at each position.
    ///
    /// # Shapes
    /// Token ids `[batch, positions]` (i64) to `[batch, positions, vocabulary]`.
    ///
    /// # Errors
    /// [`Error::Input`], as [`HostModel::activations`].
    pub fn logits(&self, ids: &Tensor) -> Result<Tensor> {
        self.check_language()?;
        self.whole(ids)
    }

    /// The logits when `replace` has replaced the activations at a hook point.
    ///
    /// # Shapes
    /// Token ids `[batch, positions]` (i64) to `[batch, positions, vocabulary]`; `replace` gets
    /// and returns `[batch, positions, d_model]`.
    ///
    /// # Errors
    /// As [`HostModel::activations`]; [`Error::Splice`] if `replace` fails; [`Error::Input`] if
    /// what it returns has another shape, kind or device.
    pub fn logits_spliced(
        &self,
        ids: &Tensor,
        hook: HookPoint,
        replace: &mut dyn FnMut(Tensor) -> Result<Tensor, Box<dyn std::error::Error + Send + Sync>>,
    ) -> Result<Tensor> {
        self.check_language()?;
        let prefix = self.prefix(ids, hook)?;
        let activations = prefix.activations.shallow_clone();
        let replaced = tch::no_grad(|| replace(activations))
            .map_err(|source| Error::Splice { hook, source })?;
        self.logits_from(&prefix, &replaced)
    }

    /// Computes up to a hook point, to go on from there.
    ///
    /// # Errors
    /// As [`HostModel::activations`].
    pub fn prefix(&self, input: &Tensor, hook: HookPoint) -> Result<Prefix> {
        self.check_input(input)?;
        hook.check(&self.info)?;
        Ok(tch::no_grad(|| {
            let layer_input = self.through(0..hook.layer, self.family.embed(input));
            let activations = match hook.kind {
                HookKind::ResidPre => layer_input.shallow_clone(),
                HookKind::ResidPost => {
                    self.through(hook.layer..hook.layer + 1, layer_input.shallow_clone())
                }
                HookKind::AttnOut | HookKind::MlpOut => {
                    let mut tap = |kind, x| {
                        if kind == hook.kind {
                            ControlFlow::Break(x)
                        } else {
                            ControlFlow::Continue(x)
                        }
                    };
                    either(self.family.layer(hook.layer, &layer_input, &mut tap))
                }
            };
            Prefix { hook, layer_input, activations }
        }))
    }

    /// Goes on from a hook point with other activations, to the logits.
    ///
    /// # Shapes
    /// `[batch, positions, d_model]` to `[batch, positions, vocabulary]`.
    ///
    /// # Errors
    /// [`Error::Input`] if the activations do not have the shape, kind and device of the prefix's,
    /// or if the host reads images.
    pub fn logits_from(&self, prefix: &Prefix, activations: &Tensor) -> Result<Tensor> {
        self.check_language()?;
        let describe = |x: &Tensor| format!("{:?} {:?} on {:?}", x.kind(), x.size(), x.device());
        let (expected, got) = (describe(&prefix.activations), describe(activations));
        if expected != got {
            return Err(Error::input("activations", expected, got));
        }
        let hook = prefix.hook;
        Ok(tch::no_grad(|| {
            let (next, x) = match hook.kind {
                HookKind::ResidPre => (hook.layer, activations.shallow_clone()),
                HookKind::ResidPost => (hook.layer + 1, activations.shallow_clone()),
                HookKind::AttnOut | HookKind::MlpOut => {
                    let mut tap = |kind, x| {
                        ControlFlow::Continue(if kind == hook.kind {
                            activations.shallow_clone()
                        } else {
                            x
                        })
                    };
                    let x = either(self.family.layer(hook.layer, &prefix.layer_input, &mut tap));
                    (hook.layer + 1, x)
                }
            };
            self.family.head(&self.through(next..self.info.n_layers, x))
        }))
    }

    /// Whether activations at a hook point are the residual stream, or are added to it as they are.
    pub fn is_of_residual_stream(&self, hook: HookPoint) -> bool {
        match hook.kind {
            HookKind::ResidPre | HookKind::ResidPost => true,
            HookKind::AttnOut | HookKind::MlpOut => !families::changes_outputs(&self.info.family),
        }
    }

    /// The logits that final norm and unembedding give of directions alone, less those of zero.
    /// The norm divides each direction by its own size.
    ///
    /// # Shapes
    /// `[n, d_model]` to `[n, vocabulary]`.
    ///
    /// # Errors
    /// [`Error::Input`] for another shape, or if the host reads images.
    pub fn direct_logits(&self, directions: &Tensor) -> Result<Tensor> {
        self.check_language()?;
        let d_model = self.info.d_model as i64;
        if !matches!(directions.size()[..], [_, d] if d == d_model) {
            let expected = format!("[n, {d_model}]");
            return Err(Error::input("directions", expected, format!("{:?}", directions.size())));
        }
        Ok(tch::no_grad(|| {
            let x = directions.to_device(self.device).to_kind(self.kind).unsqueeze(0);
            let zero = Tensor::zeros([1, 1, d_model], (self.kind, self.device));
            (self.family.head(&x) - self.family.head(&zero)).squeeze_dim(0)
        }))
    }

    /// The residual stream after some layers.
    fn through(&self, layers: std::ops::Range<usize>, x: Tensor) -> Tensor {
        let mut tap = |_, x| ControlFlow::Continue(x);
        layers.fold(x, |x, layer| either(self.family.layer(layer, &x, &mut tap)))
    }

    /// The input through all layers and the head.
    fn whole(&self, input: &Tensor) -> Result<Tensor> {
        self.check_input(input)?;
        Ok(tch::no_grad(|| {
            let x = self.through(0..self.info.n_layers, self.family.embed(input));
            self.family.head(&x)
        }))
    }

    fn check_language(&self) -> Result<()> {
        match self.info.input {
            HostInput::Tokens { .. } => Ok(()),
            HostInput::Images { .. } => {
                Err(Error::input("host", "a language model", &self.info.family))
            }
        }
    }

    fn check_input(&self, input: &Tensor) -> Result<()> {
        let describe = |kind: Kind, shape: &str| format!("{kind:?} {shape} on {:?}", self.device);
        let got = || format!("{:?} {:?} on {:?}", input.kind(), input.size(), input.device());
        let shape = input.size();
        let on_device = input.device() == self.device;
        match self.info.input {
            HostInput::Tokens { vocabulary, max_positions } => {
                let positions = 1..=max_positions as i64;
                let shaped = matches!(shape[..], [batch, length] if batch > 0 && positions.contains(&length));
                if !(shaped && on_device && input.kind() == Kind::Int64) {
                    let expected = describe(Kind::Int64, &format!("[batch, 1 to {max_positions}]"));
                    return Err(Error::input("token ids", expected, got()));
                }
                let (low, high) = (input.min().int64_value(&[]), input.max().int64_value(&[]));
                if low < 0 || high >= vocabulary as i64 {
                    let expected = format!("ids from 0 to {}", vocabulary - 1);
                    return Err(Error::input("token ids", expected, format!("{low} to {high}")));
                }
            }
            HostInput::Images { channels, size, multiple_of, .. } => {
                let fits = |edge: i64| match multiple_of {
                    Some(part) => edge > 0 && edge % part as i64 == 0,
                    None => edge == size as i64,
                };
                let shaped = matches!(shape[..], [batch, c, height, width]
                    if batch > 0 && c == channels as i64 && fits(height) && fits(width));
                if !(shaped && on_device && input.kind() == self.kind) {
                    let edge = multiple_of.map_or(size.to_string(), |p| format!("multiple of {p}"));
                    let expected =
                        describe(self.kind, &format!("[batch, {channels}, {edge}, {edge}]"));
                    return Err(Error::input("pixels", expected, got()));
                }
            }
        }
        Ok(())
    }
}

/// The tensor with which a layer ended or broke off.
fn either(flow: ControlFlow<Tensor, Tensor>) -> Tensor {
    match flow {
        ControlFlow::Continue(x) | ControlFlow::Break(x) => x,
    }
}
