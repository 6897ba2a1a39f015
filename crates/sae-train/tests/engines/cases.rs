//! Runs of a few steps, drawn at random.

use proptest::prelude::*;
use sae_config::RunConfig;
use sae_data::Ports;
use sae_models::Normalizer;
use sae_train::Trainer;
use tch::Kind;
use tch_autograd::test_device_name;

pub(super) const STEPS: i64 = 3;
pub(super) const LR: f64 = 7e-4;

#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) architecture: String,
    pub(super) official: bool,
    pub(super) batch: i64,
    pub(super) d: i64,
    /// Of a transcoder.
    pub(super) d_out: Option<i64>,
    pub(super) f: i64,
    pub(super) seed: u64,
    /// Rows a micro-batch of the fast engine.
    pub(super) micro: i64,
    /// Whether rows come twice and rows have fewer positive activations than they may keep.
    pub(super) ties: bool,
}

/// The settings of one architecture; features die after `dead` rows.
fn architecture(f: i64, d: i64) -> impl Strategy<Value = String> {
    let k = 1..f.min(d);
    let auxk = (1_i64..60, prop_oneof![Just(0.0), Just(0.5)]).prop_map(|(rows, weight)| {
        format!("[architecture.auxk]\ndead_after_rows = {rows}\nweight = {weight:?}\n")
    });
    let hard = (k.clone(), 0..3_i64, prop_oneof!["topk", "batch_topk"], auxk.clone()).prop_map(
        |(k, anneal, name, auxk)| {
            format!("name = \"{name}\"\nk = {k}\nk_anneal_steps = {anneal}\nthreshold_start_step = 0\n{auxk}")
        },
    );
    let magnitudes = (k.clone(), 0..3_i64, auxk.clone()).prop_map(|(k, anneal, auxk)| {
        format!("name = \"abs_topk\"\nk = {k}\nk_anneal_steps = {anneal}\n{auxk}")
    });
    let matryoshka = (1..=(f / 4).min(d - 1), auxk.clone()).prop_map(|(k, auxk)| {
        format!(
            "name = \"matryoshka_batch_topk\"\nk = {k}\ngroup_fractions = [0.25, 0.25, 0.5]\n\
             group_weights = [0.5, 0.2, 0.3]\nthreshold_start_step = 0\n{auxk}"
        )
    });
    let soft = (
        k,
        // Rounding of z is multiplied by 1/α at the boundary: small α is for the golden runs.
        prop_oneof![Just(0.05), Just(0.3)],
        prop_oneof!["full", "budget_only"],
        prop_oneof!["one_sided", "two_sided", "dual"],
        (0..3_i64, prop_oneof![Just(0_usize), Just(2)], prop_oneof![Just(1.0), Just(0.25)]),
        (
            prop_oneof![Just("\"mlp\""), Just("{ narrow = { width = 5 } }")],
            prop_oneof![
                2 => Just("[1.0]"),
                1 => Just("[1.0]\ngroup_weights = [0.7]"),
                1 => Just("[0.25, 0.35, 0.4]"),
            ],
        ),
        // Bounds of k̂ that hold it, and that do not.
        prop_oneof![Just((false, 1.0)), Just((true, 0.25)), Just((false, 40.0))],
        auxk,
    )
        .prop_map(move |(k, alpha, gradient, budget, more, (estimator, groups), (narrow, over), auxk)| {
            let (hard, window, estimator_lr) = more;
            let k_max = k as f64 * (1.0 + over);
            let k_min = if narrow { k as f64 } else { 1.0 };
            format!(
                "name = \"soft\"\nk = {k}\nk_min = {k_min:?}\nk_max = {k_max:?}\nalpha = {alpha:?}\n\
                 selection_gradient = \"{gradient}\"\nbudget = \"{budget}\"\nhard_steps = {hard}\n\
                 k_gradient_window = {window}\nk_estimator_lr = {estimator_lr:?}\n\
                 k_estimator = {estimator}\ngroup_fractions = {groups}\n{auxk}"
            )
        });
    let jumprelu = (1..f, prop_oneof![Just(0.001), Just(0.02)], any::<bool>()).prop_map(
        |(l0, bandwidth, centred)| {
            format!(
                "name = \"jumprelu\"\ntarget_l0 = {:?}\nbandwidth = {bandwidth:?}\n\
                 subtract_b_dec = {centred}\n",
                l0 as f64
            )
        },
    );
    prop_oneof![2 => hard, 1 => magnitudes, 1 => matryoshka, 3 => soft, 1 => jumprelu]
}

pub(super) fn case() -> impl Strategy<Value = Case> {
    let flags = (any::<bool>(), any::<bool>(), prop::bool::weighted(0.3));
    (8_i64..40, 8_i64..24, 8_i64..90, any::<u64>(), flags).prop_flat_map(
        |(batch, d, f, seed, (official, cut, ties))| {
            let seed = seed % (1 << 40);
            let micro = if cut { 1..=batch } else { batch..=batch };
            (architecture(f, d), micro).prop_map(move |(architecture, micro)| Case {
                architecture,
                official,
                batch,
                d,
                d_out: None,
                f,
                seed,
                micro,
                ties,
            })
        },
    )
}

/// A trainer of the case; the reference engine takes whole batches.
pub(super) fn trainer(case: &Case, engine: &str) -> Trainer {
    let case = if engine == "fast" { case } else { &Case { micro: case.batch, ..case.clone() } };
    let normal = &Normalizer::None;
    let ports = Ports {
        input: (case.d as usize, normal),
        target: case.d_out.map(|d| (d as usize, normal)),
    };
    let run = config(case, engine).check().unwrap();
    Trainer::for_ports(run, ports, Kind::Float).unwrap()
}

/// The configuration of the reference engine on the device under test.
pub(super) fn config_on_device(case: &Case) -> RunConfig {
    let mut config = config(case, "reference");
    config.training.device = test_device_name();
    config
}

pub(super) fn config(case: &Case, engine: &str) -> RunConfig {
    let parity = if case.official { "official" } else { "none" };
    let text = format!(
        "[data]\nstore = \"none\"\n[sae]\nn_features = {}\nnormalization = \"none\"\n\
         [training]\nmicro_batch = {}\nsteps = {STEPS}\nbatch_size = {}\nlr = {LR:?}\nseed = {}\nparity = \"{parity}\"\n\
         engine = \"{engine}\"\n[architecture]\n{}",
        case.f, case.micro, case.batch, case.seed, case.architecture
    );
    toml::from_str(&text).unwrap()
}
