//! `eval --suite`, and labelled stores of `probe-data`.

use std::path::Path;

use crate::{fail, plant, run_toml, smollm2, softsae, str, succeed, text};

/// Trains a small SAE on a store.
fn train(folder: &Path, store: &Path, name: &str, seed: u64) -> std::path::PathBuf {
    let run = folder.join(format!("{name}.toml"));
    let toml = run_toml(store, "name = \"topk\"\nk = 4", 40);
    std::fs::write(&run, format!("{toml}seed = {seed}\n")).unwrap();
    let out = folder.join(name);
    succeed(["train", str(&run), "--out", str(&out)]);
    out.join("checkpoint")
}

fn read(path: &Path) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn scores_have_intervals_floors_and_a_cache_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let store = place("store");
    plant(&store, 1500, 16);
    let (first, second) =
        (train(folder.path(), &store, "a", 0), train(folder.path(), &store, "b", 1));
    let (out, floors) = (place("eval.json"), place("floors"));
    let arguments = [
        "eval",
        str(&first),
        "--data",
        str(&store),
        "--suite",
        "all",
        "--against",
        str(&second),
        "--floors",
        str(&floors),
        "--out",
        str(&out),
    ];
    let output = softsae(arguments);
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{stderr}");
    for said in ["suite core: ", "suite truth: ", "suite stability: ", "suite probing: left out"] {
        assert!(stderr.contains(said), "{said} in {stderr}");
    }
    assert!(stdout.contains("core.r2") && stdout.contains("truth.mcc"), "{stdout}");
    let evaluation = read(&out);
    let scores = &evaluation["scores"];
    let r2 = &scores["core.r2"];
    assert_eq!(r2["n"], 1500);
    // Sums of blocks are those of all rows.
    let same = r2["value"].as_f64().unwrap() - evaluation["reconstruction"]["r2"].as_f64().unwrap();
    assert!(same.abs() < 1e-6, "{same}");
    let f1 = scores["truth.f1"]["value"].as_f64().unwrap();
    let known = evaluation["ground_truth"]["latents"]["f1"].as_f64().unwrap();
    assert!((f1 - known).abs() < 1e-9);
    assert!(r2["interval"]["low"].as_f64() < r2["interval"]["high"].as_f64());
    for name in ["core.r2", "truth.f1"] {
        assert_eq!(scores[name]["floors"].as_object().unwrap().len(), 6, "{name}");
    }
    assert!(scores["stability.pw_mcc"]["floors"]["random_directions"].is_f64());
    assert_eq!(std::fs::read_dir(&floors).unwrap().count(), 6);

    // What is kept is not measured again, and changes nothing.
    let again = softsae(arguments);
    assert!(again.status.success() && !text(&again.stderr).contains("worthless dictionary:"));
    assert_eq!(read(&out), evaluation);
    let plain = place("plain.json");
    succeed(["eval", str(&first), "--data", str(&store), "--out", str(&plain)]);
    assert!(read(&plain).get("scores").is_none());
    let core = ["eval", str(&first), "--data", str(&store), "--suite", "core", "--no-floors"];
    succeed(core.into_iter().chain(["--out", str(&plain)]));
    let core = read(&plain);
    assert!(core["scores"]["core.r2"].get("floors").is_none());
    assert!(core["scores"].get("truth.f1").is_none());
}

