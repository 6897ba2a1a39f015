//! Shards of the tool saev: `metadata.json`, `shards.json` and `acts000000.bin` onwards.
//!
//! By its protocol (versions 1.0.0 to 2.1, which differ in names of keys) the shards are one C-order
//! array of f32, `[examples, layers, tokens, d_model]`, cut between examples; the first token is
//! [CLS] where there is one. A shard has the length of a full one though it holds fewer examples:
//! what follows them is not data.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::concatenation::Concatenation;
use crate::flat::FlatStore;
use crate::store::check_range;
use crate::{ActivationStore, Dtype, Error, Provenance, Result, RowMeta};

const METADATA: &str = "metadata.json";
const SHARDS: &str = "shards.json";
const PROTOCOLS: [&str; 4] = ["1.0.0", "1.1", "2.0", "2.1"];

/// Shards of one layer: a row for each token of each example.
#[derive(Debug)]
pub(crate) struct SaevStore {
    rows: Concatenation,
    tokens: u64,
    provenance: Provenance,
}

/// `metadata.json`. The keys that are not used describe where the examples came from and how they
/// were labelled; they change no activation.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    #[serde(alias = "vit_ckpt")]
    ckpt: String,
    layers: Vec<i64>,
    #[serde(alias = "patches_per_ex", alias = "n_patches_per_img")]
    content_tokens_per_example: u64,
    cls_token: bool,
    #[serde(alias = "d_vit")]
    d_model: usize,
    #[serde(alias = "n_ex", alias = "n_imgs")]
    n_examples: u64,
    #[serde(
        alias = "patches_per_shard",
        alias = "max_patches_per_shard",
        alias = "n_patches_per_shard"
    )]
    max_tokens_per_shard: u64,
    dtype: String,
    protocol: String,
    #[serde(rename = "family", alias = "vit_family")]
    _family: serde_json::Value,
    #[serde(rename = "data")]
    _data: serde_json::Value,
    #[serde(rename = "dataset", default)]
    _dataset: serde_json::Value,
    #[serde(rename = "pixel_agg", default)]
    _pixel_agg: serde_json::Value,
    #[serde(rename = "seed", default)]
    _seed: serde_json::Value,
}

/// An entry of `shards.json`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Shard {
    name: String,
    #[serde(alias = "n_ex", alias = "n_imgs")]
    n_examples: u64,
}

impl SaevStore {
    /// Whether a directory with these entries holds shards of saev.
    pub(crate) fn is_at(path: &Path, entries: &[PathBuf]) -> bool {
        path.join(METADATA).exists() && entries.iter().any(|entry| is_shard(entry))
    }

    pub(crate) fn open(path: &Path, entries: &[PathBuf]) -> Result<Self> {
        let metadata: Metadata = read(&path.join(METADATA), "metadata of saev")?;
        let tokens = metadata.check(path)?;
        let shards: Vec<Shard> =
            read(&path.join(SHARDS), "the shards of saev, with their examples")?;
        let per_shard = metadata.max_tokens_per_shard / tokens;
        let (mut stores, mut seen) = (Vec::new(), 0);
        for (i, Shard { name, n_examples }) in shards.iter().enumerate() {
            let left = metadata.n_examples - seen;
            let wanted = (format!("acts{i:06}.bin"), left.min(per_shard));
            if (name, n_examples) != (&wanted.0, &wanted.1) {
                let expected = format!("{} with {} examples", wanted.0, wanted.1);
                let got = format!("{name} with {n_examples}");
                return Err(Error::format(&path.join(SHARDS), expected, got));
            }
            seen += n_examples;
            if *n_examples > 0 {
                let file = path.join(name);
                let store = FlatStore::in_front(
                    &file,
                    n_examples * tokens,
                    per_shard * tokens,
                    metadata.d_model,
                )?;
                stores
                    .push((std::sync::Arc::new(store) as std::sync::Arc<dyn ActivationStore>, 1.0));
            }
        }
        if seen < metadata.n_examples {
            let got = format!("{seen}: its writing was never finished");
            let expected = format!("all {} examples of {METADATA}", metadata.n_examples);
            return Err(Error::format(&path.join(SHARDS), expected, got));
        }
        let unlisted =
            |entry: &&PathBuf| is_shard(entry) && !shards.iter().any(|s| entry.ends_with(&s.name));
        if let Some(entry) = entries.iter().find(unlisted) {
            return Err(Error::format(
                entry,
                format!("a shard of {SHARDS}"),
                "one that is not in it",
            ));
        }
        let provenance = Provenance {
            host: metadata.ckpt,
            hook_point: format!("resid_post.{}", metadata.layers[0]),
            ..Provenance::default()
        };
        Ok(Self { rows: Concatenation::new(stores)?.at(path), tokens, provenance })
    }
}

