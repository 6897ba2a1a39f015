//! The same runs on the CPU and on the device, compared by what they come to.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::Result;
use sae_config::Evaluation;
use serde::Serialize;

use super::steps::Steps;

/// Planted activations to train on.
const PLANTED: &str = "[planted]\nn_rows = 40000\nd_model = 64\nn_features = 256\n";

/// Names and settings of the architectures.
const ARCHITECTURES: [(&str, &str); 4] = [
    ("topk", "name = \"topk\"\nk = 16\n"),
    ("batch_topk", "name = \"batch_topk\"\nk = 16\n"),
    ("matryoshka", "name = \"matryoshka_batch_topk\"\nk = 16\ngroup_fractions = [0.25, 0.75]\n"),
    ("soft", "name = \"soft\"\nk = 16\n"),
];

/// How far R² may lie apart.
const R2_TOLERANCE: f64 = 0.01;
/// How far L0 may lie apart, of its size.
const L0_TOLERANCE: f64 = 0.05;

/// What a run came to on the CPU and on the device.
#[derive(Debug, Serialize)]
pub(super) struct Pair {
    pub(super) architecture: String,
    pub(super) r2: [f64; 2],
    pub(super) l0: [f64; 2],
    /// Seconds that `softsae train` took in all.
    pub(super) seconds: [f64; 2],
}

impl Pair {
    /// Whether both came to the same, as far as rounding and its consequences allow.
    pub(super) fn agrees(&self) -> bool {
        let ([r2, r2_there], [l0, l0_there]) = (self.r2, self.l0);
        (r2 - r2_there).abs() <= R2_TOLERANCE && (l0 - l0_there).abs() <= L0_TOLERANCE * l0
    }
}

/// Trains and evaluates each architecture on both; those without two evaluations are left out.
pub(super) fn run(steps: &mut Steps, program: &Path, device: &str, n: u32) -> Result<Vec<Pair>> {
    let folder = steps.folder().to_owned();
    let planted = folder.join("planted.toml");
    std::fs::write(&planted, PLANTED)?;
    let mut plant = Command::new(program);
    plant.arg("plant").arg(&planted).arg("--out").arg(folder.join("store"));
    if steps.run("plant", &mut plant)? != Some(0) {
        return Ok(Vec::new());
    }
    let mut pairs = Vec::new();
    for (name, settings) in ARCHITECTURES {
        // Where the CPU is checked, its two engines are compared.
        let there = match device {
            "cpu" => "engine = \"reference\"".to_owned(),
            device => format!("device = \"{device}\""),
        };
        let here = one(steps, program, &format!("{name}-cpu"), settings, "", "cpu", n)?;
        let there = one(steps, program, &format!("{name}-device"), settings, &there, device, n)?;
        let (Some((here, on_cpu)), Some((there, on_device))) = (here, there) else { continue };
        let pair = Pair {
            architecture: name.to_owned(),
            r2: [here.reconstruction.r2, there.reconstruction.r2],
            l0: [here.sparsity.l0_mean, there.sparsity.l0_mean],
            seconds: [on_cpu, on_device],
        };
        if !pair.agrees() {
            let result = format!("R² {:?} and L0 {:?} differ", pair.r2, pair.l0);
            steps.add(&format!("compare-{name}"), result, Instant::now());
        }
        pairs.push(pair);
    }
    Ok(pairs)
}

/// Trains one run, evaluates it on the device, and gives the evaluation and the time of training.
fn one(
    steps: &mut Steps,
    program: &Path,
    name: &str,
    architecture: &str,
    training: &str,
    device: &str,
    n: u32,
) -> Result<Option<(Evaluation, f64)>> {
    let folder = steps.folder().to_owned();
    let (store, config) = (folder.join("store"), folder.join(format!("{name}.toml")));
    let quoted = toml::Value::from(store.display().to_string());
    let text = format!(
        "[data]\nstore = {quoted}\n\n[sae]\nn_features = 1024\n\n[architecture]\n{architecture}\n\
         [training]\nsteps = {n}\nbatch_size = 1024\nlr = 1e-3\n{training}\n"
    );
    std::fs::write(&config, text)?;
    let out = folder.join(name);
    let mut train = Command::new(program);
    train.arg("train").arg(&config).arg("--out").arg(&out);
    let start = Instant::now();
    if steps.run(&format!("train-{name}"), &mut train)? != Some(0) {
        return Ok(None);
    }
    let took = start.elapsed().as_secs_f64();
    let result = folder.join(format!("{name}.json"));
    let mut eval = Command::new(program);
    eval.arg("eval").arg(out.join("checkpoint")).arg("--data").arg(&store);
    eval.args(["--device", device, "--out"]).arg(&result);
    if steps.run(&format!("eval-{name}"), &mut eval)? != Some(0) {
        return Ok(None);
    }
    Ok(Some((sae_config::read_json(&result)?, took)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_agree_within_the_tolerances_only() {
        let pair = |r2, l0| Pair {
            architecture: "topk".to_owned(),
            r2: [0.9, r2],
            l0: [16.0, l0],
            seconds: [1.0, 1.0],
        };
        assert!(pair(0.905, 16.5).agrees());
        for (r2, l0) in [(0.88, 16.0), (0.9, 17.0), (f64::NAN, 16.0), (0.9, f64::NAN)] {
            assert!(!pair(r2, l0).agrees(), "{r2} {l0}");
        }
    }
}
