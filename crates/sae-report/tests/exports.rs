//! Files for other tools against direct computations.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use flate2::read::GzDecoder;
use sae_report::{
    Error, ExportFormat, ExportNames, FeaturePages, SavedFeatures, Vocabulary, export_features,
};
use serde_json::{Value, json};

use crate::features::{
    BROKEN, N_FEATURES, N_ROWS, TEXTS, activation, order, record, set, token, vocabulary, write,
};

pub(crate) fn names() -> ExportNames {
    let text = |text: &str| text.to_owned();
    ExportNames {
        model: text("tiny-it"),
        layer: 3,
        hook: text("hook_resid_post"),
        set: text("mine-res-260"),
        description: text("Mine </script>"),
        release: text("mine"),
        title: text("A \"title\""),
        creator: text("A. Person"),
        creator_id: text("c1"),
        url: text("u"),
        dataset: text("prose"),
        created: text("2026-01-02T03:04:05Z"),
    }
}

/// A token as the tools show it.
fn shown(id: u32) -> String {
    match id {
        BROKEN => " âĢ".into(),
        id if id == BROKEN + 1 => "<bos>".into(),
        id if id == BROKEN + 2 => "<|outofrange|>".into(),
        id if id == BROKEN + 3 => " Zeb".into(),
        id if id == BROKEN + 4 => "ras".into(),
        id => TEXTS[id as usize].into(),
    }
}

/// Checks the activation of a row, whose own token has a gap of two before it.
fn check(found: &Value, row: u32, feature: u32) {
    let mut rows: Vec<Option<u32>> =
        (row.saturating_sub(3)..N_ROWS.min(row + 4)).map(Some).collect();
    let at = rows.iter().position(|of| *of == Some(row)).unwrap();
    rows.insert(at, None);
    let tokens: Vec<String> = rows
        .iter()
        .map(|row| row.map_or("[2 left out]".to_owned(), |row| shown(token(row))))
        .collect();
    assert_eq!(found["tokens"], json!(tokens));
    let values = rows.iter().map(|row| row.map_or(0.0, |row| activation(row, feature)));
    let found_values: Vec<f32> = serde_json::from_value(found["values"].clone()).unwrap();
    assert_eq!(found_values, values.collect::<Vec<f32>>());
    assert_eq!(found["qualifying_token_index"], at + 1);
}

#[test]
fn batches_of_saedashboard_hold_what_the_pages_show() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    let pages = SavedFeatures::open(folder.path()).unwrap();
    let out = folder.path().join("out");
    let made = export_features(&pages, ExportFormat::SaeDashboard, &names(), &out).unwrap();
    assert_eq!(made, out.join("tiny-it/3-mine-res-260"));
    assert_eq!(fs::read_dir(made.parent().unwrap()).unwrap().count(), 1);
    let mut number = 0;
    for batch in 0..3 {
        let file = File::open(made.join(format!("batch-{batch}.json"))).unwrap();
        let found: Value = serde_json::from_reader(file).unwrap();
        assert_eq!((&found["model_id"], &found["layer"]), (&json!("tiny-it"), &json!(3)));
        assert_eq!(found["sae_set"], "mine-res-260");
        assert!(found["sae_id_suffix"].is_null());
        for found in found["features"].as_array().unwrap() {
            check_feature(found, number);
            number += 1;
        }
    }
    assert_eq!(number, N_FEATURES);
    assert_eq!(fs::read_dir(&made).unwrap().count(), 3);
}

