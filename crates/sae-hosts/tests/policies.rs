//! What leads contexts and what is done with special tokens: rows, positions and provenance of
//! harvests under every policy.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use sae_data::{RowMeta, open_store};
use sae_hosts::{Bos, Error, HarvestOptions, HookPoint, HostModel, SpecialTokens, Text, harvest};
use serde_json::{Value, json};
use tch::Tensor;
use tempfile::TempDir;

use crate::tokenizer_folders::{host_in, plain};

/// `<unk>`, `<s>` and `</s>`, which are special, and letters, of the test data's vocabulary.
const UNK: u32 = 0;
const BOS: u32 = 1;
const EOS: u32 = 2;
const A: u32 = 5;
const B: u32 = 6;
const C: u32 = 7;
const CAPITAL: u32 = 8;

/// A host of characters; its own tokenizer puts `<s>` before a text if `puts`.
fn characters(folder: &TempDir, puts: bool) -> HostModel {
    let mut files = plain();
    if puts {
        let text = json!({"Sequence": {"id": "A", "type_id": 0}});
        files["tokenizer.json"]["post_processor"] = json!({
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, text.clone()],
            "pair": [text.clone(), text],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [BOS], "tokens": ["<s>"]}},
        });
    }
    files["tokenizer.json"]["model"]["merges"] = json!([]);
    files.insert("tokenizer_config.json".to_owned(), json!({"bos_token": "<s>"}));
    host_in(folder.path(), &files).unwrap()
}

fn texts(contents: &[&str]) -> Vec<Text> {
    let text = |content: &&str| Text { name: "text".to_owned(), content: (*content).to_owned() };
    contents.iter().map(text).collect()
}

fn hook() -> HookPoint {
    "resid_post.1".parse().unwrap()
}

/// Rows of a harvest: their metadata, activations and the settings of the store.
type Harvested = (Vec<RowMeta>, Vec<Vec<f32>>, BTreeMap<String, String>);

fn run(host: &HostModel, contents: &[&str], options: &HarvestOptions) -> Result<Harvested, Error> {
    let out = TempDir::new().unwrap();
    let go_on = &mut |_: &_| ControlFlow::Continue(());
    harvest(host, &texts(contents), hook(), options, out.path(), go_on)?;
    let store = open_store(out.path()).unwrap();
    let n = store.n_rows() as usize;
    let (mut rows, mut meta) = (vec![0.0; n * store.d_model()], vec![RowMeta::default(); n]);
    store.read_rows(0, &mut rows).unwrap();
    store.read_meta(0, &mut meta).unwrap();
    let rows = rows.chunks(store.d_model()).map(<[f32]>::to_vec).collect();
    Ok((meta, rows, store.provenance().unwrap().settings.clone()))
}

/// The rows of documents in contexts of five tokens, and the context of each.
fn expected_rows(
    documents: &[&[u32]],
    lead: Option<u32>,
    skip_positions: usize,
    keeps_special: bool,
) -> (Vec<RowMeta>, Vec<Vec<u32>>) {
    let (mut meta, mut contexts) = (vec![], vec![]);
    for (document, ids) in documents.iter().enumerate() {
        for ids in ids.chunks(if lead.is_some() { 4 } else { 5 }) {
            let ids: Vec<u32> = lead.iter().chain(ids).copied().collect();
            for (position, &token_id) in ids.iter().enumerate() {
                let is_lead = lead.is_some() && position == 0;
                let is_special = [UNK, BOS, EOS].contains(&token_id) && !is_lead;
                if position >= skip_positions && (keeps_special || !is_special) {
                    let (document, position) = (document as u32, position as u32);
                    meta.push(RowMeta { token_id, document, position });
                    contexts.push(ids.clone());
                }
            }
        }
    }
    (meta, contexts)
}

#[test]
fn every_policy_stores_the_rows_that_it_says() {
    // Two documents of characters, each with special tokens spelled out; the first begins with
    // the token that some policies put in front as well.
    let contents = ["<s>ab</s>cAab", "c</s></s>b"];
    let documents: [&[u32]; 2] = [&[BOS, A, B, EOS, C, CAPITAL, A, B], &[C, EOS, EOS, B]];
    let mut n_settings = 0;
    for puts in [false, true] {
        let folder = TempDir::new().unwrap();
        let host = characters(&folder, puts);
        for (bos, lead) in [
            (Bos::Auto, puts.then_some(BOS)),
            (Bos::Always, Some(BOS)),
            (Bos::Never, None),
            (Bos::Token(C), Some(C)),
        ] {
            for (special_tokens, name) in
                [(SpecialTokens::Dropped, "dropped"), (SpecialTokens::Kept, "kept")]
            {
                for skip_positions in [0, 1] {
                    n_settings += 1;
                    let options = HarvestOptions {
                        context_length: 5,
                        skip_positions,
                        bos,
                        special_tokens,
                        ..HarvestOptions::default()
                    };
                    let keeps = name == "kept";
                    let (meta, contexts) = expected_rows(&documents, lead, skip_positions, keeps);
                    let of = format!("{puts} {bos:?} {name} {skip_positions}");
                    let (got, rows, settings) = run(&host, &contents, &options).unwrap();
                    assert_eq!(got, meta, "{of}");
                    for ((row, meta), context) in rows.iter().zip(&meta).zip(&contexts) {
                        let ids: Vec<i64> = context.iter().map(|id| i64::from(*id)).collect();
                        let ids = Tensor::from_slice(&ids).unsqueeze(0);
                        let expected = host.activations(&ids, hook()).unwrap();
                        let expected = expected.get(0).get(i64::from(meta.position));
                        let difference = (Tensor::from_slice(row) - expected).abs().max();
                        assert!(difference.double_value(&[]) < 1e-5, "{of}: {meta:?}");
                    }
                    let lead = lead.map_or("none".to_owned(), |id| id.to_string());
                    let expected = [lead.as_str(), name, &skip_positions.to_string(), "5"];
                    let keys = ["bos", "special_tokens", "skip_positions", "context_length"];
                    assert_eq!(keys.map(|key| settings[key].as_str()), expected, "{of}");
                }
            }
        }
    }
    assert_eq!(n_settings, 32);
}

