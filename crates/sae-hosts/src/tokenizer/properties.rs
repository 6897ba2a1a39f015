//! Pieces of texts have the ids of the whole, for tokenizers of many kinds.

use proptest::prelude::*;
use serde_json::{Value, json};
use tokenizers::Tokenizer;

use super::HostTokenizer;

const LLAMA: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Every character that the texts or the byte-level alphabet may hold, and merges across words.
fn tokenizer(normalizer: Value, pre_tokenizer: Value, added: Value) -> HostTokenizer {
    let merges = [("a", "b"), ("Ċ", "Ċ"), ("Ġ", "a"), ("▁", "a"), ("\n", "a"), ("a", "\n")];
    let vocab: serde_json::Map<_, _> = vocabulary(&merges).zip((9..).map(Value::from)).collect();
    let merges = merges.map(|(left, right)| format!("{left} {right}"));
    let model = json!({"type": "BPE", "vocab": vocab, "merges": merges});
    of_model(model, normalizer, pre_tokenizer, added)
}

fn vocabulary(pairs: &[(&str, &str)]) -> impl Iterator<Item = String> {
    let chars = ('!'..='~').chain('¡'..='ń').chain(" \n\r▁中Ⓐ\u{345}नि\u{94d}กำ".chars());
    let mut tokens: Vec<String> = chars.map(String::from).collect();
    tokens.extend(pairs.iter().map(|(left, right)| format!("{left}{right}")));
    tokens.into_iter()
}

/// Models that split words otherwise than BPE, with tokens that reach over line feeds.
fn other_models() -> [Value; 3] {
    let pairs = [("Ċ", "Ċ"), ("Ġ", "a"), ("a", "b"), ("a", "\n")];
    let pieces: Vec<_> = vocabulary(&pairs)
        .enumerate()
        .map(|(n, token)| json!([token, -1.0 - (n % 7) as f64]))
        .collect();
    let words = ["[UNK]", "a", "b", "##a", "##b", "##Ċ", "Ċ", "##ĊĊ", "Ġ", "##Ġ", "ab"];
    let words: serde_json::Map<_, _> =
        words.iter().map(|word| (*word).to_owned()).zip((9..).map(Value::from)).collect();
    [
        json!({"type": "Unigram", "unk_id": 0, "vocab": pieces, "byte_fallback": false}),
        json!({"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": words}),
        json!({"type": "WordLevel", "unk_token": "[UNK]", "vocab": words}),
    ]
}

fn of_model(model: Value, normalizer: Value, pre_tokenizer: Value, added: Value) -> HostTokenizer {
    let json = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "post_processor": null,
        "decoder": null, "model": model,
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

/// An added token that matches whole words alone, or the normalised text.
fn flagged(content: &str, single_word: bool) -> Value {
    json!([{"id": 0, "content": content, "single_word": single_word, "lstrip": false,
        "rstrip": false, "normalized": !single_word, "special": false}])
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
    let strip = json!({"type": "Strip", "strip_left": true, "strip_right": true});
    let split_all = json!({"type": "Split", "pattern": {"String": " "}, "behavior": "Removed",
        "invert": false});
    let [unigram, word_piece, word_level] = other_models();
    let words = sequence(json!([split_all, bytes]));
    let model =
        |model: &Value, pre: &Value| of_model(model.clone(), Value::Null, pre.clone(), none());
    vec![
        (model(&unigram, &bytes), true),
        (model(&word_piece, &bytes), true),
        (model(&word_level, &bytes), true),
        (model(&unigram, &metaspace("first")), false),
        (model(&word_piece, &json!({"type": "BertPreTokenizer"})), false),
        (model(&word_level, &json!({"type": "WhitespaceSplit"})), false),
        (model(&unigram, &words), false),
        (tokenizer(strip, bytes.clone(), none()), false),
        (tokenizer(null.clone(), bytes.clone(), flagged("ab", true)), true),
        (tokenizer(null.clone(), bytes.clone(), flagged("ab", false)), true),
        (tokenizer(nfc.clone(), bytes.clone(), flagged("é", false)), true),
        (tokenizer(null.clone(), bytes.clone(), added("ab", false)), true),
        (
            tokenizer(
                null.clone(),
                sequence(json!([llama, byte_level(false, false)])),
                added("7", false),
            ),
            true,
        ),
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

/// The property below would find a tokenizer that were wrongly given pieces.
#[test]
fn pieces_of_other_tokenizers_have_other_ids() {
    let text = "a b\nab  a\nb ab\na\nab\n\nab\n";
    let differs = |mut tokenizer: HostTokenizer| {
        let whole = tokenizer.encode(text).unwrap();
        tokenizer.piece = Some(1);
        tokenizer.encode(text).unwrap() != whole
    };
    let others = kinds().into_iter().filter(|(_, is_cut)| !is_cut);
    let n_differ = others.filter_map(|(tokenizer, _)| differs(tokenizer).then_some(())).count();
    assert!(n_differ >= 8, "{n_differ}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn pieces_have_the_ids_of_the_whole(
        parts in prop::collection::vec(
            prop::sample::select(vec![
                "a", "ab", "A", "7", "12", " ", "  ", "\n", "\n\n", "\r\n", ".", "'s", "é", "中",
                "e\u{345}", "Ⓐ", "<x>", "a\nb", "\t", "नि", "न\u{94d}", "กำ", "'", "'S", "e\u{301}",
                "\r", "\u{85}", "\u{2028}", "ſ",
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
