//! Pieces of texts have the ids of the whole, for tokenizers of many kinds.

use proptest::prelude::*;
use serde_json::{Value, json};
use tokenizers::Tokenizer;

use super::HostTokenizer;

const LLAMA: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

fn tokenizer(normalizer: Value, pre_tokenizer: Value, added: Value) -> HostTokenizer {
    // Every character that the texts or the byte-level alphabet may hold, and merges across words.
    let chars = ('!'..='~').chain('¡'..='ń').chain([' ', '\n', '\r', '▁', '中', 'Ⓐ', '\u{345}']);
    let mut tokens: Vec<String> = chars.map(String::from).collect();
    let merges = [("a", "b"), ("Ċ", "Ċ"), ("Ġ", "a"), ("▁", "a"), ("\n", "a"), ("a", "\n")];
    tokens.extend(merges.iter().map(|(left, right)| format!("{left}{right}")));
    let vocab: serde_json::Map<_, _> = tokens.into_iter().zip((9..).map(Value::from)).collect();
    let json = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "post_processor": null,
        "decoder": null,
        "model": {"type": "BPE", "vocab": vocab, "merges": merges.map(|(l, r)| format!("{l} {r}"))},
    });
    let inner = json.to_string().parse::<Tokenizer>().unwrap();
    HostTokenizer::new(inner, None, false)
}

fn byte_level(prefix: bool, regex: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true, "use_regex": regex})
}

fn added(content: &str, rstrip: bool) -> Value {
    json!([{"id": 0, "content": content, "single_word": false, "lstrip": true, "rstrip": rstrip,
        "normalized": false, "special": true}])
}

/// Tokenizers, and whether they may be given pieces.
fn kinds() -> Vec<(HostTokenizer, bool)> {
    let sequence = |parts: Value| json!({"type": "Sequence", "pretokenizers": parts});
    let llama = json!({"type": "Split", "pattern": {"Regex": LLAMA}, "behavior": "Isolated",
        "invert": false});
    let digits = json!({"type": "Digits", "individual_digits": true});
    let metaspace = |scheme: &str| json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": true});
    let (bytes, null) = (byte_level(false, true), Value::Null);
    let nfc = json!({"type": "NFC"});
    let none = || json!([]);
    vec![
        (tokenizer(null.clone(), bytes.clone(), none()), true),
        (tokenizer(nfc, bytes.clone(), added("<x>", false)), true),
        (tokenizer(null.clone(), sequence(json!([digits, bytes])), none()), true),
        (tokenizer(null.clone(), sequence(json!([llama, byte_level(false, false)])), none()), true),
        (tokenizer(null.clone(), byte_level(true, true), none()), false),
        (tokenizer(null.clone(), byte_level(false, false), none()), false),
        (tokenizer(null.clone(), bytes.clone(), added("ab", true)), false),
        (tokenizer(null.clone(), bytes.clone(), added("a\nb", false)), false),
        (tokenizer(json!({"type": "Lowercase"}), bytes.clone(), none()), false),
        (tokenizer(json!({"type": "Prepend", "prepend": "▁"}), null.clone(), none()), false),
        (tokenizer(null.clone(), metaspace("first"), none()), false),
        (tokenizer(null.clone(), metaspace("always"), none()), false),
        (tokenizer(null.clone(), metaspace("never"), none()), false),
        (tokenizer(null.clone(), null, none()), false),
    ]
}

#[test]
fn pieces_are_cut_where_that_is_known_to_be_right() {
    for (n, (tokenizer, is_cut)) in kinds().into_iter().enumerate() {
        assert_eq!(tokenizer.piece.is_some(), is_cut, "tokenizer {n}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn pieces_have_the_ids_of_the_whole(
        parts in prop::collection::vec(
            prop::sample::select(vec![
                "a", "ab", "A", "7", "12", " ", "  ", "\n", "\n\n", "\r\n", ".", "'s", "é", "中",
                "e\u{345}", "Ⓐ", "<x>", "a\nb", "\t",
            ]),
            0..60,
        ),
        least in 1usize..20,
    ) {
        let text = parts.concat();
        for (mut tokenizer, _) in kinds() {
            let whole = tokenizer.inner.encode_fast(text.as_str(), false).unwrap();
            tokenizer.piece = tokenizer.piece.map(|_| least);
            prop_assert_eq!(tokenizer.encode(&text).unwrap(), whole.get_ids());
        }
    }
}
