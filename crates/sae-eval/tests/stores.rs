//! SAEs over activation stores.

use std::path::Path;
use std::sync::Arc;

use sae_config::{Code, Normalization};
use sae_data::{ActivationStore, Dtype, Ports, RowMeta, StoreSpec, StoreWriter, open_store};
use sae_eval::{
    AllocationObserver, ComplexityObserver, EvaluateOptions, Metrics, Observer, evaluate, observe,
};
use sae_models::{InitRng, ModelConfig, Normalizer, Sae, init_ports};
use tch::{Kind, Tensor};
use tch_autograd::test_device;

use crate::models::{linear, soft};

const D: usize = 6;

fn store(dir: &Path, rows: &Tensor) -> Arc<dyn ActivationStore> {
    let mut spec = StoreSpec::new(D, Dtype::F32);
    spec.rows_per_shard = 7;
    let values = Vec::<f32>::try_from(rows.flatten(0, -1)).unwrap();
    let mut writer = StoreWriter::create(dir, spec).unwrap();
    writer.append(&values, &vec![RowMeta::default(); values.len() / D]).unwrap();
    writer.finish().unwrap();
    open_store(dir).unwrap()
}

fn rows(n: i64) -> Tensor {
    (InitRng::new(3).uniform(&[n, D as i64], 4.0) + 1.5).to_kind(Kind::Float)
}

#[test]
fn every_row_counts_once_whatever_the_batch() {
    let dir = tempfile::tempdir().unwrap();
    let (x, sae) = (rows(25), soft(D, 20, 1));
    let store = store(&dir.path().join("store"), &x);

    let x = x.to_device(test_device());
    let encoded = sae.encode(&x).unwrap();
    let mut metrics = Metrics::new(D, 20);
    let x_hat = sae.decode(&encoded).unwrap();
    metrics.add(&x, &x_hat, &encoded.features, encoded.k_hat.as_ref()).unwrap();
    let expected = metrics.finish().unwrap();
    assert_eq!(expected.n_rows, 25);
    let k_hat = expected.k_hat.clone().unwrap();
    assert!(k_hat.sd > 0.0 && k_hat.min < k_hat.mean && k_hat.mean < k_hat.max);

    for batch_size in [1, 4, 25, 1000] {
        let mut steps = vec![];
        let mut progress = |done, total| steps.push((done, total));
        let options = EvaluateOptions { batch_size };
        let got = evaluate(&sae, store.as_ref(), options, &mut progress).unwrap();
        assert_eq!(got.sparsity.density_histogram, expected.sparsity.density_histogram);
        assert_eq!(got.sparsity.l0_p95, expected.sparsity.l0_p95);
        // The model's own products are in f32 and may differ with the batch.
        assert!((got.reconstruction.r2 - expected.reconstruction.r2).abs() < 1e-6);
        assert!((got.k_hat.unwrap().mean - k_hat.mean).abs() < 1e-5);
        assert_eq!(steps.len(), 25usize.div_ceil(batch_size));
        assert_eq!(steps.last(), Some(&(25, 25)));
    }
}

#[test]
fn a_perfect_sae_explains_everything_and_a_biased_one_all_variance() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir.path().join("store"), &rows(40));
    let run = |scale, bias| {
        let sae = linear(D, scale, bias);
        evaluate(&sae, store.as_ref(), EvaluateOptions::default(), &mut |_, _| {}).unwrap()
    };
    let perfect = run(1.0, 0.0);
    assert_eq!((perfect.reconstruction.r2, perfect.reconstruction.mse_per_row), (1.0, 0.0));
    assert!((perfect.reconstruction.cosine - 1.0).abs() < 1e-12);
    // Each nonzero coordinate has one active feature, of x or of −x.
    assert_eq!((perfect.sparsity.l0_mean, perfect.sparsity.l0_sd), (D as f64, 0.0));
    assert_eq!(perfect.k_hat, None);
    let biased = run(1.0, 0.5);
    assert!((biased.reconstruction.frac_variance_explained - 1.0).abs() < 1e-6);
    assert!((biased.reconstruction.mse_per_row - D as f64 * 0.25).abs() < 1e-5);
    assert!(biased.reconstruction.r2 < 0.999);
}

#[test]
fn rows_of_more_dimensions_are_seen_to_have_more_features() {
    let dir = tempfile::tempdir().unwrap();
    let (n, mut rng) = (600, InitRng::new(4));
    let line = rng.uniform(&[n, 1], 1.0);
    let nothing = Tensor::zeros([n, D as i64 - 1], (line.kind(), line.device()));
    let line = Tensor::cat(&[line, nothing], 1);
    let cloud = rng.uniform(&[n, D as i64], 1.0) + 9.0;
    let x = Tensor::cat(&[&line, &cloud], 0).to_kind(Kind::Float);
    let sae = linear(D, 1.0, 0.0);
    let options = EvaluateOptions { batch_size: 100 };
    let mixed = store(&dir.path().join("mixed"), &x);
    let complexity = |store: &dyn ActivationStore| {
        let mut complexity = ComplexityObserver::new(store.n_rows());
        observe(&sae, store, options, &mut [&mut complexity], &mut |_, _| {}).unwrap();
        complexity.finish().unwrap()
    };
    let got = complexity(mixed.as_ref()).unwrap();
    assert_eq!(got.n_rows, 2 * n as u64);
    assert!(got.dimension > 1.0 && got.dimension < D as f64);
    // Half of all pairs are of the same kind, and tied in L0: √¾ is the most there can be.
    let spearman = got.spearman_l0_dimension.unwrap();
    assert!((spearman - 0.75f64.sqrt()).abs() < 0.02, "{spearman}");
    let alike = store(&dir.path().join("alike"), &cloud.to_kind(Kind::Float));
    assert_eq!(complexity(alike.as_ref()), None);
    let two = Tensor::cat(&[&x.narrow(0, 0, 1), &x.narrow(0, n, 1)], 0).repeat([5, 1]);
    let doubled = store(&dir.path().join("doubled"), &two);
    assert_eq!(complexity(doubled.as_ref()), None);
}

