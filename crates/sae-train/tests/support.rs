//! Stores, settings and folders of the tests that train whole runs.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use sae_config::RunConfig;
use sae_data::{Dtype, RowMeta, StoreSpec, StoreWriter};
use sae_train::{Error, RunOptions, RunSummary, open_stores, read_metrics, train_run};

pub(crate) const D_MODEL: usize = 8;

/// 200 rows that are no multiple of the batch, from a fixed sequence.
pub(crate) fn write_store(path: &Path, seed: u64) {
    let mut writer = StoreWriter::create(path, StoreSpec::new(D_MODEL, Dtype::F32)).unwrap();
    let mut state = seed;
    for row in 0..200u32 {
        let values: Vec<f32> = (0..D_MODEL)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
                (state >> 40) as f32 / (1 << 22) as f32 - 2.0
            })
            .collect();
        let meta = RowMeta { token_id: 1, document: 0, position: row };
        writer.append(&values, &[meta]).unwrap();
    }
    writer.finish().unwrap();
}

pub(crate) fn config(store: &Path, architecture: &str, more: &str) -> RunConfig {
    let text = format!(
        "data.store = {store:?}\nsae.n_features = 24\narchitecture = {{ {architecture} }}\n\
         [training]\nsteps = 20\nbatch_size = 16\nlr = 1e-2\nlog_every = 3\n{more}"
    );
    toml::from_str(&text).unwrap()
}

/// Trains until `stop_after` steps are done.
pub(crate) fn train(
    config: &RunConfig,
    out: &Path,
    resume: bool,
    stop_after: u64,
) -> Result<RunSummary, Error> {
    let stop = AtomicBool::new(false);
    let options = RunOptions { open: &open_stores, resume, stop: &stop };
    train_run(config, out, &options, &mut |progress| {
        stop.store(progress.step >= stop_after, Ordering::Relaxed);
    })
}

pub(crate) fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|e| (e.file_name().into_string().unwrap(), std::fs::read(e.path()).unwrap()))
        .collect()
}

/// Steps and folders of the states that are kept, the oldest first.
pub(crate) fn states(out: &Path) -> Vec<(u64, std::path::PathBuf)> {
    let entries = std::fs::read_dir(out.join("training")).into_iter().flatten();
    let step = |path: std::path::PathBuf| {
        let step = path.file_name()?.to_str()?.strip_prefix("step-")?.parse().ok()?;
        Some((step, path))
    };
    let mut all: Vec<_> = entries.filter_map(|entry| step(entry.unwrap().path())).collect();
    all.sort();
    all
}

/// The log without what the clock says.
pub(crate) fn log(out: &Path) -> Vec<sae_train::StepReport> {
    read_metrics(&out.join("metrics.jsonl")).unwrap().into_iter().map(|l| l.report).collect()
}
