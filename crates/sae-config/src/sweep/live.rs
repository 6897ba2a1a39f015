//! Sweeps whose runs take their activations from a live host, and hook points that runs vary along.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::{SweepConfig, SweepPoint, keys};
use crate::live::LIVE_KEYS;
use crate::{Error, Result, RunConfig};

/// Why a run does not name what it reads.
pub(super) const PROVIDED: &str = "nothing: the sweep provides the activations";

/// The keys of a live host that its runs may vary along.
const VARIED: [&str; 3] = ["hook", "window_bytes", "statistics_rows"];

/// Tokens of the held-out part that are harvested where a sweep does not say it.
const HELD_OUT_TOKENS: u64 = 100_000;

/// What runs on a live host are judged by: the part of its corpus that is held out, unless a store is
/// named.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldOutConfig {
    /// An activation store, relative to the sweep file.
    pub store: Option<PathBuf>,
    /// Upper bound of tokens of the held-out part that are harvested; 100,000 if absent.
    pub max_tokens: Option<u64>,
    /// Texts on which cross-entropy is measured; none if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub texts: Vec<PathBuf>,
}

impl HeldOutConfig {
    /// Upper bound of tokens that are harvested.
    #[must_use]
    pub fn max_tokens(&self) -> u64 {
        self.max_tokens.unwrap_or(HELD_OUT_TOKENS)
    }

    fn check(&self) -> Result<()> {
        match self.max_tokens {
            Some(0) => Err(Error::value("held_out.max_tokens", "at least 1", 0)),
            Some(n) if self.store.is_some() => {
                Err(Error::value("held_out.max_tokens", "nothing beside `held_out.store`", n))
            }
            _ => Ok(()),
        }
    }
}

impl SweepConfig {
    /// Whether runs take their activations from a host while they train.
    #[must_use]
    pub fn is_live(&self) -> bool {
        keys::get(&self.base, "data.host").is_some()
    }

    /// The hook point whose activations a run reads; empty where nothing names it.
    #[must_use]
    pub fn hook_of<'a>(&'a self, run: &'a RunConfig) -> &'a str {
        let harvested = || self.harvest.as_ref().and_then(|harvest| harvest.hook.as_deref());
        run.data.hook().or_else(harvested).unwrap_or_default()
    }

    /// Checks the tables of a sweep over a live host.
    pub(super) fn check_live(&self) -> Result<()> {
        for (key, is_given) in [
            ("host", self.host.is_some()),
            ("harvest", self.harvest.is_some()),
            ("texts", self.texts.is_some()),
            ("images", self.images.is_some()),
            ("stores", self.stores.is_some()),
            ("planted", self.planted.is_some()),
        ] {
            if is_given {
                let got = format!("`{key}` beside `base.data.host`");
                return Err(Error::value(key, "nothing where `base.data.host` is given", got));
            }
        }
        let held_out = self.held_out.clone().unwrap_or_default();
        held_out.check()?;
        let split = keys::get(&self.base, "data.corpus.split");
        if held_out.store.is_none() && split.and_then(Value::as_str) != Some("train") {
            let expected = "`train`, whose held-out part runs are judged by, or `held_out.store`";
            let got = split.map_or("none".into(), Value::to_string);
            return Err(Error::value("base.data.corpus.split", expected, got));
        }
        Ok(())
    }

    /// Refuses keys of the base run that say what is read, but for those of a live host.
    pub(super) fn check_base_data(&self) -> Result<()> {
        let (stores, of_host) = (["store", "target", "stores", "target_hook"], LIVE_KEYS);
        let of_host = of_host.into_iter().filter(|_| !self.is_live());
        for key in stores.into_iter().chain(of_host) {
            if let Some(value) = keys::get(&self.base, &format!("data.{key}")) {
                return Err(Error::value(format!("base.data.{key}"), PROVIDED, value));
            }
        }
        Ok(())
    }

    /// Refuses keys of a run that say what is read where the sweep decides it.
    pub(super) fn check_run_data(&self, run: &Table) -> Result<()> {
        for key in LIVE_KEYS {
            let dotted = format!("data.{key}");
            let Some(value) = keys::get(run, &dotted) else { continue };
            let expected = match self.is_live() {
                true if VARIED.contains(&key) => continue,
                true if keys::get(&self.base, &dotted) == Some(value) => continue,
                true => "the value of `base.data`, since all runs are judged by the same rows",
                false if key == "hook" && self.harvest.is_some() => continue,
                false => PROVIDED,
            };
            return Err(Error::value(dotted, expected, value));
        }
        Ok(())
    }