#[test]
fn suites_that_lack_what_they_need_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    plant(&store, 300, 8);
    let sae = train(folder.path(), &store, "a", 0);
    let eval = ["eval", str(&sae), "--data", str(&store)];
    for (suite, needs) in [("probing", "probe-data"), ("stability", "--against")] {
        let arguments = eval.into_iter().chain(["--suite", suite]);
        fail(arguments, 2, &["--suite", suite, needs]);
    }
    fail(eval.into_iter().chain(["--suite", "most"]), 2, &["most", "core", "all"]);
    fail(eval.into_iter().chain(["--probes", str(&store)]), 2, &["--suite"]);
    // A checkpoint beside itself, a store without labels, floors in the place of a file or of an input.
    let arguments = ["--suite", "stability", "--against", str(&sae)];
    fail(eval.into_iter().chain(arguments), 2, &["--against", "once"]);
    let file = folder.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let arguments = ["--suite", "core", "--floors", str(&file)];
    fail(eval.into_iter().chain(arguments), 2, &["--floors", "expected a folder"]);
    let arguments = ["--suite", "probing", "--probes", str(&store)];
    fail(eval.into_iter().chain(arguments), 2, &["labels.json"]);
    let inside = store.join("floors");
    let arguments = ["--suite", "core", "--floors", str(&inside)];
    fail(eval.into_iter().chain(arguments), 2, &["--floors", "no part of the input"]);
}

/// Texts about two things, 40 of each.
fn labelled(path: &Path) {
    let colours = ["red", "blue", "green", "white", "brown", "black", "grey", "yellow"];
    let things = [
        ("animal", ["cat", "dog", "horse", "cow", "sheep"]),
        ("machine", ["car", "bus", "lorry", "tractor", "train"]),
    ];
    let mut lines = String::new();
    for (label, names) in things {
        for name in names {
            for colour in colours {
                let line = serde_json::json!({ "text": format!("Here is a {colour} {name}"), "label": label });
                lines += &format!("{line}\n");
            }
        }
    }
    // Comes again, and is left out.
    lines +=
        &format!("{}\n", serde_json::json!({ "text": "Here is a red cat", "label": "machine" }));
    std::fs::write(path, lines).unwrap();
}

fn probe_data<'a>(host: &'a Path, texts: &'a Path, out: &'a Path) -> [&'a str; 9] {
    let (host, texts, out) = (str(host), str(texts), str(out));
    ["probe-data", "--host", host, "--hook", "resid_post.3", "--texts", texts, "--out", out]
}

#[test]
fn labelled_texts_are_harvested_and_probed() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let (texts, store) = (place("things.jsonl"), place("things"));
    labelled(&texts);
    let host = smollm2();
    let arguments = probe_data(&host, &texts, &store);
    let output = softsae(arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("1 of 81 texts come again, as far as they are read"));
    assert!(text(&output.stdout).contains("80 rows of 80 documents"), "{}", text(&output.stdout));
    assert!(!place("things.tokens").exists());
    let labels = read(&store.join("labels.json"));
    assert_eq!(labels["labels"], serde_json::json!(["animal", "machine"]));
    fail(arguments, 2, &["--out", "a new store"]);

    let all = place("all");
    let rows = probe_data(&host, &texts, &all).into_iter().chain(["--rows", "all"]);
    let output = succeed(rows);
    assert!(output.contains("of 80 documents"), "{output}");

    let sae = train(folder.path(), &all, "sae", 0);
    let out = place("eval.json");
    let eval = [
        "eval",
        str(&sae),
        "--data",
        str(&all),
        "--suite",
        "probing",
        "--probes",
        str(&store),
        "--no-floors",
        "--out",
        str(&out),
    ];
    succeed(eval);
    let evaluation = read(&out);
    let task = &evaluation["probes"][0];
    assert_eq!(
        (&task["label"], &task["n_train"], &task["n_test"]),
        (&"machine".into(), &64.into(), &16.into())
    );
    assert!(task["dense"]["auc"].as_f64().unwrap() > 0.9, "{task}");
    assert_eq!(task["sparse"][3]["features"].as_array().unwrap().len(), 16);
    assert!(evaluation["scores"]["probing.auc_k16"]["ceiling"].is_f64());

    // Labels of another store.
    std::fs::copy(store.join("labels.json"), all.join("labels.json")).unwrap();
    let other =
        ["eval", str(&sae), "--data", str(&all), "--suite", "probing", "--probes", str(&all)];
    fail(other, 2, &["labels.json", "`store`", "expected the hash"]);
}

