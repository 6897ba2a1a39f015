//! Tokenizers of folders: what transformers makes of them, and what is refused.

use std::path::Path;

use sae_hosts::{Bos, Error, HostModel, HostTokenizer};
use serde_json::{Map, Value, json};
use tch::Device;
use tempfile::TempDir;

use crate::support::golden;

/// The golden Llama with files of a tokenizer, in a folder.
pub(crate) fn host_in(folder: &Path, files: &Map<String, Value>) -> Result<HostModel, Error> {
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(golden("hosts/llama").join(name), folder.join(name)).unwrap();
    }
    for (name, content) in files {
        std::fs::write(folder.join(name), content.to_string()).unwrap();
    }
    HostModel::load(folder, Device::Cpu)
}

/// As [`host_in`], in a folder that is gone afterwards.
fn host(files: &Map<String, Value>) -> Result<HostModel, Error> {
    host_in(TempDir::new().unwrap().path(), files)
}

/// An object, as a map.
fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("expected an object, got {other}"),
    }
}

fn testdata(name: &str) -> Map<String, Value> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/tokenizers"));
    serde_json::from_slice(&std::fs::read(folder.join(name)).unwrap()).unwrap()
}

/// The files of each folder of the test data, whole.
fn folders(cases: &Map<String, Value>) -> Vec<(String, Map<String, Value>)> {
    let base = object(cases["base"].clone());
    let whole = |files: &Value| {
        let mut files = object(files.clone());
        let mut tokenizer = base.clone();
        tokenizer.extend(object(files["tokenizer.json"].take()));
        files.insert("tokenizer.json".to_owned(), tokenizer.into());
        files
    };
    let folders = cases["folders"].as_object().unwrap();
    folders.iter().map(|(name, files)| (name.clone(), whole(files))).collect()
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

/// What the tokenizer says of texts, in the form of the test data.
fn read(tokenizer: &HostTokenizer, texts: &[String]) -> (Value, Value) {
    let ids = texts.iter().map(|text| tokenizer.encode(text).unwrap());
    (ids.collect::<Vec<_>>().into(), tokenizer.special_ids().into())
}

#[test]
fn folders_are_read_as_transformers_reads_them() {
    let cases = testdata("cases.json");
    let versions = [testdata("transformers4.json"), testdata("transformers5.json")];
    let texts: Vec<String> = serde_json::from_value(cases["texts"].clone()).unwrap();
    let (mut n_leads, mut n_refused) = (0, 0);
    for (name, files) in folders(&cases) {
        let [four, five] = versions.each_ref().map(|results| &results[name.as_str()]);
        let host = match host(&files) {
            Ok(host) => host,
            Err(error) => {
                assert!(four["ids"] != five["ids"], "{name}: {error}");
                let expected = "added_tokens_decoder.3: expected `normalized` of tokenizer.json";
                assert!(error.to_string().contains(expected), "{name}: {error}");
                n_refused += 1;
                continue;
            }
        };
        let tokenizer = host.tokenizer().unwrap();
        if !name.starts_with("bos: ") {
            for version in [four, five] {
                let expected = (version["ids"].clone(), version["special"].clone());
                assert_eq!(read(tokenizer, &texts), expected, "{name}");
                // 1 is the `bos_token_id` of `config.json`.
                assert_eq!(tokenizer.bos(), Some(version["bos"].as_u64().unwrap_or(1) as u32));
            }
            continue;
        }
        let lead = |version: &Value| ids(&version["lead"]).first().copied();
        match Bos::Auto.resolve(tokenizer) {
            Ok(bos) => {
                assert_eq!([bos, bos], [lead(four), lead(five)], "{name}");
                n_leads += 1;
            }
            // Versions differ, or the key says what neither of them does.
            Err(error) => {
                let config = &files["tokenizer_config.json"]["add_bos_token"];
                let ignored = config.as_bool().is_some_and(|adds| adds != lead(four).is_some());
                assert!(lead(four) != lead(five) || ignored, "{name}: {error}");
                let error = error.to_string();
                assert!(
                    error.contains("tokenizer_config.json: add_bos_token: expected"),
                    "{error}"
                );
                assert!(error.contains("`--bos always` or `--bos never`"), "{error}");
                assert_eq!(Bos::Always.resolve(tokenizer).unwrap(), Some(1), "{name}");
                assert_eq!(Bos::Never.resolve(tokenizer).unwrap(), None, "{name}");
                n_refused += 1;
            }
        }
    }
    assert!(n_leads > 15 && n_refused > 15, "{n_leads} used, {n_refused} refused");
}

/// The files of the plain folder of the test data.
pub(crate) fn plain() -> Map<String, Value> {
    let files = json!({"tokenizer.json": testdata("cases.json")["base"]});
    object(files)
}

/// The plain folder with one key of one file set.
fn with(file: &str, key: &str, value: Value) -> Map<String, Value> {
    let mut files = plain();
    let content = files.entry(file).or_insert_with(|| json!({}));
    content[key] = value;
    files
}

fn refused(files: &Map<String, Value>) -> String {
    let error = host(files).expect_err("a folder that cannot be read").to_string();
    error.split_once(".json: ").expect("the file's name").1.to_owned()
}

#[test]
fn keys_that_change_nothing_are_read_and_others_are_refused() {
    let texts = ["a <x> b", "<s>ab A"].map(str::to_owned);
    let expected = read(host(&plain()).unwrap().tokenizer().unwrap(), &texts);
    let config = "tokenizer_config.json";
    for (key, value) in [
        ("add_prefix_space", json!(false)),
        ("do_lower_case", json!(false)),
        ("tokenize_chinese_chars", json!(true)),
        ("strip_accents", json!(null)),
        ("fix_mistral_regex", json!(false)),
        ("split_special_tokens", json!(false)),
        ("added_tokens_decoder", json!(null)),
        ("add_bos_token", json!(false)),
        ("add_eos_token", json!(true)),
        ("bos_token", json!("<s>")),
        ("unk_token", json!({"content": "<unk>", "lstrip": false})),
        ("additional_special_tokens", json!(["</s>"])),
        ("extra_special_tokens", json!({})),
        ("clean_up_tokenization_spaces", json!(true)),
        ("model_max_length", json!(8)),
        ("some_setting", json!(null)),
    ] {
        let host = host(&with(config, key, value)).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(read(host.tokenizer().unwrap(), &texts), expected, "{key}");
    }
    let lists = "tokens of tokenizer.json";
    for (key, value, message) in [
        ("add_prefix_space", json!(true), "expected what tokenizer.json does, got true"),
        ("do_lower_case", json!(true), "expected what tokenizer.json does, got true"),
        ("do_lower_case", json!("no"), "expected what tokenizer.json does, got \"no\""),
        ("fix_mistral_regex", json!(true), "expected a key that is known, got true"),
        ("add_bos_token", json!(1), "expected true or false, got 1"),
        ("add_bos_token", json!("<s>"), "expected true or false, got \"<s>\""),
        ("tokenizer_class", json!(1), "expected a name, got 1"),
        ("bos_token", json!("<none>"), &format!("expected {lists}, got <none>")),
        ("bos_token", json!(1), &format!("expected {lists}, got 1")),
        ("bos_token", json!({"lstrip": true}), &format!("expected {lists}, got true")),
        (
            "pad_token",
            json!({"content": "<x>", "left": 1}),
            &format!("expected {lists}, got the unknown key left"),
        ),
        (
            "pad_token",
            json!({"content": "<x>", "lstrip": 1}),
            &format!("expected {lists}, got lstrip 1"),
        ),
        ("some_setting", json!(0), "expected a key that is known, got 0"),
    ] {
        assert_eq!(refused(&with(config, key, value)), format!("{key}: {message}"));
    }
    for (key, value, message) in [
        ("99", json!({"content": "<x>"}), "expected the id of `<x>` in tokenizer.json, 3, got 99"),
        ("3", json!({"content": "<z>"}), "expected the id of `<z>` in tokenizer.json, none, got 3"),
        ("3", json!("<x>"), ""),
        (
            "3",
            json!({"content": "<x>", "lstrip": "no"}),
            "expected an added token, got lstrip \"no\"",
        ),
    ] {
        let decoder = json!({key: value});
        let result = host(&with(config, "added_tokens_decoder", decoder));
        match message {
            "" => assert!(result.is_ok()),
            message => {
                let error = result.expect_err(message).to_string();
                assert!(
                    error.ends_with(&format!("added_tokens_decoder.{key}: {message}")),
                    "{error}"
                );
            }
        }
    }
    assert_eq!(
        refused(&with("special_tokens_map.json", "model_max_length", json!(1))),
        "model_max_length: expected a key that is known, got 1"
    );
    assert_eq!(
        refused(&with("special_tokens_map.json", "pad_token", json!("<none>"))),
        format!("pad_token: expected {lists}, got <none>")
    );
    assert_eq!(
        refused(&with("added_tokens.json", "<x>", json!(4))),
        "<x>: expected the id of `<x>` in tokenizer.json, 3, got 4"
    );
}

#[test]
fn tokenizer_json_is_done_in_full_or_refused() {
    let set = |path: &[&str], value: Value| {
        let mut files = plain();
        let at = path.iter().fold(&mut files["tokenizer.json"], |at, key| &mut at[*key]);
        *at = value;
        files
    };
    for (path, value, message) in [
        (
            &["model", "dropout"][..],
            json!(0.1),
            "model.dropout: expected null or 0: ids without chance, got 0.1",
        ),
        (&["model", "extra"], json!(false), "model.extra: expected a key that is known, got false"),
        (
            &["pre_tokenizer", "extra"],
            json!("x"),
            "pre_tokenizer.extra: expected a key that is known, got \"x\"",
        ),
        (
            &["normalizer"],
            json!({"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase", "lower": 1}]}),
            "normalizer.normalizers[1].lower: expected a key that is known, got 1",
        ),
        (
            &["added_tokens"],
            json!([{"id": 1, "content": "<x>", "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true}]),
            "added_tokens: id of `<x>`: expected 3, got 1",
        ),
        (
            &["added_tokens"],
            json!([{"id": 50, "content": "<new>", "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true}]),
            "added_tokens: id of `<new>`: expected 20, got 50",
        ),
    ] {
        assert_eq!(refused(&set(path, value)), message);
    }
    let top = refused(&set(&["extra"], json!(1)));
    assert!(top.starts_with("top level: expected a tokenizer, got"), "{top}");
    for (path, value) in [
        (&["model", "dropout"][..], json!(0.0)),
        (&["model", "extra"], json!(null)),
        (
            &["pre_tokenizer"],
            json!({"type": "Metaspace", "replacement": "▁", "add_prefix_space": true, "str_rep": "▁"}),
        ),
    ] {
        host(&set(path, value)).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn truncation_and_padding_are_cleared() {
    for side in ["Left", "Right"] {
        let mut files = plain();
        let tokenizer = &mut files["tokenizer.json"];
        tokenizer["truncation"] =
            json!({"direction": side, "max_length": 2, "strategy": "LongestFirst", "stride": 0});
        tokenizer["padding"] = json!({"strategy": {"Fixed": 6}, "direction": side,
            "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "<unk>"});
        tokenizer["post_processor"] =
            json!({"type": "BertProcessing", "sep": ["</s>", 2], "cls": ["<s>", 1]});
        let host = host(&files).unwrap();
        let tokenizer = host.tokenizer().unwrap();
        assert_eq!(tokenizer.encode("abcA").unwrap(), [19, 7, 8]);
        assert_eq!(tokenizer.encode("a").unwrap(), [5]);
        assert_eq!(Bos::Auto.resolve(tokenizer).unwrap(), Some(1));
    }
}

#[test]
fn a_bos_token_id_of_the_host_counts_if_it_is_a_special_token() {
    let files = |id: u32| {
        let mut files = plain();
        let config = std::fs::read(golden("hosts/llama/config.json")).unwrap();
        let mut config: Value = serde_json::from_slice(&config).unwrap();
        config["bos_token_id"] = id.into();
        files.insert("config.json".to_owned(), config);
        files
    };
    let bos = |id| host(&files(id)).unwrap().tokenizer().unwrap().bos();
    assert_eq!([bos(2), bos(5), bos(99)], [Some(2), None, None]);
}

#[test]
fn tokens_that_the_post_processor_puts_first_are_special() {
    let mut files = plain();
    let token = |id: &str| json!({"SpecialToken": {"id": id, "type_id": 0}});
    let text = json!({"Sequence": {"id": "A", "type_id": 0}});
    let template = |single: Value| {
        json!({"type": "TemplateProcessing", "single": single, "pair": [text.clone(), text.clone()],
            "special_tokens": {"<x>": {"id": "<x>", "ids": [3], "tokens": ["<x>"]}}})
    };
    files["tokenizer.json"]["post_processor"] = template(json!([token("<x>"), text, token("<x>")]));
    let host = host(&files).unwrap();
    let tokenizer = host.tokenizer().unwrap();
    assert_eq!(Bos::Auto.resolve(tokenizer).unwrap(), Some(3));
    assert!(tokenizer.special_ids().contains(&3));
    assert_eq!(tokenizer.encode("<x>a").unwrap(), [3, 5]);

    files["tokenizer.json"]["post_processor"] = template(json!([token("<x>"), token("<x>"), text]));
    let expected =
        "post_processor: expected at most one token before a text, got [3, 3, 5] for `a`";
    assert_eq!(refused(&files), expected);
}
