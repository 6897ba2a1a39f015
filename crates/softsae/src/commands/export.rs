//! `softsae export`: a checkpoint as the files of another tool.

use std::path::Path;

use sae_data::{ActivationStore, OutputLock, Port, open_store};
use sae_models::{Exported, Format, Normalizer, Origin, Sae, load_checkpoint};
use sae_train::origin;
use tch::{Device, Kind, Tensor};

use super::{Differences, check_no_checkpoint, locked};
use crate::cli::ExportArgs;
use crate::failure::{Blame as _, Failure};
use crate::output::say;

/// Most rows that are compared.
const VERIFY_ROWS: u64 = 4096;

/// Largest difference of reconstructions from the same active features, relative to their norm, that
/// rounding explains.
const TOLERANCE: f64 = 1e-5;

/// Refuses a folder with files in it: those of another export would stay beside the new ones.
fn check_free(out: &Path) -> Result<(), Failure> {
    let is_hidden = |name: &std::ffi::OsStr| name.as_encoded_bytes().starts_with(b".");
    let entries = std::fs::read_dir(out).into_iter().flatten().flatten();
    match entries.map(|entry| entry.file_name()).find(|name| !is_hidden(name)) {
        None => Ok(()),
        Some(name) => Err(Failure::usage(anyhow::anyhow!(
            "--out: expected a new or empty folder, got {} with {}",
            out.display(),
            name.display()
        ))),
    }
}

/// Share of rows in which rounding may choose another feature at the boundary of a selection.
const OTHER_ROWS: f64 = 1e-3;

pub(crate) fn run(args: &ExportArgs) -> Result<(), Failure> {
    check_no_checkpoint(&args.out)?;
    check_free(&args.out)?;
    let sae = load_checkpoint(&args.checkpoint, Device::Cpu).or_usage()?;
    let store = args.data.as_ref().map(|path| open_store(path)).transpose().or_usage()?;
    let d_model = sae.config().d_model;
    if let Some(store) = store.as_ref().filter(|store| store.d_model() != d_model) {
        return Err(Failure::usage(anyhow::anyhow!(
            "--data: expected rows of dimension {d_model} as the checkpoint has, got {}",
            store.d_model()
        )));
    }
    let of_model = &sae.trained_on;
    let mut place = of_model.clone();
    if let (Some(store), Some(path)) = (&store, &args.data) {
        let of_store = origin(&Port::of_store(store.as_ref())).or_usage()?;
        let source = format!("--data {}: against the model", path.display());
        Differences::find(of_model, &of_store, &source, args.elsewhere)?;
        place.host = of_store.host.or(place.host);
        place.hook_point = of_store.hook_point.or(place.hook_point);
    }
    let origin = Origin { host: place.host, hook_point: place.hook_point };
    let format = Format::from(args.format);
    let _lock = locked(OutputLock::directory(&args.out))?;
    let Exported { files, differences } = sae_models::export(&sae, format, &origin, &args.out)
        .map_err(|e| match e {
            sae_models::Error::Io { .. }
            | sae_models::Error::Config(sae_config::Error::Io { .. }) => Failure::run(e),
            other => Failure::usage(other),
        })?;
    files.iter().for_each(|file| say!("{}", file.display()));
    differences.iter().for_each(|what| say!("differs: {what}"));
    if args.verify {
        let again = sae_models::import(&args.out, format).or_run()?;
        let x = match &store {
            Some(store) => first_rows(store.as_ref())?,
            None => random_rows(&sae),
        };
        verify(&sae, &again.sae, &x)?;
    }
    Ok(())
}

fn first_rows(store: &dyn ActivationStore) -> Result<Tensor, Failure> {
    let n = store.n_rows().min(VERIFY_ROWS);
    let mut rows = vec![0.0; n as usize * store.d_model()];
    store.read_rows(0, &mut rows).or_run()?;
    Ok(Tensor::from_slice(&rows).reshape([n as i64, store.d_model() as i64]))
}

/// Normal rows of the mean and mean squared norm that the model's normalisation expects; the same ones
/// each time.
fn random_rows(sae: &Sae) -> Tensor {
    tch::manual_seed(1);
    let d = sae.config().d_model as i64;
    let normal = Tensor::randn([VERIFY_ROWS as i64, d], (Kind::Float, Device::Cpu));
    let unit = normal / (d as f64).sqrt();
    match &sae.normalizer {
        Normalizer::Scale { scale } => unit * *scale,
        Normalizer::ShiftScale { shift, scale } => unit * *scale + shift,
        _ => unit,
    }
}

/// Compares the model with what its files hold.
fn verify(sae: &Sae, again: &Sae, x: &Tensor) -> Result<(), Failure> {
    let forward = |sae: &Sae| -> Result<(Tensor, Tensor), Failure> {
        let encoded = sae.encode(&x.to_kind(sae.kind())).or_run()?;
        let x_hat = sae.decode(&encoded).or_run()?;
        Ok((encoded.features.to_kind(Kind::Float), x_hat.to_kind(Kind::Float)))
    };
    let ((features, x_hat), (features_again, x_hat_again)) = (forward(sae)?, forward(again)?);
    let other = features.not_equal(0.0).logical_xor(&features_again.not_equal(0.0));
    let is_same = other.any_dim(1, true).logical_not().to_kind(Kind::Float);
    let norm = |t: &Tensor| (t * &is_same).norm().double_value(&[]);
    let off = norm(&(&x_hat - &x_hat_again)) / norm(&x_hat).max(f64::MIN_POSITIVE);
    let n_rows = x.size()[0];
    let n_other = n_rows - is_same.sum(Kind::Int64).int64_value(&[]);
    say!(
        "verified on {n_rows} rows: {n_other} with other active features, the reconstructions of \
         the rest off by {off:.1e} of their norm"
    );
    if off <= TOLERANCE && n_other as f64 <= (OTHER_ROWS * n_rows as f64).max(1.0) {
        return Ok(());
    }
    Err(Failure::run(anyhow::anyhow!(
        "expected the same active features in all but {OTHER_ROWS:e} of the rows, and reconstructions \
         off by at most {TOLERANCE:e}"
    )))
}
