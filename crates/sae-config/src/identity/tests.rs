//! Which settings make runs differ.

use super::*;
use crate::SaeConfig;
use crate::live::LIVE_KEYS;
use crate::role::ROLES;
use crate::sweep::fields;
use crate::tests::{architectures, run};

/// Another value of each key outside of the architecture.
const OTHERS: [(&str, &str); 34] = [
    ("data.store", "'elsewhere'"),
    ("data.target", "'elsewhere'"),
    ("data.stores", "[{ path = 'a', weight = 2.0 }]"),
    ("data.rows", "'rows.txt'"),
    ("data.host", "'elsewhere'"),
    ("data.hook", "'resid_post.2'"),
    ("data.target_hook", "'mlp_out.1'"),
    ("data.corpus", "{ path = 'texts', packing = 'packed' }"),
    ("data.context_length", "64"),
    ("data.skip_positions", "2"),
    ("data.bos", "'never'"),
    ("data.special_tokens", "'keep'"),
    ("data.window_bytes", "4096"),
    ("data.statistics_rows", "9"),
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
    let (stored, live) = (run(""), live_with("bos", "'auto'"));
    let mut placed = Vec::new();
    for (section, names) in sections {
        for name in names {
            let key = format!("{section}.{name}");
            let (_, value) = OTHERS
                .iter()
                .find(|(other, _)| *other == key)
                .unwrap_or_else(|| panic!("`{key}`: expected a role and another value here"));
            let (base, other) = match *name {
                "stores" => (&stored, with_data(&format!("stores = {value}"))),
                name if LIVE_KEYS.contains(&name) => (&live, live_with(name, value)),
                _ => (&stored, run(&format!("'{key}' = {value}"))),
            };
            let (a, b) = (run_id(base, "data"), run_id(&other, "data"));
            assert_eq!(a != b, Role::of(&key) == Role::Shapes, "{key}");
            let differs = difference(base, &other, &[]);
            assert_eq!(differs.is_some(), a != b, "{key}: {differs:?}");
            placed.push(key);
        }
    }
    for (key, _) in ROLES {
        let is_within = ["data.stores[]", "data.corpus"].iter().any(|outer| key.starts_with(outer));
        let known = is_within || placed.iter().any(|name| name == key);
        assert!(known, "{key} is no key of a run");
    }
    assert_eq!(Role::of("data.stores[12].path"), Role::Place);
    assert_eq!(Role::of("data.stores[12].weight"), Role::Shapes);
}

#[test]
fn runs_read_one_stream_unless_what_they_read_differs() {
    let (stored, live) = (run(""), live_with("bos", "'auto'"));
    for (key, value) in OTHERS {
        let name = key.strip_prefix("data.").unwrap_or_default();
        let (base, other) = match name {
            "stores" => (&stored, with_data(&format!("stores = {value}"))),
            name if LIVE_KEYS.contains(&name) => (&live, live_with(name, value)),
            _ => (&stored, run(&format!("'{key}' = {value}"))),
        };
        let is_read = key.starts_with("data.")
            || ["training.seed", "training.batch_size", "training.device"].contains(&key);
        let found = stream_difference(base, &other).map(|(found, ..)| found);
        assert_eq!(found.is_some(), is_read, "{key}: {found:?}");
        assert!(found.is_none_or(|found| found.starts_with(key) || name == "stores"), "{key}");
    }
    let hooked = |hook: &str| with_data(&format!("store = 's'\nhook = '{hook}'"));
    let (key, ..) = stream_difference(&hooked("embed"), &hooked("mlp_in.1")).unwrap();
    assert_eq!(key, "data.hook");
    assert_ne!(run_id(&hooked("embed"), "data"), run_id(&hooked("mlp_in.1"), "data"));
    assert!(stream_difference(&stored, &live).is_some());
    assert_eq!(stream_difference(&live, &live), None);
    // A live host on a GPU has the precision of its process.
    let precise = |run: &CheckedRun, device: &str, precision| {
        let mut config = run.settings().clone();
        (config.training.device, config.training.engine) = (device.into(), None);
        config.training.precision = Some(precision);
        config.check().unwrap()
    };
    for (run, device, other, expected) in [
        (&live, "cuda", Precision::Tf32, Some("training.precision")),
        (&live, "cpu", Precision::Bf16, None),
        (&stored, "cuda", Precision::Tf32, None),
    ] {
        let (ours, theirs) = (precise(run, device, Precision::F32), precise(run, device, other));
        let found = stream_difference(&ours, &theirs).map(|(key, ..)| key);
        assert_eq!(found.as_deref(), expected, "{device} {other:?}");
    }
}

/// A run over other data.
fn with_data(data: &str) -> CheckedRun {
    let data: toml::Table = data.parse().unwrap();
    let config = RunConfig { data: data.try_into().unwrap(), ..run("").settings().clone() };
    config.check().unwrap()
}

/// A live run, with another value of a key.
fn live_with(key: &str, value: &str) -> CheckedRun {
    let least = [("host", "'a'"), ("hook", "'resid_post.1'"), ("corpus", "{ path = 'texts' }")];
    let others = least.iter().filter(|(name, _)| *name != key);
    let lines = others.map(|(name, value)| format!("{name} = {value}\n")).collect::<String>();
    with_data(&format!("{lines}{key} = {value}"))
}

#[test]
fn another_place_of_a_corpus_is_another_place_alone() {
    let (base, moved) =
        (live_with("bos", "'auto'"), live_with("corpus", "{ path = ['elsewhere', 'b'] }"));
    assert_eq!(run_id(&base, "data"), run_id(&moved, "data"));
    assert_eq!(difference(&base, &moved, &[]), None);
    let seed = |seed| live_with("corpus", &format!("{{ path = 'texts', shuffle.seed = {seed} }}"));
    let (key, ..) = difference(&seed(1), &seed(2), &[]).unwrap();
    assert_eq!(key, "data.corpus.shuffle.seed");
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
