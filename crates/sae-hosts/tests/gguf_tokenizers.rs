//! Tokenizers in GGUF files against the libraries that made them.

use sae_hosts::HostModel;
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use crate::gguf_builder::GgufBuilder;
use crate::gguf_hosts::golden_host;

fn reference() -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/gguf/tokenizers.json");
    let text = std::fs::read(path).unwrap();
    serde_json::from_slice(&text).unwrap()
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

/// The golden Llama with another tokenizer.
fn with_tokenizer(tokenizer: &Value) -> GgufBuilder {
    let tokens = strings(&tokenizer["tokens"]);
    let types: Vec<i32> = serde_json::from_value(tokenizer["types"].clone()).unwrap();
    let embedding = Tensor::zeros([tokens.len() as i64, 32], (Kind::Float, Device::Cpu));
    let mut builder = golden_host("llama");
    for key in ["model", "pre", "tokens", "token_type", "merges"] {
        builder = builder.without(&format!("tokenizer.ggml.{key}"));
    }
    builder = builder
        .without("token_embd.weight")
        .copy_of("token_embd.weight", &embedding)
        .string("tokenizer.ggml.model", tokenizer["model"].as_str().unwrap())
        .strings("tokenizer.ggml.tokens", &tokens)
        .i32s("tokenizer.ggml.token_type", &types);
    if let Some(pre) = tokenizer["pre"].as_str() {
        builder
            .string("tokenizer.ggml.pre", pre)
            .strings("tokenizer.ggml.merges", &strings(&tokenizer["merges"]))
            .u32("tokenizer.ggml.bos_token_id", 0)
    } else {
        let scores: Vec<f32> = serde_json::from_value(tokenizer["scores"].clone()).unwrap();
        let builder = builder.f32s("tokenizer.ggml.scores", &scores);
        // The key is absent where its default, true, is meant.
        if tokenizer["prefix"].as_bool().unwrap() {
            builder
        } else {
            builder.bool("tokenizer.ggml.add_space_prefix", false)
        }
    }
}

fn sentencepiece() -> Value {
    reference().into_iter().find(|tokenizer| tokenizer["model"] == "llama").unwrap()
}

#[test]
fn tokens_are_those_of_the_reference_and_decode_to_the_text() {
    let mut seen = Vec::new();
    for tokenizer in reference() {
        let host: HostModel = with_tokenizer(&tokenizer).load().unwrap();
        let host = host.tokenizer().unwrap();
        for example in tokenizer["texts"].as_array().unwrap() {
            let text = example["text"].as_str().unwrap();
            let expected: Vec<u32> = serde_json::from_value(example["ids"].clone()).unwrap();
            let got = host.encode(text).unwrap();
            assert_eq!(got, expected, "{} {}: {text:?}", tokenizer["model"], tokenizer["pre"]);
            let back = host.decode(&got).unwrap();
            // A space and what stands for one in tokens are one to sentencepiece.
            let plain = |text: &str| text.replace('▁', " ");
            assert_eq!(plain(&back), plain(text));
        }
        seen.push(tokenizer["pre"].as_str().unwrap_or("sentencepiece").to_owned());
    }
    let expected = ["gpt-2", "smollm", "llama-bpe", "qwen2", "sentencepiece", "sentencepiece"];
    assert_eq!(seen, expected);
}

#[test]
fn words_are_split_as_each_pattern_says() {
    let all = reference();
    let gpt2 = all.iter().find(|tokenizer| tokenizer["pre"] == "gpt-2").unwrap();
    let mut tokenizer = gpt2.clone();
    for (left, right) in [("1", "2"), ("12", "3"), ("123", "4"), ("!", "Ċ")] {
        tokenizer["tokens"].as_array_mut().unwrap().push(format!("{left}{right}").into());
        tokenizer["types"].as_array_mut().unwrap().push(1.into());
        let merges = tokenizer["merges"].as_array_mut().unwrap();
        merges.insert(0, format!("{left} {right}").into());
    }
    for (pre, expected) in [
        ("gpt-2", ["1234", "!", "Ċ"].as_slice()),
        ("smollm", &["1", "2", "3", "4", "!", "Ċ"]),
        ("llama-bpe", &["123", "4", "!Ċ"]),
        ("llama3", &["123", "4", "!Ċ"]),
        ("llama-v3", &["123", "4", "!Ċ"]),
        ("falcon3", &["123", "4", "!Ċ"]),
        ("qwen2", &["1", "2", "3", "4", "!Ċ"]),
        ("deepseek-r1-qwen", &["1", "2", "3", "4", "!Ċ"]),
    ] {
        tokenizer["pre"] = pre.into();
        let host = with_tokenizer(&tokenizer).load().unwrap();
        let host = host.tokenizer().unwrap();
        let ids = host.encode("1234!\n").unwrap();
        let tokens: Vec<String> = ids.iter().map(|id| host.token(*id).unwrap()).collect();
        assert_eq!(tokens, expected, "{pre}");
    }
}

