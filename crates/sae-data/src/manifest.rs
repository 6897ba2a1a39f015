//! `manifest.json` of the native format: what the shards are and whether they are all there.

use std::io::Write as _;
use std::path::Path;

use atomic_write_file::AtomicWriteFile;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::compression::{Frames, MAX_FRAME_BYTES};
use crate::shard::RowFormat;
use crate::{Dtype, Error, Provenance, Result, StoreSpec};

/// The file's name within the store.
pub(crate) const FILE_NAME: &str = "manifest.json";

const FORMAT: &str = "softsae-activations";

/// The native format's table of contents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    format: String,
    version: u32,
    /// Dimension of a row.
    pub d_model: usize,
    /// Element type.
    pub dtype: Dtype,
    /// The frames of a store that is compressed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frames: Option<Frames>,
    /// Rows of every shard but the last, which may have fewer.
    pub rows_per_shard: u64,
    /// Whether the writer finished.
    pub complete: bool,
    /// Where the activations came from.
    pub provenance: Provenance,
    /// Whether token, document and position of the rows are known, as they are where it is absent.
    #[serde(default = "known", skip_serializing_if = "is_known")]
    pub row_metadata: bool,
    /// The shards in order.
    pub shards: Vec<Shard>,
}

/// One shard file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shard {
    /// Its name within the store.
    pub file: String,
    /// Its rows.
    pub n_rows: u64,
    /// Its length.
    pub n_bytes: u64,
    /// BLAKE3 of the whole file, in hexadecimal.
    pub blake3: String,
    /// BLAKE3 of all that follows the activations, the rows' checksums among it, in hexadecimal:
    /// compared when the store is opened. Empty in stores written before it was recorded.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub columns_blake3: String,
}

const fn known() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_known(row_metadata: &bool) -> bool {
    *row_metadata
}

/// The version of a manifest: the first, which earlier programs read, wherever it says all.
const fn version(dtype: Dtype, frames: Option<Frames>) -> u32 {
    if matches!(dtype, Dtype::Int8) || frames.is_some() { 2 } else { 1 }
}

/// The first part in which two values differ: its path, and both.
fn difference(field: &str, expected: &Value, got: &Value) -> Option<(String, String, String)> {
    let absent = &Value::Null;
    match (expected, got) {
        (Value::Object(a), Value::Object(b)) => a.keys().chain(b.keys()).find_map(|key| {
            let field = if field.is_empty() { key.clone() } else { format!("{field}.{key}") };
            difference(&field, a.get(key).unwrap_or(absent), b.get(key).unwrap_or(absent))
        }),
        (Value::Array(a), Value::Array(b)) => (0..a.len().max(b.len())).find_map(|i| {
            let field = format!("{field}[{i}]");
            difference(&field, a.get(i).unwrap_or(absent), b.get(i).unwrap_or(absent))
        }),
        _ if expected == got => None,
        _ => {
            let text = |value: &Value| match value {
                Value::Null => "none".to_owned(),
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            Some((field.to_owned(), text(expected), text(got)))
        }
    }
}

impl Manifest {
    /// The manifest of a store without shards.
    pub(crate) fn of(spec: StoreSpec) -> Self {
        let frames = spec.compression.map(|compression| Frames::new(compression, spec.d_model));
        Self {
            format: FORMAT.to_owned(),
            version: version(spec.dtype, frames),
            d_model: spec.d_model,
            dtype: spec.dtype,
            frames,
            rows_per_shard: spec.rows_per_shard,
            complete: false,
            provenance: spec.provenance,
            row_metadata: spec.row_metadata,
            shards: Vec::new(),
        }
    }

    /// Checks that this manifest, read from `path`, is of a store as `wanted` describes it.
    pub(crate) fn check_same_spec(&self, wanted: &Self, path: &Path) -> Result<()> {
        let spec = |m: &Self| {
            serde_json::json!({
                "d_model": m.d_model,
                "dtype": m.dtype,
                "frames": m.frames,
                "rows_per_shard": m.rows_per_shard,
                "provenance": m.provenance,
                "row_metadata": m.row_metadata,
            })
        };
        match difference("", &spec(wanted), &spec(self)) {
            Some((field, expected, got)) => Err(Error::OtherStore {
                path: path.to_owned(),
                expected: format!("{field} {expected}"),
                got,
            }),
            None => Ok(()),
        }
    }

    /// Parses and checks the text of a manifest; `path` is for messages.
    ///
    /// # Errors
    /// [`Error::Format`], naming the field.
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        let manifest: Self = serde_json::from_str(text)
            .map_err(|e| Error::format(path, "a manifest of a native store", e))?;
        let fail = |expected: &str, got: String| Err(Error::format(path, expected, got));
        if manifest.format != FORMAT {
            return fail("format 'softsae-activations'", format!("{:?}", manifest.format));
        }
        let version = version(manifest.dtype, manifest.frames);
        if manifest.version != version {
            return fail(&format!("version {version}"), format!("version {}", manifest.version));
        }
        if manifest.d_model == 0 || manifest.rows_per_shard == 0 {
            return fail("d_model and rows_per_shard of at least 1", "0".to_owned());
        }
        if manifest.dtype == Dtype::F64 {
            return fail("dtype int8, f16, bf16 or f32", "f64".to_owned());
        }
        if !manifest.row_format().has_frames_in_bounds() {
            let expected = format!("frames of 1 row or more and at most {MAX_FRAME_BYTES} bytes");
            return fail(&expected, format!("{:?}", manifest.frames));
        }
        for (i, shard) in manifest.shards.iter().enumerate() {
            if shard.file != shard_name(i) {
                return fail(&format!("shard {i} named {}", shard_name(i)), shard.file.clone());
            }
            let full = shard.n_rows == manifest.rows_per_shard;
            let last = i + 1 == manifest.shards.len() && manifest.complete;
            if shard.n_rows == 0 || !(full || last && shard.n_rows < manifest.rows_per_shard) {
                let expected = format!("{} rows in {}", manifest.rows_per_shard, shard.file);
                return fail(&expected, shard.n_rows.to_string());
            }
        }
        if manifest.n_rows().is_none() {
            return fail("a number of rows that fits 64 bits", "more".to_owned());
        }
        Ok(manifest)
    }

    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        Self::parse(&text, path)
    }

    /// Writes the manifest to a temporary file, synced, then renamed.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|e| Error::format(path, "a manifest that can be written", e))?;
        let mut file = AtomicWriteFile::open(path).map_err(Error::io(path))?;
        file.write_all((text + "\n").as_bytes()).map_err(Error::io(path))?;
        file.commit().map_err(Error::io(path))
    }

    pub(crate) fn row_format(&self) -> RowFormat {
        RowFormat { d_model: self.d_model, dtype: self.dtype, frames: self.frames }
    }

    pub(crate) fn n_rows(&self) -> Option<u64> {
        self.shards.iter().try_fold(0_u64, |sum, shard| sum.checked_add(shard.n_rows))
    }

    /// A hash of everything the rows depend on.
    pub(crate) fn content_hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(format!("{} {} {}\n", FORMAT, self.d_model, self.dtype).as_bytes());
        for shard in &self.shards {
            hasher.update(format!("{} {}\n", shard.n_rows, shard.blake3).as_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }
}

/// The name of shard `i`.
pub(crate) fn shard_name(i: usize) -> String {
    format!("shard-{i:05}.safetensors")
}
