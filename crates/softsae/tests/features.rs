//! Feature pages from a checkpoint, a store and a host: numbers against those of `encode`.

mod exports;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tch::{Kind, Tensor};

use crate::{fail, plant, run_toml, softsae, softsae_program, str, succeed, text};

/// A folder with a golden host.
pub(crate) fn host(at: &Path, name: &str) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sae-hosts/testdata/golden/hosts");
    fs::create_dir(at).expect("a folder");
    for file in ["config.json", "model.safetensors"] {
        fs::copy(golden.join(name).join(file), at.join(file)).expect("a golden file");
    }
}

/// Gives a host a tokenizer of words, of which `w3` is special.
pub(crate) fn tokenizer(host: &Path, words: &dyn Fn(u32) -> String) {
    let vocabulary: serde_json::Map<_, _> = (0..97).map(|id| (words(id), id.into())).collect();
    let added = json!([{"id": 3, "content": "w3", "single_word": true, "lstrip": false,
        "rstrip": false, "normalized": false, "special": true}]);
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": null, "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "w0"}
    });
    fs::write(host.join("tokenizer.json"), tokenizer.to_string()).expect("writes");
    fs::write(host.join("tokenizer_config.json"), r#"{"bos_token": "w3"}"#).expect("writes");
}

/// A host with a tokenizer, a store of it and a checkpoint trained on that, in a folder.
pub(crate) fn made(at: &dyn Fn(&str) -> PathBuf, architecture: &str) {
    let words: Vec<String> = (0..700u32).map(|i| format!("w{}", i * i % 89 + 4)).collect();
    made_of(at, architecture, &words);
}

/// The same of these words.
pub(crate) fn made_of(at: &dyn Fn(&str) -> PathBuf, architecture: &str, words: &[String]) {
    host(&at("host"), "llama");
    tokenizer(&at("host"), &|id| format!("w{id}"));
    fs::write(at("text.txt"), words.join(" ")).expect("writes");
    let (host, prose, store) = (at("host"), at("text.txt"), at("store"));
    let harvest = ["harvest", "--host", str(&host), "--text", str(&prose), "--out", str(&store)];
    succeed(harvest.into_iter().chain(["--hook", "resid_post.1", "--context-length", "16"]));
    fs::write(at("run.toml"), run_toml(&store, architecture, 30)).expect("writes");
    succeed(["train", str(&at("run.toml")), "--out", str(&at("run"))]);
}

/// All files of data by name.
pub(crate) fn files(out: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![out.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(out).expect("inside").to_owned();
                found.insert(name, fs::read(path).expect("reads"));
            }
        }
    }
    found
}

/// What a file of data gives.
pub(crate) fn data(out: &Path, name: &str) -> Value {
    let text = fs::read_to_string(out.join(format!("features-data/{name}.js"))).expect("reads");
    let json = text.split_once(',').expect("a call").1;
    serde_json::from_str(json.strip_suffix(");\n").expect("a call")).expect("JSON")
}

/// The codes of a store as a dense matrix.
pub(crate) fn encoded(checkpoint: &Path, store: &Path, out: &Path) -> Vec<Vec<f32>> {
    succeed(["encode", str(checkpoint), "--data", str(store), "--out", str(out)]);
    let tensors = Tensor::read_safetensors(out.join("codes-00000.safetensors")).expect("codes");
    let tensor = |name: &str| &tensors.iter().find(|(key, _)| key == name).expect("a tensor").1;
    let starts = Vec::<i64>::try_from(tensor("indptr")).expect("numbers");
    let indices = Vec::<i64>::try_from(tensor("indices").to_kind(Kind::Int64)).expect("numbers");
    let values = Vec::<f32>::try_from(tensor("values")).expect("numbers");
    let row = |window: &[i64]| {
        let mut dense = vec![0.0; 256];
        for at in window[0] as usize..window[1] as usize {
            dense[indices[at] as usize] = values[at];
        }
        dense
    };
    starts.windows(2).map(row).collect()
}

