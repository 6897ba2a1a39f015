//! What `inspect` and `train` say of data before a run.

use std::fs;
use std::path::Path;
use std::process::Output;

use sae_data::{Dtype, NpyWriter};

use crate::{run_toml, smollm2, softsae, str, succeed, text};

fn train(config: &Path, out: &Path, more: &[&'static str]) -> String {
    let arguments = ["train", str(config), "--out", str(out)];
    let Output { status, stderr, .. } = softsae(arguments.into_iter().chain(more.iter().copied()));
    let told = text(&stderr);
    assert!(status.success(), "{told}");
    told
}

#[test]
fn a_mean_that_is_left_in_is_told_once_and_only_to_whom_it_concerns() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let store = at("rows.npy");
    let mut writer = NpyWriter::create(&store, Dtype::F32, 500, 8).expect("a file");
    let value = |i: usize| if i % 8 == 3 { 30.0 } else { (i * 7919 % 2001) as f32 / 1000.0 - 1.0 };
    let rows: Vec<f32> = (0..4000).map(value).collect();
    writer.append(&rows).expect("rows");
    writer.finish().expect("a store");
    let told = succeed(["inspect", str(&store)]);
    for words in ["gamma", "dimensions far from zero  1", "shift_scale", "would never fire"] {
        assert!(told.contains(words), "{words}: {told}");
    }
    let run = |name: &str, architecture: &str, normalization: &str| {
        let of_sae = format!("n_features = 256\nnormalization = \"{normalization}\"");
        let toml = run_toml(&store, architecture, 4).replace("n_features = 256", &of_sae);
        fs::write(at(name).with_extension("toml"), toml).expect("writes");
        train(&at(name).with_extension("toml"), &at(name), &[])
    };
    let gated = "name = 'gated'\nl1_penalty = 0.1";
    let warning = "warning: data: sae.normalization = \"shift_scale\"";
    let warned = run("scale", gated, "scale");
    assert!(warned.contains(warning) && warned.contains("data: gamma"), "{warned}");
    for (name, architecture, normalization) in
        [("shift", gated, "shift_scale"), ("median", "name = 'topk'\nk = 4", "scale")]
    {
        let told = run(name, architecture, normalization);
        assert!(told.contains("data: gamma") && !told.contains("warning"), "{told}");
    }
    let again = train(&at("scale.toml"), &at("scale"), &["--resume"]);
    assert!(!again.contains("gamma"), "nothing is begun: {again}");
}

#[test]
fn the_massive_rows_of_the_real_host_are_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let host = smollm2();
    let words: String =
        (0..60).map(|i| format!("It was day {i}, and the sea was calm. ")).collect();
    fs::write(at("text.txt"), words).expect("writes");
    let (text, store) = (at("text.txt"), at("store"));
    succeed([
        "harvest",
        "--host",
        str(&host),
        "--text",
        str(&text),
        "--hook",
        "resid_post.15",
        "--skip-positions",
        "0",
        "--out",
        str(&store),
    ]);
    let told = succeed(["inspect", str(&store)]);
    // The first position of each context.
    for words in ["massive rows", "data.max_norm_ratio = 10", "and would decide scale and mean"] {
        assert!(told.contains(words), "{words}: {told}");
    }
}
