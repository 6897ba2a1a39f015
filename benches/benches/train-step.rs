//! A whole training step against one product with the encoder: of the fast engine on the CPU, of the
//! reference engine on a GPU (`SOFTSAE_BENCH_DEVICE`), there in f32 and in bf16.
//!
//! A step has everything: encoding, selection, reconstruction, all gradients, clipping, Adam and
//! unit norm; no feature is dead. The product is that of a batch with an encoder of the same shape
//! into memory that is already there, by the same libtorch with the same threads.
//!
//! Rows are noise of unit expected norm; weights are those of a new model.

use std::time::Duration;

use benches::{Table, device, id_suffix, measure};
use criterion::Criterion;
use sae_config::{Engine, Precision, RunConfig};
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

/// What follows the name of a rule, the setting, and the kind of products.
const PRECISIONS: [(&str, Precision, Kind); 2] =
    [("", Precision::F32, Kind::Float), ("-bf16", Precision::Bf16, Kind::BFloat16)];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = device();
    let suffix = id_suffix(device);
    let precisions = if device == Device::Cpu { &PRECISIONS[..1] } else { &PRECISIONS[..] };
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_millis(2000))
        .configure_from_args();
    let mut table = Table::new("train-step");
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    for ([b, d, f, k], (mark, precision, kind)) in
        SHAPES.iter().flat_map(|shape| precisions.iter().map(move |precision| (*shape, *precision)))
    {
        let id = |rule: &str| format!("train-step/{rule}{mark}/{b}x{d}x{f}x{k}{suffix}");
        let gemm = id("gemm");
        let ids = RULES.iter().map(|(rule, ..)| id(rule)).chain([gemm.clone()]);
        if wanted.as_ref().is_some_and(|w| !ids.clone().any(|id| id.contains(w))) {
            continue;
        }
        tch::manual_seed(1);
        let x = Tensor::randn([b, d], (Kind::Float, device)) / (d as f64).sqrt();
        let encoder = Tensor::randn([d, f], (Kind::Float, device));
        let (rows, encoder) = (x.to_kind(kind), encoder.tr().contiguous().to_kind(kind));
        let out = Tensor::zeros([b, f], (kind, device));
        measure(&mut criterion, &gemm, device, &mut || {
            let _ = std::hint::black_box(rows.matmul_out(&out, &encoder.tr()));
        });
        table.add(gemm.clone(), None);
        drop((rows, encoder, out));
        for (rule, name, settings) in RULES {
            let id = id(rule);
            table.add(id.clone(), Some(&gemm));
            if wanted.as_ref().is_some_and(|w| !id.contains(w)) {
                continue;
            }
            let mut config = config(f, b, &format!("name = \"{name}\"\nk = {k}\n{settings}"))?;
            if let Device::Cuda(ordinal) = device {
                config.training.device = format!("cuda:{ordinal}");
                config.training.precision = Some(precision);
            } else {
                config.training.engine = Some(Engine::Fast);
            }
            let mut trainer =
                Trainer::new(config.check()?, d as usize, &Normalizer::None, Kind::Float)?;
            measure(&mut criterion, &id, device, &mut || {
                std::hint::black_box(trainer.step(&x).expect("a finite loss"));
            });
            let Some(profile) = trainer.profile() else { continue };
            println!("{id}: mean of {} steps", profile.steps());
            for (part, time) in profile.parts() {
                println!("    {part:24} {:9.2} ms", time.as_secs_f64() * 1e3);
            }
        }
    }
    criterion.final_summary();
    Ok(table.finish()?)
}

/// The configuration of a run that is never read from a store.
fn config(f: i64, b: i64, architecture: &str) -> Result<RunConfig, toml::de::Error> {
    toml::from_str(&format!(
        "[data]\nstore = \"none\"\n[sae]\nn_features = {f}\nnormalization = \"none\"\n\
         [training]\nsteps = 1000000\nbatch_size = {b}\n[architecture]\n{architecture}"
    ))
}
