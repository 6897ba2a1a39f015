//! Feature pages whose making was killed, and those of rows that no store has.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::features::{data, files, made};
use crate::{fail, plant, run_toml, softsae, softsae_program, str, succeed, text};

/// Kills a command as soon as a file is there; false if it has ended before.
fn killed_at(args: &[&str], file: &Path) -> bool {
    let mut command = Command::new(softsae_program());
    let mut child = command.args(args).stderr(Stdio::null()).spawn().expect("softsae starts");
    while !file.exists() {
        if child.try_wait().expect("a child").is_some() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().expect("killed");
    child.wait().expect("a child").code().is_none()
}

/// The rows that are saved, which the next process goes on after.
fn saved(partial: &Path) -> Option<u64> {
    let text = fs::read_to_string(partial.join("pass/saved.json")).ok()?;
    serde_json::from_str::<Value>(&text).expect("JSON")["rows"].as_u64()
}

/// The files of the data but for the index, which names the rows.
fn without_index(out: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = files(&out.join("features-data"));
    found.remove(Path::new("index.js")).expect("an index");
    found
}

#[test]
fn pages_that_are_killed_end_in_the_same_bytes() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    plant(&at("store"), 150_000, 32);
    fs::write(at("run.toml"), run_toml(&at("store"), "name = \"soft\"\nk = 4", 10))
        .expect("writes");
    succeed(["train", str(&at("run.toml")), "--out", str(&at("run"))]);
    let (checkpoint, store, out, whole) =
        (at("run/checkpoint"), at("store"), at("pages"), at("whole"));
    let args = |out| ["features", str(&checkpoint), "--data", str(&store), "--out", str(out)];
    succeed(args(&whole));
    let partial = out.join("features-data.partial");
    // While the first rows are encoded, after the first are saved, and when some features are described.
    for file in ["pass/codes", "pass/saved.json", "features/0.js", "features/2.js"] {
        killed_at(&args(&out), &partial.join(file));
        assert!(!partial.exists() || !out.join("features.html").exists(), "{file}");
    }
    let (rows, n_files) =
        (saved(&partial), (0..).take_while(|n| partial.join(format!("features/{n}.js")).exists()));
    let n_files = n_files.count();
    let output = softsae(args(&out));
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    if let Some(rows) = rows {
        assert!(rows >= 65_536 && said.contains(&format!("going on after {rows} rows")), "{said}");
    }
    assert!(n_files < 2 || said.contains("of 256 features"), "{n_files} files: {said}");
    assert_eq!(files(&out), files(&whole));

    // What another seed has left is not gone on with.
    let seed: Vec<&str> = args(&out).into_iter().chain(["--seed", "1"]).collect();
    killed_at(&seed, &partial.join("pass/saved.json"));
    let output = softsae(args(&out));
    assert!(output.status.success() && !text(&output.stderr).contains("going on"));
    assert_eq!(files(&out), files(&whole));
}

#[test]
fn pages_without_a_store_are_those_of_one_also_when_they_are_killed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    made(&at, "name = \"topk\"\nk = 4");
    let words: Vec<String> = (0..90_000u64).map(|i| format!("w{}", i * i % 89 + 4)).collect();
    fs::write(at("long.txt"), words.join(" ")).expect("writes");
    let (checkpoint, host, long, store) =
        (at("run/checkpoint"), at("host"), at("long.txt"), at("long"));
    let harvest = ["harvest", "--host", str(&host), "--corpus", str(&long), "--out", str(&store)];
    succeed(harvest.into_iter().chain(["--hook", "resid_post.1", "--context-length", "16"]));
    let (of_store, live) = (at("of-store"), at("live"));
    let features = ["features", str(&checkpoint), "--host", str(&host)];
    succeed(features.into_iter().chain(["--data", str(&store), "--out", str(&of_store)]));
    let args: Vec<&str> =
        features.into_iter().chain(["--corpus", str(&long), "--out", str(&live)]).collect();
    let partial = live.join("features-data.partial");
    let is_killed = killed_at(&args, &partial.join("pass/saved.json"));
    let rows = saved(&partial);
    let output = softsae(args.iter().copied());
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    if let Some(rows) = rows.filter(|_| is_killed) {
        assert!(rows >= 65_536 && said.contains(&format!("going on after {rows} rows")), "{said}");
    }
    assert_eq!(without_index(&live), without_index(&of_store));
    let (found, expected) = (data(&live, "index"), data(&of_store, "index"));
    assert_eq!(found["columns"], expected["columns"]);
    for key in ["n_rows", "l0", "n_contexts", "host", "hook_point", "has_tokens", "notes"] {
        assert_eq!(found["set"][key], expected["set"][key], "{key}");
    }
    assert_eq!(found["set"]["store"], str(&long));
    assert_eq!(fs::read_dir(&live).expect("a folder").count(), 2);

    let out = at("new");
    let refused = |args: &[&str], words: &[&str]| {
        let all = ["features", str(&checkpoint), "--out", str(&out)];
        fail(all.into_iter().chain(args.iter().copied()), 2, words);
        assert!(!out.exists());
    };
    refused(&[], &["--data"]);
    refused(&["--corpus", str(&long)], &["--host"]);
    refused(&["--data", str(&store), "--corpus", str(&long)], &["--data", "--corpus"]);
    refused(&["--data", str(&store), "--hook", "embed"], &["--hook"]);
    let of_host = ["--host", str(&host), "--corpus", str(&long)];
    let with = |more: [&'static str; 2]| of_host.into_iter().chain(more).collect::<Vec<_>>();
    refused(&with(["--hook", "resid_post.0"]), &["hook point: expected", "--elsewhere"]);
    refused(&with(["--hook", "nowhere"]), &["nowhere"]);
    refused(&with(["--context-length", "0"]), &["context_length"]);
    let nothing = at("nothing.txt");
    refused(&["--host", str(&host), "--corpus", str(&nothing)], &["nothing.txt"]);
}

