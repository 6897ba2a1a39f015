//! Worthless dictionaries and probes on data whose answers are known.

use proptest::prelude::*;
use sae_config::{Code, Labels, Normalization, Suite, Worthless};
use sae_data::{ActivationStore, Dtype, RowMeta, StoreSpec, StoreWriter, open_store};
use sae_eval::{
    CoreObserver, EvaluateOptions, PooledFeatures, PoolingObserver, observe, probe_tasks, worthless,
};
use sae_models::{InitRng, ModelConfig, Normalizer, Role, Sae, init};
use std::path::Path;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

const D: usize = 8;
const F: usize = 24;

fn sae(k: usize) -> Sae {
    let config = ModelConfig {
        d_model: D,
        d_out: None,
        n_features: F,
        normalization: Normalization::ShiftScale,
        code: Code::TopK { k },
    };
    let shift = Tensor::full([D as i64], 0.5, (Kind::Float, Device::Cpu));
    let normalizer = Normalizer::ShiftScale { shift, scale: 3.0 };
    init(config, &normalizer, &mut InitRng::new(5), Kind::Float, Device::Cpu).unwrap()
}

/// Rows with few directions active, around a mean.
fn rows(n: i64) -> Tensor {
    let mut rng = InitRng::new(11);
    let dictionary = rng.directions(16, D, 1.0);
    let codes = (rng.uniform(&[n, 16], 1.0) - 0.8).relu() * 20.0;
    (codes.mm(&dictionary) + rng.uniform(&[n, D as i64], 0.05) + 0.5).to_kind(Kind::Float)
}

fn write(dir: &Path, rows: &Tensor, documents: impl Fn(usize) -> u32) -> Arc<dyn ActivationStore> {
    let values = Vec::<f32>::try_from(rows.contiguous().flatten(0, -1)).unwrap();
    let meta: Vec<RowMeta> = (0..values.len() / D)
        .map(|row| RowMeta { document: documents(row), ..RowMeta::default() })
        .collect();
    let mut writer = StoreWriter::create(dir, StoreSpec::new(D, Dtype::F32)).unwrap();
    writer.append(&values, &meta).unwrap();
    writer.finish().unwrap();
    open_store(dir).unwrap()
}

fn r2(sae: &Sae, store: &dyn ActivationStore) -> f64 {
    let mut core = CoreObserver::new(sae, store.n_rows());
    let options = EvaluateOptions { batch_size: 100 };
    observe(sae, store, options, &mut [&mut core], &mut |_, _| ()).unwrap();
    core.finish().unwrap()["core.r2"].value
}

#[test]
fn worthless_dictionaries_are_what_their_names_say() {
    let (sae, x) = (sae(4), rows(600));
    let folder = tempfile::tempdir().unwrap();
    let store = write(&folder.path().join("store"), &x, |row| row as u32);
    let (normal, _) = sae.normalizer.normalize(&x);
    let normal = normal.to_kind(Kind::Double);
    let centred = &normal - normal.mean_dim([0i64].as_slice(), true, None);
    let mut of_kind = std::collections::BTreeMap::new();
    for kind in Worthless::ALL {
        let made = worthless(kind, &sae, &x, 4).unwrap();
        let again = worthless(kind, &sae, &x, 4).unwrap();
        let decoder = made.parameters[Role::DecoderWeight].to_kind(Kind::Double);
        assert_eq!(made.config().code, Code::TopK { k: 4 });
        assert_eq!(
            decoder,
            again.parameters[Role::DecoderWeight].to_kind(Kind::Double),
            "{kind:?}"
        );
        let norms = decoder.square().sum_dim_intlist([1i64].as_slice(), false, Kind::Double);
        assert!((norms - 1.0).abs().max().double_value(&[]) < 1e-5, "{kind:?}");
        let expected = match kind {
            Worthless::PrincipalComponents | Worthless::Dimensions => 2 * D,
            _ => F,
        };
        assert_eq!(made.config().n_features, expected, "{kind:?}");
        of_kind.insert(kind, (r2(&made, &*store), decoder));
    }
    // Each row of the data, less the mean, along a direction.
    let unit = &centred / centred.norm_scalaropt_dim(2.0, [1i64].as_slice(), true);
    let rows = &of_kind[&Worthless::RandomRows].1;
    let nearest = rows.mm(&unit.tr()).amax([1i64].as_slice(), false);
    assert!((nearest - 1.0).abs().max().double_value(&[]) < 1e-5);
    // Principal components diagonalise the covariance, the first one the largest.
    let components = of_kind[&Worthless::PrincipalComponents].1.slice(0, 0, None, 2);
    let covariance = components.mm(&centred.tr().mm(&centred)).mm(&components.tr());
    let diagonal = covariance.diag(0);
    let off = (&covariance - diagonal.diag(0)).abs().max().double_value(&[]);
    assert!(off < 1e-3 * diagonal.max().double_value(&[]), "{off}");
    let values = Vec::<f64>::try_from(diagonal).unwrap();
    assert!(values.windows(2).all(|pair| pair[0] >= pair[1]));
    // One factor for all activations cannot do worse than none at all.
    for (kind, (r2, _)) in &of_kind {
        assert!(*r2 > -1e-3, "{kind:?}: {r2}");
    }
    let [frozen, random] =
        [Worthless::FrozenDecoder, Worthless::RandomDirections].map(|kind| of_kind[&kind].0);
    assert!(frozen > random + 0.02, "an encoder that is trained is better: {frozen} {random}");
}

