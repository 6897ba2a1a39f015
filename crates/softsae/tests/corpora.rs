//! Corpora as other tools write them, from the hub too, through the command line.

#[path = "../../sae-hub/tests/server.rs"]
mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use sae_data::{RowMeta, open_store};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::features::host;
use crate::{fail, run_toml, softsae_program, str, succeed, text};
use server::{COMMIT, Faults, Server};

fn testdata(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../sae-hosts/testdata")).join(name)
}

/// A folder with a tiny host whose tokens are characters; token 2 ends a text.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = folder.path().join("host");
    host(&at, "llama");
    let characters = (' '..='~').map(String::from);
    let tokens = ["<s>", "?", "</s>"].map(str::to_owned).into_iter().chain(characters).take(97);
    let vocabulary: serde_json::Map<_, _> =
        tokens.zip(0_u32..).map(|(token, id)| (token, id.into())).collect();
    let special = |id: u32, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true})
    };
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [special(0, "<s>"), special(2, "</s>")], "normalizer": null,
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "."}, "behavior": "Isolated",
            "invert": false},
        "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "?"}
    });
    fs::write(at.join("tokenizer.json"), tokenizer.to_string()).expect("writes");
    let config = r#"{"bos_token": "<s>", "eos_token": "</s>"}"#;
    fs::write(at.join("tokenizer_config.json"), config).expect("writes");
    folder
}

/// Harvests from the host of a folder into a store in it.
fn harvest(folder: &Path, out: &str, more: &[&str]) -> PathBuf {
    let (host, out) = (folder.join("host"), folder.join(out));
    let args = ["harvest", "--host", str(&host), "--hook", "resid_post.1", "--out", str(&out)];
    let more = more.iter().copied().chain(["--context-length", "16", "--threads", "1"]);
    succeed(args.into_iter().chain(more));
    out
}

/// The rows of a store, with their tokens and positions.
fn rows(store: &Path) -> (Vec<f32>, Vec<(u32, u32)>) {
    let store = open_store(store).expect("a store");
    let n_rows = store.n_rows() as usize;
    let (mut rows, mut meta) =
        (vec![0.0; n_rows * store.d_model()], vec![RowMeta::default(); n_rows]);
    store.read_rows(0, &mut rows).expect("rows");
    store.read_meta(0, &mut meta).expect("metadata");
    (rows, meta.into_iter().map(|meta| (meta.token_id, meta.position)).collect())
}

