//! The activations of a run: from which stores or which host, which of their rows.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::live::LiveKeys;
use crate::{BosPolicy, CorpusConfig, Error, LiveConfig, Result, SpecialTokens};

/// The activations of a run. The filters leave out rows in the order of the fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "File", into = "File")]
pub struct DataConfig {
    /// The activation store to train on; empty where there are `stores`, or a host is `live`.
    pub store: PathBuf,
    /// The store of what is to be rebuilt from `store`, matched row by row: the run trains a
    /// transcoder. Without it `store` rebuilds itself.
    pub target: Option<PathBuf>,
    /// Several stores, trained on as one.
    pub stores: Vec<WeightedStore>,
    /// A host that gives the activations while the run trains, in the place of stores.
    pub live: Option<LiveConfig>,
    /// The hook point that the stores have to be of, as far as they know theirs; any if absent. That of
    /// a host is among what is `live`.
    pub hook: Option<String>,
    /// A text file of row numbers, one a line, counted from 0 over all stores: the rows to keep.
    pub rows: Option<PathBuf>,
    /// Leaves out rows of positions below this one.
    pub min_position: Option<u32>,
    /// Leaves out rows of positions above this one.
    pub max_position: Option<u32>,
    /// Leaves out rows whose norm exceeds this multiple of the median norm of the rows that are not
    /// zero; 0 keeps all.
    pub max_norm_ratio: f64,
}

/// A store among several.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightedStore {
    /// The store.
    pub path: PathBuf,
    /// How often an epoch sees each of its rows: 2 twice, 0.5 every other one.
    #[serde(default = "crate::architectures::one")]
    pub weight: f64,
}

/// The section as it is written: with `store`, with `stores`, or with `host` and what belongs to it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(skip_serializing_if = "Option::is_none")]
    store: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<PathBuf>,
    #[serde(default)]
    max_norm_ratio: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_position: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_position: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rows: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hook: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_hook: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context_length: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    skip_positions: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bos: Option<BosPolicy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    special_tokens: Option<SpecialTokens>,
    #[serde(skip_serializing_if = "Option::is_none")]
    window_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    statistics_rows: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    stores: Vec<WeightedStore>,
    #[serde(skip_serializing_if = "Option::is_none")]
    corpus: Option<CorpusConfig>,
}

impl TryFrom<File> for DataConfig {
    type Error = String;

    fn try_from(mut file: File) -> Result<Self, Self::Error> {
        let has_store = file.store.is_some() || !file.stores.is_empty();
        let hook = if file.host.is_none() && has_store { file.hook.take() } else { None };
        let File { store, target, stores, rows, min_position, max_position, .. } = file;
        let max_norm_ratio = file.max_norm_ratio;
        let live = LiveKeys {
            host: file.host,
            hook: file.hook,
            target_hook: file.target_hook,
            corpus: file.corpus,
            context_length: file.context_length,
            skip_positions: file.skip_positions,
            bos: file.bos,
            special_tokens: file.special_tokens,
            window_bytes: file.window_bytes,
            statistics_rows: file.statistics_rows,
        };
        let live = live.decide()?;
        let written = [
            ("store", store.is_some()),
            ("stores", !stores.is_empty()),
            ("target", target.is_some()),
            ("rows", rows.is_some()),
            ("max_norm_ratio", max_norm_ratio != 0.0),
        ];
        let store = match (store, stores.is_empty()) {
            _ if live.is_some() => refuse_beside_host(written).map(|()| PathBuf::new())?,
            (Some(store), true) => store,
            (None, false) => PathBuf::new(),
            (None, true) => return Err("expected `store`, `stores` or `host`, got none".into()),
            (Some(_), false) => return Err("expected `store` or `stores`, got both".into()),
        };
        if target.is_some() && !stores.is_empty() {
            return Err("expected `store` beside `target`, got `stores`".into());
        }
        Ok(Self {
            store,
            target,
            stores,
            live,
            hook,
            rows,
            min_position,
            max_position,
            max_norm_ratio,
        })
    }
}

/// Refuses keys of stores that are written where a host is given.
fn refuse_beside_host(written: [(&str, bool); 5]) -> Result<(), String> {
    let Some((key, _)) = written.into_iter().find(|(_, is_written)| *is_written) else {
        return Ok(());
    };
    Err(match key {
        "rows" | "max_norm_ratio" => {
            format!("expected `{key}` beside `store` or `stores`, got `host`")
        }
        "target" => "expected no `host` beside `target`, got both: `target_hook` names what is \
                     rebuilt"
            .into(),
        _ => format!("expected no `host` beside `{key}`, got both"),
    })
}