#[test]
fn worthless_dictionaries_that_cannot_be_made_are_refused() {
    let (sae, x) = (sae(4), rows(30));
    let kind = Worthless::Dimensions;
    let error = worthless(kind, &sae, &x, 0).unwrap_err().to_string();
    assert_eq!(error, "k: expected at least 1, got 0");
    let error = worthless(kind, &sae, &x.narrow(0, 0, 0), 4).unwrap_err().to_string();
    assert_eq!(error, "rows: expected at least one, got none");
    // Fewer rows than features: as many directions as there are rows.
    let few = worthless(Worthless::RandomRows, &sae, &x.narrow(0, 0, 7), 4).unwrap();
    assert_eq!(few.config().n_features, 7);
}

/// Documents of two rows each; those of one label have a feature that the others lack.
fn pooled(dir: &Path, sae: &Sae, n: usize) -> (PooledFeatures, Vec<String>) {
    let mut rng = InitRng::new(2);
    let x = rng.uniform(&[2 * n as i64, D as i64], 0.3);
    let decoder = sae.parameters[Role::DecoderWeight].to_kind(Kind::Double);
    let labels: Vec<String> =
        (0..n).map(|i| ["no", "yes"][usize::from(i % 3 == 0)].into()).collect();
    for row in (0..2 * n).filter(|row| (row / 2) % 3 == 0) {
        let _ = x.get(row as i64).g_add_(&(decoder.get(7) * 4.0));
    }
    let x = (x * 3.0 + 0.5).to_kind(Kind::Float);
    let store = write(dir, &x, |row| row as u32 / 2);
    let mut observer = PoolingObserver::new(&*store, F).unwrap();
    let options = EvaluateOptions { batch_size: 33 };
    observe(sae, &*store, options, &mut [&mut observer], &mut |_, _| ()).unwrap();
    (observer.finish().unwrap(), labels)
}

#[test]
fn a_feature_of_a_label_is_found_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let sae = sae(4);
    let (pooled, labels) = pooled(&folder.path().join("a"), &sae, 240);
    assert_eq!(pooled.documents().len(), 240);
    let labels = Labels::new("planted", &labels, "").unwrap();
    let task = labels.tasks()[0];
    let mut done = Vec::new();
    let data = [(&pooled, task, &labels.of_documents[..])];
    let probed = probe_tasks(&data, None, &mut |n| done.push(n)).unwrap();
    assert_eq!(done, [1]);
    let of = &probed.tasks[0];
    assert_eq!((of.n_train, of.n_test, of.label.as_str()), (192, 48, "yes"));
    assert!(of.sparse[2].features.contains(&7), "{of:?}");
    assert!(of.sparse[0].auc > 0.99 && of.dense.auc > 0.99, "{of:?}");
    let names: Vec<&str> = probed.scores.keys().map(String::as_str).collect();
    let mut known: Vec<&str> = Suite::Probing.scores().iter().map(|info| info.name).collect();
    known.sort_unstable();
    assert_eq!(names, known);
    let score = &probed.scores["probing.auc_k1"];
    assert_eq!((score.value, score.n), (of.sparse[0].auc, 1));
    assert_eq!(score.ceiling, Some(of.dense.auc));
    // What is known of dense probes is taken over.
    let dense: Vec<_> = probed.tasks.iter().map(|task| task.dense.clone()).collect();
    let again = probe_tasks(&data, Some(&dense), &mut |_| ()).unwrap();
    assert_eq!(again, probed);
}