/// JSON lines packed by gzip and Parquet packed by zstd, as other tools have written them, give the
/// rows of their texts.
#[test]
fn lines_and_tables_give_the_rows_of_their_texts() {
    let folder = folder();
    let at = folder.path();
    let expected = fs::read(testdata("corpora/expected.json")).expect("reads");
    let expected: Value = serde_json::from_slice(&expected).expect("JSON");
    let texts = expected["texts"].as_array().expect("texts").iter().enumerate();
    let mut args = Vec::new();
    for (i, text) in texts.filter(|(_, text)| !text.as_str().expect("a text").is_empty()) {
        let file = at.join(format!("{i:02}.txt"));
        fs::write(&file, text.as_str().expect("a text")).expect("writes");
        args.extend(["--text".to_owned(), str(&file).to_owned()]);
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let of_texts = rows(&harvest(at, "texts", &args));
    assert!(of_texts.1.len() > 300, "{}", of_texts.1.len());
    for (name, more) in [
        ("lines.jsonl.gz", &[][..]),
        ("zstd.parquet", &["--field", "inner.text"]),
        ("snappy.parquet", &["--field", "long"]),
    ] {
        let file = testdata("corpora").join(name);
        let more: Vec<&str> = ["--corpus", str(&file)].into_iter().chain(more.to_vec()).collect();
        let store = harvest(at, name, &more);
        assert!(rows(&store) == of_texts, "{name}: rows of others than the texts");
        let said = succeed(["inspect", str(&store)]);
        assert!(said.contains(name) && said.contains("corpus_hash"), "{said}");
    }
    let (host, out) = (at.join("host"), at.join("none"));
    let table = testdata("corpora/zstd.parquet");
    let none = ["harvest", "--host", str(&host), "--hook", "embed", "--out", str(&out), "--corpus"];
    let none = none.into_iter().chain([str(&table), "--field", "body"]);
    fail(none, 2, &["zstd.parquet", "`body`", "`inner`, `messages`"]);
}

/// A data set of the hub: pinned to its commit, kept in the cache, read offline, trained on.
#[test]
fn a_corpus_of_the_hub_is_fetched_once_and_pinned() {
    let folder = folder();
    let at = folder.path();
    let (server, cache) = (Server::start(Faults::default()), at.join("cache"));
    let run = |args: &[&str]| {
        let mut command = Command::new(softsae_program());
        command.args(args).env("HF_ENDPOINT", &server.address).env("HF_HUB_CACHE", &cache);
        let output = command.env_remove("HF_TOKEN").output().expect("softsae starts");
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    };
    let host = at.join("host");
    let harvest = |out: &Path, more: &[&str]| {
        let args = ["harvest", "--host", str(&host), "--hook", "embed", "--out", str(out)];
        let corpus = ["--corpus", "hf:owner/name", "--files", "data/*.jsonl"];
        let more = ["--skip-positions", "0"].iter().chain(more).copied();
        run(&args.into_iter().chain(corpus).chain(more).collect::<Vec<_>>())
    };
    let (code, said) = harvest(&at.join("first"), &[]);
    assert!(code == Some(0) && said.contains("1 rows from 1 tokens"), "{said}");
    let asked = server.requests("GET").len();
    assert!(asked > 0);
    let (code, said) = harvest(&at.join("second"), &["--offline"]);
    assert_eq!((code, server.requests("GET").len()), (Some(0), asked), "{said}");
    assert_eq!(rows(&at.join("first")), rows(&at.join("second")));
    let said = succeed(["inspect", str(&at.join("first"))]);
    assert!(said.contains(&format!("hf:owner/name@{COMMIT}")), "{said}");

    // A live run keeps the commit in its resolved file.
    let config = at.join("run.toml");
    let data = format!(
        "[data]\nhost = {host:?}\nhook = 'embed'\nskip_positions = 0\ncontext_length = 4\n\
         [data.corpus]\npath = 'hf:owner/name'\nfiles = 'data/*.jsonl'\n"
    );
    let run_file = run_toml(Path::new("none"), "name = 'topk'\nk = 4", 2);
    let rest = run_file.split_once("[sae]").expect("a section").1;
    let rest = format!("{data}[sae]\nnormalization = 'none'{rest}");
    fs::write(&config, rest).expect("writes");
    let (code, said) = run(&["train", str(&config), "--out", str(&at.join("run"))]);
    assert_eq!(code, Some(0), "{said}");
    let resolved = fs::read_to_string(at.join("run/run.toml")).expect("reads");
    assert!(resolved.contains(&format!("hf:owner/name@{COMMIT}")), "{resolved}");

    // Settings that name no hub are no reason to wait.
    let started = Instant::now();
    let mut command = Command::new(softsae_program());
    command.args(["harvest", "--host", str(&host), "--hook", "embed", "--corpus", "hf:owner/name"]);
    command.arg("--out").arg(at.join("third")).env("HF_ENDPOINT", "garbage");
    let output = command.env("HF_HUB_CACHE", at.join("other")).output().expect("softsae starts");
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("`garbage`: expected an address") && said.contains("HF_ENDPOINT"),
        "{said}"
    );
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

/// A host of the hub is named by its commit before anything of it is read.
#[test]
fn a_host_of_the_hub_is_pinned() {
    let folder = folder();
    let (server, config) = (Server::start(Faults::default()), folder.path().join("run.toml"));
    let data = "[data]\nhost = 'hf:owner/name'\nhook = 'embed'\ncorpus = { path = 'texts' }\n";
    let run_file = run_toml(Path::new("none"), "name = 'topk'\nk = 4", 2);
    let rest = run_file.split_once("[sae]").expect("a section").1;
    fs::write(&config, format!("{data}[sae]{rest}")).expect("writes");
    let mut command = Command::new(softsae_program());
    command.args(["train", str(&config), "--plan"]).env("HF_ENDPOINT", &server.address);
    command.env("HF_HUB_CACHE", folder.path().join("cache")).env_remove("HF_TOKEN");
    let output = command.output().expect("softsae starts");
    // It has the files of a data set alone.
    let expected = format!("hf:owner/name@{COMMIT}: files: expected those of a host");
    let said = text(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains(&expected), "{said}");
}

/// A small store is trained on and judged as the large one.
#[test]
fn a_store_of_int8_in_zstd_is_trained_on_and_judged() {
    let folder = folder();
    let at = folder.path();
    let prose = at.join("prose.txt");
    let word = |i: u64| format!("{} ", char::from(b'a' + (i * i % 23) as u8)).repeat(3);
    fs::write(&prose, (0..800).map(word).collect::<String>()).expect("writes");
    let of_text = ["--text", str(&prose)];
    let plain = harvest(at, "plain", &of_text);
    let more = ["--dtype", "int8", "--compress", "zstd"];
    let small = harvest(at, "small", &[&of_text[..], &more[..]].concat());
    let bytes = |store: &Path| -> u64 {
        let entries = fs::read_dir(store).expect("a folder");
        entries.map(|entry| entry.expect("an entry").metadata().expect("sizes").len()).sum()
    };
    assert!(2 * bytes(&small) < bytes(&plain), "{} and {}", bytes(&small), bytes(&plain));
    let r2 = |store: &Path, name: &str| -> f64 {
        let (config, out) = (at.join(format!("{name}.toml")), at.join(name));
        fs::write(&config, run_toml(store, "name = 'topk'\nk = 8", 300)).expect("writes");
        succeed(["train", str(&config), "--out", str(&out)]);
        let (checkpoint, scores) = (out.join("checkpoint"), out.join("eval.json"));
        let args = ["eval", str(&checkpoint), "--data", str(store), "--out", str(&scores)];
        succeed(args);
        let scores: Value =
            serde_json::from_slice(&fs::read(scores).expect("reads")).expect("JSON");
        scores["reconstruction"]["r2"].as_f64().expect("R²")
    };
    let (of_plain, of_small) = (r2(&plain, "run-plain"), r2(&small, "run-small"));
    assert!(of_plain > 0.5, "{of_plain}");
    assert!((of_plain - of_small).abs() < 0.02, "R² {of_plain} and {of_small}");
}

#[test]
fn images_are_harvested_at_several_hook_points_in_one_pass() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (at, photos) = (folder.path().join("host"), testdata("images/photos"));
    host(&at, "dinov2");
    let processor = "preprocessor_config.json";
    fs::copy(testdata("images/dinov2").join(processor), at.join(processor)).expect("copies");
    let out = folder.path().join("stores");
    let args = ["harvest", "--host", str(&at), "--images", str(&photos), "--out", str(&out)];
    let hooks = ["--hook", "resid_post.0", "--hook", "resid_post.1"];
    let said = succeed(args.into_iter().chain(hooks));
    assert_eq!(said.matches("rows from 4 images").count(), 2, "{said}");
    let stores = [0, 1].map(|layer| rows(&out.join(format!("resid_post.{layer}"))));
    assert_eq!(stores[0].1, stores[1].1);
    assert_ne!(stores[0].0, stores[1].0);
}

/// Writes u32 ids and reads them as u16.
#[test]
fn ids_of_another_width_are_refused() {
    let folder = folder();
    let (host, file) = (folder.path().join("host"), folder.path().join("ids.bin"));
    let ids = (0..200_u32).map(|i| if i % 50 == 49 { 2 } else { 3 + i * 7 % 90 });
    fs::write(&file, ids.flat_map(u32::to_le_bytes).collect::<Vec<u8>>()).expect("writes");
    let harvest = |width: &'static str, out: &str| {
        let out = folder.path().join(out).display().to_string();
        let args = ["harvest", "--host", str(&host), "--hook", "embed", "--corpus", str(&file)];
        let more = ["--token-type", width, "--out"].map(str::to_owned).into_iter().chain([out]);
        args.iter().map(|arg| (*arg).to_owned()).chain(more).collect::<Vec<_>>()
    };
    let (narrow, wide) = (harvest("u16", "narrow"), harvest("u32", "wide"));
    let words = ["ids.bin: numbers: expected token ids of u16", "`token_type = \"u32\"`"];
    fail(narrow.iter().map(String::as_str), 2, &words);
    let said = succeed(wide.iter().map(String::as_str));
    assert!(said.contains("from 196 tokens"), "{said}");
}
