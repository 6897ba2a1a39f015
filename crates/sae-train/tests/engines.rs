//! Both engines take the same steps.
//!
//! Cases are drawn from a fixed seed: where two activations at the boundary of a selection
//! differ by less than rounding, both choices are right and the engines may differ.

mod cases;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use sae_config::RunConfig;
use sae_data::Ports;
use sae_models::{InitRng, Normalizer, Role};
use sae_train::Trainer;
use tch::{Device, Kind, Tensor};

use cases::{Case, LR, STEPS, case, config, config_on_device, trainer};

/// Relative to the loss, and to the norm of each tensor.
const TOLERANCE: f64 = 1e-5;

/// Fails unless the tensors agree to rounding.
///
/// Adam divides a gradient by its own size: an element whose gradient cancels to rounding moves by
/// up to the learning rate in a direction that rounding decides. At most one element in a hundred
/// may differ by that; all others have to agree.
fn agree(name: &str, got: &Tensor, want: &Tensor) -> Result<(), String> {
    let (got, want) = (got.detach().to_kind(Kind::Double), want.detach().to_kind(Kind::Double));
    let off = (&got - &want).abs();
    let size = want.square().mean(Kind::Double).sqrt().double_value(&[]);
    let decided_by_rounding = off.greater(TOLERANCE * size);
    let n = decided_by_rounding.sum(Kind::Int64).int64_value(&[]);
    let rest = off.masked_fill(&decided_by_rounding, 0.0).norm().double_value(&[]);
    let largest = off.max().double_value(&[]);
    let norm = want.norm().double_value(&[]);
    let allowed = 1 + want.numel() as i64 / 100;
    if n <= allowed && largest <= 2.1 * LR * STEPS as f64 && rest <= TOLERANCE * norm {
        return Ok(());
    }
    Err(format!("{name}: {n} elements off by up to {largest:e}, the rest by {rest:e} of {norm:e}"))
}

/// Indices of `batch` rows of which the second half repeats the first.
fn twice(batch: i64) -> Tensor {
    Tensor::arange(batch, (Kind::Int64, Device::Cpu)).remainder((batch + 1) / 2)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 80,
        rng_seed: RngSeed::Fixed(5),
        failure_persistence: None,
        // Smaller batches have ever more gradients that cancel to rounding.
        max_shrink_iters: 0,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_fast_engine_takes_the_steps_of_the_reference(case in case()) {
        engines_agree(&case)?;
    }

    #[test]
    fn with_a_target_too(case in case(), d_out in prop_oneof![Just(None), (2_i64..40).prop_map(Some)]) {
        let d_out = d_out.unwrap_or(case.d);
        engines_agree(&Case { d_out: Some(d_out), ..case })?;
    }
}

/// Takes the steps of a case on both engines and compares all that comes of them.
fn engines_agree(case: &Case) -> Result<(), TestCaseError> {
    let _guard = tch::no_grad_guard();
    tch::manual_seed(case.seed as i64);
    let draw = |width: i64| {
        let rows = Tensor::randn([STEPS, case.batch, width], (Kind::Float, Device::Cpu));
        if case.ties { rows.index_select(1, &twice(case.batch)) } else { rows }
    };
    let rows = draw(case.d);
    let (mut fast, mut reference) = (trainer(case, "fast"), trainer(case, "reference"));
    let noise = Tensor::randn([case.f, case.d], (Kind::Float, Device::Cpu)) * 0.2;
    let targets = case.d_out.map(draw);
    for trainer in [&fast, &reference] {
        let all = trainer.sae().parameters();
        let find = |name| all.iter().find(|(n, _)| *n == name).unwrap().1.shallow_clone();
        // Some features never fire, so that they die.
        let silent = if case.ties { case.f * 3 / 4 } else { case.f / 4 };
        find("encoder.bias").narrow(0, 0, silent).copy_(&Tensor::from(-9.0_f32));
        // With the decoder's transpose for an encoder, gradients of lone features cancel.
        let _ = find("encoder.weight").g_add_(&noise);
    }
    for step in 0..STEPS {
        let (x, target) = (rows.get(step), targets.as_ref().map(|all| all.get(step)));
        let step_of = |trainer: &mut Trainer| {
            let rows = Ports { input: &x, target: target.as_ref() };
            trainer.step_on(rows).unwrap().report().unwrap()
        };
        let (got, want) = tch::with_grad(|| (step_of(&mut fast), step_of(&mut reference)));
        prop_assert!(
            (got.loss - want.loss).abs() <= TOLERANCE * want.loss.abs(),
            "{got:?} {want:?}"
        );
        prop_assert!((got.l0 - want.l0).abs() <= 1e-6 * want.l0, "{got:?} {want:?}");
        prop_assert_eq!(got.dead, want.dead);
        let names =
            |parts: &std::collections::BTreeMap<_, _>| parts.keys().cloned().collect::<Vec<_>>();
        prop_assert_eq!(names(&got.parts), names(&want.parts));
        let (got_k, want_k) = (got.k_hat.unwrap_or(0.0), want.k_hat.unwrap_or(0.0));
        prop_assert!((got_k - want_k).abs() <= TOLERANCE * want_k, "{} {}", got_k, want_k);
        let tensors = |trainer: &Trainer| -> Vec<(&'static str, Tensor)> {
            let sae = trainer.sae();
            let all = sae.parameters().into_iter().chain(sae.buffers());
            all.map(|(name, t)| (name, t.copy())).collect()
        };
        for ((name, got), (_, want)) in tensors(&fast).iter().zip(&tensors(&reference)) {
            let verdict = agree(name, got, want);
            prop_assert!(verdict.is_ok(), "after step {step}: {verdict:?}");
        }
    }
    Ok(())
}