fn check_feature(found: &Value, feature: u32) {
    let (record, order) = (record(feature), order(feature));
    assert_eq!(found["feature_index"], feature);
    assert_eq!(found["frac_nonzero"], order.len() as f64 / f64::from(N_ROWS));
    assert_eq!(found["freq_hist_data_bar_heights"], json!(record.histogram.counts));
    let values: Vec<f32> =
        serde_json::from_value(found["freq_hist_data_bar_values"].clone()).unwrap();
    for (value, expected) in values.iter().zip([1.0 / 3.0, 1.0, 5.0 / 3.0]) {
        assert!((value - expected).abs() < 1e-6, "{values:?}");
    }
    assert_eq!(found["logits_hist_data_bar_heights"], json!([1, 2, 1]));
    let logits = |from: u32| (0..3).map(move |i| shown((feature + from + i) % 15));
    assert_eq!(found["pos_str"], json!(logits(0).collect::<Vec<_>>()));
    assert_eq!(found["neg_str"], json!(logits(5).collect::<Vec<_>>()));
    assert_eq!(found["pos_values"], json!([2.0, 1.0, 0.0]));
    assert_eq!(found["neuron_alignment_indices"], json!([feature % 7]));
    assert_eq!(
        (&found["neuron_alignment_values"], &found["neuron_alignment_l1"]),
        (&json!([0.5]), &json!([0.125]))
    );
    let near: Vec<u32> = (1..4).map(|i| (feature + 2 * i) % N_FEATURES).collect();
    assert_eq!(found["correlated_features_indices"], json!(near));
    let cosines: Vec<f32> =
        serde_json::from_value(found["correlated_features_l1"].clone()).unwrap();
    assert_eq!(cosines, [0.5, 0.25, 1.0 / 6.0]);
    assert_eq!(found["correlated_neurons_indices"], json!([]));
    assert_eq!((&found["n_prompts_total"], &found["n_tokens_in_prompt"]), (&json!(40), &json!(10)));
    let all = found["activations"].as_array().unwrap();
    let n_top = order.len().min(20);
    for (found, &row) in all.iter().zip(&order[..n_top]) {
        assert_eq!((&found["bin_min"], &found["bin_contains"]), (&json!(-1.0), &json!(-1.0)));
        assert_eq!(found["bin_max"].as_f64().unwrap() as f32, activation(order[0], feature));
        check(found, row, feature);
    }
    let mut rest = all[n_top..].iter();
    for quantile in record.quantiles.iter().rev() {
        for context in &quantile.contexts {
            let found = rest.next().unwrap();
            let number = |key: &str| found[key].as_f64().unwrap();
            assert_eq!(
                (number("bin_min") as f32, number("bin_max") as f32),
                (quantile.from, quantile.to)
            );
            assert_eq!(number("bin_contains"), quantile.n as f64 / f64::from(N_ROWS));
            check(found, context.row as u32, feature);
        }
    }
    assert!(rest.next().is_none());
}

/// The lines of a compressed file.
pub(crate) fn lines(path: &Path) -> Vec<Value> {
    let mut text = String::new();
    GzDecoder::new(File::open(path).unwrap()).read_to_string(&mut text).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Checks the activations of a context against those of SAEDashboard's; returns the largest.
fn check_activations(found: &Value, of: &Value) -> f64 {
    assert_eq!(found["id"].as_str().unwrap().len(), 25);
    assert_eq!((&found["tokens"], &found["values"]), (&of["tokens"], &of["values"]));
    assert_eq!((&found["binMin"], &found["binContains"]), (&of["bin_min"], &of["bin_contains"]));
    assert_eq!(found["qualifyingTokenIndex"], of["qualifying_token_index"]);
    let values: Vec<f64> = serde_json::from_value(of["values"].clone()).unwrap();
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    assert_eq!((&found["maxValue"], &found["minValue"]), (&json!(largest), &json!(least)));
    let place = values.iter().position(|value| *value == largest);
    assert_eq!(found["maxValueTokenIndex"], json!(place));
    largest
}

#[test]
fn neuronpedia_gets_the_same_features_and_their_sources() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    let pages = SavedFeatures::open(folder.path()).unwrap();
    let at = |name: &str| folder.path().join(name);
    let dashboard =
        export_features(&pages, ExportFormat::SaeDashboard, &names(), &at("a")).unwrap();
    let made = export_features(&pages, ExportFormat::Neuronpedia, &names(), &at("b")).unwrap();
    let line = |name: &str| -> Value {
        serde_json::from_str(&fs::read_to_string(made.join(name)).unwrap()).unwrap()
    };
    assert_eq!(line("release.jsonl")["description"], "A \"title\"");
    assert_eq!(line("model.jsonl")["instruct"], true);
    assert_eq!(line("sourceset.jsonl")["releaseName"], line("release.jsonl")["name"]);
    let source = line("source.jsonl");
    assert_eq!((&source["id"], &source["num_prompts"]), (&json!("3-mine-res-260"), &json!(40)));
    let mut ids = std::collections::BTreeSet::new();
    for batch in 0..3 {
        let file = File::open(dashboard.join(format!("batch-{batch}.json"))).unwrap();
        let expected: Value = serde_json::from_reader(file).unwrap();
        let expected = expected["features"].as_array().unwrap();
        let features = lines(&made.join(format!("features/batch-{batch}.jsonl.gz")));
        let activations = lines(&made.join(format!("activations/batch-{batch}.jsonl.gz")));
        let mut activations = activations.iter();
        assert_eq!(features.len(), expected.len());
        for (found, expected) in features.iter().zip(expected) {
            assert_eq!(found["index"], expected["feature_index"].to_string());
            assert_eq!(found["layer"], "3-mine-res-260");
            assert_eq!(found["hookName"], "blocks.3.hook_resid_post");
            for (key, value) in found.as_object().unwrap() {
                assert!(expected.get(key).is_none_or(|of| of == value || key == "vector"), "{key}");
            }
            let mut most = 0.0f64;
            for of in expected["activations"].as_array().unwrap() {
                let found = activations.next().unwrap();
                assert!(ids.insert(found["id"].to_string()), "ids differ");
                most = most.max(check_activations(found, of));
            }
            assert_eq!(found["maxActApprox"], most);
        }
        assert!(activations.next().is_none());
    }
    // A set of other layers has a place beside it, and nothing is replaced.
    let next = ExportNames { layer: 4, ..names() };
    export_features(&pages, ExportFormat::Neuronpedia, &next, &at("b")).unwrap();
    let taken = export_features(&pages, ExportFormat::Neuronpedia, &next, &at("b")).unwrap_err();
    assert!(taken.to_string().contains("which has files"), "{taken}");
}

