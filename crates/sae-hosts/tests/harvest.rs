//! Harvests of a tiny host: rows, their metadata, limits, interruption and wrong arguments.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use sae_data::{ActivationStore, RowMeta, open_store};
use sae_hosts::{
    Bos, Error, HarvestOptions, HarvestProgress, HookPoint, HostInput, HostModel, Text, harvest,
};
use tch::{Device, Kind, Tensor};
use tch_autograd::test_device;
use tempfile::TempDir;

use crate::support::golden;

/// The golden Llama with a tokenizer of one token a character.
pub(crate) fn host() -> (TempDir, HostModel) {
    let folder = TempDir::new().unwrap();
    let host = host_in(folder.path());
    (folder, host)
}

pub(crate) fn host_in(folder: &Path) -> HostModel {
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(golden("hosts/llama").join(name), folder.join(name)).unwrap();
    }
    let vocab: BTreeMap<String, u32> =
        (' '..='~').chain(['\n', 'é']).map(String::from).zip(0..).collect();
    let tokenizer = serde_json::json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [],
        "normalizer": null,
        "pre_tokenizer": null,
        "post_processor": null,
        "decoder": null,
        "model": { "type": "BPE", "vocab": vocab, "merges": [] },
    });
    std::fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    HostModel::load(folder, test_device()).unwrap()
}

pub(crate) fn texts() -> Vec<Text> {
    ["The quick brown fox jumps over the lazy dog.", "", "x", "Pack my box\nwith five dozen jugs"]
        .map(|content| Text { name: "test".to_owned(), content: content.to_owned() })
        .to_vec()
}

pub(crate) fn options() -> HarvestOptions {
    HarvestOptions {
        context_length: 10,
        batch_size: 2,
        rows_per_shard: Some(7),
        ..HarvestOptions::default()
    }
}

fn hook() -> HookPoint {
    "resid_post.1".parse().unwrap()
}

fn run(host: &HostModel, options: &HarvestOptions, out: &Path) -> Result<HarvestProgress, Error> {
    harvest(host, &texts(), hook(), options, out, &mut |_| ControlFlow::Continue(()))
}

fn rows(store: &dyn ActivationStore) -> (Tensor, Vec<RowMeta>) {
    let n = store.n_rows() as usize;
    let mut values = vec![0.0; n * store.d_model()];
    let mut meta = vec![RowMeta::default(); n];
    store.read_rows(0, &mut values).unwrap();
    store.read_meta(0, &mut meta).unwrap();
    (Tensor::from_slice(&values).view([n as i64, store.d_model() as i64]), meta)
}

/// Every file of a folder but the lock.
pub(crate) fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| entry.file_name().into_string().unwrap())
        .filter(|name| !name.starts_with('.'))
        .map(|name| (name.clone(), std::fs::read(folder.join(name)).unwrap()))
        .collect()
}

#[test]
fn rows_are_the_activations_of_each_context() {
    let (_folder, host) = host();
    for (prepend_token, skip_positions) in [(None, 1), (None, 0), (Some(5), 2)] {
        let out = TempDir::new().unwrap();
        let bos = prepend_token.map_or(Bos::Never, Bos::Token);
        let options = HarvestOptions { bos, skip_positions, ..options() };
        let summary = run(&host, &options, out.path()).unwrap();
        let store = open_store(out.path()).unwrap();
        let (got, meta) = rows(&*store);

        let (mut expected, mut expected_meta, mut n_tokens) = (Vec::new(), Vec::new(), 0);
        let fresh = 10 - usize::from(prepend_token.is_some());
        for (document, text) in texts().iter().enumerate() {
            let ids = host.tokenizer().unwrap().encode(&text.content).unwrap();
            n_tokens += ids.len();
            for chunk in ids.chunks(fresh) {
                let context: Vec<i64> =
                    prepend_token.iter().chain(chunk).map(|id| i64::from(*id)).collect();
                let input = Tensor::from_slice(&context).unsqueeze(0).to_device(host.device());
                let activations = host.activations(&input, hook()).unwrap().squeeze_dim(0);
                for (position, id) in context.iter().enumerate().skip(skip_positions) {
                    expected.push(activations.get(position as i64));
                    expected_meta.push(RowMeta {
                        token_id: *id as u32,
                        document: document as u32,
                        position: position as u32,
                    });
                }
            }
        }
        assert_eq!(meta, expected_meta);
        let difference = (got - Tensor::stack(&expected, 0).to_device(Device::Cpu))
            .abs()
            .max()
            .double_value(&[]);
        assert!(difference < 1e-5, "{difference}");
        assert_eq!((summary.n_seen, summary.n_rows), (n_tokens as u64, meta.len() as u64));
        let provenance = store.provenance().unwrap();
        assert_eq!(provenance.hook_point, "resid_post.1");
        assert_eq!(provenance.text_hashes.len(), 4);
        assert!(provenance.host_hash.is_some() && provenance.tokenizer_hash.is_some());
    }
}