/// A labelled store of a row a document.
fn labelled_store(place: &Path, d_model: usize, labels: &[&str]) {
    use sae_data::{Dtype, RowMeta, StoreSpec, StoreWriter, open_store};
    let n = labels.len();
    let values: Vec<f32> = (0..n * d_model).map(|i| ((i * 37 % 101) as f32 / 50.0) - 1.0).collect();
    let meta: Vec<RowMeta> =
        (0..n).map(|row| RowMeta { document: row as u32, ..RowMeta::default() }).collect();
    let mut writer = StoreWriter::create(place, StoreSpec::new(d_model, Dtype::F32)).unwrap();
    writer.append(&values, &meta).unwrap();
    writer.finish().unwrap();
    label(place, labels, &open_store(place).unwrap().content_hash().unwrap());
}

fn label(place: &Path, labels: &[&str], hash: &str) {
    let labels: Vec<String> = labels.iter().map(|&label| label.to_owned()).collect();
    let labels = sae_config::Labels::new("things", &labels, hash).unwrap();
    sae_config::write_json(&place.join("labels.json"), &labels).unwrap();
}

/// Puts an AUC in the place of those that dense probes got.
fn mark_dense_probes(floors: &Path, auc: f64) {
    for entry in std::fs::read_dir(floors).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_str().unwrap().starts_with("dense-probes-") {
            let mut kept = read(&path);
            kept["value"][0]["auc"] = auc.into();
            std::fs::write(&path, kept.to_string()).unwrap();
        }
    }
}

#[test]
fn labels_decide_what_is_asked_and_what_was_kept() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let (store, probes, floors) = (place("store"), place("probes"), place("floors"));
    plant(&store, 400, 16);
    let sae = train(folder.path(), &store, "a", 0);
    let names = |i: usize| if i < 8 { "few" } else { ["x", "y"][i % 2] };
    let labels: Vec<&str> = (0..200).map(names).collect();
    labelled_store(&probes, 16, &labels);
    let out = place("eval.json");
    let arguments = [
        "eval",
        str(&sae),
        "--data",
        str(&store),
        "--elsewhere",
        "--suite",
        "probing",
        "--probes",
        str(&probes),
        "--floors",
        str(&floors),
        "--out",
        str(&out),
    ];
    let output = softsae(arguments);
    let stderr = text(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("too few documents to probe for few (8 and 192)"), "{stderr}");
    let asked: Vec<String> =
        read(&out)["probes"].as_array().unwrap().iter().map(|of| of["label"].to_string()).collect();
    assert_eq!(asked, ["\"x\"", "\"y\""]);
    let is_measured = || {
        let output = softsae(arguments);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stderr).contains("worthless dictionary")
    };
    let dense = || read(&out)["probes"][0]["dense"]["auc"].as_f64().unwrap();
    let of_first = dense();
    assert!(!is_measured(), "floors are kept");
    assert_eq!(dense(), of_first);
    // The same rows under the same name, with other labels.
    let labels: Vec<&str> = (0..200).map(|i| names((i * 7 + 3) % 200)).collect();
    let hash = sae_data::open_store(&probes).unwrap().content_hash().unwrap();
    label(&probes, &labels, &hash);
    assert!(is_measured(), "floors are of the labels");
    assert_ne!(dense(), of_first, "and so are dense probes");
    mark_dense_probes(&floors, 0.125);
    assert!(!is_measured());
    assert_eq!(dense(), 0.125, "dense probes are kept");
    let twice = arguments.into_iter().chain(["--probes", str(&probes)]);
    fail(twice, 2, &["--probes", "once"]);
    let labels: Vec<&str> = (0..200).map(|i| ["x", "y"][usize::from(i < 8)]).collect();
    label(&probes, &labels, &hash);
    fail(arguments, 2, &["--probes", "25 documents", "y (8 and 192)"]);
    label(&probes, &labels[..199], &hash);
    fail(arguments, 2, &["`of_documents`", "a label for each document", "document 199"]);
}