#[test]
fn a_policy_that_the_host_cannot_follow_is_refused() {
    let mut files = plain();
    files["tokenizer.json"]["added_tokens"] = json!([]);
    let folder = TempDir::new().unwrap();
    let host = host_in(folder.path(), &files).unwrap();
    let message = |bos: Bos| {
        let options = HarvestOptions { bos, ..HarvestOptions::default() };
        run(&host, &["abc"], &HarvestOptions { context_length: 8, ..options })
            .unwrap_err()
            .to_string()
    };
    assert_eq!(message(Bos::Always), "bos: expected a host with a bos token, got one without");
    assert_eq!(message(Bos::Token(20)), "bos: expected a token of the host, got 20");
}

#[test]
fn texts_that_leave_no_row_are_refused() {
    let folder = TempDir::new().unwrap();
    let host = characters(&folder, true);
    let options = HarvestOptions { context_length: 8, ..HarvestOptions::default() };
    let none = |contents: &[&str], options: &HarvestOptions| {
        run(&host, contents, options).unwrap_err().to_string()
    };
    let expected = |special: &str, n: usize| {
        format!(
            "texts: expected tokens after the first 1 positions of a context, special ones \
             {special}, got none in {n} tokens"
        )
    };
    assert_eq!(none(&["</s><s>", "<unk>"], &options), expected("dropped", 3));
    let never = HarvestOptions { bos: Bos::Never, ..options.clone() };
    assert_eq!(none(&["a", "", "b"], &never), expected("dropped", 2));
    let kept = HarvestOptions { special_tokens: SpecialTokens::Kept, ..never };
    assert_eq!(none(&["a"], &kept), expected("kept", 1));
    assert_eq!(
        run(&host, &["</s>"], &HarvestOptions { bos: Bos::Always, ..kept }).unwrap().0.len(),
        1
    );
}

#[test]
fn a_context_may_be_longer_than_the_text_and_the_lead_counts_to_its_length() {
    let folder = TempDir::new().unwrap();
    let host = characters(&folder, true);
    let options = HarvestOptions { context_length: 64, ..HarvestOptions::default() };
    let positions = |contents: &[&str], options: &HarvestOptions| -> Vec<u32> {
        run(&host, contents, options).unwrap().0.iter().map(|row| row.position).collect()
    };
    assert_eq!(positions(&["ab", "c"], &options), [1, 2, 1]);
    let short = HarvestOptions { context_length: 2, ..options.clone() };
    assert_eq!(positions(&["abc"], &short), [1, 1, 1]);
    // Tokens of the text alone count to `max_tokens`.
    let limited = HarvestOptions { context_length: 3, max_tokens: Some(3), ..options.clone() };
    assert_eq!(positions(&["abcA", "cab"], &limited), [1, 2, 1, 1, 2, 1]);
    let alone = HarvestOptions { context_length: 1, skip_positions: 0, ..options };
    let error = run(&host, &["abc"], &alone).unwrap_err().to_string();
    assert_eq!(error, "context_length: expected 2 to 64, got 1");
}

#[test]
fn tokens_that_the_host_lacks_are_refused() {
    let mut files = plain();
    let vocabulary = files["tokenizer.json"]["model"]["vocab"].as_object_mut().unwrap();
    vocabulary.insert("z".to_owned(), Value::from(97));
    let folder = TempDir::new().unwrap();
    let host = host_in(folder.path(), &files).unwrap();
    let options = HarvestOptions { context_length: 8, ..HarvestOptions::default() };
    let error = run(&host, &["acz"], &options).unwrap_err().to_string();
    assert_eq!(
        error,
        "tokens of the text: expected ids from 0 to 96 of the host, got 97 (`z`) in document 0"
    );
    // What is not taken need not be there.
    run(&host, &["acz"], &HarvestOptions { max_tokens: Some(2), ..options.clone() }).unwrap();
    let lead = HarvestOptions { bos: Bos::Token(97), ..options };
    assert_eq!(run(&host, &["ab"], &lead).unwrap_err().to_string(), error);
}
