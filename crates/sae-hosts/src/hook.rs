//! Hook points: the places in a host where activations are read or replaced.

mod parse;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::{Error, HostInfo, HostInput, Result, families};

/// Which tensor a hook point names, in the order of a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HookKind {
    /// The embedding of each token, before positions are added to it: one a host.
    Embed,
    /// The residual stream before the layer.
    ResidPre,
    /// What the attention block returns, before any norm or scale that follows it.
    AttnOut,
    /// The residual stream as the MLP block reads it, before its norm. What replaces it is read by
    /// that block alone: the stream itself goes on as it was.
    MlpIn,
    /// What the MLP block returns, before any norm or scale that follows it.
    MlpOut,
    /// The residual stream after the layer.
    ResidPost,
}

impl HookKind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Embed, Self::ResidPre, Self::AttnOut, Self::MlpIn, Self::MlpOut, Self::ResidPost];

    /// Its name, as hook points are written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Embed => "embed",
            Self::ResidPre => "resid_pre",
            Self::AttnOut => "attn_out",
            Self::MlpIn => "mlp_in",
            Self::MlpOut => "mlp_out",
            Self::ResidPost => "resid_post",
        }
    }

    /// Whether each layer has one.
    pub const fn has_layer(self) -> bool {
        !matches!(self, Self::Embed)
    }

    /// Whether it is what a block returns.
    const fn is_output(self) -> bool {
        matches!(self, Self::AttnOut | Self::MlpOut)
    }
}

/// A place in a host, written `kind.layer`, with layers counted from 0, or `embed`; or as
/// TransformerLens names it: `blocks.15.hook_resid_post`, `hook_embed`.
///
/// ```
/// use sae_hosts::{HookKind, HookPoint};
///
/// let hook: HookPoint = "resid_post.15".parse()?;
/// assert_eq!(hook, HookPoint::new(HookKind::ResidPost, 15));
/// assert_eq!(hook.to_string(), "resid_post.15");
/// assert_eq!(hook, "blocks.15.hook_resid_post".parse()?);
/// # Ok::<(), sae_hosts::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HookPoint {
    /// Which tensor.
    pub kind: HookKind,
    /// The layer, from 0; 0 where there is one a host.
    pub layer: usize,
    /// Whether it was named as TransformerLens does, which means by the output of a block what is
    /// added to the residual stream.
    added: bool,
}

/// Two spellings of a hook point are equal.
impl PartialEq for HookPoint {
    fn eq(&self, other: &Self) -> bool {
        (self.kind, self.layer) == (other.kind, other.layer)
    }
}

impl Hash for HookPoint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.kind, self.layer).hash(state);
    }
}

impl HookPoint {
    /// Returns the hook point of a layer; of [`HookKind::Embed`], which is one a host, whatever
    /// the layer.
    pub fn new(kind: HookKind, layer: usize) -> Self {
        Self { kind, layer: if kind.has_layer() { layer } else { 0 }, added: false }
    }

    /// The hook points that a text names in a host: one, or with `*` in the place of the layer those
    /// of all layers.
    ///
    /// # Errors
    /// [`Error::HookSyntax`] or [`Error::HookName`], as for one.
    pub fn all_of(text: &str, host: &HostInfo) -> Result<Vec<Self>> {
        if !text.contains('*') {
            return Ok(vec![text.parse()?]);
        }
        let syntax = |_| Error::HookSyntax { text: text.to_owned() };
        let of_layer = |layer: usize| text.replace('*', &layer.to_string()).parse();
        (0..host.n_layers).map(of_layer).collect::<Result<_>>().map_err(syntax)
    }

    /// Its place in a pass: a hook point is computed after those with a smaller one.
    pub(crate) fn depth(self) -> (usize, HookKind) {
        (self.layer, self.kind)
    }

    /// The layers whose attention is computed up to it.
    pub(crate) fn layers_before(self) -> Range<usize> {
        0..self.layer + usize::from(!matches!(self.kind, HookKind::Embed | HookKind::ResidPre))
    }

    /// The first layer whose attention is computed to go on from it.
    pub(crate) fn first_layer_after(self) -> usize {
        self.layer + usize::from(self.kind == HookKind::ResidPost)
    }

