//! `softsae inspect`: what a store or a checkpoint holds.

use std::path::Path;

use sae_data::{ActivationStore, Statistics, open_store};
use tch::Device;

use crate::cli::InspectArgs;
use crate::failure::{Blame as _, Failure};

pub(crate) fn run(args: &InspectArgs) -> Result<(), Failure> {
    if args.path.join(sae_models::CONFIG_FILE).exists() {
        return checkpoint(&args.path);
    }
    let store = open_store(&args.path).or_usage()?;
    describe_store(store.as_ref())
}

fn describe_store(store: &dyn ActivationStore) -> Result<(), Failure> {
    println!("rows                      {}", store.n_rows());
    println!("d_model                   {}", store.d_model());
    println!("dtype                     {}", store.dtype());
    println!("content hash              {}", store.content_hash().or_run()?);
    if let Some(provenance) = store.provenance() {
        println!("host                      {}", provenance.host);
        println!("hook point                {}", provenance.hook_point);
        for (key, value) in &provenance.settings {
            println!("{key:<25} {value}");
        }
    }
    let statistics = Statistics::of(store).or_run()?;
    println!("mean squared norm         {:.6e}", statistics.mean_squared_norm);
    println!("mean squared centred norm {:.6e}", statistics.mean_squared_centred_norm);
    println!(
        "norm min/median/mean/max  {:.4} / {:.4} / {:.4} / {:.4}",
        statistics.min_norm, statistics.median_norm, statistics.mean_norm, statistics.max_norm
    );
    println!("dimensions of largest variance");
    let mut dimensions: Vec<usize> = (0..statistics.variance.len()).collect();
    dimensions.sort_by(|&a, &b| statistics.variance[b].total_cmp(&statistics.variance[a]));
    let total: f64 = statistics.variance.iter().sum();
    for &dimension in dimensions.iter().take(5) {
        let share = 100.0 * statistics.variance[dimension] / total.max(f64::MIN_POSITIVE);
        println!("  {dimension:<23} {share:.2} % of the variance");
    }
    Ok(())
}

fn checkpoint(path: &Path) -> Result<(), Failure> {
    let sae = sae_models::load_checkpoint(path, Device::Cpu).or_usage()?;
    let config = toml::to_string_pretty(sae.config()).or_run()?;
    println!("{config}");
    println!("[tensors]");
    for (name, tensor) in sae.parameters().into_iter().chain(sae.buffers()) {
        println!("{name:<25} {:?} {:?}", tensor.kind(), tensor.size());
    }
    Ok(())
}
