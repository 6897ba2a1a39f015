//! Runs that rebuild another port than they read.

use std::path::Path;

use sae_config::{ArchitectureConfig, RunConfig};
use sae_data::{Dtype, Ports, Provenance, RowMeta, StoreSpec, StoreWriter};
use sae_models::{InitRng, Normalizer, Role, Sae, load_checkpoint};
use sae_train::{Error, Trainer};
use tch::{Device, Kind, Tensor};

use crate::support::{config, files, states, train};

const D_IN: i64 = 16;
const D_OUT: i64 = 11;
const N_TRUE: i64 = 24;
const N_ROWS: i64 = 4000;

/// Rows made of three of 24 directions each, and what a linear map makes of them.
fn planted() -> (Tensor, Tensor) {
    let mut rng = InitRng::new(1);
    let dictionary = rng.directions(N_TRUE as usize, D_IN as usize, 1.0);
    let map = rng.uniform(&[D_IN, D_OUT], 1.0);
    let (_, active) = rng.uniform(&[N_ROWS, N_TRUE], 1.0).topk(3, 1, true, false);
    let values = rng.uniform(&[N_ROWS, 3], 0.5) + 1.0;
    let codes = Tensor::zeros([N_ROWS, N_TRUE], (Kind::Double, Device::Cpu));
    let x = codes.scatter(1, &active, &values).mm(&dictionary);
    let target = x.mm(&map) + 0.7;
    (x.to_kind(Kind::Float), target.to_kind(Kind::Float))
}

fn write(path: &Path, rows: &Tensor, hook_point: &str) {
    let (n_rows, d) = rows.size2().unwrap();
    let provenance = Provenance {
        host: "a host".into(),
        hook_point: hook_point.into(),
        ..Provenance::default()
    };
    let spec = StoreSpec { provenance, ..StoreSpec::new(d as usize, Dtype::F32) };
    let mut writer = StoreWriter::create(path, spec).unwrap();
    let values: Vec<f32> = rows.flatten(0, -1).try_into().unwrap();
    let meta = |row: u32| RowMeta { token_id: row % 50, document: row / 40, position: row % 40 };
    let meta: Vec<RowMeta> = (0..n_rows as u32).map(meta).collect();
    writer.append(&values, &meta).unwrap();
    writer.finish().unwrap();
}

/// R² of what a model makes of `x`.
fn r2(sae: &Sae, x: &Tensor, target: &Tensor) -> f64 {
    let x_hat = sae.decode(&sae.encode(x).unwrap()).unwrap();
    let error = (target - x_hat).square().sum(Kind::Double);
    let spread = target - target.mean_dim([0i64].as_slice(), false, None);
    1.0 - (error / spread.square().sum(Kind::Double)).double_value(&[])
}

fn with_target(config: RunConfig, target: &Path) -> RunConfig {
    let mut config = config;
    config.data.target = Some(target.into());
    config
}

#[test]
fn a_linear_map_of_planted_rows_is_learned_as_well_as_the_rows_themselves() {
    let dir = tempfile::tempdir().unwrap();
    let (x, target) = planted();
    let (input, output) = (dir.path().join("in"), dir.path().join("out"));
    write(&input, &x, "mlp_in.3");
    write(&output, &target, "mlp_out.3");
    for engine in ["fast", "reference"] {
        let more = format!("engine = '{engine}'\nseed = 2");
        let base = |store: &Path| {
            let mut config = config(store, "name = 'topk', k = 3", &more);
            (config.training.steps, config.training.batch_size) = (600, 128);
            config.training.log_every = 200;
            config
        };
        let out = |name: &str| dir.path().join(format!("{engine}-{name}"));
        let transcoder = with_target(base(&input), &output);
        let trained = [(base(&output), "sae"), (transcoder, "transcoder")].map(|(config, name)| {
            let summary = train(&config, &out(name), false, u64::MAX).unwrap();
            load_checkpoint(&summary.checkpoint, Device::Cpu).unwrap()
        });
        let [of_sae, of_transcoder] =
            [r2(&trained[0], &target, &target), r2(&trained[1], &x, &target)];
        assert!(of_sae > 0.8, "{engine}: {of_sae}");
        assert!(of_transcoder > of_sae - 0.03, "{engine}: {of_transcoder} against {of_sae}");
        let config = trained[1].config();
        assert_eq!((config.d_model, config.d_out), (D_IN as usize, Some(D_OUT as usize)));
        let origin = &trained[1].trained_on;
        let of_target = origin.target.as_ref().unwrap();
        assert_eq!(origin.hook_point.as_deref(), Some("mlp_in.3"));
        assert_eq!(of_target.hook_point.as_deref(), Some("mlp_out.3"));
        let text = std::fs::read_to_string(out("sae").join("checkpoint/sae.json")).unwrap();
        assert!(!text.contains("d_out") && !text.contains("target"), "{text}");
    }
}

