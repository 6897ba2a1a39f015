//! Contexts of documents: one each or packed, resumed anywhere, as a plain reference cuts them.

use std::ops::ControlFlow;

use sae_config::{CorpusConfig, Packing, Separator};
use sae_data::{RowMeta, open_store};
use sae_hosts::corpus::{self, Documents, Texts};
use sae_hosts::{
    Context, ContextPosition, Contexts, Cut, HarvestOptions, HostModel, Text, harvest,
    harvest_corpus,
};
use serde_json::json;
use tempfile::TempDir;

use crate::corpora::config;
use crate::tokenizer_folders::{host_in, plain};

const BOS: u32 = 1;
const EOS: u32 = 2;

/// A host of characters with `<s>` and `</s>`.
fn host() -> (TempDir, HostModel) {
    let mut files = plain();
    files["tokenizer.json"]["model"]["merges"] = json!([]);
    let tokens = json!({"bos_token": "<s>", "eos_token": "</s>"});
    files.insert("tokenizer_config.json".to_owned(), tokens);
    let folder = TempDir::new().unwrap();
    let host = host_in(folder.path(), &files).unwrap();
    (folder, host)
}

fn texts() -> Vec<Text> {
    ["abcab", "", "c", "abcabcabcabca", "bb", "cacb"]
        .map(|content| Text { name: "test".to_owned(), content: content.to_owned() })
        .to_vec()
}

/// The contexts of streams of (token, document), cut every `length` tokens.
fn cut(streams: &[Vec<(u32, u32)>], length: usize, lead: Option<u32>) -> Vec<Context> {
    let fresh = length - usize::from(lead.is_some());
    let mut contexts = Vec::new();
    for stream in streams {
        for tokens in stream.chunks(fresh) {
            let lead = lead.map(|lead| (lead, tokens[0].1));
            let all: Vec<(u32, u32)> = lead.into_iter().chain(tokens.iter().copied()).collect();
            contexts.push(Context {
                ids: all.iter().map(|token| token.0).collect(),
                documents: all.iter().map(|token| token.1).collect(),
                counted: vec![true; all.len()],
            });
        }
    }
    contexts
}

fn all(contexts: &mut Contexts<'_>, host: &HostModel) -> Vec<Context> {
    std::iter::from_fn(|| contexts.next(host).unwrap()).collect()
}

