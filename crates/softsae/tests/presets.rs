//! Runs by the settings of the paper, shortened.

use std::fs;

use sae_config::{Evaluation, RunConfig};

use crate::{plant, str, succeed};

#[test]
fn the_presets_of_the_paper_train_and_are_evaluated() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    let store = at("store");
    plant(&store, 600, 32);
    for preset in ["paper-clip", "paper-llm"] {
        let (config, run) = (at("run.toml"), at(preset));
        // What a preset says of lengths is for 40,000 steps and more.
        let text = format!(
            "preset = \"{preset}\"\ndata.store = {}\nsae.n_features = 64\n\
             architecture = {{ k = 4, k_first = 32, k_max = 16.0, k_anneal_steps = 8, \
             alpha_anneal_steps = 5, hard_steps = 10 }}\n\
             training = {{ steps = 40, batch_size = 64, warmup_steps = 4, decay_start = 30 }}\n",
            toml::Value::from(str(&store))
        );
        fs::write(&config, text).expect("writes");
        succeed(["train", str(&config), "--out", str(&run)]);
        let resolved = RunConfig::read(&run.join("run.toml")).expect("a resolved run");
        let architecture = toml::Table::try_from(&resolved.architecture).expect("a table");
        assert_eq!(architecture["budget"].as_str(), Some("one_sided"), "{preset}");
        assert_eq!(architecture["selection_gradient"].as_str(), Some("full"), "{preset}");
        assert_eq!(resolved.training.lr, Some(if preset == "paper-clip" { 6e-4 } else { 3e-4 }));
        let out = at("eval.json");
        let checkpoint = run.join("checkpoint");
        succeed(["eval", str(&checkpoint), "--data", str(&store), "--out", str(&out)]);
        let evaluation: Evaluation = sae_config::read_json(&out).expect("a result");
        assert!(evaluation.k_hat.is_some() && evaluation.reconstruction.r2 < 1.0, "{preset}");
    }
}
