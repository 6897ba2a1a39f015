//! From the settings of a published trainer to ours.

use sae_config::RunConfig;
use toml::{Table, Value};

use crate::golden::file::Golden;

/// Settings that have the same meaning under another name: theirs, ours.
const ARCHITECTURE_KEYS: [(&str, &str); 20] = [
    ("k", "k"),
    ("k_anneal_steps", "k_anneal_steps"),
    ("alpha_anneal_steps", "alpha_anneal_steps"),
    ("hard_topk_steps", "hard_steps"),
    ("soft_topk_alpha", "alpha"),
    ("threshold_start_step", "threshold_start_step"),
    ("group_fractions", "group_fractions"),
    ("target_l0", "target_l0"),
    ("bandwidth", "bandwidth"),
    ("sparsity_penalty", "sparsity_weight"),
    ("sparsity_warmup_steps", "sparsity_warmup_steps"),
    ("l1_penalty", "l1_penalty"),
    ("resample_steps", "resample_steps"),
    ("initial_sparsity_penalty", "initial_sparsity_penalty"),
    ("sparsity_function", "sparsity_function"),
    ("p_start", "p_start"),
    ("p_end", "p_end"),
    ("anneal_start", "anneal_start"),
    ("n_sparsity_updates", "n_sparsity_updates"),
    ("sparsity_queue_length", "sparsity_queue_length"),
];

const ARCHITECTURES: [(&str, &str); 9] = [
    ("TopKTrainer", "topk"),
    ("BatchTopKTrainer", "batch_topk"),
    ("MatryoshkaBatchTopKTrainer", "matryoshka_batch_topk"),
    ("JumpReluTrainer", "jumprelu"),
    ("GatedSAETrainer", "gated"),
    ("StandardTrainer", "standard"),
    ("StandardTrainerAprilUpdate", "standard_april"),
    ("PAnnealTrainer", "p_anneal"),
    ("SoftTopKTrainer", "soft"),
];

/// The configuration under which our trainer follows the recorded one.
pub(crate) fn run_config(golden: &Golden, engine: &str) -> RunConfig {
    let integer = |key: &str| Value::Integer(golden.setting(key).unwrap() as i64);
    let mut training = Table::new();
    for key in ["steps", "batch_size", "warmup_steps", "decay_start"] {
        training.insert(key.into(), integer(key));
    }
    if let Some(lr) = golden.setting("lr") {
        training.insert("lr".into(), Value::Float(lr));
    }
    training.insert("parity".into(), "official".into());
    training.insert("engine".into(), engine.into());

    let mut sae = Table::new();
    sae.insert("n_features".into(), integer("dict_size"));
    sae.insert("normalization".into(), "none".into());

    let mut run = Table::new();
    run.insert("data".into(), Value::Table(Table::from_iter([("store".into(), "none".into())])));
    run.insert("sae".into(), Value::Table(sae));
    run.insert("architecture".into(), Value::Table(architecture(golden)));
    run.insert("training".into(), Value::Table(training));
    run.try_into::<RunConfig>().unwrap()
}

fn architecture(golden: &Golden) -> Table {
    let trainer = golden.config["trainer"].as_str().unwrap();
    let name = ARCHITECTURES.iter().find(|(theirs, _)| *theirs == trainer);
    let name = name.map_or("soft", |(_, ours)| ours);
    let mut table = Table::from_iter([("name".to_string(), Value::from(name))]);
    for (theirs, ours) in ARCHITECTURE_KEYS {
        if let Some(value) = golden.config.get(theirs) {
            table.insert(ours.into(), Value::try_from(value).unwrap());
        }
    }
    if let Some(rows) = golden.setting("dead_feature_threshold") {
        let mut auxk = Table::from_iter([("dead_after_rows".into(), Value::Integer(rows as i64))]);
        if let Some(weight) = golden.setting("auxk_alpha") {
            auxk.insert("weight".into(), Value::Float(weight));
        }
        table.insert("auxk".into(), Value::Table(auxk));
    }
    if name == "soft" {
        let number = |name: &str| golden.tensor(&format!("init.{name}")).double_value(&[]);
        table.insert("k_max".into(), Value::Float(number("k_max")));
        table.insert("k_first".into(), Value::Integer(number("k") as i64));
        table.insert("alpha_first".into(), Value::Float(number("alpha")));
        table.insert("selection_gradient".into(), "full".into());
    }
    table
}
