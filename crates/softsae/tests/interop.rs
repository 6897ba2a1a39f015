//! Checkpoints to and from the files of other tools.

use std::fs;
use std::path::Path;

use crate::{fail, plant, run_toml, str, succeed};

/// A short run, its checkpoint.
fn trained(folder: &Path, store: &Path, architecture: &str) -> std::path::PathBuf {
    let (config, run) = (folder.join("run.toml"), folder.join("run"));
    fs::write(&config, run_toml(store, architecture, 20)).expect("writes");
    succeed(["train", str(&config), "--out", str(&run)]);
    run.join("checkpoint")
}

#[test]
fn a_checkpoint_goes_out_and_comes_back() {
    for (architecture, formats) in [
        ("name = \"soft\"\nk = 4", &["saelens", "softsae"][..]),
        ("name = \"topk\"\nk = 4", &["saelens", "dictionary-learning", "sparsify"]),
    ] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| folder.path().join(name);
        let store = at("store");
        plant(&store, 4000, 16);
        let checkpoint = trained(folder.path(), &store, architecture);
        let eval = |checkpoint: &Path| {
            let out = at("eval.json");
            succeed(["eval", str(checkpoint), "--data", str(&store), "--out", str(&out)]);
            let evaluation: sae_config::Evaluation = sae_config::read_json(&out).expect("a result");
            evaluation.reconstruction
        };
        let before = eval(&checkpoint);
        for format in formats {
            let (files, back) = (at(format), at(&format!("{format}-back")));
            let export = ["export", str(&checkpoint), "--format", format, "--out", str(&files)];
            let printed = succeed(export.into_iter().chain(["--verify"]));
            assert!(printed.contains("verified on 4096 rows: 0 with other"), "{printed}");
            fail(export, 2, &["--out", "expected a new or empty folder"]);
            let (again, data) =
                (at(&format!("{format}-again")), ["--verify", "--data", str(&store)]);
            let export = ["export", str(&checkpoint), "--format", format, "--out", str(&again)];
            let printed = succeed(export.into_iter().chain(data));
            assert!(printed.contains("verified on 4000 rows: 0 with other"), "{printed}");
            let import = ["import", str(&files), "--format", format, "--out", str(&back)];
            let printed = succeed(import);
            assert!(printed.contains("16 dimensions, 256 features\n"), "{printed}");
            let after = eval(&back);
            assert!((before.r2 - after.r2).abs() < 1e-5, "{} {}", before.r2, after.r2);
        }
    }
}

#[test]
fn what_a_tool_does_not_have_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    let store = at("store");
    plant(&store, 4000, 16);
    let checkpoint = trained(folder.path(), &store, "name = \"soft\"\nk = 4");
    let out = at("out");
    let export = |more: &[&'static str]| {
        let all = ["export", str(&checkpoint), "--out", str(&out)];
        all.into_iter().chain(more.iter().copied()).collect::<Vec<_>>()
    };
    fail(
        export(&["--format", "sparsify"]),
        2,
        &["architecture", "sparsify has (topk)", "got soft"],
    );
    fail(export(&["--format", "pickle"]), 2, &["--format", "saelens", "pickle"]);
    let wide = at("wide");
    plant(&wide, 100, 32);
    let other = ["--format", "saelens", "--data", str(&wide)];
    let export = ["export", str(&checkpoint), "--out", str(&out)];
    fail(export.into_iter().chain(other), 2, &["--data", "dimension 16", "got 32"]);
    let back = at("back");
    let import = ["import", str(&store), "--format", "saelens", "--out", str(&back)];
    fail(import, 2, &["cfg.json"]);
    assert!(!back.exists(), "nothing may be written");
}
