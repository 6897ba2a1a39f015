//! A batch of `softsae encode` and of `softsae eval` against one product with the encoder.
//!
//! `encode` is raw rows to sparse codes by an architecture's rule of inference, `eval` is that with
//! the reconstruction and all metrics of rows; `core` is what the suite `core` of `--suite` adds to a
//! batch that is encoded and decoded. The product is that of the batch with an encoder of
//! the same shape into memory that is already there. SoftSAE has two
//! such products, of the encoder and of the k-estimator, but for `narrow`.
//!
//! Rows are noise of unit expected norm; weights are those of a new model. BatchTopK's threshold is
//! set so that k features a row are active.

use std::time::Duration;

use benches::Table;
use criterion::Criterion;
use sae_config::{ArchitectureConfig, Normalization, Parity};
use sae_eval::{CoreObserver, EvalBatch, Features, Metrics, Observer as _};
use sae_models::{InitRng, ModelConfig, Normalizer, Sae, SparseCoder, init};
use tch::{Device, Kind, Tensor};

/// B, D, F, k; B is what the commands take at once.
const SHAPES: [[i64; 4]; 2] = [[1024, 768, 16384, 64], [1024, 576, 4608, 32]];

/// Blocks of 256 rows of the store that `core` is told of.
const N_BLOCKS: u64 = 200;

/// Id, and settings beside k.
const ARCHITECTURES: [(&str, &str); 4] = [
    ("topk", "name = \"topk\""),
    ("batch-topk", "name = \"batch_topk\""),
    ("soft", "name = \"soft\""),
    ("soft-narrow", "name = \"soft\"\nk_estimator = { narrow = {} }"),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_millis(2000))
        .configure_from_args();
    let mut table = Table::new("encode");
    for [b, d, f, k] in SHAPES {
        let shape = format!("{b}x{d}x{f}x{k}");
        let gemm = format!("encode/gemm/{shape}");
        tch::manual_seed(1);
        let x = Tensor::randn([b, d], (Kind::Float, Device::Cpu)) / (d as f64).sqrt();
        let encoder = Tensor::randn([f, d], (Kind::Float, Device::Cpu));
        let out = Tensor::zeros([b, f], (Kind::Float, Device::Cpu));
        criterion.bench_function(&gemm, |bencher| {
            bencher.iter(|| std::hint::black_box(x.matmul_out(&out, &encoder.tr())));
        });
        table.add(gemm.clone(), None);
        for (id, settings) in ARCHITECTURES {
            let sae = model(settings, d, f, k, &x)?;
            let mut coder = SparseCoder::default();
            let encode = format!("encode/{id}/{shape}");
            criterion.bench_function(&encode, |bencher| {
                bencher.iter(|| {
                    std::hint::black_box(coder.encode(&sae, &x).expect("codes"));
                });
            });
            table.add(encode, Some(&gemm));
            let mut metrics = Metrics::new(d as usize, f as usize);
            let eval = format!("eval/{id}/{shape}");
            criterion.bench_function(&eval, |bencher| {
                bencher.iter(|| {
                    let encoded = coder.encode(&sae, &x).expect("codes");
                    let x_hat = coder.decode(&sae, &encoded).expect("rows");
                    let (codes, k_hat) = (&encoded.codes, encoded.k_hat.as_ref());
                    metrics.add_sparse(&x, &x_hat, codes, k_hat).expect("finite rows");
                });
            });
            table.add(eval, Some(&gemm));
            let core = format!("core/{id}/{shape}");
            measure_core(&mut criterion, &core, &sae, &x)?;
            table.add(core, Some(&gemm));
        }
    }
    criterion.final_summary();
    Ok(table.finish()?)
}

/// What the suite `core` takes of a batch that is encoded and decoded.
fn measure_core(
    criterion: &mut Criterion,
    id: &str,
    sae: &Sae,
    x: &Tensor,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut coder = SparseCoder::default();
    let encoded = coder.encode(sae, x)?;
    let x_hat = coder.decode(sae, &encoded)?;
    let batch = EvalBatch {
        first_row: 0,
        x,
        target: x,
        x_hat: &x_hat,
        features: Features::Sparse(&encoded.codes),
        k_hat: encoded.k_hat.as_ref(),
    };
    let mut observer = CoreObserver::new(sae, 256 * N_BLOCKS);
    criterion.bench_function(id, |bencher| {
        bencher.iter(|| observer.see(&batch).expect("finite rows"));
    });
    Ok(())
}

/// A new model that is to have k active features a row of `x`.
fn model(
    settings: &str,
    d: i64,
    f: i64,
    k: i64,
    x: &Tensor,
) -> Result<Sae, Box<dyn std::error::Error>> {
    let architecture: ArchitectureConfig = toml::from_str(&format!("{settings}\nk = {k}"))?;
    let config = ModelConfig {
        d_model: d as usize,
        d_out: None,
        n_features: f as usize,
        normalization: Normalization::None,
        code: architecture.code(d as usize, f as usize, Parity::None),
    };
    let mut rng = InitRng::new(1);
    let sae = init(config, &Normalizer::None, &mut rng, Kind::Float, Device::Cpu)?;
    if let Some((_, threshold)) = sae.buffers().into_iter().find(|(name, _)| *name == "threshold") {
        let z = sae.parameters.pre_activations(x);
        let least = z.topk(k, -1, true, true).0.select(1, k - 1).mean(Kind::Float);
        threshold.shallow_clone().copy_(&least);
    }
    Ok(sae)
}
