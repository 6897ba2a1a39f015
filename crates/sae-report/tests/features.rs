//! Features whose activations are known, and the files of their pages.

use std::fs;
use std::path::{Path, PathBuf};

use sae_config::{
    Attribution, Component, Confusion, ContextToken, FeatureContext, FeatureKHat, FeatureRecord,
    FeatureSet, HeldOut, Histogram, Neighbor, Quantile, TokenLogit,
};
use sae_report::{FeaturePages, Vocabulary};
use serde_json::Value;

pub(crate) const N_FEATURES: u32 = 260;
pub(crate) const N_ROWS: u32 = 400;

/// Texts of tokens, among them such as might break a page.
pub(crate) const TEXTS: [&str; 12] = [
    " the",
    " King",
    "dom",
    "\n",
    "<script>hacked=1</script>",
    "\"';--></style>",
    "\u{202e}abc",
    "\u{7}\u{200b}",
    "<img src=x onerror=hacked=2>",
    "  ",
    "é",
    "{{title}}${hacked=3}",
];

/// The token that stands for a byte that is no character.
pub(crate) const BROKEN: u32 = TEXTS.len() as u32;

/// A special token.
const SPECIAL: u32 = BROKEN + 1;

/// A token without a text.
const UNKNOWN: u32 = SPECIAL + 1;

/// A word of two tokens, which stands in one place.
pub(crate) const WORD: [u32; 2] = [UNKNOWN + 1, UNKNOWN + 2];

pub(crate) fn token(row: u32) -> u32 {
    match row {
        100 | 101 => WORD[row as usize - 100],
        _ => row % (UNKNOWN + 1),
    }
}

/// The activation of a feature; feature 5 and its like are dead.
pub(crate) fn activation(row: u32, feature: u32) -> f32 {
    let mixed = row.wrapping_mul(2_654_435_761).wrapping_add(feature.wrapping_mul(40_503)) % 977;
    if feature % 50 == 5 || mixed > 40 + feature { 0.0 } else { 0.25 + mixed as f32 / 64.0 }
}

/// The rows in which a feature is active, the largest activation first.
pub(crate) fn order(feature: u32) -> Vec<u32> {
    let mut rows: Vec<u32> = (0..N_ROWS).filter(|row| activation(*row, feature) > 0.0).collect();
    rows.sort_by(|a, b| activation(*b, feature).total_cmp(&activation(*a, feature)));
    rows
}

fn context(row: u32, feature: u32) -> FeatureContext {
    let start = row.saturating_sub(3);
    let tokens = (start..N_ROWS.min(row + 4)).map(|at| ContextToken {
        id: token(at),
        value: activation(at, feature),
        gap: if at == row { 2 } else { 0 },
        is_outlier: at == row + 1,
    });
    FeatureContext {
        row: row.into(),
        place: Some([row / 100, row % 100]),
        value: activation(row, feature),
        at: (row - start) as usize,
        tokens: tokens.collect(),
        patches: Vec::new(),
    }
}

/// The rows shown around a row.
pub(crate) fn window(row: u32) -> std::ops::Range<u32> {
    row.saturating_sub(3)..N_ROWS.min(row + 4)
}

/// Windows without any activation, around rows 5, 15, …
pub(crate) fn pool() -> Vec<FeatureContext> {
    let quiet = |number: u32| {
        let mut found = context(10 * number + 5, 0);
        found.value = 0.0;
        found.tokens.iter_mut().for_each(|token| token.value = 0.0);
        found
    };
    (0..N_ROWS / 10).map(quiet).collect()
}

/// Contexts after those that are shown, and windows in which the feature is not active.
fn held_out(feature: u32, order: &[u32]) -> HeldOut {
    let n = order.len();
    let others = order.iter().enumerate().skip(20).step_by(3).take(9);
    let active = others.map(|(at, row)| (4 - 5 * at / n, context(*row, feature)));
    let lacks = |number: &u32| window(10 * number + 5).all(|row| activation(row, feature) == 0.0);
    let inactive = (0..N_ROWS / 10).filter(lacks).take(8);
    HeldOut { active: active.collect(), inactive: inactive.collect() }
}

/// What the classifier tells of a feature.
pub(crate) fn n_gram(feature: u32) -> Option<Confusion> {
    let found = Confusion {
        true_positives: feature % 7,
        false_negatives: 1,
        false_positives: 2,
        true_negatives: feature % 3,
        unanswered: 0,
    };
    (feature % 50 != 5).then_some(found)
}

