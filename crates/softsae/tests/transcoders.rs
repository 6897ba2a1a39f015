//! A transcoder through every command: it computes or is refused by name.

use std::fs;
use std::path::Path;
use std::process::Command;

use sae_data::{Dtype, Provenance, RowMeta, StoreSpec, StoreWriter};

use crate::{fail, softsae, softsae_program, str, succeed, text};

/// Rows of width `d`: sums of two waves of the row's number.
fn write(path: &Path, d: usize, n_rows: u32, reversed: bool) {
    write_of(path, d, n_rows, reversed, &Provenance::default());
}

fn write_of(path: &Path, d: usize, n_rows: u32, reversed: bool, provenance: &Provenance) {
    let spec = StoreSpec { provenance: provenance.clone(), ..StoreSpec::new(d, Dtype::F32) };
    let mut writer = StoreWriter::create(path, spec).expect("creates");
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
    encode_says_what_it_did(&model, &input, &at("codes"));
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

fn encode_says_what_it_did(model: &Path, input: &Path, codes: &Path) {
    let encode = ["encode", str(model), "--data", str(input), "--out", str(codes)];
    assert!(succeed(encode).contains("codes: codes of 200 rows"));
    // What is printed is part of the work.
    let full = fs::File::options().write(true).open("/dev/full").expect("opens");
    let status = Command::new(softsae_program()).args(encode).stdout(full).status();
    assert_eq!(status.expect("softsae starts").code(), Some(1));
}

#[test]
fn a_target_of_another_host_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let of = |host: &str, hook: &str, bos: &str| Provenance {
        host: host.into(),
        hook_point: hook.into(),
        settings: [("bos".to_owned(), bos.to_owned())].into(),
        ..Provenance::default()
    };
    write_of(&at("in"), 6, 100, false, &of("gpt2", "mlp_in.3", "none"));
    fs::write(at("run.toml"), run_file(", target = 'out'")).expect("writes");
    for (host, bos, expected) in [
        ("gpt2", "none", None),
        ("pythia", "none", Some("host: expected gpt2, got pythia")),
        ("gpt2", "0", Some("bos: expected none, got 0")),
    ] {
        let out = at("out");
        write_of(&out, 9, 100, false, &of(host, "mlp_out.3", bos));
        let output = softsae(["train", str(&at("run.toml")), "--plan"]);
        let told = text(&output.stderr);
        assert!(output.status.success(), "{told}");
        assert_eq!(told.contains("note: data.target: "), expected.is_some(), "{told}");
        assert!(expected.is_none_or(|what| told.contains(what)), "{told}");
        fs::remove_dir_all(&out).expect("removes");
    }
}

#[test]
fn a_key_that_a_checkpoint_has_twice_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    write(&at("in"), 6, 100, false);
    fs::write(at("run.toml"), run_file("")).expect("writes");
    succeed(["train", str(&at("run.toml")), "--out", str(&at("out"))]);
    let (store, checkpoint) = (at("in"), at("out/checkpoint"));
    let file = checkpoint.join("sae.json");
    let text = fs::read_to_string(&file).expect("reads");
    let twice = text.replacen("\"d_model\": 6", "\"d_model\": 7, \"d_model\": 6", 1);
    assert_ne!(text, twice);
    fs::write(&file, twice).expect("writes");
    let eval = ["eval", str(&checkpoint), "--data", str(&store)];
    fail(eval, 2, &["sae.json", "the key `d_model` comes twice"]);
}
