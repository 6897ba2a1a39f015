//! Keys of a tokenizer: done, without effect, or refused.

use serde_json::{Map, Value, json};

use super::{host, plain, read};

const CONFIG: &str = "tokenizer_config.json";

/// The plain folder with one key of one file set.
fn with(file: &str, key: &str, value: Value) -> Map<String, Value> {
    let mut files = plain();
    let content = files.entry(file).or_insert_with(|| json!({}));
    content[key] = value;
    files
}

pub(super) fn refused(files: &Map<String, Value>) -> String {
    let error = host(files).expect_err("a folder that cannot be read").to_string();
    error.split_once(".json: ").expect("the file's name").1.to_owned()
}

#[test]
fn keys_that_change_nothing_are_read() {
    let texts = ["a <x> b", "<s>ab A"].map(str::to_owned);
    let expected = read(host(&plain()).unwrap().tokenizer().unwrap(), &texts);
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
        let host = host(&with(CONFIG, key, value)).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(read(host.tokenizer().unwrap(), &texts), expected, "{key}");
    }
}

#[test]
fn keys_that_change_something_are_refused() {
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
        assert_eq!(refused(&with(CONFIG, key, value)), format!("{key}: {message}"));
    }
    assert_eq!(
        refused(&with("special_tokens_map.json", "model_max_length", json!(1))),
        "model_max_length: expected a key that is known, got 1"
    );
    assert_eq!(
        refused(&with("special_tokens_map.json", "pad_token", json!("<none>"))),
        format!("pad_token: expected {lists}, got <none>")
    );
}

#[test]
fn added_tokens_are_those_of_the_tokenizer() {
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
        let result = host(&with(CONFIG, "added_tokens_decoder", decoder));
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