#[test]
fn many_dead_features_and_dense_codes_agree_too() {
    let architectures = [
        "name = \"batch_topk\"\nk = 40\n[architecture.auxk]\ndead_after_rows = 30\nweight = 0.1",
        "name = \"abs_topk\"\nk = 45\n[architecture.auxk]\ndead_after_rows = 30\nweight = 0.1",
        "name = \"jumprelu\"\ntarget_l0 = 60.0",
        "name = \"topk\"\nk = 45\n[architecture.auxk]\ndead_after_rows = 30\nweight = 20.0",
        "name = \"soft\"\nk = 30\nalpha_start = 1.0\nalpha_anneal_steps = 3\nalpha = 1e-3\n\
         k_anneal_steps = 2\n[architecture.auxk]\ndead_after_rows = 30",
    ];
    // Micro-batches of `jumprelu` and `soft` have so many codes that they are used up one by one.
    let cases = architectures.iter().flat_map(|a| [(a, 7), (a, 30)]);
    for ((architecture, micro), d_out) in cases.flat_map(|case| [(case, None), (case, Some(31))]) {
        let case = Case {
            d_out,
            architecture: (*architecture).into(),
            official: false,
            batch: 30,
            d: 48,
            f: 200,
            seed: 3,
            micro,
            ties: false,
        };
        let (mut fast, mut reference) = (trainer(&case, "fast"), trainer(&case, "reference"));
        tch::manual_seed(1);
        for trainer in [&fast, &reference] {
            let bias = trainer.sae().parameters[Role::EncoderBias].shallow_clone();
            // Features that are never active, and some that are too rarely to be selected.
            let _ = tch::no_grad(|| bias.narrow(0, 0, 25).fill_(-9.0));
            let _ = tch::no_grad(|| bias.narrow(0, 25, 50).fill_(-2.0));
        }
        for _ in 0..STEPS {
            let draw = |d: i64| Tensor::randn([case.batch, d], (Kind::Float, Device::Cpu));
            let (x, target) = (draw(case.d), d_out.map(draw));
            let rows = Ports { input: &x, target: target.as_ref() };
            let (a, b) = (fast.step_on(rows).unwrap(), reference.step_on(rows).unwrap());
            let (a, b) = (a.report().unwrap(), b.report().unwrap());
            assert!((a.loss - b.loss).abs() <= TOLERANCE * b.loss, "{a:?} {b:?}");
            assert!((a.l0 - b.l0).abs() <= 1e-6 * b.l0 && a.dead == b.dead, "{a:?} {b:?}");
            assert!(a.dead.unwrap_or(0) >= 25 || !architecture.contains("auxk"), "{a:?}");
        }
        for ((name, got), (_, want)) in
            fast.sae().parameters().iter().zip(reference.sae().parameters())
        {
            agree(name, got, want).unwrap();
        }
    }
}

