//! The memory that runs of each kind take, and the settings that refusals name.

use sae_config::{Engine, RunConfig};
use sae_data::Ports;

use super::{MemoryPlan, STAGED};
use crate::Result;

fn config(architecture: &str) -> RunConfig {
    let text = format!(
        "[data]\nstore = \"none\"\n[sae]\nn_features = 16384\n[training]\nsteps = 10\n\
         batch_size = 2048\n[architecture]\n{architecture}"
    );
    toml::from_str(&text).unwrap()
}

fn planned(config: &RunConfig, d_model: usize) -> MemoryPlan {
    super::plan(&config.check().unwrap(), d_model.into()).unwrap()
}

fn check(plan: &MemoryPlan, config: &RunConfig, free: u64) -> Result<()> {
    plan.check(&config.check().unwrap(), free)
}

#[test]
fn the_fast_engine_stays_within_six_dense_buffers() {
    for architecture in [
        "name = \"topk\"\nk = 64",
        "name = \"soft\"\nk = 64",
        "name = \"soft\"\nk = 64\nk_estimator = { narrow = {} }",
    ] {
        let plan = planned(&config(architecture), 768);
        assert_eq!(plan.engine, "fast");
        let bound = 3 * plan.parameters + 6 * 4 * 2048 * 16384;
        assert!(plan.total() <= bound, "{plan}: {} > {bound}", plan.total());
    }
}

#[test]
fn both_widths_of_a_transcoder_count() {
    let config = config("name = \"topk\"\nk = 64");
    let ports =
        |input, target| super::plan(&config.check().unwrap(), Ports { input, target }).unwrap();
    let (sae, transcoder) = (ports(768, None), ports(768, Some(3072)));
    let n_parameters = 16384 * (768 + 3072) + 16384 + 3072;
    assert_eq!(transcoder.parameters, 4 * n_parameters);
    assert_eq!(transcoder.moments, 8 * n_parameters);
    assert_eq!(transcoder.dense, sae.dense);
    assert_eq!(transcoder.batch - sae.batch, 4 * 2048 * (3 * 3072 - 768));
    let mut on_gpu = config.clone();
    on_gpu.training.device = "cuda".into();
    let on_gpu = on_gpu.check().unwrap();
    let staged = |input, target| super::plan(&on_gpu, Ports { input, target }).unwrap().batch;
    let more = staged(768, Some(3072)) - staged(768, None);
    assert_eq!(more - (transcoder.batch - sae.batch), 4 * STAGED as u64 * 2048 * 3072);
}

#[test]
fn annealing_takes_room_for_its_first_codes() {
    let soft = |more: &str| config(&format!("name = \"soft\"\nk = 64\n{more}"));
    let total = |more: &str| planned(&soft(more), 768).total();
    let plain = total("");
    assert_eq!(total("alpha_start = 1.0"), plain);
    let mut annealed = soft("alpha_start = 1.0\nalpha_anneal_steps = 5");
    let whole = planned(&annealed, 768);
    assert!(whole.total() > plain + 40 * 2048 * 16384);
    annealed.training.micro_batch = Some(256);
    let cut = planned(&annealed, 768);
    assert_eq!((cut.dense * 8, cut.batch), (whole.dense, whole.batch));
    let plain = planned(&config("name = \"topk\"\nk = 64"), 768);
    let falling = planned(&config("name = \"topk\"\nk = 64\nk_anneal_steps = 5"), 768);
    assert_eq!(falling.batch - plain.batch, 4 * 8 * 2048 * (768 - 64));
}

#[test]
fn a_run_that_cannot_fit_names_the_setting() {
    let config = config("name = \"topk\"\nk = 64");
    let plan = planned(&config, 768);
    assert!(check(&plan, &config, plan.total()).is_ok());
    let refusal = |free: u64| check(&plan, &config, free).unwrap_err().to_string();
    let error = refusal(plan.total() - 1);
    assert!(error.starts_with("`training.micro_batch`: expected at most 2047"), "{error}");
    let mut cut = config.clone();
    cut.training.micro_batch = Some(2047);
    let smaller = planned(&cut, 768);
    assert!(check(&smaller, &cut, plan.total() - 1).is_ok());
    let error = refusal(plan.total() - plan.dense);
    assert!(error.starts_with("`sae.n_features`: expected a run that fits"), "{error}");
    let wide = planned(&cut, 8);
    let error = check(&wide, &cut, 1 << 20).unwrap_err().to_string();
    assert!(error.starts_with("`training.batch_size`: expected a run that fits"), "{error}");
}

#[test]
fn on_a_gpu_the_setting_is_one_that_may_change_there() {
    let on_gpu = |architecture: &str| {
        let mut config = config(architecture);
        config.training.device = "cuda:1".into();
        config
    };
    let topk = on_gpu("name = \"topk\"\nk = 64");
    let there = planned(&topk, 768);
    assert_eq!(there.engine, "reference");
    let mut here = topk.clone();
    here.training.device = "cpu".into();
    here.training.engine = Some(Engine::Reference);
    let here = planned(&here, 768);
    assert_eq!(there.batch - here.batch, 4 * STAGED as u64 * 2048 * 768);
    let error = check(&there, &topk, there.total() - 1).unwrap_err().to_string();
    let start = "`training.batch_size`: expected a run that fits into ";
    assert!(error.starts_with(start), "no micro-batch for this rule: {error}");
    assert!(error.contains(" MB that are free on cuda:1: this one needs "), "{error}");
    let gated = on_gpu("name = \"gated\"\nl1_penalty = 0.1");
    let there = planned(&gated, 768);
    let error = check(&there, &gated, there.total() - 1).unwrap_err().to_string();
    assert!(error.starts_with("`training.micro_batch`: expected at most 2047"), "{error}");
}

#[test]
fn the_window_of_a_live_run_counts() {
    let stored = config("name = \"topk\"\nk = 64");
    let live = |bytes: u64| {
        let data = format!(
            "host = 'h'\nhook = 'embed'\ntarget_hook = 'mlp_out.1'\ncorpus = {{ path = 'c' }}\n\
             window_bytes = {bytes}"
        );
        RunConfig { data: toml::from_str(&data).unwrap(), ..stored.clone() }
    };
    let ports = Ports { input: 768, target: Some(512) };
    let planned = |config: &RunConfig| super::plan(&config.check().unwrap(), ports).unwrap();
    let (run, large) = (live(4 * 768 * 1000), live(1 << 40));
    let (alone, with) = (planned(&stored), planned(&run));
    assert_eq!((alone.window, with.window), (0, 4 * 1000 * (768 + 512 + 1)));
    assert_eq!(with.total() - with.window, alone.total());
    assert!(with.to_string().contains("\nwindow "), "{with}");
    let plan = planned(&large);
    let mut cut = large.clone();
    cut.training.micro_batch = Some(16);
    let error = check(&plan, &cut, 1 << 30).unwrap_err().to_string();
    assert!(error.starts_with("`data.window_bytes`: expected a run that fits"), "{error}");
}
