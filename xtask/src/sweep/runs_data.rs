//! What single runs read beside the activations of their sweep: lists of rows, first weights.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Result, bail};
use sae_config::{DataConfig, RunConfig};
use serde_json::Value;

use super::content::Contents;
use super::pair::Pair;
use crate::exit::usage;

/// What stands for the content of a run's own files in its id.
pub(super) fn content(config: &RunConfig, contents: &Contents) -> Result<String> {
    let mut content = String::new();
    if let Some(rows) = &config.data.rows {
        content += &format!(", rows {}", contents.file("data.rows", rows)?);
    }
    if let Some(init) = &config.training.init {
        content += &format!(", init {}", contents.tree("training.init", init)?);
    }
    Ok(content)
}

/// Whether a run reads every row of its store.
pub(super) fn is_whole(data: &DataConfig) -> bool {
    data.rows.is_none() && !has_positions(data)
}

fn has_positions(data: &DataConfig) -> bool {
    data.min_position.is_some() || data.max_position.is_some()
}

/// Checks what runs read against the activations.
pub(super) fn check<'a>(
    configs: impl Iterator<Item = &'a RunConfig> + Clone,
    pair: &Pair,
) -> Result<()> {
    if let Some(config) = configs.clone().find(|config| has_positions(&config.data)) {
        let key = if config.data.min_position.is_some() { "min_position" } else { "max_position" };
        pair.check_positions(&format!("data.{key}"))?;
    }
    let mut scaled = Vec::new();
    for config in configs.clone().filter(|config| is_whole(&config.data)) {
        let scale = (config.sae.normalization, config.training.parity);
        if !scaled.contains(&scale) {
            pair.check_scale(scale)?;
            scaled.push(scale);
        }
    }
    let lists: BTreeSet<&Path> = configs.clone().filter_map(|c| c.data.rows.as_deref()).collect();
    for list in lists {
        sae_data::read_row_list(list, pair.n_rows())
            .map_err(|e| usage(format!("data.rows: {e}")))?;
    }
    let mut models = BTreeMap::new();
    for config in configs {
        let Some(init) = &config.training.init else { continue };
        let model = match models.get(init) {
            Some(model) => model,
            None => models.entry(init).or_insert(read_model(init)?),
        };
        check_init(config, init, model, pair.d_model())?;
    }
    Ok(())
}

/// What a checkpoint says of its model.
fn read_model(init: &Path) -> Result<Value> {
    let file: Value = sae_config::read_json(&init.join("sae.json"))
        .map_err(|e| usage(format!("training.init: {e}")))?;
    Ok(file["config"].clone())
}

/// Refuses a checkpoint of another architecture or size than the run's.
fn check_init(config: &RunConfig, init: &Path, model: &Value, d_model: usize) -> Result<()> {
    let name = config.architecture.name();
    // Version 1 has it among the settings of training.
    let theirs = if model["code"].is_null() { &model["architecture"] } else { &model["code"] };
    for (what, expected, got) in [
        ("architecture", Value::from(name), &theirs["name"]),
        ("d_model", d_model.into(), &model["d_model"]),
        // A transcoder has one; runs of a sweep rebuild what they read.
        ("d_out", Value::Null, &model["d_out"]),
        ("n_features", config.sae.n_features.into(), &model["n_features"]),
        ("normalization", serde_json::to_value(config.sae.normalization)?, &model["normalization"]),
    ] {
        if expected != *got {
            let init = init.display();
            bail!(usage(format!("training.init: {init}: expected {what} {expected}, got {got}")));
        }
    }
    Ok(())
}
