//! Scores of `core` against their definitions, and their intervals.

use proptest::prelude::*;
use sae_config::{Code, Normalization};
use sae_models::{InitRng, ModelConfig, Normalizer, init};

use super::*;
use crate::Metrics;
use crate::pass::Forward;

const D: i64 = 5;
const F: usize = 12;

fn sae(seed: u64) -> Sae {
    let config = ModelConfig {
        d_model: D as usize,
        d_out: None,
        n_features: F,
        normalization: Normalization::None,
        code: Code::TopK { k: 3 },
    };
    let mut rng = InitRng::new(seed);
    init(config, &Normalizer::None, &mut rng, Kind::Float, Device::Cpu).unwrap()
}

fn rows(seed: u64, n: i64, offset: f64) -> Tensor {
    (InitRng::new(seed + 100).uniform(&[n, D], 2.0) + offset).to_kind(Kind::Float)
}

/// Shows rows to observers, `batch` at a time.
fn show(sae: &Sae, x: &Tensor, batch: i64, observers: &mut [&mut dyn Observer]) {
    let mut forward = Forward::new(sae);
    let n = x.size()[0];
    for start in (0..n).step_by(batch as usize) {
        let part = x.narrow(0, start, batch.min(n - start));
        forward
            .apply(sae, &part, |x_hat, features, k_hat| {
                let first_row = start as u64;
                let (x, target) = (&part, &part);
                let batch = EvalBatch { first_row, x, target, x_hat, features, k_hat };
                observers.iter_mut().try_for_each(|observer| observer.see(&batch))
            })
            .unwrap();
    }
}

/// The names of scores, as Metrics has them.
fn of_metrics(metrics: &Metrics) -> [(&'static str, f64); 5] {
    let evaluation = metrics.finish().unwrap();
    let reconstruction = evaluation.reconstruction;
    [
        ("core.r2", reconstruction.r2),
        ("core.fve", reconstruction.frac_variance_explained),
        ("core.cosine", reconstruction.cosine),
        ("core.l0", evaluation.sparsity.l0_mean),
        ("core.relative_bias", reconstruction.relative_bias),
    ]
}

#[test]
fn intervals_hold_the_value_and_equal_rows_are_refused() {
    let (sae, x) = (sae(3), rows(3, 400, 0.5));
    let mut core = CoreObserver::new(&sae, 400);
    show(&sae, &x, 64, &mut [&mut core]);
    let scores = core.finish().unwrap();
    for name in ["core.r2", "core.fve", "core.cosine", "core.l0"] {
        let interval = scores[name].interval.unwrap();
        let value = scores[name].value;
        assert!(interval.low <= value && value <= interval.high, "{name}: {:?}", scores[name]);
    }
    let names: Vec<&str> = scores.keys().map(String::as_str).collect();
    let mut known: Vec<&str> =
        sae_config::Suite::Core.scores().iter().map(|info| info.name).collect();
    known.sort_unstable();
    assert_eq!(names, known);
    let same = Tensor::ones([40, D], (Kind::Float, Device::Cpu));
    let mut core = CoreObserver::new(&sae, 40);
    show(&sae, &same, 8, &mut [&mut core]);
    assert!(matches!(core.finish(), Err(Error::NoVariance { n_rows: 40 })));
}

#[test]
fn a_row_that_is_not_finite_is_named() {
    let (sae, x) = (sae(1), rows(1, 30, 0.0));
    let x_hat = x.copy();
    let _ = x_hat.get(17).fill_(f64::NAN);
    let features = Tensor::zeros([30, F as i64], (Kind::Float, Device::Cpu));
    let features = crate::Features::Dense(&features);
    let batch = EvalBatch { first_row: 0, x: &x, target: &x, x_hat: &x_hat, features, k_hat: None };
    let error = CoreObserver::new(&sae, 30).see(&batch).unwrap_err();
    assert!(matches!(error, Error::NotFinite { name: "x_hat", row: 17, .. }), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Against the metrics of all rows, and a draw of blocks against those of its rows.
    #[test]
    fn a_draw_of_blocks_is_the_metrics_of_its_rows(
        seed in 0u64..1000, n in 41i64..130, batch in 1i64..50, offset in prop_oneof![Just(0.0), Just(300.0)],
    ) {
        let (sae, x) = (sae(seed), rows(seed, n, offset));
        let mut core = CoreObserver::new(&sae, n as u64);
        let mut metrics = Metrics::new(D as usize, F);
        show(&sae, &x, batch, &mut [&mut core, &mut metrics]);
        let (length, totals) = (core.block_length as i64, core.totals().unwrap());
        let counts = Resampler::new().counts(core.blocks.len());
        let draw = Tensor::from_slice(&counts).reshape([1, -1]);
        let drawn = totals.scores(&draw).unwrap();
        let scores = core.finish().unwrap();
        for (name, value) in of_metrics(&metrics) {
            let got = scores[name].value;
            prop_assert!((got - value).abs() < 1e-6 * value.abs().max(1.0), "{}: {} {}", name, got, value);
        }
        let mut blocks = Vec::new();
        for (block, count) in counts.iter().enumerate() {
            let start = block as i64 * length;
            for _ in 0..*count as usize {
                blocks.push(x.narrow(0, start, length.min(n - start)));
            }
        }
        let mut of_draw = Metrics::new(D as usize, F);
        show(&sae, &Tensor::cat(&blocks, 0), batch, &mut [&mut of_draw]);
        for ((name, value), (same, got)) in of_metrics(&of_draw).into_iter().zip(drawn) {
            prop_assert_eq!(name, same);
            prop_assert!((got[0] - value).abs() < 1e-5 * value.abs().max(1.0), "{}: {} {}", name, got[0], value);
        }
    }
}
