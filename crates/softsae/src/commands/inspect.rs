//! `softsae inspect`: what a store or a checkpoint holds.

use std::collections::BTreeMap;
use std::path::Path;

use sae_data::{
    ActivationStore, Inspection, NormBin, OutlierDimension, OutlierPosition, Signs, open_store,
};
use tch::Device;

use super::signs;
use crate::cli::InspectArgs;
use crate::failure::{Blame as _, Failure};
use crate::output::say;

/// Width of the longest bar of the histogram.
const BAR_WIDTH: u64 = 40;

pub(crate) fn run(args: &InspectArgs) -> Result<(), Failure> {
    if args.path.join(sae_models::CONFIG_FILE).exists() {
        return checkpoint(&args.path);
    }
    let store = open_store(&args.path).or_usage()?;
    describe_store(store.as_ref())
}

fn describe_store(store: &dyn ActivationStore) -> Result<(), Failure> {
    say!("rows                      {}", store.n_rows());
    say!("d_model                   {}", store.d_model());
    say!("dtype                     {}", store.dtype());
    say!("content hash              {}", store.content_hash().or_run()?);
    if let Some(provenance) = store.provenance() {
        say!("host                      {}", provenance.host);
        say!("hook point                {}", provenance.hook_point);
        for (key, value) in &provenance.settings {
            say!("{key:<25} {value}");
        }
    }
    let inspection = Inspection::of(store).or_run()?;
    say!(
        "not finite                {} rows, {:.3e} of all values",
        inspection.n_non_finite_rows,
        inspection.non_finite_fraction
    );
    say!("rows of zeros             {}", inspection.n_zero_rows);
    say!("mean norm                 {:.4}", inspection.mean_norm);
    let of = if inspection.n_zero_rows > 0 { " of the rows that are not zero" } else { "" };
    say!("median norm               {:.4}{of}", inspection.median_norm);
    say!("rows by norm");
    let most = inspection.norms.iter().map(|bin| bin.n_rows).max().unwrap_or_default().max(1);
    for NormBin { from, to, n_rows } in inspection.norms {
        let bar = "█".repeat((n_rows * BAR_WIDTH).div_ceil(most) as usize);
        say!("  {from:>10.4} to {to:>10.4} {n_rows:>10} {bar}");
    }
    let (dimensions, positions) = (inspection.outlier_dimensions, inspection.outlier_positions);
    say!("outlying dimensions       {}", dimensions.len());
    for OutlierDimension { dimension, ratio } in dimensions {
        say!("  {dimension:<23} root mean square {ratio:.2} times the median one");
    }
    say!("outlying positions        {}", positions.len());
    for OutlierPosition { position, ratio, n_rows } in positions {
        say!("  {position:<23} mean norm {ratio:.2} times the median, {n_rows} rows");
    }
    if inspection.n_non_finite_rows == 0 {
        signs::print(&Signs::cached(store).or_run()?);
    }
    Ok(())
}

fn checkpoint(path: &Path) -> Result<(), Failure> {
    let sae = sae_models::load_checkpoint(path, Device::Cpu).or_usage()?;
    let config = toml::to_string_pretty(sae.config()).or_run()?;
    say!("{config}");
    if let Some(d_out) = sae.config().d_out {
        let d_in = sae.config().d_model;
        say!("# a transcoder: rebuilds {d_out} dimensions of another port from {d_in}\n");
    }
    if !sae.trained_on.is_unknown() {
        let trained_on = BTreeMap::from([("trained_on", &sae.trained_on)]);
        say!("{}", toml::to_string_pretty(&trained_on).or_run()?);
    }
    say!("[tensors]");
    for (name, tensor) in sae.parameters().into_iter().chain(sae.buffers()) {
        say!("{name:<25} {:?} {:?}", tensor.kind(), tensor.size());
    }
    Ok(())
}