#[test]
fn labels_that_say_nothing_are_told_by_chance() {
    let folder = tempfile::tempdir().unwrap();
    let (pooled, _) = pooled(&folder.path().join("a"), &sae(4), 400);
    let noise = Vec::<f64>::try_from(InitRng::new(9).uniform(&[400], 1.0)).unwrap();
    let labels: Vec<String> =
        noise.iter().map(|v| if *v > 0.0 { "a" } else { "b" }.into()).collect();
    let labels = Labels::new("noise", &labels, "").unwrap();
    let data = [(&pooled, labels.tasks()[0], &labels.of_documents[..])];
    let probed = probe_tasks(&data, None, &mut |_| ()).unwrap();
    let score = &probed.scores["probing.auc_k16"];
    let interval = score.interval.unwrap();
    assert!(interval.low < 0.5 && 0.5 < interval.high, "{score:?}");
}

#[test]
fn tasks_that_cannot_be_probed_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let (pooled, labels) = pooled(&folder.path().join("a"), &sae(4), 60);
    let labels = Labels::new("few", &labels, "").unwrap();
    let data = [(&pooled, labels.tasks()[0], &labels.of_documents[..])];
    let error = probe_tasks(&data, None, &mut |_| ()).unwrap_err().to_string();
    assert!(error.contains("25 or more") && error.contains("20 and 40 of few yes"), "{error}");
    let short = [(&pooled, labels.tasks()[0], &labels.of_documents[..10])];
    let error = probe_tasks(&short, None, &mut |_| ()).unwrap_err().to_string();
    assert!(error.contains("a label of every document"), "{error}");
    let error = probe_tasks(&data, Some(&[]), &mut |_| ()).unwrap_err().to_string();
    assert!(error.starts_with("dense: expected") && error.ends_with("got 0"), "{error}");
    let error = probe_tasks(&[], None, &mut |_| ()).unwrap_err().to_string();
    assert_eq!(error, "tasks: expected at least one, got none");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// Order and unit of features decide nothing: features permuted, each activation of one scaled.
    #[test]
    fn probes_do_not_depend_on_order_or_unit_of_features(seed in 0u64..1000) {
        let folder = tempfile::tempdir().unwrap();
        let mut rng = InitRng::new(seed);
        let plain = sae(4);
        let other = sae(4);
        let order = rng.uniform(&[F as i64], 1.0).argsort(0, false);
        let _guard = tch::no_grad_guard();
        // All features by one factor, as TopK compares them.
        let factor = rng.uniform(&[1], 1.0).exp().double_value(&[0]);
        let mut other = other;
        for role in [Role::EncoderWeight, Role::EncoderBias, Role::DecoderWeight] {
            let permuted = plain.parameters[role].index_select(0, &order);
            other.parameters[role] = match role {
                Role::DecoderWeight => permuted / factor,
                _ => permuted * factor,
            };
        }
        let probed = |name: &str, sae: &Sae| {
            let (pooled, labels) = pooled_by(&folder.path().join(name), &plain, sae, 200);
            let labels = Labels::new("x", &labels, "").unwrap();
            let data = [(&pooled, labels.tasks()[0], &labels.of_documents[..])];
            probe_tasks(&data, None, &mut |_| ()).unwrap()
        };
        let (first, second) = (probed("a", &plain), probed("b", &other));
        let order = Vec::<i64>::try_from(order).unwrap();
        let named = second.tasks[0].sparse[0].features[0];
        prop_assert_eq!(first.tasks[0].sparse[0].features[0], order[named] as usize);
        for (name, score) in &first.scores {
            let got = second.scores[name].value;
            // A document at the boundary may fall to either side by rounding.
            prop_assert!((got - score.value).abs() < 0.03, "{}: {} {}", name, got, score.value);
        }
    }
}

/// The rows of [`pooled`] for one SAE, as another encodes them.
fn pooled_by(dir: &Path, of: &Sae, sae: &Sae, n: usize) -> (PooledFeatures, Vec<String>) {
    let (_, labels) = pooled(dir, of, n);
    let store = open_store(dir).unwrap();
    let mut observer = PoolingObserver::new(&*store, F).unwrap();
    let options = EvaluateOptions { batch_size: 64 };
    observe(sae, &*store, options, &mut [&mut observer], &mut |_, _| ()).unwrap();
    (observer.finish().unwrap(), labels)
}
