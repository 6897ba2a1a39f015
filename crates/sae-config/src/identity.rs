//! When two runs are the same: the id of a run, and what two runs differ in.

use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    ArchitectureConfig, CheckedRun, CheckedTraining, DataConfig, Engine, LiveConfig, Parity,
    Precision, Role, RunConfig, TrainingConfig, WeightedStore,
};

/// The version of what training and evaluation compute, a part of the id of every run.
///
/// It is raised by each change after which the same configuration on the same data gives another
/// result, beyond rounding: sweeps then do their runs again instead of mixing old results with new.
pub const TRAINING_VERSION: u32 = 1;

/// The id of a run: a hash of what shapes its result. That is the values of the keys that
/// do ([`Role::Shapes`]), where a default that is written out is one that is not; the content of its
/// data, for which `data` stands; and [`TRAINING_VERSION`].
#[must_use]
pub fn run_id(run: &CheckedRun, data: &str) -> String {
    id(TRAINING_VERSION, run, data)
}

fn id(version: u32, run: &CheckedRun, data: &str) -> String {
    #[derive(Serialize)]
    struct Identity<'a> {
        version: u32,
        config: RunConfig,
        data: &'a str,
    }
    let identity = Identity { version, config: meaning(run), data };
    let text = serde_json::to_string(&identity).expect("a configuration is always valid JSON");
    let hash = Sha256::digest(text);
    hash[..6].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The first key that shapes results and has other values in two runs, but for those in
/// `except`: the key, and the value of each as JSON.
#[must_use]
pub fn difference(
    ours: &CheckedRun,
    theirs: &CheckedRun,
    except: &[&str],
) -> Option<(String, String, String)> {
    let settings = |run: &CheckedRun| {
        let mut all = Vec::new();
        flatten("", &serde_json::to_value(meaning(run)).unwrap_or_default(), &mut all);
        all.retain(|(key, _)| Role::of(key) == Role::Shapes && !except.contains(&key.as_str()));
        all
    };
    first_difference(&settings(ours), &settings(theirs))
}

/// The first key under which two runs read other batches, or read them elsewhere: the key, and the
/// value of each as JSON. Runs without such a key read one stream.
#[must_use]
pub fn stream_difference(a: &CheckedRun, b: &CheckedRun) -> Option<(String, String, String)> {
    let settings = |run: &CheckedRun| {
        let CheckedTraining { seed, batch_size, device, precision, .. } = &run.training;
        let mut training = json!({ "seed": seed, "batch_size": batch_size, "device": device });
        if run.data.live.is_some() && device != "cpu" {
            // The host computes by the setting of its process.
            training["precision"] = json!(precision);
        }
        let mut all = Vec::new();
        flatten("", &json!({ "data": run.data, "training": training }), &mut all);
        all
    };
    first_difference(&settings(a), &settings(b))
}

/// The first key with other values among the settings of two runs: the key, and both values.
fn first_difference(
    ours: &[(String, String)],
    theirs: &[(String, String)],
) -> Option<(String, String, String)> {
    let keys = ours.iter().chain(theirs).map(|(key, _)| key);
    let value = |all: &[(String, String)], key: &str| {
        let found = all.iter().find(|(k, _)| k == key);
        found.map_or_else(|| "nothing".to_string(), |(_, value)| value.clone())
    };
    keys.map(|key| (key.clone(), value(ours, key), value(theirs, key))).find(|(_, a, b)| a != b)
}

/// The settings of a run in one form for all that mean the same: no value where a key shapes nothing
/// by it, and one form of each default that [`CheckedRun::settings`] leave out.
///
/// Every field is named: a new one has to be placed here, and in `ROLES` if it shapes nothing.
fn meaning(run: &CheckedRun) -> RunConfig {
    let mut config = run.settings().clone();
    let decided = &run.training;
    let default_engine =
        Engine::default_of(&config.architecture, &decided.device, decided.precision);
    let RunConfig { data, sae: _, architecture, training } = &mut config;
    clear_places(data);
    let TrainingConfig {
        steps: _,
        batch_size,
        lr: _,
        warmup_steps: _,
        decay_start: _,
        seed: _,
        init,
        device,
        engine,
        micro_batch,
        precision,
        parity,
        log_every,
        checkpoint_every,
        keep_checkpoints,
    } = training;
    *init = None;
    device.clear();
    (*log_every, *checkpoint_every, *keep_checkpoints) = (0, 0, 0);
    *engine = engine.filter(|engine| *engine != default_engine);
    *micro_batch = micro_batch.filter(|rows| rows != batch_size);
    *precision = precision.filter(|precision| *precision != Precision::F32);
    if let ArchitectureConfig::Soft(soft) = architecture {
        soft.alpha_first = soft.alpha_first.filter(|first| *first != soft.alpha_start);
        let is_default = |first: &usize| *parity == Parity::Official && *first == soft.k;
        soft.k_first = soft.k_first.filter(|first| !is_default(first));
    }
    config
}

/// Clears where data lie: their content is told apart elsewhere.
fn clear_places(data: &mut DataConfig) {
    let DataConfig {
        store,
        target,
        stores,
        live,
        hook: _,
        rows,
        min_position: _,
        max_position: _,
        max_norm_ratio: _,
    } = data;
    store.clear();
    *target = None;
    for WeightedStore { path, weight: _ } in stores {
        path.clear();
    }
    *rows = None;
    if let Some(LiveConfig {
        host,
        hook: _,
        target_hook: _,
        corpus,
        context_length: _,
        skip_positions: _,
        bos: _,
        special_tokens: _,
        window_bytes: _,
        statistics_rows: _,
    }) = live
    {
        host.clear();
        corpus.path.clear();
    }
}

fn flatten(key: &str, value: &Value, all: &mut Vec<(String, String)>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                let dot = if key.is_empty() { "" } else { "." };
                flatten(&format!("{key}{dot}{name}"), value, all);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (i, item) in items.iter().enumerate() {
                flatten(&format!("{key}[{i}]"), item, all);
            }
        }
        _ => all.push((key.into(), value.to_string())),
    }
}

#[cfg(test)]
mod tests;
