//! Hook points: the places in a host where activations are read or replaced.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, HostInfo, Result, families};

/// Which tensor of a layer a hook point names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HookKind {
    /// The residual stream before the layer.
    ResidPre,
    /// The residual stream after the layer.
    ResidPost,
    /// What the attention block returns, before any norm or scale that follows it.
    AttnOut,
    /// What the MLP block returns, before any norm or scale that follows it.
    MlpOut,
}

impl HookKind {
    const ALL: [(Self, &'static str); 4] = [
        (Self::ResidPre, "resid_pre"),
        (Self::ResidPost, "resid_post"),
        (Self::AttnOut, "attn_out"),
        (Self::MlpOut, "mlp_out"),
    ];
}

/// A place in a host, written `kind.layer`, with layers counted from 0, or as TransformerLens names
/// it: `blocks.15.hook_resid_post`.
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
    /// Which tensor of the layer.
    pub kind: HookKind,
    /// The layer, from 0.
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
    /// Returns the hook point of a layer.
    pub fn new(kind: HookKind, layer: usize) -> Self {
        Self { kind, layer, added: false }
    }

    /// Checks that a host has this hook point.
    ///
    /// # Errors
    /// [`Error::HookLayer`], which names the range; [`Error::HookName`] if TransformerLens means
    /// another tensor by the name.
    pub(crate) fn check(self, host: &HostInfo) -> Result<()> {
        let is_output = matches!(self.kind, HookKind::AttnOut | HookKind::MlpOut);
        if self.layer >= host.n_layers {
            Err(Error::HookLayer { hook: self, last: host.n_layers.saturating_sub(1) })
        } else if self.added && is_output && families::changes_outputs(&host.family) {
            let name = HookKind::ALL[self.kind as usize].1;
            Err(Error::HookName {
                text: format!("blocks.{}.hook_{name}", self.layer),
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
        let (_, name) = HookKind::ALL[self.kind as usize];
        write!(f, "{name}.{}", self.layer)
    }
}

impl FromStr for HookPoint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = |text: &str| -> Option<usize> {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse().ok())?
        };
        let point = |name: &str, layer: &str, added| {
            let (kind, _) = HookKind::ALL.into_iter().find(|(_, known)| *known == name)?;
            Some(Self { kind, layer: number(layer)?, added })
        };
        // `kind.layer`, or `blocks.layer.hook_kind`.
        let syntax = || Error::HookSyntax { text: text.to_owned() };
        let (first, rest) = text.split_once('.').ok_or_else(syntax)?;
        if first != "blocks" {
            return if first.starts_with("hook_") || first.starts_with("ln_final") {
                Err(other_of_transformer_lens(text, None))
            } else {
                point(first, rest, false).ok_or_else(syntax)
            };
        }
        let (layer, name) = rest.split_once('.').ok_or_else(syntax)?;
        let layer_number = number(layer).ok_or_else(syntax)?;
        name.strip_prefix("hook_")
            .and_then(|name| point(name, layer, true))
            .ok_or_else(|| other_of_transformer_lens(text, Some((layer_number, name))))
    }
}

/// A hook point that TransformerLens has and this crate does not, with the nearest that it has.
fn other_of_transformer_lens(text: &str, place: Option<(usize, &str)>) -> Error {
    let reason = match place {
        Some((layer, "attn.hook_z" | "attn.hook_result")) => {
            format!("the output of single heads is not offered; `attn_out.{layer}` is that of all")
        }
        Some((layer, "hook_resid_mid")) => {
            format!(
                "the stream between the blocks is not offered; `resid_pre.{layer}` is before both"
            )
        }
        Some((layer, "mlp.hook_pre" | "mlp.hook_post" | "hook_mlp_in" | "ln2.hook_normalized")) => {
            format!("the inside of the MLP block is not offered; `mlp_out.{layer}` is its output")
        }
        Some((layer, _)) => format!(
            "expected `blocks.{layer}.` with `hook_resid_pre`, `hook_resid_post`, `hook_attn_out` \
             or `hook_mlp_out`"
        ),
        None => "expected a hook point of a layer, as `resid_pre.0`".to_owned(),
    };
    Error::HookName { text: text.to_owned(), reason }
}

impl TryFrom<String> for HookPoint {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<HookPoint> for String {
    fn from(hook: HookPoint) -> Self {
        hook.to_string()
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
        for (index, (kind, name)) in HookKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index);
            let hook = HookPoint::new(kind, 7);
            assert_eq!(hook.to_string(), format!("{name}.7"));
            assert_eq!(hook.to_string().parse::<HookPoint>().unwrap(), hook);
            let other: HookPoint = format!("blocks.7.hook_{name}").parse().unwrap();
            assert_eq!((other, other.to_string()), (hook, hook.to_string()));
            assert!(other.check(&host("llama")).is_ok());
            let is_output = matches!(kind, HookKind::AttnOut | HookKind::MlpOut);
            for family in ["gemma2", "dinov2"] {
                assert!(hook.check(&host(family)).is_ok());
                assert_eq!(other.check(&host(family)).is_err(), is_output, "{family} {name}");
            }
        }
        let hook: HookPoint = "blocks.7.hook_mlp_out".parse().unwrap();
        assert_eq!(
            hook.check(&host("gemma2")).unwrap_err().to_string(),
            "hook point `blocks.7.hook_mlp_out`: TransformerLens means what is added to the residual \
             stream, which in gemma2 is changed once more; `mlp_out.7` is what the block itself returns"
        );
    }

    #[test]
    fn malformed_hooks_are_refused_and_quoted() {
        for text in [
            "",
            "resid_post",
            "resid_post.",
            "resid_post.-1",
            "resid_post.+1",
            "resid.1",
            "blocks.3",
            "blocks.x.hook_resid_post",
            "blocks..hook_resid_post",
        ] {
            let error = text.parse::<HookPoint>().unwrap_err().to_string();
            assert!(error.ends_with(&format!("got `{text}`")), "{error}");
        }
    }

    #[test]
    fn other_names_of_transformer_lens_are_refused_with_what_there_is() {
        for (text, hint) in [
            ("blocks.8.attn.hook_z", "`attn_out.8`"),
            ("blocks.8.hook_resid_mid", "`resid_pre.8`"),
            ("blocks.8.mlp.hook_post", "`mlp_out.8`"),
            ("blocks.8.attn.hook_pattern", "`hook_attn_out`"),
            ("blocks.8.hook_resid_posts", "`hook_resid_post`"),
            ("hook_embed.0", "`resid_pre.0`"),
            ("ln_final.hook_normalized", "`resid_pre.0`"),
        ] {
            let error = text.parse::<HookPoint>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("hook point `{text}`: ")), "{error}");
            assert!(error.contains(hint), "{error}");
        }
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
