//! Tokenizers of folders: what transformers makes of them, and what is refused.

mod keys;

use std::path::Path;

use sae_hosts::{Bos, Error, HostModel, HostTokenizer};
use serde_json::{Map, Value, json};
use tch::Device;
use tempfile::TempDir;

use self::keys::refused;
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