#[test]
fn contexts_are_those_of_a_plain_reference_and_go_on_anywhere() {
    let (_folder, host) = host();
    let texts = texts();
    let ids = |text: &Text| host.tokenizer().unwrap().encode(&text.content).unwrap();
    for length in [2, 3, 5, 64] {
        for lead in [None, Some(BOS)] {
            for packing in [Packing::Documents, Packing::Packed] {
                for after in [None, Some(EOS)]
                    .into_iter()
                    .filter(|after| packing == Packing::Packed || after.is_none())
                {
                    let settings = Cut { packing, after, ..Cut::new(length, lead) };
                    let documents = texts.iter().enumerate().map(|(n, text)| {
                        let tokens = ids(text).into_iter().chain(after);
                        tokens.map(|id| (id, n as u32)).collect::<Vec<_>>()
                    });
                    let streams: Vec<Vec<(u32, u32)>> = match packing {
                        Packing::Documents => documents.collect(),
                        Packing::Packed => vec![documents.flatten().collect()],
                    };
                    let mut expected = cut(&streams, length, lead);
                    for context in &mut expected {
                        for (counted, id) in context.counted.iter_mut().zip(&context.ids) {
                            *counted = Some(*id) != after;
                        }
                        context.counted[0] = context.counted[usize::from(lead.is_some())];
                    }
                    let fresh = || Contexts::new(Box::new(Texts::new(&texts)), settings).unwrap();
                    let mut contexts = fresh();
                    let mut positions = vec![contexts.position()];
                    while contexts.next(&host).unwrap().is_some() {
                        positions.push(contexts.position());
                    }
                    assert_eq!(contexts.n_tokens(), Some(25));
                    assert_eq!(contexts.tokens_seen(), 25);
                    assert_eq!(all(&mut fresh(), &host), expected, "{settings:?}");
                    for (n, position) in positions.iter().enumerate() {
                        let text = serde_json::to_string(position).unwrap();
                        let position: ContextPosition = serde_json::from_str(&text).unwrap();
                        let mut again = fresh();
                        again.resume(&position, &host).unwrap();
                        assert_eq!(again.position(), position);
                        assert_eq!(all(&mut again, &host), expected[n..], "{settings:?} from {n}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_separator_before_documents_is_not_doubled_by_the_lead() {
    let (_folder, host) = host();
    let texts = texts();
    let settings = Cut { packing: Packing::Packed, before: Some(BOS), ..Cut::new(6, Some(BOS)) };
    let contexts = || Contexts::new(Box::new(Texts::new(&texts)), settings).unwrap();
    let ids: Vec<Vec<u32>> = all(&mut contexts(), &host).into_iter().map(|c| c.ids).collect();
    let (a, b, c) = (5, 6, 7);
    assert_eq!(ids[0], [BOS, a, b, c, a, b]);
    // Nothing is left of the empty document where it begins a context.
    assert_eq!(ids[1], [BOS, c, BOS, a, b, c]);
    let mut whole = contexts();
    let mut positions = vec![whole.position()];
    while whole.next(&host).unwrap().is_some() {
        positions.push(whole.position());
    }
    for (n, position) in positions.iter().enumerate() {
        let mut again = contexts();
        again.resume(position, &host).unwrap();
        let rest: Vec<Vec<u32>> = all(&mut again, &host).into_iter().map(|c| c.ids).collect();
        assert_eq!(rest, ids[n..], "from {n}");
    }
}

#[test]
fn limits_are_of_each_document_and_of_all() {
    let (_folder, host) = host();
    let texts = texts();
    let taken = |settings: Cut| {
        let mut contexts = Contexts::new(Box::new(Texts::new(&texts)), settings).unwrap();
        let n: usize = all(&mut contexts, &host).iter().map(|context| context.ids.len()).sum();
        assert_eq!(contexts.tokens_seen(), n as u64);
        assert_eq!((contexts.n_tokens().unwrap_or(n as u64), contexts.fraction()), (n as u64, 1.0));
        n
    };
    for packing in [Packing::Documents, Packing::Packed] {
        let base = Cut { packing, ..Cut::new(4, None) };
        assert_eq!(taken(base), 25);
        assert_eq!(taken(Cut { max_document_tokens: 3, ..base }), 3 + 1 + 3 + 2 + 3);
        for max_tokens in [1, 5, 6, 24, 25, 26] {
            assert_eq!(taken(Cut { max_tokens, ..base }), 25.min(max_tokens as usize));
        }
    }
}

#[test]
fn parts_of_a_text_that_count_are_marked_token_by_token() {
    #[derive(Debug)]
    struct One(Option<corpus::Document>);

    impl Documents for One {
        fn next(&mut self) -> Result<Option<corpus::Document>, sae_hosts::Error> {
            Ok(self.0.take())
        }

        fn position(&self) -> corpus::DocumentPosition {
            corpus::DocumentPosition::default()
        }

        fn resume(&mut self, _: &corpus::DocumentPosition) -> Result<(), sae_hosts::Error> {
            Ok(())
        }

        fn describe(&self, _: &mut sae_data::Provenance) {}

        fn fraction(&self) -> f64 {
            0.5
        }

        fn is_last(&self) -> bool {
            self.0.is_none()
        }
    }

    let (_folder, host) = host();
    let content =
        corpus::Content::Parts { text: "</s>abc</s>ab".to_owned(), counted: vec![4..6, 12..13] };
    let document = corpus::Document { number: 7, name: "one".to_owned(), content };
    let mut contexts = Contexts::new(Box::new(One(Some(document))), Cut::new(64, None)).unwrap();
    let context = contexts.next(&host).unwrap().unwrap();
    assert_eq!(context.ids, [EOS, 5, 6, 7, EOS, 5, 6]);
    assert_eq!(context.counted, [false, true, true, false, false, false, true]);
    assert_eq!(context.documents, [7; 7]);
}

/// Metadata and activations of a store.
fn rows(path: &std::path::Path) -> (Vec<RowMeta>, Vec<f32>) {
    let store = open_store(path).unwrap();
    let n = store.n_rows() as usize;
    let (mut meta, mut rows) = (vec![RowMeta::default(); n], vec![0.0; n * store.d_model()]);
    store.read_meta(0, &mut meta).unwrap();
    store.read_rows(0, &mut rows).unwrap();
    (meta, rows)
}

#[test]
fn a_folder_of_texts_gives_the_rows_of_the_texts() {
    let (_folder, host) = host();
    let folder = TempDir::new().unwrap();
    let texts: Vec<Text> = texts().into_iter().filter(|text| !text.content.is_empty()).collect();
    std::fs::create_dir(folder.path().join("texts")).unwrap();
    let lines: Vec<String> =
        texts.iter().map(|text| json!({"text": text.content}).to_string()).collect();
    for (n, text) in texts.iter().enumerate() {
        std::fs::write(folder.path().join(format!("texts/{n}.txt")), &text.content).unwrap();
    }
    std::fs::write(folder.path().join("lines.jsonl"), lines.join("\n")).unwrap();
    let options = HarvestOptions { context_length: 4, batch_size: 2, ..HarvestOptions::default() };
    let hook = "resid_post.1".parse().unwrap();
    let at = |name: &str| folder.path().join(name);
    let go_on = &mut |_: &_| ControlFlow::Continue(());
    harvest(&host, &texts, hook, &options, &at("store"), go_on).unwrap();
    let run = |corpus: &CorpusConfig, out: &str, stop_after: usize| {
        let documents = corpus::open(corpus, host.tokenizer().unwrap()).unwrap();
        let mut n = 0;
        harvest_corpus(&host, documents, corpus, hook, &options, &at(out), &mut |_| {
            n += 1;
            if n > stop_after { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
    };
    for name in ["texts", "lines.jsonl"] {
        let corpus = config(&at(name));
        let out = format!("store-of-{name}");
        assert!(run(&corpus, &out, 1).is_err());
        run(&corpus, &out, usize::MAX).unwrap();
        assert_eq!(rows(&at(&out)), rows(&at("store")));
    }
    let packed = CorpusConfig {
        packing: Packing::Packed,
        separator: Separator::Eos,
        ..config(&at("lines.jsonl"))
    };
    run(&packed, "packed", usize::MAX).unwrap();
    let settings = open_store(&at("packed")).unwrap().provenance().unwrap().settings.clone();
    let keys = ["packing", "token_after_documents", "corpus", "corpus_format", "corpus_field"];
    let expected = ["packed", "2", "lines.jsonl", "jsonl", "text"];
    assert_eq!(keys.map(|key| settings[key].as_str()), expected);
    let (meta, _) = rows(&at("packed"));
    assert!(meta.iter().all(|row| row.token_id != EOS), "separators are no rows");
    assert!(meta.iter().any(|row| row.document == 1 && row.position == 2), "{meta:?}");
    // Another corpus does not go on with a store.
    assert!(run(&packed, "other", 0).is_err());
    std::fs::write(at("lines.jsonl"), "{\"text\": \"abab\"}").unwrap();
    let error = run(&packed, "packed", usize::MAX).unwrap_err().to_string();
    assert!(error.contains("provenance.settings.corpus_"), "{error}");
    // One without rows has nothing to go on with, and begins anew.
    run(&packed, "other", usize::MAX).unwrap();
}