#[test]
fn a_harvest_broken_off_anywhere_ends_in_the_same_bytes() {
    let (_folder, host) = host();
    let whole = TempDir::new().unwrap();
    run(&host, &options(), whole.path()).unwrap();
    let expected = files(whole.path());
    assert!(expected.len() > 5, "several shards are needed, got {:?}", expected.keys());

    for every in 1..=3 {
        let out = TempDir::new().unwrap();
        let mut attempts = 0;
        let mut done_before = 0;
        loop {
            attempts += 1;
            assert!(attempts < 20, "no progress");
            let mut calls = 0;
            let result = harvest(&host, &texts(), hook(), &options(), out.path(), &mut |now| {
                calls += 1;
                assert!(now.fraction > 0.0 && now.fraction <= 1.0);
                assert!(now.n_total.is_none_or(|total| now.n_seen <= total));
                if calls == every + attempts {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            });
            match result {
                Ok(summary) => break assert!(summary.n_rows > done_before),
                Err(Error::Interrupted { path }) => {
                    assert_eq!(path, out.path());
                    assert!(open_store(out.path()).is_err(), "an unfinished store was opened");
                    done_before += 1;
                }
                Err(other) => panic!("{other}"),
            }
        }
        assert!(attempts > 1);
        assert!(files(out.path()) == expected, "broken off {} times", attempts - 1);
    }
}

/// In the child process this test harvests until it aborts, which runs no destructor.
#[test]
fn a_harvest_whose_process_dies_ends_in_the_same_bytes() {
    const OUT: &str = "SAE_HOSTS_TEST_ABORT";
    if let Some(folder) = std::env::var_os(OUT).map(PathBuf::from) {
        let host = host_in(&folder.join("host"));
        let mut calls = 0;
        harvest(&host, &texts(), hook(), &options(), &folder.join("store"), &mut |_| {
            calls += 1;
            if calls == 3 { std::process::abort() } else { ControlFlow::Continue(()) }
        })
        .unwrap();
    }

    let folder = TempDir::new().unwrap();
    std::fs::create_dir(folder.path().join("host")).unwrap();
    let status = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "harvest::a_harvest_whose_process_dies_ends_in_the_same_bytes"])
        .env(OUT, folder.path())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    let (host, out) = (host_in(&folder.path().join("host")), folder.path().join("store"));
    assert!(status.code().is_none(), "the child was to abort, got {status}");
    assert!(files(&out).len() > 1, "the child was to leave whole shards");
    assert!(open_store(&out).is_err(), "an unfinished store was opened");

    let whole = TempDir::new().unwrap();
    run(&host, &options(), whole.path()).unwrap();
    let resumed = run(&host, &options(), &out).unwrap();
    assert_eq!(resumed.n_rows, open_store(whole.path()).unwrap().n_rows());
    let left = files(&out);
    for (name, bytes) in files(whole.path()) {
        assert!(left.get(&name) == Some(&bytes), "{name} differs");
    }
}

