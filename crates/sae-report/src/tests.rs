//! Runs for tests.

use sae_config::{RunConfig, RunResult, RunStatus};
use toml::{Table, Value};

/// A resolved run with these settings, of TopK where they name no architecture.
pub(crate) fn config(settings: &str) -> RunConfig {
    let base = "data.store = 's'\nsae.n_features = 64\narchitecture.name = 'topk'\n\
                training.steps = 10\ntraining.batch_size = 8";
    let mut table: Table = base.parse().unwrap();
    let settings: Table = settings.parse().unwrap_or_else(|e| panic!("{settings}: {e}"));
    for (section, keys) in settings {
        let keys = keys.as_table().unwrap().clone();
        let Some(Value::Table(own)) = table.get_mut(&section) else { panic!("no {section}") };
        own.extend(keys);
    }
    table.try_into::<RunConfig>().unwrap().check().unwrap().settings().clone()
}

/// A run that has been measured nowhere.
pub(crate) fn run(settings: &str) -> RunResult {
    RunResult {
        run_id: "0".into(),
        variant: None,
        status: RunStatus::Done,
        config: config(settings),
        train_seconds: 1.0,
        evaluation: None,
        failure: None,
        provenance: None,
    }
}

/// The run with a measured L0 and R².
pub(crate) fn evaluated(run: RunResult, l0: f64, r2: f64) -> RunResult {
    let evaluation = serde_json::json!({
        "n_rows": 100,
        "reconstruction": {
            "r2": r2, "frac_variance_explained": r2, "mse_per_row": 1.0, "cosine": 0.9,
            "norm_ratio": 0.9, "relative_bias": 1.0
        },
        "sparsity": {
            "l0_mean": l0, "l0_sd": 0.5, "l0_p5": l0, "l0_p50": l0, "l0_p95": l0, "l1": 3.0,
            "dead_fraction": 0.125, "dense_fraction_1e2": 0.5, "dense_fraction_1e1": 0.0,
            "density_histogram": []
        },
        "k_hat": null,
        "cross_entropy": null
    });
    RunResult { evaluation: serde_json::from_value(evaluation).unwrap(), ..run }
}