impl Metadata {
    /// Checks that the shards are rows of one layer, and gives back the tokens of an example.
    fn check(&self, path: &Path) -> Result<u64> {
        let file = path.join(METADATA);
        let fail = |expected: String, got: String| Err(Error::format(&file, expected, got));
        if !PROTOCOLS.contains(&self.protocol.as_str()) {
            return fail(format!("protocol {}", PROTOCOLS.join(", ")), self.protocol.clone());
        }
        if self.dtype != "float32" {
            return fail("dtype float32".to_owned(), self.dtype.clone());
        }
        let tokens = self.content_tokens_per_example.checked_add(u64::from(self.cls_token));
        let Some(tokens) = tokens.filter(|n| (1..=u64::from(u32::MAX)).contains(n)) else {
            let got = format!("{} and cls_token", self.content_tokens_per_example);
            return fail("1 to 2^32 - 1 tokens an example".to_owned(), got);
        };
        if self.layers.len() != 1 {
            let (layers, d_model) = (self.layers.len(), self.d_model);
            let shard = path.join("acts000000.bin").display().to_string();
            let expected = format!(
                "layers: one (take layer number I of a shard of N examples with `python3 -c \"import \
                 numpy; x = numpy.memmap('{shard}', 'float32').reshape(-1, {layers}, {tokens}, \
                 {d_model}); numpy.save('acts_0.npy', x[:N, I].reshape(-1, {d_model}))\"`)"
            );
            return fail(expected, format!("{:?}", self.layers));
        }
        if self.n_examples == 0 || u32::try_from(self.n_examples).is_err() {
            return fail("n_examples from 1 to 2^32 - 1".to_owned(), self.n_examples.to_string());
        }
        if self.max_tokens_per_shard < tokens {
            let expected = format!("max_tokens_per_shard of at least {tokens}");
            return fail(expected, self.max_tokens_per_shard.to_string());
        }
        Ok(tokens)
    }
}

impl ActivationStore for SaevStore {
    fn n_rows(&self) -> u64 {
        self.rows.n_rows()
    }

    fn d_model(&self) -> usize {
        self.rows.d_model()
    }

    fn dtype(&self) -> Dtype {
        self.rows.dtype()
    }

    fn read_rows_raw(&self, start: u64, out: &mut [f32]) -> Result<()> {
        self.rows.read_rows_raw(start, out)
    }

    /// The example and its token's number; there are no token ids.
    fn read_meta(&self, start: u64, out: &mut [RowMeta]) -> Result<()> {
        check_range(self, start, out.len() as u64)?;
        for (row, meta) in (start..).zip(out) {
            let number = |n: u64| u32::try_from(n).expect("fewer than 2^32 examples, as checked");
            let (document, position) = (number(row / self.tokens), number(row % self.tokens));
            *meta = RowMeta { token_id: 0, document, position };
        }
        Ok(())
    }

    fn provenance(&self) -> Option<&Provenance> {
        Some(&self.provenance)
    }

    fn locate(&self, row: u64) -> (PathBuf, u64) {
        self.rows.locate(row)
    }

    fn path(&self) -> Option<&Path> {
        self.rows.path()
    }

    fn content_hash(&self) -> Result<String> {
        self.rows.content_hash()
    }

    fn content_hashes(&self) -> Result<Vec<String>> {
        self.rows.content_hashes()
    }

    fn verify(&self) -> Result<()> {
        self.rows.verify()
    }
}

fn is_shard(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.starts_with("acts") && name.ends_with(".bin"))
}

fn read<T: serde::de::DeserializeOwned>(path: &Path, expected: &str) -> Result<T> {
    let text = std::fs::read(path).map_err(Error::io(path))?;
    serde_json::from_slice(&text).map_err(|e| Error::format(path, expected, e))
}