#[test]
fn the_token_that_starts_a_text_follows_the_keys_and_their_defaults() {
    let bos = |builder: GgufBuilder| {
        let host = builder.load().unwrap();
        let tokenizer = host.tokenizer().unwrap();
        (tokenizer.bos(), tokenizer.adds_bos().unwrap())
    };
    let add = "tokenizer.ggml.add_bos_token";
    let of_pre = |pre: &str| {
        let all = reference();
        with_tokenizer(all.iter().find(|tokenizer| tokenizer["pre"] == pre).unwrap())
    };
    for pre in ["gpt-2", "smollm", "qwen2"] {
        assert_eq!(bos(of_pre(pre)), (Some(0), false), "{pre}");
        assert_eq!(bos(of_pre(pre).bool(add, true)), (Some(0), true), "{pre}");
    }
    assert_eq!(bos(of_pre("llama-bpe")), (Some(0), true));
    assert_eq!(bos(of_pre("llama-bpe").bool(add, false)), (Some(0), false));
    assert_eq!(bos(golden_host("llama")), (None, false));
    let spm = with_tokenizer(&sentencepiece());
    assert_eq!(bos(spm.clone()), (Some(1), true));
    let other = spm.u32("tokenizer.ggml.bos_token_id", 2).bool(add, false);
    assert_eq!(bos(other), (Some(2), false));
}

#[test]
fn user_defined_tokens_are_found_in_the_text_itself() {
    let mut tokenizer = sentencepiece();
    let n = tokenizer["tokens"].as_array().unwrap().len();
    for token in ["▁▁▁", "New\n"] {
        tokenizer["tokens"].as_array_mut().unwrap().push(token.into());
        tokenizer["types"].as_array_mut().unwrap().push(4.into());
        tokenizer["scores"].as_array_mut().unwrap().push(0.0.into());
    }
    let host = with_tokenizer(&tokenizer).bool("tokenizer.ggml.add_space_prefix", false);
    let host = host.load().unwrap();
    let host = host.tokenizer().unwrap();
    let ids = host.encode("a   bNew\nc").unwrap();
    let added: Vec<u32> = ids.iter().copied().filter(|id| *id as usize >= n).collect();
    assert_eq!(added, [n as u32, n as u32 + 1]);
    assert_eq!(host.decode(&ids).unwrap(), "a   bNew\nc");
}

#[test]
fn scores_that_no_list_of_merges_can_say_are_refused() {
    let good = sentencepiece();
    let at = |token: &str| {
        good["tokens"].as_array().unwrap().iter().position(|known| known == token).unwrap()
    };
    let changed = |key: &str, index: usize, value: Value| {
        let mut tokenizer = good.clone();
        tokenizer[key][index] = value;
        with_tokenizer(&tokenizer).message()
    };
    let second = good["scores"][at("▁the")].clone();
    let message = changed("scores", at("in"), second);
    assert!(message.starts_with("tokenizer.ggml.scores: expected distinct scores"), "{message}");
    assert_eq!(
        changed("types", at("<0x41>"), 1.into()),
        "tokenizer.ggml.token_type: expected a token of type 6 for each byte, got none for `<0x41>`"
    );
    assert_eq!(
        changed("types", at("in"), 5.into()),
        "tokenizer.ggml.token_type: expected no unused token made of two others, got `in`"
    );
    let message = changed("tokens", at("h"), "§".into());
    assert!(
        message.starts_with(
            "tokenizer.ggml.tokens: expected the characters of each token among the tokens, got"
        ),
        "{message}"
    );
    let mut short = good.clone();
    short["scores"].as_array_mut().unwrap().pop();
    assert!(with_tokenizer(&short).message().starts_with("tokenizer.ggml.scores: expected 480"));
}
