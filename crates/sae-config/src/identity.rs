//! When two runs are the same: the id of a run, and what two runs differ in.

use serde::Serialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::{
    ArchitectureConfig, CheckedRun, DataConfig, Engine, Parity, Precision, Role, RunConfig,
    TrainingConfig, WeightedStore,
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
    let (ours, theirs) = (settings(ours), settings(theirs));
    let keys = ours.iter().chain(&theirs).map(|(key, _)| key);
    let value = |all: &[(String, String)], key: &str| {
        let found = all.iter().find(|(k, _)| k == key);
        found.map_or_else(|| "nothing".to_string(), |(_, value)| value.clone())
    };
    keys.map(|key| (key.clone(), value(&ours, key), value(&theirs, key))).find(|(_, a, b)| a != b)
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
    let DataConfig {
        store,
        target,
        stores,
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
mod tests {
    use super::*;
    use crate::SaeConfig;
    use crate::role::ROLES;
    use crate::sweep::fields;
    use crate::tests::{architectures, run};

    /// Another value of each key outside of the architecture.
    const OTHERS: [(&str, &str); 24] = [
        ("data.store", "'elsewhere'"),
        ("data.target", "'elsewhere'"),
        ("data.stores", "[{ path = 'a', weight = 2.0 }]"),
        ("data.rows", "'rows.txt'"),
        ("data.min_position", "1"),
        ("data.max_position", "9"),
        ("data.max_norm_ratio", "10.0"),
        ("sae.n_features", "65"),
        ("sae.normalization", "'none'"),
        ("training.steps", "101"),
        ("training.batch_size", "9"),
        ("training.lr", "0.5"),
        ("training.warmup_steps", "5"),
        ("training.decay_start", "60"),
        ("training.seed", "1"),
        ("training.init", "'checkpoint'"),
        ("training.device", "'cuda:3'"),
        ("training.engine", "'reference'"),
        ("training.micro_batch", "4"),
        ("training.precision", "'bf16'"),
        ("training.parity", "'official'"),
        ("training.log_every", "7"),
        ("training.checkpoint_every", "7"),
        ("training.keep_checkpoints", "7"),
    ];

    #[test]
    fn every_key_has_a_role() {
        let sections = [
            ("data", fields::<DataConfig>()),
            ("sae", fields::<SaeConfig>()),
            ("training", fields::<TrainingConfig>()),
        ];
        let base = run("");
        let mut placed = Vec::new();
        for (section, names) in sections {
            for name in names {
                let key = format!("{section}.{name}");
                let (_, value) = OTHERS
                    .iter()
                    .find(|(other, _)| *other == key)
                    .unwrap_or_else(|| panic!("`{key}`: expected a role and another value here"));
                let other = match *name {
                    "stores" => over_stores(value),
                    _ => run(&format!("'{key}' = {value}")),
                };
                let (a, b) = (run_id(&base, "data"), run_id(&other, "data"));
                assert_eq!(a != b, Role::of(&key) == Role::Shapes, "{key}");
                let differs = difference(&base, &other, &[]);
                assert_eq!(differs.is_some(), a != b, "{key}: {differs:?}");
                placed.push(key);
            }
        }
        for (key, _) in ROLES {
            let known = key.starts_with("data.stores[]") || placed.iter().any(|name| name == key);
            assert!(known, "{key} is no key of a run");
        }
        assert_eq!(Role::of("data.stores[12].path"), Role::Place);
        assert_eq!(Role::of("data.stores[12].weight"), Role::Shapes);
    }

    /// A run over several stores.
    fn over_stores(stores: &str) -> CheckedRun {
        let data: toml::Table = format!("stores = {stores}").parse().unwrap();
        let config = RunConfig { data: data.try_into().unwrap(), ..run("").settings().clone() };
        config.check().unwrap()
    }

    /// All numbers and switches in a value, each changed in a copy of the whole.
    fn changed(value: &Value) -> Vec<Value> {
        match value {
            Value::Object(map) => map
                .iter()
                .flat_map(|(key, inner)| {
                    changed(inner).into_iter().map(|inner| {
                        let mut map = map.clone();
                        map[key] = inner;
                        Value::Object(map)
                    })
                })
                .collect(),
            Value::Number(n) if n.is_f64() => vec![(n.as_f64().unwrap() + 0.25).into()],
            Value::Number(n) => vec![(n.as_u64().unwrap() + 1).into()],
            Value::Bool(b) => vec![(!b).into()],
            _ => vec![],
        }
    }

    #[test]
    fn every_setting_of_an_architecture_shapes_its_results() {
        for architecture in architectures() {
            let with = |architecture: ArchitectureConfig| RunConfig {
                architecture,
                ..run("").settings().clone()
            };
            let base = with(architecture).check().unwrap();
            let name = base.architecture();
            let others = changed(&serde_json::to_value(&base.settings().architecture).unwrap());
            assert!(!others.is_empty(), "{name}");
            for other in others {
                let run = with(serde_json::from_value(other.clone()).unwrap()).check().unwrap();
                assert_ne!(run_id(&base, ""), run_id(&run, ""), "{name}: {other}");
                assert!(difference(&base, &run, &[]).is_some(), "{name}: {other}");
            }
        }
    }

    #[test]
    fn a_default_that_is_written_out_changes_nothing() {
        let soft = "architecture = { name = 'soft', k = 4";
        for (with, without) in [
            ("'training.lr' = 0.0032\n'training.seed' = 0", ""),
            ("'training.decay_start' = 80\n'training.warmup_steps' = 0", ""),
            ("'architecture.threshold_start_step' = 10", ""),
            ("'training.micro_batch' = 8\n'training.precision' = 'f32'", ""),
            ("'training.engine' = 'fast'\n'sae.normalization' = 'shift_scale'", ""),
            ("'training.engine' = 'reference'\n'training.device' = 'cuda:0'", ""),
            (
                "'training.engine' = 'reference'\n'training.precision' = 'bf16'",
                "'training.precision' = 'bf16'",
            ),
            (
                &format!("{soft}, alpha_first = 1.0, k_max = 16.0, k_gradient_window = 1 }}"),
                &format!("{soft} }}"),
            ),
            (
                &format!("{soft}, k_first = 4 }}\n'training.parity' = 'official'"),
                &format!("{soft} }}\n'training.parity' = 'official'"),
            ),
        ] {
            let (with, without) = (run(with), run(without));
            let lr = |run: &CheckedRun| run.training.lr.to_bits();
            assert_eq!(lr(&with), lr(&without));
            assert_eq!(difference(&with, &without, &[]), None);
            assert_eq!(run_id(&with, ""), run_id(&without, ""));
        }
    }

    #[test]
    fn data_and_version_are_part_of_the_id() {
        let config = run("");
        assert_eq!(run_id(&config, "data").len(), 12);
        assert_ne!(run_id(&config, "data"), run_id(&config, "other data"));
        assert_eq!(run_id(&config, "data"), id(TRAINING_VERSION, &config, "data"));
        assert_ne!(id(1, &config, "data"), id(2, &config, "data"));
    }

    #[test]
    fn a_difference_names_key_and_values() {
        let (a, b) = (run("'training.seed' = 3"), run("'training.steps' = 200"));
        let except = ["training.steps", "training.decay_start"];
        let except = [&except[..], &["architecture.threshold_start_step"]].concat();
        let found = difference(&a, &b, &except).unwrap();
        assert_eq!(found, ("training.seed".into(), "3".into(), "0".into()));
        assert_eq!(difference(&a, &run("'training.seed' = 3"), &[]), None);
    }
}
