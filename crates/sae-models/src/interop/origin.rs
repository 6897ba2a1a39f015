//! Where activations came from, as other tools name it and as we do.

use std::path::Path;

/// Where the activations came from, as other tools name it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// Name of the host model.
    pub host: Option<String>,
    /// Hook point, as `resid_post.15`; the tool's own name where it is none of ours.
    pub hook_point: Option<String>,
}

/// Hook points that exist by layer.
const POINTS: [&str; 5] = ["resid_pre", "resid_post", "attn_out", "mlp_in", "mlp_out"];

/// The embedding of tokens, and what TransformerLens calls it.
const EMBEDDING: [&str; 2] = ["embed", "hook_embed"];

/// Hosts that normalise what attention and MLP return: there TransformerLens' `hook_attn_out` and
/// `hook_mlp_out` are after the norm, and ours before.
const POST_NORMED: [&str; 2] = ["gemma-2-", "gemma-3-"];

impl Origin {
    /// Of names that TransformerLens gives.
    pub(super) fn of_transformer_lens(host: Option<&str>, hook_name: Option<&str>) -> Self {
        let mut origin = Self { host: host.map(Into::into), hook_point: None };
        origin.hook_point = hook_name.map(|name| {
            let parts = name.strip_prefix("blocks.").and_then(|rest| rest.split_once(".hook_"));
            let ours = parts.and_then(|(layer, point)| {
                let layer: u32 = layer.parse().ok()?;
                origin.is_shared(point).then(|| format!("{point}.{layer}"))
            });
            let [embedding, theirs] = EMBEDDING;
            let named = if name == theirs { embedding } else { name };
            ours.unwrap_or_else(|| named.into())
        });
        origin
    }

    /// The name that TransformerLens gives the hook point.
    pub(super) fn transformer_lens_name(&self) -> Option<String> {
        let name = self.hook_point.as_deref()?;
        let [embedding, theirs] = EMBEDDING;
        match name.split_once('.') {
            None if name == embedding => Some(theirs.into()),
            Some((point, layer)) if POINTS.contains(&point) => {
                self.is_shared(point).then(|| format!("blocks.{layer}.hook_{point}"))
            }
            _ => Some(name.into()),
        }
    }

    /// Whether a hook point means the same there.
    fn is_shared(&self, point: &str) -> bool {
        let host = self.host.as_deref().unwrap_or_default();
        let post_normed = POST_NORMED.iter().any(|name| host.contains(name));
        POINTS.contains(&point) && !(post_normed && point.ends_with("_out"))
    }

    /// Of the settings of dictionary_learning, whose name of a submodule is free text: recorded
    /// where it is a hook point of ours at the layer that the settings have. What an MLP reads there
    /// comes after its norm, and is none of ours.
    pub(super) fn of_submodule(
        host: Option<&str>,
        submodule: Option<&str>,
        layer: Option<u64>,
    ) -> Self {
        let point = submodule.zip(layer).and_then(|(name, layer)| {
            let is_named = |point: &&str| {
                [format!("{point}.{layer}"), format!("{point}_layer_{layer}")]
                    .iter()
                    .any(|form| form == name)
            };
            POINTS
                .into_iter()
                .filter(|point| *point != "mlp_in")
                .find(is_named)
                .map(|point| format!("{point}.{layer}"))
        });
        Self { host: host.filter(|h| !h.is_empty()).map(Into::into), hook_point: point }
    }

    /// Of the folder of one coder of sparsify, which is named by its module: that of a layer is
    /// the residual stream after it.
    pub(super) fn of_module(dir: &Path) -> Self {
        let name = dir.file_name().and_then(|name| name.to_str());
        let layer = name.and_then(|name| {
            let (parent, layer) = name.rsplit_once('.')?;
            let is_layers = matches!(parent.rsplit('.').next(), Some("layers" | "h" | "blocks"));
            layer.parse::<u32>().ok().filter(|_| is_layers)
        });
        Self { host: None, hook_point: layer.map(|layer| format!("resid_post.{layer}")) }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::Origin;

    fn lens(host: &str, hook: &str) -> String {
        Origin::of_transformer_lens(Some(host), Some(hook)).hook_point.unwrap()
    }

    #[test]
    fn names_of_transformer_lens_are_ours_where_they_mean_the_same() {
        assert_eq!(lens("gpt2", "blocks.8.hook_resid_pre"), "resid_pre.8");
        assert_eq!(lens("gpt2", "blocks.0.hook_mlp_out"), "mlp_out.0");
        assert_eq!(lens("gemma-2-2b", "blocks.0.hook_resid_post"), "resid_post.0");
        assert_eq!(lens("gemma-2-2b", "blocks.0.hook_mlp_in"), "mlp_in.0");
        assert_eq!(lens("gpt2", "hook_embed"), "embed");
        for (host, other) in [
            ("gemma-2-2b", "blocks.0.hook_mlp_out"),
            ("gpt2", "blocks.8.attn.hook_z"),
            ("gpt2", "blocks.x.hook_resid_pre"),
            ("gpt2", "blocks.0.ln2.hook_normalized"),
            ("gpt2", "hook_pos_embed"),
        ] {
            assert_eq!(lens(host, other), other);
        }
    }

    #[test]
    fn names_go_back_where_they_mean_the_same() {
        for (host, hook, back) in [
            ("gpt2", "blocks.8.hook_resid_pre", true),
            ("gpt2", "blocks.8.attn.hook_z", true),
            ("gemma-2-2b", "blocks.8.hook_mlp_out", true),
            ("gemma-2-2b", "blocks.8.hook_mlp_in", true),
            ("gpt2", "hook_embed", true),
        ] {
            let origin = Origin::of_transformer_lens(Some(host), Some(hook));
            assert_eq!(origin.transformer_lens_name().as_deref() == Some(hook), back);
        }
        let ours = Origin { host: Some("gemma-2-2b".into()), hook_point: Some("mlp_out.8".into()) };
        assert_eq!(ours.transformer_lens_name(), None);
    }

    #[test]
    fn submodules_are_recorded_where_they_are_certain() {
        let of = |name, layer| Origin::of_submodule(None, Some(name), layer).hook_point;
        assert_eq!(of("resid_post_layer_8", Some(8)).as_deref(), Some("resid_post.8"));
        assert_eq!(of("mlp_out.3", Some(3)).as_deref(), Some("mlp_out.3"));
        assert_eq!(of("mlp_in.3", Some(3)), None);
        assert_eq!(of("resid_post_layer_8", Some(9)), None);
        assert_eq!(of("resid_post_layer_8", None), None);
        assert_eq!(of("residual", Some(8)), None);
    }

    #[test]
    fn folders_of_layers_are_residual_streams() {
        let of = |name: &str| Origin::of_module(&Path::new("run").join(name)).hook_point;
        assert_eq!(of("layers.10").as_deref(), Some("resid_post.10"));
        assert_eq!(of("gpt_neox.layers.3").as_deref(), Some("resid_post.3"));
        assert_eq!(of("h.0").as_deref(), Some("resid_post.0"));
        for other in ["layers.10.mlp", "embed_in", "run.1", "layers"] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