#[test]
fn pages_show_the_codes_of_the_store_and_come_out_the_same() {
    for architecture in ["name = \"topk\"\nk = 4", "name = \"soft\"\nk = 4"] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| folder.path().join(name);
        made(&at, architecture);
        let (checkpoint, store, host) = (at("run/checkpoint"), at("store"), at("host"));
        let (one, two) = (at("one"), at("two"));
        for out in [&one, &two] {
            let features = ["features", str(&checkpoint), "--data", str(&store)];
            let printed =
                succeed(features.into_iter().chain(["--host", str(&host), "--out", str(out)]));
            assert_eq!(printed, format!("{}\n", out.join("features.html").display()));
        }
        assert_eq!(files(&one), files(&two));
        assert_eq!(fs::read_dir(&one).expect("a folder").count(), 2, "nothing else is left");

        let codes = encoded(&checkpoint, &store, &at("codes"));
        let index = data(&one, "index");
        let set = &index["set"];
        assert_eq!((&set["n_rows"], &set["n_features"]), (&json!(codes.len()), &json!(256)));
        assert_eq!(set["has_tokens"], true);
        assert_eq!(set["hook_point"], "resid_post.1");
        assert_eq!(set["k_hat"].is_null(), architecture.contains("topk"));
        let n: usize = codes.iter().flatten().filter(|value| **value != 0.0).count();
        assert_eq!(set["l0"], n as f64 / codes.len() as f64);
        let tokens = data(&one, "tokens");
        let mut n_top = 0;
        for feature in 0..256 {
            let record = &data(&one, &format!("features/{}", feature / 64))[feature % 64];
            let column: Vec<f32> = codes.iter().map(|row| row[feature]).collect();
            assert_eq!(record["n_active"], column.iter().filter(|value| **value != 0.0).count());
            let most = column.iter().copied().fold(0.0, f32::max);
            assert_eq!(record["max"].as_f64().expect("a number") as f32, most);
            for context in record["top"].as_array().expect("contexts") {
                let row = context[0].as_u64().expect("a row") as usize;
                assert_eq!(context[2].as_f64().expect("a number") as f32, column[row]);
                n_top += 1;
                // The token of the row is that of the text: 15 of 16 of each context are stored.
                let (at, document) = (row / 15 * 16 + row % 15 + 1, &context[1][0]);
                assert_eq!((document, &context[1][1]), (&json!(0), &json!(row % 15 + 1)));
                let id = &context[4][context[3].as_u64().expect("a place") as usize];
                assert_eq!(*id, at * at % 89 + 4);
                let ids = tokens["ids"].as_array().expect("ids");
                let place = ids.iter().position(|known| known == id).expect("a known token");
                assert_eq!(tokens["texts"][place], format!("w{id}"));
            }
            assert_eq!(record["logits"][0].as_array().expect("tokens").len(), 10);
        }
        assert!(n_top > 100, "{n_top}");
    }
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    made(&at, "name = \"topk\"\nk = 4");
    let (checkpoint, store, out) = (at("run/checkpoint"), at("store"), at("pages"));
    let args = |store: &Path, host: Option<&Path>, out: &Path| -> Vec<String> {
        let all = ["features", str(&checkpoint), "--data", str(store), "--out", str(out)];
        let host = host.map(|host| ["--host".to_owned(), str(host).to_owned()]);
        all.map(String::from).into_iter().chain(host.into_iter().flatten()).collect()
    };
    let refused = |args: Vec<String>, words: &[&str]| {
        fail(args.iter().map(String::as_str), 2, words);
    };
    host(&at("gpt2"), "gpt2");
    tokenizer(&at("gpt2"), &|id| format!("w{id}"));
    refused(args(&store, Some(&at("gpt2")), &out), &["host: expected", "--elsewhere"]);
    host(&at("images"), "vit");
    refused(args(&store, Some(&at("images")), &out), &["--host", "expected a language model"]);
    // The same weights with another tokenizer.
    host(&at("other"), "llama");
    tokenizer(&at("other"), &|id| if id < 4 { format!("w{id}") } else { format!("w{}", 100 - id) });
    refused(args(&store, Some(&at("other")), &out), &["tokenizer: expected", "--elsewhere"]);
    plant(&at("wide"), 50, 16);
    refused(args(&at("wide"), None, &out), &["expected rows of dimension 32", "got 16"]);
    refused(args(&store, None, &store), &["--out", "no part of the input"]);
    let occupied = at("occupied");
    fs::create_dir_all(occupied.join("features-data")).expect("a folder");
    refused(args(&store, None, &occupied), &["features-data"]);
    assert!(!out.exists());
    let mut elsewhere = args(&store, Some(&at("other")), &out);
    elsewhere.push("--elsewhere".into());
    let output = softsae(elsewhere.iter().map(String::as_str));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let notes = data(&out, "index")["set"]["notes"].to_string();
    assert!(notes.contains("tokenizer: expected"), "{notes}");

    // Without a host tokens are numbers, and the page says so.
    succeed(args(&store, None, &out).iter().map(String::as_str));
    let notes = data(&out, "index")["set"]["notes"].to_string();
    assert!(notes.contains("no --host") && !notes.contains("tokenizer"), "{notes}");
    assert!(data(&out, "tokens")["texts"][0].is_null());
}

#[test]
fn a_store_without_tokens_gives_numbers_and_a_killed_pass_no_page() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    plant(&at("store"), 60_000, 32);
    fs::write(at("run.toml"), run_toml(&at("store"), "name = \"topk\"\nk = 4", 10))
        .expect("writes");
    succeed(["train", str(&at("run.toml")), "--out", str(&at("run"))]);
    let (checkpoint, store, out) = (at("run/checkpoint"), at("store"), at("pages"));
    let features = ["features", str(&checkpoint), "--data", str(&store), "--out", str(&out)];
    let mut child = Command::new(softsae_program())
        .args(features)
        .stderr(Stdio::null())
        .spawn()
        .expect("softsae starts");
    while !out.join("features-data.partial").exists() {
        assert!(child.try_wait().expect("a child").is_none(), "it ended");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    child.kill().expect("killed");
    assert_eq!(child.wait().expect("a child").code(), None, "killed");
    assert!(!out.join("features.html").exists() && !out.join("features-data").exists());

    let output = softsae(features);
    let said = text(&output.stderr);
    assert!(output.status.success() && said.contains("no token ids"), "{said}");
    assert!(!out.join("features-data.partial").exists());
    let records = data(&out, "features/0");
    let contexts = records.as_array().expect("features").iter();
    let tokens = contexts.flat_map(|record| record["top"].as_array().expect("contexts"));
    assert!(tokens.clone().count() > 100);
    assert!(tokens.into_iter().all(|context| context[4] == json!([])));
}
