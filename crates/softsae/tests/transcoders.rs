//! A transcoder through every command: it computes or is refused by name.

use std::fs;
use std::path::Path;

use sae_data::{Dtype, RowMeta, StoreSpec, StoreWriter};

use crate::{fail, str, succeed};

/// Rows of width `d`: sums of two waves of the row's number.
fn write(path: &Path, d: usize, n_rows: u32, reversed: bool) {
    let mut writer = StoreWriter::create(path, StoreSpec::new(d, Dtype::F32)).expect("creates");
    let mut rows: Vec<u32> = (0..n_rows).collect();
    if reversed {
        rows.reverse();
    }
    for row in rows {
        let wave = |i: usize| (f64::from(row) * (0.3 + 0.1 * i as f64)).sin() as f32;
        let values: Vec<f32> = (0..d).map(wave).collect();
        let meta = RowMeta { token_id: row, document: row / 10, position: row % 10 };
        writer.append(&values, &[meta]).expect("appends");
    }
    writer.finish().expect("finishes");
}

fn run_file(target: &str) -> String {
    format!(
        "data = {{ store = 'in'{target} }}\nsae.n_features = 32\n\
         architecture = {{ name = 'soft', k = 3 }}\n\
         training = {{ steps = 30, batch_size = 32, lr = 1e-2, log_every = 10 }}\n"
    )
}

#[test]
fn every_command_computes_or_refuses() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    write(&at("in"), 6, 200, false);
    write(&at("out"), 9, 200, true);
    write(&at("few"), 9, 150, false);
    for (name, target) in
        [("transcoder", ", target = 'out'"), ("sae", ""), ("few", ", target = 'few'")]
    {
        fs::write(at(&format!("{name}.toml")), run_file(target)).expect("writes");
    }
    let (config, out) = (at("transcoder.toml"), at("transcoder"));
    let plan = succeed(["train", str(&config), "--plan"]);
    let total = plan.lines().find(|line| line.starts_with("total")).expect("a total");
    assert!(total.contains("MB"), "{total}");
    succeed(["train", str(&config), "--out", str(&out)]);
    succeed(["train", str(&at("sae.toml")), "--out", str(&at("sae"))]);
    let few = at("few.toml");
    let words = ["data.target: ", "none for row 150, document 15, position 0"];
    fail(["train", str(&few), "--out", str(&at("refused"))], 2, &words);

    let (model, sae) = (out.join("checkpoint"), at("sae/checkpoint"));
    let (input, target) = (at("in"), at("out"));
    let eval = |model: &Path, more: &[&str]| {
        let args = ["eval", str(model), "--data", str(&input)];
        args.iter().chain(more).map(|arg| (*arg).to_owned()).collect::<Vec<_>>()
    };
    let json = at("eval.json");
    let with_target = eval(&model, &["--target", str(&target), "--out", str(&json)]);
    succeed(with_target.iter().map(String::as_str));
    let found: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&json).expect("reads")).expect("JSON");
    let r2 = found["reconstruction"]["r2"].as_f64().expect("a number");
    assert!(r2 > 0.2 && r2 < 1.0, "{r2}");
    assert_eq!(found["n_rows"], 200);
    for (args, words) in [
        (eval(&model, &[]), ["--target: expected the store", "transcoder"]),
        (
            eval(&sae, &["--target", str(&target)]),
            ["--target: expected none", "rebuilds its input"],
        ),
        (eval(&model, &["--target", str(&input)]), ["dimension 9", "got 6"]),
        (eval(&model, &["--target", str(&at("few"))]), ["none for row 150", "few"]),
        (eval(&model, &["--host", "h", "--text", "t"]), ["--host: expected an SAE", "transcoder"]),
    ] {
        fail(args.iter().map(String::as_str), 2, &words);
    }
    succeed(["encode", str(&model), "--data", str(&input), "--out", str(&at("codes"))]);
    for format in ["saelens", "dictionary-learning", "sparsify", "softsae"] {
        let out = at(format);
        let args = ["export", str(&model), "--format", format, "--out", str(&out)];
        fail(args, 2, &["expected an autoencoder", "a transcoder"]);
    }
    let pages = at("pages");
    let args = ["features", str(&model), "--data", str(&input), "--out", str(&pages)];
    fail(args, 2, &["expected an SAE", "a transcoder"]);
    let told = succeed(["inspect", str(&model)]);
    assert!(told.contains("rebuilds 9 dimensions of another port from 6"), "{told}");
    assert!(told.contains("[trained_on.target]"), "{told}");
}