#[test]
fn the_reference_engine_adds_up_micro_batches_where_the_loss_is_a_mean_of_rows() {
    let case = |architecture: &str, micro| Case {
        d_out: None,
        architecture: architecture.into(),
        official: false,
        batch: 10,
        d: 6,
        f: 20,
        seed: 2,
        micro,
        ties: false,
    };
    for architecture in [
        "name = \"gated\"\nl1_penalty = 0.1",
        "name = \"standard\"\nl1_penalty = 0.1\nresample_steps = 2",
        "name = \"standard_april\"\nl1_penalty = 0.1",
    ] {
        let start = |micro| {
            let config = config_on_device(&case(architecture, micro));
            let trainer =
                Trainer::new(config.check().unwrap(), 6, &Normalizer::None, Kind::Double).unwrap();
            let bias = trainer.sae().parameters[Role::EncoderBias].shallow_clone();
            let _ = tch::no_grad(|| bias.narrow(0, 0, 5).fill_(-9.0));
            trainer
        };
        let (mut parts, mut whole) = (start(4), start(10));
        tch::manual_seed(2);
        for _ in 0..STEPS {
            let x = Tensor::randn([10, 6], (Kind::Double, Device::Cpu));
            let step = |trainer: &mut Trainer| trainer.step(&x).unwrap().report().unwrap();
            let (got, want) = (step(&mut parts), step(&mut whole));
            assert!((got.loss - want.loss).abs() <= 1e-12 * want.loss, "{got:?} {want:?}");
            assert!((got.l0 - want.l0).abs() <= 1e-9 && got.parts.len() == want.parts.len());
        }
        let all = parts.sae().parameters().into_iter().zip(whole.sae().parameters());
        for ((name, got), (_, want)) in all {
            let error = (got - want).abs().max().double_value(&[]);
            assert!(error < 1e-9, "{architecture}: {name} is off by {error:e}");
        }
    }
    let refused = config(&case("name = \"topk\"\nk = 3", 4), "reference");
    let error =
        Trainer::new(refused.check().unwrap(), 6, &Normalizer::None, Kind::Float).err().unwrap();
    let expected = "`training.micro_batch`: expected 10, the whole batch: the loss of `topk` is no";
    assert!(error.to_string().starts_with(expected), "{error}");
}

#[test]
fn an_engine_that_cannot_compute_a_run_says_so() {
    let architecture = "name = \"standard\"\nl1_penalty = 0.1";
    let case = Case {
        d_out: None,
        architecture: architecture.into(),
        official: false,
        batch: 4,
        d: 4,
        f: 8,
        seed: 0,
        micro: 4,
        ties: false,
    };
    let text = format!(
        "[data]\nstore = \"none\"\n[sae]\nn_features = 8\n[training]\nsteps = 1\nbatch_size = 4\n\
         engine = \"fast\"\n[architecture]\n{architecture}"
    );
    let config: RunConfig = toml::from_str(&text).unwrap();
    let error =
        Trainer::new(config.check().unwrap(), 4, &Normalizer::None, Kind::Float).err().unwrap();
    assert!(error.to_string().starts_with("`training.engine`: expected `reference`"), "{error}");
    assert_eq!(trainer(&case, "reference").profile().map(sae_train::Profile::steps), Some(0));
}

#[test]
fn products_in_bfloat16_change_little_and_leave_parameters_in_f32() {
    for architecture in ["name = \"topk\"\nk = 4", "name = \"soft\"\nk = 4\nalpha = 0.1"] {
        let case = Case {
            d_out: None,
            architecture: architecture.into(),
            official: false,
            batch: 32,
            d: 16,
            f: 40,
            seed: 2,
            micro: 32,
            ties: false,
        };
        let mut half = config_on_device(&case);
        half.training.precision = Some(sae_config::Precision::Bf16);
        let trainer = |config: RunConfig| {
            Trainer::new(config.check().unwrap(), 16, &Normalizer::None, Kind::Float).unwrap()
        };
        let (mut half, mut full) = (trainer(half), trainer(config_on_device(&case)));
        // The generator of libtorch is shared with tests of other threads.
        let mut rng = InitRng::new(4);
        for _ in 0..STEPS {
            let x = rng.uniform(&[32, 16], 3f64.sqrt()).to_kind(Kind::Float);
            let step = |trainer: &mut Trainer| trainer.step(&x).unwrap().report().unwrap().loss;
            let (got, want) = (step(&mut half), step(&mut full));
            assert!(got != want && (got - want).abs() < 0.02 * want, "{got} {want}");
        }
        assert!(half.sae().parameters().iter().all(|(_, tensor)| tensor.kind() == Kind::Float));
        let mut refused = config(&case, "fast");
        refused.training.precision = Some(sae_config::Precision::Bf16);
        let error = Trainer::new(refused.check().unwrap(), 16, &Normalizer::None, Kind::Float)
            .err()
            .unwrap();
        assert!(error.to_string().starts_with("`training.engine`"), "{error}");
    }
}
