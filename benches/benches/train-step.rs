//! A whole training step of the fast engine against one product with the encoder.
//!
//! A step has everything: encoding, selection, reconstruction, all gradients, clipping, Adam and
//! unit norm; no feature is dead. The product is that of a batch with an encoder of the same shape
//! into memory that is already there, by the same libtorch with the same threads.
//!
//! Rows are noise of unit expected norm; weights are those of a new model.

use std::time::Duration;

use benches::Table;
use criterion::Criterion;
use sae_config::RunConfig;
use sae_models::Normalizer;
use sae_train::Trainer;
use tch::{Device, Kind, Tensor};

/// B, D, F, k.
const SHAPES: [[i64; 4]; 4] =
    [[2048, 768, 16384, 64], [2048, 576, 4608, 32], [8192, 512, 4096, 220], [2048, 768, 65536, 64]];

/// Name of the bench, name of the architecture, and its settings.
const RULES: [(&str, &str, &str); 7] = [
    ("topk", "topk", ""),
    ("batch-topk", "batch_topk", ""),
    (
        "matryoshka",
        "matryoshka_batch_topk",
        "group_fractions = [0.0625, 0.0625, 0.125, 0.25, 0.5]\n",
    ),
    ("soft", "soft", ""),
    ("soft-hard", "soft", "hard_steps = 1000000\n"),
    ("soft-narrow", "soft", "k_estimator = { narrow = {} }\n"),
    ("soft-narrow-hard", "soft", "k_estimator = { narrow = {} }\nhard_steps = 1000000\n"),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_millis(2000))
        .configure_from_args();
    let mut table = Table::new("train-step");
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    for [b, d, f, k] in SHAPES {
        let shape = format!("{b}x{d}x{f}x{k}");
        let gemm = format!("train-step/gemm/{shape}");
        let id = |rule: &str| format!("train-step/{rule}/{shape}");
        let ids = RULES.iter().map(|(rule, ..)| id(rule)).chain([gemm.clone()]);
        if wanted.as_ref().is_some_and(|w| !ids.clone().any(|id| id.contains(w))) {
            continue;
        }
        let mut run = |id: &str, work: &mut dyn FnMut()| {
            criterion.bench_function(id, |bencher| bencher.iter(&mut *work));
        };
        tch::manual_seed(1);
        let x = Tensor::randn([b, d], (Kind::Float, Device::Cpu)) / (d as f64).sqrt();
        let encoder = Tensor::randn([d, f], (Kind::Float, Device::Cpu));
        let encoder = encoder.tr().contiguous();
        let out = Tensor::zeros([b, f], (Kind::Float, Device::Cpu));
        run(&gemm, &mut || {
            let _ = std::hint::black_box(x.matmul_out(&out, &encoder.tr()));
        });
        table.add(gemm.clone(), None);
        drop((encoder, out));
        for (rule, name, settings) in RULES {
            let id = id(rule);
            table.add(id.clone(), Some(&gemm));
            if wanted.as_ref().is_some_and(|w| !id.contains(w)) {
                continue;
            }
            let text = format!(
                "[data]\nstore = \"none\"\n[sae]\nn_features = {f}\nnormalization = \"none\"\n\
                 [training]\nsteps = 1000000\nbatch_size = {b}\nengine = \"fast\"\n\
                 [architecture]\nname = \"{name}\"\nk = {k}\n{settings}"
            );
            let config: RunConfig = toml::from_str(&text)?;
            let mut trainer = Trainer::new(config, d as usize, &Normalizer::None, Kind::Float)?;
            run(&id, &mut || {
                std::hint::black_box(trainer.step(&x).expect("a finite loss"));
            });
            let profile = trainer.profile().expect("the fast engine");
            println!("{id}: mean of {} steps", profile.steps());
            for (part, time) in profile.parts() {
                println!("    {part:24} {:9.2} ms", time.as_secs_f64() * 1e3);
            }
        }
    }
    criterion.final_summary();
    Ok(table.finish()?)
}
