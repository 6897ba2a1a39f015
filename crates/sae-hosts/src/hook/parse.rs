//! Hook points as they are written, here and by TransformerLens.

use std::str::FromStr;

use super::{HookKind, HookPoint};
use crate::{Error, Result};

impl FromStr for HookPoint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = |text: &str| -> Option<usize> {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse().ok())?
        };
        let point = |name: &str, layer: &str, added| {
            let mut of_layers = HookKind::ALL.into_iter().filter(|kind| kind.has_layer());
            let kind = of_layers.find(|kind| kind.name() == name)?;
            Some(Self { kind, layer: number(layer)?, added })
        };
        if ["embed", "hook_embed"].contains(&text) {
            return Ok(Self::new(HookKind::Embed, 0));
        }
        // `kind.layer`, or `blocks.layer.hook_kind`.
        let syntax = || Error::HookSyntax { text: text.to_owned() };
        let (first, rest) = text.split_once('.').unwrap_or((text, ""));
        if first.starts_with("hook_") || ["embed", "ln_final"].contains(&first) {
            return Err(other_of_transformer_lens(text, None));
        }
        if first != "blocks" {
            return point(first, rest, false).ok_or_else(syntax);
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
                "the stream between the blocks is not offered; `mlp_in.{layer}` is what the MLP \
                 block reads of it"
            )
        }
        Some((layer, "ln2.hook_normalized")) => format!(
            "what follows a norm is not offered; `mlp_in.{layer}` is what the norm of the MLP block \
             reads"
        ),
        Some((layer, "mlp.hook_pre" | "mlp.hook_post")) => {
            format!("the inside of the MLP block is not offered; `mlp_out.{layer}` is its output")
        }
        Some((layer, _)) => format!(
            "expected `blocks.{layer}.` with `hook_resid_pre`, `hook_resid_post`, `hook_attn_out`, \
             `hook_mlp_in` or `hook_mlp_out`"
        ),
        None => "expected `embed` or a hook point of a layer, as `resid_pre.0`".to_owned(),
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
            "mlp_in",
        ] {
            let error = text.parse::<HookPoint>().unwrap_err().to_string();
            assert!(error.ends_with(&format!("got `{text}`")), "{error}");
        }
    }

    #[test]
    fn other_names_of_transformer_lens_are_refused_with_what_there_is() {
        for (text, hint) in [
            ("blocks.8.attn.hook_z", "`attn_out.8`"),
            ("blocks.8.hook_resid_mid", "`mlp_in.8`"),
            ("blocks.8.ln2.hook_normalized", "`mlp_in.8`"),
            ("blocks.8.mlp.hook_post", "`mlp_out.8`"),
            ("blocks.8.attn.hook_pattern", "`hook_attn_out`"),
            ("blocks.8.hook_resid_posts", "`hook_resid_post`"),
            ("blocks.0.hook_embed", "`hook_resid_pre`"),
            ("hook_embed.0", "`embed`"),
            ("embed.0", "`embed`"),
            ("hook_pos_embed", "`embed`"),
            ("ln_final.hook_normalized", "`resid_pre.0`"),
        ] {
            let error = text.parse::<HookPoint>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("hook point `{text}`: ")), "{error}");
            assert!(error.contains(hint), "{error}");
        }
    }
}