    /// Checks that a host has this hook point.
    ///
    /// # Errors
    /// [`Error::HookLayer`], which names the range; [`Error::HookName`] if TransformerLens means
    /// another tensor by the name.
    pub(crate) fn check(self, host: &HostInfo) -> Result<()> {
        if self.kind == HookKind::Embed && matches!(host.input, HostInput::Images { .. }) {
            Err(Error::HookName {
                text: self.to_string(),
                reason: format!(
                    "{} reads images and embeds no tokens; `resid_pre.0` is its patches with \
                     their positions",
                    host.family
                ),
            })
        } else if self.layer >= host.n_layers {
            Err(Error::HookLayer { hook: self, last: host.n_layers.saturating_sub(1) })
        } else if self.added && self.kind.is_output() && families::changes_outputs(&host.family) {
            Err(Error::HookName {
                text: format!("blocks.{}.hook_{}", self.layer, self.kind.name()),
                reason: format!(
                    "TransformerLens means what is added to the residual stream, which in \
                     {} is changed once more; `{self}` is what the block itself returns",
                    host.family
                ),
            })
        } else {
            Ok(())
        }
    }
}

impl fmt::Display for HookPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.kind.name();
        if self.kind.has_layer() { write!(f, "{name}.{}", self.layer) } else { f.write_str(name) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(family: &str) -> HostInfo {
        let input = crate::HostInput::Tokens { vocabulary: 9, max_positions: 9 };
        HostInfo { family: family.to_owned(), n_layers: 30, d_model: 8, input }
    }

    #[test]
    fn every_kind_survives_display_and_parse_in_both_spellings() {
        for (index, kind) in HookKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index);
            let (name, hook) = (kind.name(), HookPoint::new(kind, 7));
            let [ours, theirs] = match kind.has_layer() {
                true => [format!("{name}.7"), format!("blocks.7.hook_{name}")],
                false => [name.to_owned(), format!("hook_{name}")],
            };
            assert_eq!(hook.to_string(), ours);
            assert_eq!(ours.parse::<HookPoint>().unwrap(), hook);
            let other: HookPoint = theirs.parse().unwrap();
            assert_eq!((other, other.to_string()), (hook, hook.to_string()));
            assert!(other.check(&host("llama")).is_ok());
            for family in ["gemma2", "dinov2"] {
                assert!(hook.check(&host(family)).is_ok());
                assert_eq!(
                    other.check(&host(family)).is_err(),
                    kind.is_output(),
                    "{family} {name}"
                );
            }
        }
        assert_eq!(HookPoint::new(HookKind::Embed, 7), HookPoint::new(HookKind::Embed, 0));
        let hook: HookPoint = "blocks.7.hook_mlp_out".parse().unwrap();
        assert_eq!(
            hook.check(&host("gemma2")).unwrap_err().to_string(),
            "hook point `blocks.7.hook_mlp_out`: TransformerLens means what is added to the residual \
             stream, which in gemma2 is changed once more; `mlp_out.7` is what the block itself returns"
        );
    }

    #[test]
    fn a_star_stands_for_every_layer() {
        let host = host("llama");
        let all = |text: &str| HookPoint::all_of(text, &host).map_err(|error| error.to_string());
        let expected: Vec<_> = (0..30).map(|l| HookPoint::new(HookKind::MlpIn, l)).collect();
        for text in ["mlp_in.*", "blocks.*.hook_mlp_in"] {
            assert_eq!(all(text), Ok(expected.clone()));
        }
        assert_eq!(all("mlp_in.7"), Ok(vec![expected[7]]));
        for text in ["*", "*.3", "resid_*.3", "mlp_in.*.*", "blocks.3.hook_*", "embed.*"] {
            assert!(all(text).unwrap_err().ends_with(&format!("got `{text}`")), "{text}");
        }
    }

    #[test]
    fn images_have_no_embedding_of_tokens() {
        let input =
            HostInput::Images { channels: 3, size: 8, class_token: true, multiple_of: None };
        let host = HostInfo { input, ..host("vit") };
        assert_eq!(
            HookPoint::new(HookKind::Embed, 0).check(&host).unwrap_err().to_string(),
            "hook point `embed`: vit reads images and embeds no tokens; `resid_pre.0` is its patches \
             with their positions"
        );
    }

    #[test]
    fn the_layer_range_is_named() {
        let hook: HookPoint = "mlp_out.30".parse().unwrap();
        assert_eq!(
            hook.check(&host("llama")).unwrap_err().to_string(),
            "hook point `mlp_out.30`: expected a layer from 0 to 29, got 30"
        );
    }
}