impl From<DataConfig> for File {
    fn from(data: DataConfig) -> Self {
        let has_store = data.stores.is_empty() && data.live.is_none();
        let live = data.live.map(LiveKeys::from).unwrap_or_default();
        Self {
            store: has_store.then_some(data.store),
            target: data.target,
            max_norm_ratio: data.max_norm_ratio,
            min_position: data.min_position,
            max_position: data.max_position,
            rows: data.rows,
            host: live.host,
            hook: live.hook.or(data.hook),
            target_hook: live.target_hook,
            context_length: live.context_length,
            skip_positions: live.skip_positions,
            bos: live.bos,
            special_tokens: live.special_tokens,
            window_bytes: live.window_bytes,
            statistics_rows: live.statistics_rows,
            stores: data.stores,
            corpus: live.corpus,
        }
    }
}

impl DataConfig {
    /// The key that names what is rebuilt, where that is not the input.
    #[must_use]
    pub fn target_key(&self) -> Option<&'static str> {
        let is_live = self.live.as_ref().is_some_and(|live| live.target_hook.is_some());
        if is_live { Some("data.target_hook") } else { self.target.as_ref().map(|_| "data.target") }
    }

    /// The hook point of the input, where it is named.
    #[must_use]
    pub fn hook(&self) -> Option<&str> {
        self.live.as_ref().map(|live| live.hook.as_str()).or(self.hook.as_deref())
    }

    /// Checks what can be checked without the stores.
    pub(crate) fn check(&self) -> Result<()> {
        self.live.as_ref().map_or(Ok(()), LiveConfig::check)?;
        let ratio = self.max_norm_ratio;
        if !(ratio == 0.0 || (ratio.is_finite() && ratio > 1.0)) {
            return Err(Error::value("data.max_norm_ratio", "0 or more than 1", ratio));
        }
        if let (Some(min), Some(max)) = (self.min_position, self.max_position)
            && min > max
        {
            let expected = format!("at least min_position = {min}");
            return Err(Error::value("data.max_position", expected, max));
        }
        for (i, WeightedStore { weight, .. }) in self.stores.iter().enumerate() {
            if !(weight.is_finite() && *weight > 0.0) {
                let key = format!("data.stores[{i}].weight");
                return Err(Error::value(key, "a positive number", weight));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> std::result::Result<DataConfig, String> {
        toml::from_str(text).map_err(|e| e.message().to_owned())
    }

    #[test]
    fn one_store_or_several() {
        let one = parse("store = 'a'").unwrap();
        assert_eq!(one.store, PathBuf::from("a"));
        let text = toml::to_string(&one).unwrap();
        assert_eq!(text, "store = \"a\"\nmax_norm_ratio = 0.0\n");
        let both = parse("target = 'b'\nstore = 'a'").unwrap();
        assert_eq!(both.target, Some(PathBuf::from("b")));
        assert_eq!(parse(&toml::to_string(&both).unwrap()).unwrap(), both);
        let several = "rows = 'r.txt'\nmin_position = 1\n\
                       stores = [{ path = 'a' }, { path = 'b', weight = 2.5 }]";
        let several = parse(several).unwrap();
        assert_eq!((several.stores[0].weight, several.stores[1].weight), (1.0, 2.5));
        assert_eq!(parse(&toml::to_string(&several).unwrap()).unwrap(), several);
        let hooked = parse("hook = 'resid_post.3'\nstore = 'a'").unwrap();
        assert_eq!(hooked.hook(), Some("resid_post.3"));
        assert_eq!(parse(&toml::to_string(&hooked).unwrap()).unwrap(), hooked);
        for (text, words) in [
            ("", "got none"),
            ("hook = 'resid_post.3'", "expected `host` beside `hook`"),
            ("store = 'a'\nhook = 'embed'\nbos = 'never'", "expected `host` beside `bos`"),
            ("store = 'a'\nstores = [{ path = 'b' }]", "got both"),
            ("stores = [{ store = 'b' }]", "unknown field"),
            ("store = 'a'\nmin_pos = 1", "unknown field"),
            ("target = 'a'", "got none"),
            ("target = 'a'\nstores = [{ path = 'b' }]", "`store` beside `target`, got `stores`"),
        ] {
            let message = parse(text).unwrap_err();
            assert!(message.contains(words), "{text}: {message}");
        }
    }

    #[test]
    fn values_out_of_range_are_named() {
        for (text, key) in [
            ("store = 'a'\nmax_norm_ratio = 0.5", "`data.max_norm_ratio`"),
            ("store = 'a'\nmin_position = 3\nmax_position = 2", "`data.max_position`"),
            ("stores = [{ path = 'a' }, { path = 'b', weight = 0 }]", "`data.stores[1].weight`"),
            ("stores = [{ path = 'a', weight = inf }]", "`data.stores[0].weight`"),
        ] {
            let message = parse(text).unwrap().check().unwrap_err().to_string();
            assert!(message.starts_with(key), "{message}");
        }
    }
}
