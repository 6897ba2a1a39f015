//! `softsae encode`: the sparse codes of a store, as safetensors shards.

use std::path::{Path, PathBuf};

use sae_data::{ActivationStore, OutputLock, Port, open_store};
use sae_models::{Sae, SparseCoder, load_checkpoint, write_tensors};
use sae_train::origin;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::{Differences, check_apart, check_dimension, device, locked};
use crate::cli::EncodeArgs;
use crate::failure::{Blame as _, Failure};
use crate::output::say;
use crate::progress::Progress;

/// Rows encoded at once.
const BATCH_ROWS: u64 = 1024;

/// Rows in a shard.
const SHARD_ROWS: u64 = 64 * BATCH_ROWS;

/// What the folder holds (`codes.json`, written last).
#[derive(Serialize)]
struct Codes<'a> {
    format: &'static str,
    n_rows: u64,
    n_features: usize,
    rows_per_shard: u64,
    checkpoint: &'a Path,
    store: &'a Path,
    store_hash: String,
    /// Whether the store is of another host or hook point than the checkpoint.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    elsewhere: bool,
    /// In what the store differs from the one that the model was trained on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    differences: Vec<String>,
    shards: Vec<Shard>,
}

/// A file of codes.
#[derive(Serialize)]
struct Shard {
    file: String,
    blake3: String,
}

pub(crate) fn run(args: &EncodeArgs) -> Result<(), Failure> {
    let device = device(&args.device)?;
    let sae = load_checkpoint(&args.checkpoint, device).or_usage()?;
    let store = open_store(&args.data).or_usage()?;
    check_dimension(&sae, store.as_ref(), &args.data)?;
    let place = origin(&Port::of_store(store.as_ref())).or_usage()?;
    let of_model = &sae.trained_on;
    let data = format!("{}: against the model", args.data.display());
    let found = Differences::find(of_model, &place, &data, args.elsewhere)?;
    check_apart(&args.out, &[&args.checkpoint, &args.data])?;
    check_same_codes(args)?;
    let _lock = locked(OutputLock::directory(&args.out))?;
    let mut progress = Progress::new("encode", "rows", store.n_rows());
    let mut shards = Vec::new();
    let mut start = 0;
    while start < store.n_rows() {
        let end = (start + SHARD_ROWS).min(store.n_rows());
        let file = format!("codes-{:05}.safetensors", shards.len());
        let blake3 = shard(&sae, store.as_ref(), start, end, &args.out.join(&file), &mut progress)?;
        shards.push(Shard { file, blake3 });
        start = end;
    }
    let codes = Codes {
        format: "softsae-codes",
        n_rows: store.n_rows(),
        n_features: sae.config().n_features,
        rows_per_shard: SHARD_ROWS,
        checkpoint: &args.checkpoint,
        store: &args.data,
        store_hash: store.content_hash().or_run()?,
        elsewhere: found.elsewhere,
        differences: found.lines,
        shards,
    };
    sae_config::write_json(&args.out.join("codes.json"), &codes).or_run()?;
    say!("{}: codes of {} rows", args.out.display(), codes.n_rows);
    Ok(())
}

/// Of what a folder's codes are.
#[derive(Deserialize)]
struct Origin {
    checkpoint: PathBuf,
    store: PathBuf,
}

/// Refuses a folder with the codes of another checkpoint or store.
fn check_same_codes(args: &EncodeArgs) -> Result<(), Failure> {
    let path = args.out.join("codes.json");
    if !path.exists() {
        return Ok(());
    }
    let there: Origin = sae_config::read_json(&path).or_usage()?;
    for (key, expected, got) in
        [("checkpoint", &args.checkpoint, there.checkpoint), ("store", &args.data, there.store)]
    {
        if got != *expected {
            return Err(Failure::usage(anyhow::anyhow!(
                "--out: expected a folder without codes of another {key}, got {} with those of {}",
                args.out.display(),
                got.display()
            )));
        }
    }
    Ok(())
}

/// Encodes rows `start..end` into one CSR file: `indptr [n + 1]`, `indices` and `values [nnz]`,
/// and `k_hat [n]` where the architecture has one; returns its hash.
fn shard(
    sae: &Sae,
    store: &dyn ActivationStore,
    start: u64,
    end: u64,
    path: &Path,
    progress: &mut Progress,
) -> Result<String, Failure> {
    let d_model = store.d_model();
    let (mut counts, mut indices, mut values, mut k_hat) = (vec![], vec![], vec![], vec![]);
    let mut coder = SparseCoder::applies(sae).then(SparseCoder::default);
    let mut row = start;
    while row < end {
        let n = (end - row).min(BATCH_ROWS);
        let mut rows = vec![0.0f32; n as usize * d_model];
        store.read_rows(row, &mut rows).or_run()?;
        let x = Tensor::from_slice(&rows)
            .reshape([n as i64, d_model as i64])
            .to_device(sae.device())
            .to_kind(sae.kind());
        row += n;
        if let Some(coder) = &mut coder {
            let encoded = coder.encode(sae, &x).or_run()?;
            let codes = &encoded.codes;
            let of_rows: Vec<i64> =
                codes.indptr().windows(2).map(|w| (w[1] - w[0]) as i64).collect();
            let of_codes: Vec<i32> = codes.indices().iter().map(|&i| i as i32).collect();
            counts.push(Tensor::from_slice(&of_rows));
            indices.push(Tensor::from_slice(&of_codes));
            values.push(Tensor::from_slice(codes.values()));
            k_hat.extend(encoded.k_hat);
            progress.at(row, String::new);
            continue;
        }
        let encoded = sae.encode(&x).or_run()?;
        let active = encoded.features.not_equal(0.0);
        let at = active.nonzero();
        counts.push(active.sum_dim_intlist(1i64, false, Kind::Int64).to_device(tch::Device::Cpu));
        indices.push(at.select(1, 1).to_kind(Kind::Int).to_device(tch::Device::Cpu));
        values.push(
            encoded
                .features
                .masked_select(&active)
                .to_kind(Kind::Float)
                .to_device(tch::Device::Cpu),
        );
        k_hat.extend(encoded.k_hat.map(|k| k.to_kind(Kind::Float).to_device(tch::Device::Cpu)));
        progress.at(row, String::new);
    }
    let zero = Tensor::zeros([1], (Kind::Int64, tch::Device::Cpu));
    let indptr = Tensor::cat(&[zero, Tensor::cat(&counts, 0).cumsum(0, Kind::Int64)], 0);
    let (indices, values) = (Tensor::cat(&indices, 0), Tensor::cat(&values, 0));
    let k_hat = (!k_hat.is_empty()).then(|| Tensor::cat(&k_hat, 0));
    let mut tensors = vec![("indptr", &indptr), ("indices", &indices), ("values", &values)];
    tensors.extend(k_hat.as_ref().map(|k| ("k_hat", k)));
    write_tensors(path, tensors).or_run()
}