#[test]
fn a_host_reads_a_corpus_as_harvests_do_and_refuses_what_is_not_clear() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    made(&at, "name = \"topk\"\nk = 4");
    let line = |n: u64| {
        let words: Vec<String> = (0..60).map(|i| format!("w{}", (i * i + n) % 89 + 4)).collect();
        format!("{{\"text\": \"{}\"}}\n", words.join(" "))
    };
    let lines: String = (0..20).map(line).collect();
    fs::write(at("lines.jsonl"), &lines).expect("writes");
    let (checkpoint, host, corpus, store) =
        (at("run/checkpoint"), at("host"), at("lines.jsonl"), at("packed"));
    let how = ["--corpus", str(&corpus), "--packed", "--separator", "none", "--shuffle", "3"];
    let harvest = ["harvest", "--host", str(&host), "--hook", "resid_post.1", "--out", str(&store)];
    succeed(harvest.into_iter().chain(["--context-length", "16"]).chain(how));
    let features = ["features", str(&checkpoint), "--host", str(&host)];
    let (of_store, live) = (at("of-store"), at("live"));
    succeed(features.into_iter().chain(["--data", str(&store), "--out", str(&of_store)]));
    succeed(features.into_iter().chain(how).chain(["--out", str(&live)]));
    assert_eq!(without_index(&live), without_index(&of_store));

    // A broken line is bad input, and can be left out.
    fs::write(&corpus, format!("{lines}{{\"text\": 3}}\n{}", line(21))).expect("writes");
    let out = at("new");
    let plain = ["--corpus", str(&corpus), "--out", str(&out)];
    let of_corpus: Vec<&str> = features.into_iter().chain(plain).collect();
    fail(of_corpus.iter().copied(), 2, &["lines.jsonl", "text"]);
    succeed(of_corpus.iter().copied().chain(["--skip-damaged"]));
    let notes = data(&out, "index")["set"]["notes"].to_string();
    assert!(notes.contains("1 damaged files and documents were left out"), "{notes}");

    // A checkpoint of stores that were harvested in several ways does not say how to read.
    fs::write(&corpus, &lines).expect("writes");
    let manifest = checkpoint.join("sae.json");
    let whole = fs::read_to_string(&manifest).expect("reads");
    let mut model: Value = serde_json::from_str(&whole).expect("JSON");
    assert_eq!(model["trained_on"]["context_length"], "16");
    for (key, argument, value) in [
        ("context_length", "--context-length", "16"),
        ("bos", "--bos", "never"),
        ("special_tokens", "--special-tokens", "keep"),
    ] {
        let before = model["trained_on"][key].clone();
        model["trained_on"][key] = "1 and 2".into();
        fs::write(&manifest, model.to_string()).expect("writes");
        fail(of_corpus.iter().copied(), 2, &[argument, "`1 and 2`"]);
        succeed(of_corpus.iter().copied().chain([argument, value]));
        model["trained_on"][key] = before;
    }
}