pub(crate) fn record(feature: u32) -> FeatureRecord {
    let order = order(feature);
    let values: Vec<f32> = order.iter().map(|row| activation(*row, feature)).collect();
    let near = |by: u32| {
        (1..4).map(move |i| Neighbor {
            feature: (feature + i * by) % N_FEATURES,
            value: 1.0 / i as f32,
        })
    };
    let logits = |from: u32| {
        (0..3).map(move |i| TokenLogit {
            id: (feature + from + i) % (UNKNOWN + 1),
            value: 2.0 - i as f32,
        })
    };
    let chunk = order.len().div_ceil(5).max(1);
    let quantile = |rows: &[u32]| Quantile {
        from: rows.last().map_or(0.0, |row| activation(*row, feature)),
        to: rows.first().map_or(0.0, |row| activation(*row, feature)),
        n: rows.len() as u64,
        contexts: rows.iter().take(2).map(|row| context(*row, feature)).collect(),
    };
    let mut quantiles: Vec<Quantile> = order.chunks(chunk).map(quantile).collect();
    quantiles.resize(5, Quantile::default());
    quantiles.reverse();
    FeatureRecord {
        feature,
        n_active: order.len() as u64,
        mean: values.iter().map(|v| f64::from(*v)).sum::<f64>() / values.len().max(1) as f64,
        max: values.first().copied().unwrap_or_default(),
        decoder_norm: 1.0 + feature as f32 / 1000.0,
        components: vec![Component { dimension: feature % 7, value: 0.5, share: 0.125 }],
        histogram: Histogram { from: 0.0, to: 2.0, counts: vec![3, 0, order.len() as u64] },
        top: order.iter().take(20).map(|row| context(*row, feature)).collect(),
        quantiles,
        cosine: near(1).collect(),
        pearson: near(2).collect(),
        pearson_cosine: near(2).map(|near| near.value / 2.0).collect(),
        jaccard: near(3).collect(),
        attribution: Some(Attribution {
            promoted: logits(0).collect(),
            suppressed: logits(5).collect(),
            histogram: Histogram { from: -1.0, to: 1.0, counts: vec![1, 2, 1] },
        }),
        k_hat: Some(FeatureKHat { mean: 31.0, correlation: (feature > 0).then_some(0.25) }),
        held_out: held_out(feature, &order),
        n_gram: n_gram(feature),
    }
}

pub(crate) fn set() -> FeatureSet {
    FeatureSet {
        checkpoint: "runs/<title><script>hacked=4".into(),
        checkpoint_hash: "c0".into(),
        architecture: "soft".into(),
        store: "stores/\"held out\" {{script}}".into(),
        store_hash: "5e".into(),
        host: Some("tiny".into()),
        hook_point: Some("resid_post.3".into()),
        n_rows: N_ROWS.into(),
        n_contexts: 40,
        n_features: N_FEATURES as usize,
        l0: 12.5,
        n_coactivation_rows: 100,
        k_hat: Some([32.0, 4.0]),
        has_tokens: true,
        notes: vec!["<b>a note</b>".into()],
        ..FeatureSet::default()
    }
}

pub(crate) fn vocabulary() -> Vocabulary {
    let texts = TEXTS.map(|text| text.as_bytes().to_vec());
    let others = [vec![b' ', 0xe2, 0x80], b"<bos>".to_vec()];
    let known = (0..).zip(texts.into_iter().chain(others));
    let word = WORD.into_iter().zip([b" Zeb".to_vec(), b"ras".to_vec()]);
    let spelling = |id| (id == BROKEN).then(|| "ĠâĢ".to_owned());
    Vocabulary::new(known.chain(word), [SPECIAL]).with_spelling(spelling)
}

/// Writes pages of all features.
pub(crate) fn write(folder: &Path) -> PathBuf {
    let mut pages = FeaturePages::create(folder, vocabulary(), "key").unwrap();
    (0..N_FEATURES).for_each(|feature| pages.add(record(feature)).unwrap());
    pages.finish(&set(), &pool()).unwrap()
}

/// What a file of data gives, under its name.
pub(crate) fn data(folder: &Path, name: &str) -> Value {
    let text = fs::read_to_string(folder.join(format!("features-data/{name}.js"))).unwrap();
    let start = format!("softsae({name:?},");
    let json = text.strip_prefix(&start).and_then(|rest| rest.strip_suffix(");\n")).unwrap();
    serde_json::from_str(json).unwrap()
}

#[test]
fn files_hold_what_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let page = write(folder.path());
    let html = fs::read_to_string(&page).unwrap();
    assert!(html.starts_with("<!doctype html>") && html.trim_end().ends_with("</html>"));
    assert!(html.contains("<title>&lt;title&gt;&lt;script&gt;hacked=4 · soft"));
    assert_eq!(html.matches("<script").count(), 1);
    let without = html.replace("http://www.w3.org/2000/svg", "");
    for mark in ["{{", "http://", "https://", "@import", "url("] {
        assert!(!without.contains(mark), "the page holds {mark}");
    }
    let index = data(folder.path(), "index");
    assert_eq!(index["set"], serde_json::to_value(set()).unwrap());
    for feature in [0, 5, 63, 64, 259u32] {
        let at = feature as usize;
        let order = order(feature);
        let records = data(folder.path(), &format!("features/{}", feature / 64));
        let found = &records[at % 64];
        assert_eq!(index["columns"]["n_active"][at], order.len());
        assert_eq!(found["n_active"], order.len());
        assert_eq!(found["top"].as_array().unwrap().len(), order.len().min(20));
        for (context, &row) in found["top"].as_array().unwrap().iter().zip(&order) {
            assert_eq!(context[0], row);
            assert_eq!(context[2].as_f64().unwrap() as f32, activation(row, feature));
            let start = row.saturating_sub(3);
            assert_eq!(context[3], row - start);
            let ids: Vec<u32> = (start..N_ROWS.min(row + 4)).map(token).collect();
            assert_eq!(context[4], serde_json::json!(ids));
            for other in context[5].as_array().unwrap() {
                let at = start + other[0].as_u64().unwrap() as u32;
                assert_eq!(other[1].as_f64().unwrap() as f32, activation(at, feature));
            }
        }
    }
    assert_eq!(
        data(folder.path(), "tokens")["texts"][BROKEN as usize],
        serde_json::json!([32, 226, 128])
    );
}