#[test]
fn a_batch_of_dead_features_has_no_file_of_activations() {
    let folder = tempfile::tempdir().unwrap();
    let mut pages = FeaturePages::create(folder.path(), vocabulary(), "key").unwrap();
    pages.add(record(5)).unwrap();
    pages.finish(&sae_config::FeatureSet { n_features: 1, ..set() }, &[]).unwrap();
    // The number of a feature is that of its place.
    let data = folder.path().join("features-data/features");
    let text = fs::read_to_string(data.join("0.js")).unwrap();
    assert!(text.starts_with("softsae(\"features/0\","));
    let pages = SavedFeatures::open(folder.path()).unwrap();
    let out = folder.path().join("out");
    let made = export_features(&pages, ExportFormat::Neuronpedia, &names(), &out).unwrap();
    assert_eq!(lines(&made.join("features/batch-0.jsonl.gz"))[0]["maxActApprox"], 0.0);
    assert!(!made.join("activations").exists());
}

#[test]
fn what_no_tool_can_show_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    write(&at("pages"));
    let pages = SavedFeatures::open(&at("pages")).unwrap();
    let refused = |pages: &SavedFeatures, names: &ExportNames, words: &str| {
        let error = export_features(pages, ExportFormat::SaeDashboard, names, &at("out"));
        let error = error.unwrap_err();
        assert!(matches!(error, Error::Export { .. }), "{error}");
        assert!(error.to_string().contains(words), "{error}");
        assert!(!at("out").exists());
    };
    for wrong in ["", "../up", ".hidden", "a/b", "sp ace", "<script>"] {
        let wrong = wrong.to_owned();
        refused(&pages, &ExportNames { model: wrong.clone(), ..names() }, "--model: expected");
        refused(&pages, &ExportNames { set: wrong.clone(), ..names() }, "--set: expected");
        refused(&pages, &ExportNames { release: wrong, ..names() }, "--release: expected");
    }
    let mut plain = FeaturePages::create(&at("plain"), Vocabulary::default(), "key").unwrap();
    (0..3).for_each(|feature| plain.add(record(feature)).unwrap());
    plain.finish(&sae_config::FeatureSet { n_features: 3, ..set() }, &[]).unwrap();
    refused(&SavedFeatures::open(&at("plain")).unwrap(), &names(), "made with --host");

    // Data of another version, cut off, or not those that they say.
    let open = || SavedFeatures::open(&at("pages")).map(|_| ()).unwrap_err().to_string();
    let index = at("pages/features-data/index.js");
    let whole = fs::read_to_string(&index).unwrap();
    for (text, words) in [
        (whole.replace("\"version\":3", "\"version\":2"), "expected \"softsae-features\" 3"),
        (whole[..whole.len() / 2].to_owned(), "index.js: expected one call"),
        (whole.replace("\"n_active\"", "\"n_passive\""), "n_passive"),
    ] {
        fs::write(&index, text).unwrap();
        let error = open();
        assert!(error.contains(words), "{error}");
    }
    fs::write(&index, whole.replace("\"n_features\":260", "\"n_features\":250")).unwrap();
    assert!(open().contains("index.js: expected 250 features, got 260"), "{}", open());
    fs::write(&index, &whole).unwrap();
    let features = |number: u32| at(&format!("pages/features-data/features/{number}.js"));
    let last = fs::read_to_string(features(4)).unwrap();
    fs::write(features(3), last.replace("features/4", "features/3")).unwrap();
    let error = SavedFeatures::open(&at("pages")).unwrap().read(3).unwrap_err().to_string();
    assert!(error.contains("features/3.js: expected 64 features, got 4"), "{error}");
    fs::remove_file(&index).unwrap();
    assert!(open().contains("index.js"));
}