#[test]
fn max_tokens_is_exact_and_other_arguments_are_refused_on_the_same_store() {
    let (_folder, host) = host();
    let out = TempDir::new().unwrap();
    let limited = HarvestOptions { max_tokens: Some(23), ..options() };
    let summary = run(&host, &limited, out.path()).unwrap();
    // 23 tokens of the first and of the last text, and the one of the third, whose only
    // position is skipped.
    assert_eq!((summary.n_seen, summary.n_rows), (47, 40));
    assert!(matches!(run(&host, &limited, out.path()), Err(Error::Store(_))), "finished already");

    let out = TempDir::new().unwrap();
    let stop = &mut |_: &HarvestProgress| ControlFlow::Break(());
    let begun = harvest(&host, &texts(), hook(), &options(), out.path(), stop);
    assert!(matches!(begun, Err(Error::Interrupted { .. })));
    let error = run(&host, &limited, out.path()).unwrap_err().to_string();
    let expected = "manifest.json: expected provenance.settings.max_tokens_per_text 23, got none";
    assert!(error.contains(expected), "{error}");
}

/// A text that is longer than the pieces in which it is tokenised, and cut off in the first of them.
#[test]
fn nothing_follows_where_the_last_text_is_cut_off() {
    let folder = TempDir::new().unwrap();
    drop(host_in(folder.path()));
    let path = folder.path().join("tokenizer.json");
    let read = std::fs::read_to_string(&path).unwrap();
    let mut tokenizer: serde_json::Value = serde_json::from_str(&read).unwrap();
    tokenizer["model"]["vocab"] = serde_json::json!({"a": 1, "Ġ": 2, "Ċ": 3});
    tokenizer["pre_tokenizer"] = serde_json::json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true,
    });
    std::fs::write(&path, tokenizer.to_string()).unwrap();
    let host = HostModel::load(folder.path(), test_device()).unwrap();
    let texts: Vec<Text> = ["one", "two"]
        .map(|name| Text { name: name.to_owned(), content: "a a\na".repeat(120_000) })
        .to_vec();
    // The last batch is not full: it ends where no context is left, which is asked for once more.
    let limited = HarvestOptions { max_tokens: Some(23), batch_size: 4, ..options() };
    let out = folder.path().join("store");
    let proceed = &mut |_: &HarvestProgress| ControlFlow::Continue(());
    let summary = harvest(&host, &texts, hook(), &limited, &out, proceed).unwrap();
    assert_eq!((summary.n_seen, summary.n_rows), (46, 40));
}

#[test]
fn options_out_of_range_name_themselves() {
    let (_folder, host) = host();
    let HostInput::Tokens { max_positions, .. } = host.info().input else {
        panic!("a language model reads tokens")
    };
    let out = TempDir::new().unwrap();
    let message =
        |options: HarvestOptions| run(&host, &options, out.path()).unwrap_err().to_string();
    assert_eq!(
        message(HarvestOptions { context_length: max_positions + 1, ..options() }),
        format!("context_length: expected 1 to {max_positions}, got {}", max_positions + 1)
    );
    assert_eq!(
        message(HarvestOptions { skip_positions: 10, ..options() }),
        "skip_positions: expected 0 to 9, got 10"
    );
    assert_eq!(
        message(HarvestOptions { batch_size: 0, ..options() }),
        "batch_size: expected at least 1, got 0"
    );
    assert_eq!(
        message(HarvestOptions { max_tokens: Some(0), ..options() }),
        "max_tokens: expected at least 1, got 0"
    );
    let none =
        harvest(&host, &[], hook(), &options(), out.path(), &mut |_| ControlFlow::Continue(()));
    assert_eq!(
        none.unwrap_err().to_string(),
        "texts: expected tokens after the first 1 positions of a context, special ones dropped, \
         got none in 0 tokens"
    );
}

#[test]
fn a_host_without_a_tokenizer_says_so() {
    let host = HostModel::load(&golden("hosts/llama"), test_device()).unwrap();
    assert_eq!(host.kind(), Kind::Float);
    let out = TempDir::new().unwrap();
    let error = run(&host, &options(), out.path()).unwrap_err().to_string();
    assert!(error.ends_with("tokenizer.json: expected the file, got none"), "{error}");
}