#[test]
fn a_run_with_a_target_resumes_to_the_bit_and_with_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let (x, target) = planted();
    let at = |name: &str| dir.path().join(name);
    write(&at("in"), &x, "");
    write(&at("out"), &target, "");
    write(&at("other"), &(&target * 2.0), "");
    for (i, architecture) in ["name = 'topk', k = 3", "name = 'soft', k = 3"].iter().enumerate() {
        let config =
            with_target(config(&at("in"), architecture, "checkpoint_every = 4"), &at("out"));
        let (whole, cut) = (at(&format!("whole{i}")), at(&format!("cut{i}")));
        train(&config, &whole, false, u64::MAX).unwrap();
        let stopped = train(&config, &cut, false, 7).unwrap_err();
        assert!(matches!(stopped, Error::Interrupted { step: 7, .. }), "{stopped}");
        assert!(!states(&cut).is_empty());
        for other in [Some(at("other")), None] {
            let mut other_config = config.clone();
            other_config.data.target = other;
            let error = train(&other_config, &cut, true, u64::MAX).unwrap_err().to_string();
            assert!(error.contains("data.store") && error.contains("hash"), "{error}");
        }
        train(&config, &cut, true, u64::MAX).unwrap();
        assert_eq!(files(&whole.join("checkpoint")), files(&cut.join("checkpoint")));
        // And is known to have ended.
        train(&config, &cut, true, u64::MAX).unwrap();
        let error = train(&with_target(config, &at("other")), &cut, true, 99).unwrap_err();
        assert!(error.to_string().contains("`data.store, data.target`"), "{error}");
    }
}

/// The settings that an architecture needs.
fn least(name: &str) -> &'static str {
    match name {
        "jumprelu" => "target_l0 = 4.0",
        "gated" | "standard_april" => "l1_penalty = 0.1",
        "standard" => "l1_penalty = 0.1, resample_steps = 2",
        "p_anneal" => "initial_sparsity_penalty = 0.1, anneal_start = 2",
        "matryoshka_batch_topk" => {
            "k = 3, group_fractions = [0.25, 0.75], auxk = { dead_after_rows = 8 }"
        }
        _ => "k = 3, auxk = { dead_after_rows = 8 }",
    }
}

#[test]
fn every_architecture_rebuilds_the_target_alone() {
    let (x, target) = planted();
    let (x, target) = (x.narrow(0, 0, 16), target.narrow(0, 0, 16));
    for name in ArchitectureConfig::NAMES {
        let config = config(Path::new("none"), &format!("name = '{name}', {}", least(name)), "");
        let normal = [Normalizer::Scale { scale: 2.0 }, Normalizer::Scale { scale: 3.0 }];
        let ports = Ports {
            input: (D_IN as usize, &normal[0]),
            target: Some((D_OUT as usize, &normal[1])),
        };
        let mut trainer = Trainer::for_ports(config.check().unwrap(), ports, Kind::Float).unwrap();
        let start: Vec<Tensor> = copies(trainer.sae());
        let of = |trainer: &mut Trainer, target: &Tensor| {
            let rows = Ports { input: &x, target: Some(target) };
            trainer.step_on(rows).unwrap().report().unwrap()
        };
        let first = of(&mut trainer, &target);
        for _ in 0..3 {
            of(&mut trainer, &target);
        }
        let last = of(&mut trainer, &target);
        assert!(last.parts["mse"] < first.parts["mse"], "{name}: {first:?} {last:?}");
        let moved = copies(trainer.sae());
        let names = trainer.sae().parameters().into_iter().map(|(name, _)| name);
        for ((parameter, old), new) in names.zip(&start).zip(&moved) {
            assert_ne!(old, new, "{name}: {parameter}");
        }
        let encoded = trainer.sae().encode(&x).unwrap();
        assert_eq!(trainer.sae().decode(&encoded).unwrap().size(), target.size());
        let parameters = &trainer.sae().parameters;
        assert!(parameters.centre().is_none(), "{name}");
        assert_eq!(parameters[Role::DecoderBias].size(), [D_OUT]);

        let message = trainer.step(&x).unwrap_err().to_string();
        assert_eq!(message, "tensor `target`: expected shape [16, 11], got []");
        let rows = Ports { input: &x, target: Some(&x) };
        let message = trainer.step_on(rows).unwrap_err().to_string();
        assert_eq!(message, "tensor `target`: expected shape [16, 11], got [16, 16]");
    }
}

fn copies(sae: &Sae) -> Vec<Tensor> {
    sae.parameters().into_iter().map(|(_, tensor)| tensor.detach().copy()).collect()
}

#[test]
fn an_sae_takes_no_target_and_no_transcoder_to_start_from() {
    let dir = tempfile::tempdir().unwrap();
    let (x, target) = planted();
    let (input, output) = (dir.path().join("in"), dir.path().join("out"));
    write(&input, &x, "");
    write(&output, &target, "");
    let base = config(&input, "name = 'topk', k = 3", "");
    let mut sae =
        Trainer::new(base.check().unwrap(), D_IN as usize, &Normalizer::None, Kind::Float).unwrap();
    let rows = Ports { input: &x, target: Some(&target) };
    let message = sae.step_on(rows).unwrap_err().to_string();
    assert_eq!(message, "tensor `target`: expected shape none: x is rebuilt, got [4000, 11]");

    let transcoder = with_target(base.clone(), &output);
    let first = train(&transcoder, &dir.path().join("first"), false, u64::MAX).unwrap();
    let from = |config: &RunConfig, name: &str| {
        let mut config = config.clone();
        config.training.init = Some(first.checkpoint.clone());
        train(&config, &dir.path().join(name), false, u64::MAX)
    };
    from(&transcoder, "second").unwrap();
    let message = from(&base, "third").unwrap_err().to_string();
    let expected = "d_out: expected none: it rebuilds its input, got 11";
    assert!(message.contains(expected), "{message}");
}
