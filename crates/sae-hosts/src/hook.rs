//! Hook points: the places in a host where activations are read or replaced.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

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

/// A place in a host, written `kind.layer`, with layers counted from 0.
///
/// ```
/// use sae_hosts::{HookKind, HookPoint};
///
/// let hook: HookPoint = "resid_post.15".parse()?;
/// assert_eq!(hook, HookPoint { kind: HookKind::ResidPost, layer: 15 });
/// assert_eq!(hook.to_string(), "resid_post.15");
/// # Ok::<(), sae_hosts::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HookPoint {
    /// Which tensor of the layer.
    pub kind: HookKind,
    /// The layer, from 0.
    pub layer: usize,
}

impl HookPoint {
    /// Checks that a host of `n_layers` has this hook point.
    ///
    /// # Errors
    /// [`Error::HookLayer`], which names the range.
    pub(crate) fn check(self, n_layers: usize) -> Result<()> {
        if self.layer < n_layers {
            Ok(())
        } else {
            Err(Error::HookLayer { hook: self, last: n_layers.saturating_sub(1) })
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
        let parse = || {
            let (name, layer) = text.split_once('.')?;
            let (kind, _) = HookKind::ALL.into_iter().find(|(_, known)| *known == name)?;
            let digits = !layer.is_empty() && layer.bytes().all(|byte| byte.is_ascii_digit());
            Some(Self { kind, layer: digits.then(|| layer.parse().ok())?? })
        };
        parse().ok_or_else(|| Error::HookSyntax { text: text.to_owned() })
    }
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

    #[test]
    fn every_kind_survives_display_and_parse() {
        for (index, (kind, name)) in HookKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index);
            let hook = HookPoint { kind, layer: 7 };
            assert_eq!(hook.to_string(), format!("{name}.7"));
            assert_eq!(hook.to_string().parse::<HookPoint>().unwrap(), hook);
        }
    }

    #[test]
    fn malformed_hooks_are_refused_and_quoted() {
        for text in ["", "resid_post", "resid_post.", "resid_post.-1", "resid_post.+1", "resid.1"] {
            let error = text.parse::<HookPoint>().unwrap_err().to_string();
            assert!(error.ends_with(&format!("got `{text}`")), "{error}");
        }
    }

    #[test]
    fn the_layer_range_is_named() {
        let hook: HookPoint = "mlp_out.30".parse().unwrap();
        assert!(hook.check(31).is_ok());
        assert_eq!(
            hook.check(30).unwrap_err().to_string(),
            "hook point `mlp_out.30`: expected a layer from 0 to 29, got 30"
        );
    }
}