    /// Checks that a hook point of each run is named, once.
    pub(super) fn check_hooks(&self, points: &[SweepPoint]) -> Result<()> {
        let own = |point: &SweepPoint| point.config.data.hook().map(str::to_owned);
        let hooks: Vec<Option<String>> = points.iter().map(own).collect();
        if let Some(wrong) = hooks.iter().flatten().find(|hook| !is_hook(hook)) {
            let expected = "`embed`, or `resid_pre.L`, `resid_post.L`, `attn_out.L`, `mlp_in.L` or \
                            `mlp_out.L` with L a layer";
            return Err(Error::value("data.hook", expected, format!("`{wrong}`")));
        }
        let Some(harvest) = &self.harvest else { return Ok(()) };
        let is_named = hooks.iter().any(Option::is_some);
        match &harvest.hook {
            Some(hook) if is_named => {
                let expected = "nothing where runs have a `hook` of their own";
                Err(Error::value("harvest.hook", expected, format!("`{hook}`")))
            }
            None if hooks.iter().any(Option::is_none) => {
                let expected = "a hook point, here or as `hook` of every run";
                Err(Error::value("harvest.hook", expected, "none"))
            }
            _ => Ok(()),
        }
    }
}

/// Whether a text is a hook point as provenance names it: with it folders are called.
fn is_hook(text: &str) -> bool {
    let layer = |layer: &str| layer.parse::<u32>().is_ok_and(|n| n.to_string() == layer);
    let kinds = ["resid_pre", "resid_post", "attn_out", "mlp_in", "mlp_out"];
    text == "embed"
        || text.split_once('.').is_some_and(|(kind, of)| kinds.contains(&kind) && layer(of))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIVE: &str = "axes.hook = ['resid_post.1', 'embed']\n\
        base.sae.n_features = 8\nbase.architecture = { name = 'topk', k = 2 }\n\
        base.training = { steps = 1, batch_size = 4 }\n\
        base.data = { host = 'h', hook = 'embed', corpus = { path = 'c', split = 'train' } }\n";

    fn points(text: &str) -> Result<Vec<SweepPoint>> {
        let sweep: SweepConfig = toml::from_str(text).unwrap();
        sweep.check()?;
        sweep.points()
    }

    fn refusal(text: &str) -> String {
        points(text).unwrap_err().to_string()
    }

    #[test]
    fn runs_on_a_live_host_vary_along_its_hook_points() {
        let found = points(LIVE).unwrap();
        let hooks: Vec<_> = found.iter().map(|point| point.config.data.hook().unwrap()).collect();
        assert_eq!(hooks, ["resid_post.1", "embed"]);
        assert!(found.iter().all(|point| point.config.data.live.is_some()));
        for (more, words) in [
            (
                "axes.context_length = [8]",
                "`data.context_length`: expected the value of `base.data`",
            ),
            ("axes.host = ['i']", "`data.host`: expected the value of"),
            ("axes.store = ['i']", "`store`"),
            ("stores = { train = 'a', held_out = 'b' }", "`stores`: expected nothing where"),
            (
                "held_out = { store = 'a', max_tokens = 4 }",
                "`held_out.max_tokens`: expected nothing",
            ),
            ("held_out.max_tokens = 0", "`held_out.max_tokens`: expected at least 1"),
        ] {
            let text = format!("{more}\n{LIVE}");
            assert!(refusal(&text).contains(words), "{more}: {}", refusal(&text));
        }
        for (from, to, words) in [
            ("'resid_post.1'", "'blocks.1.hook_resid_post'", "`data.hook`: expected `embed`, or"),
            ("'resid_post.1'", "'resid_post.01'", "got `resid_post.01`"),
            (", split = 'train'", "", "`base.data.corpus.split`: expected `train`"),
            ("hook = 'embed'", "hook = 'embed', target_hook = 'b'", "`base.data.target_hook`: exp"),
            ("'train'", "'held_out'", "got \"held_out\""),
        ] {
            let error = refusal(&LIVE.replace(from, to));
            assert!(error.contains(words), "{error}");
        }
        let with_store = format!("held_out.store = 's'\n{}", LIVE.replace(", split = 'train'", ""));
        assert_eq!(points(&with_store).unwrap().len(), 2);
    }

    #[test]
    fn hook_points_of_harvested_runs_are_named_once() {
        let sweep = |harvest: &str, axes: &str| {
            format!(
                "host.name = 'a'\ntexts = {{ train = ['a'], held_out = ['b'] }}\n\
                 [harvest]\n{harvest}\n[axes]\n{axes}\nseed = [0, 1]\n[base]\nsae.n_features = 8\n\
                 architecture = {{ name = 'topk', k = 2 }}\n\
                 training = {{ steps = 1, batch_size = 4 }}\n"
            )
        };
        assert_eq!(points(&sweep("hook = 'embed'", "")).unwrap().len(), 2);
        let several = points(&sweep("", "hook = ['embed', 'mlp_in.2']")).unwrap();
        assert_eq!(several.len(), 4);
        assert_eq!(several[3].config.data.hook(), Some("mlp_in.2"));
        let both = refusal(&sweep("hook = 'embed'", "hook = ['mlp_in.2']"));
        assert!(both.starts_with("`harvest.hook`: expected nothing where runs"), "{both}");
        let none = refusal(&sweep("", ""));
        assert!(none.starts_with("`harvest.hook`: expected a hook point"), "{none}");
        let base = refusal(&(sweep("", "") + "data.hook = 'embed'"));
        assert!(base.starts_with("`base.data.hook`: expected nothing"), "{base}");
        let alone = "held_out.max_tokens = 4\n".to_owned() + &sweep("hook = 'embed'", "");
        assert!(refusal(&alone).starts_with("`held_out`: expected nothing without"));
    }
}