/// A transcoder from `D` to `d_out` dimensions.
fn transcoder(d_out: usize) -> Sae {
    let config = ModelConfig {
        d_model: D,
        d_out: Some(d_out),
        n_features: 20,
        normalization: Normalization::Scale,
        code: Code::TopK { k: 3 },
    };
    let normalizers = [2.0, 3.0].map(|scale| Normalizer::Scale { scale });
    let normalizers = (&normalizers[0], Some(&normalizers[1]));
    init_ports(config, normalizers, &mut InitRng::new(5), Kind::Float, test_device()).unwrap()
}

fn ports<'a>(
    input: &'a Arc<dyn ActivationStore>,
    target: Option<&'a Arc<dyn ActivationStore>>,
) -> Ports<&'a dyn ActivationStore> {
    Ports { input: input.as_ref(), target: target.map(AsRef::as_ref) }
}

#[test]
fn a_transcoder_is_measured_by_its_target() {
    let dir = tempfile::tempdir().unwrap();
    let x = rows(25);
    let target = (InitRng::new(4).uniform(&[25, D as i64], 4.0) + 1.5).to_kind(Kind::Float);
    let (input, output) = (store(&dir.path().join("x"), &x), store(&dir.path().join("t"), &target));
    let sae = transcoder(D);
    let (mut metrics, mut allocation) = (Metrics::new(D, 20), AllocationObserver::new(&sae));
    let options = EvaluateOptions { batch_size: 4 };
    let both = &mut [&mut metrics as &mut dyn Observer, &mut allocation];
    observe(&sae, ports(&input, Some(&output)), options, both, &mut |_, _| {}).unwrap();
    let got = metrics.finish().unwrap();

    let (x, target) = (x.to_device(test_device()), target.to_device(test_device()));
    let x_hat = sae.decode(&sae.encode(&x).unwrap()).unwrap();
    let spread = &target - target.mean_dim([0i64].as_slice(), false, None);
    let error = (&target - x_hat).square().sum(Kind::Double).double_value(&[]);
    let r2 = 1.0 - error / spread.square().sum(Kind::Double).double_value(&[]);
    assert!((got.reconstruction.r2 - r2).abs() < 1e-5, "{got:?}, expected {r2}");
    let shared = allocation.finish(got.sparsity.l0_mean).unwrap().unwrap();
    assert!(shared.r2_oracle >= shared.r2_uniform - 1e-6 && shared.r2_oracle < 1.0, "{shared:?}");

    let refused = |sae: &Sae, target: Option<&Arc<dyn ActivationStore>>| {
        let measured = evaluate(sae, ports(&input, target), options, &mut |_, _| {});
        measured.unwrap_err().to_string()
    };
    let none = refused(&sae, None);
    assert_eq!(none, "the model and its stores: expected a target: the model is a transcoder");
    let none = refused(&linear(D, 1.0, 0.0), Some(&output));
    assert!(none.ends_with("expected no target: the model rebuilds its input"), "{none}");
    let other = refused(&transcoder(D + 1), Some(&output));
    assert_eq!(other, "d_model: expected 7 as the sae has it, got 6 of the target");
    let few = store(&dir.path().join("few"), &rows(3));
    let rows = refused(&sae, Some(&few));
    assert!(rows.ends_with("expected as many rows of the target as of the input"), "{rows}");
}

#[test]
fn what_cannot_be_evaluated_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let good = store(&dir.path().join("good"), &rows(8));
    let text = |sae: &sae_models::Sae, store: &dyn ActivationStore, batch_size| {
        let options = EvaluateOptions { batch_size };
        evaluate(sae, store, options, &mut |_, _| {}).unwrap_err().to_string()
    };
    let (sae, other) = (linear(D, 1.0, 0.0), linear(D + 1, 1.0, 0.0));
    assert_eq!(
        text(&other, good.as_ref(), 4),
        "d_model: expected 7 as the sae has it, got 6 of the store"
    );
    assert_eq!(text(&sae, good.as_ref(), 0), "batch_size: expected at least 1, got 0");
    let equal = store(&dir.path().join("equal"), &rows(1).repeat([3, 1]));
    assert_eq!(
        text(&sae, equal.as_ref(), 2),
        "activations: expected rows that differ, got 3 equal ones"
    );
}
