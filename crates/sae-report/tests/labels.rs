//! Labels of judges on the pages.

use std::fs;

use sae_config::{Confusion, FeatureLabels, Judged};
use sae_report::{Error, FeaturePages, SavedFeatures};
use serde_json::{Value, json};

use crate::browser::Browser;
use crate::features::{N_FEATURES, n_gram, pool, record, set, vocabulary, write};

fn answers(hits: u32, rejections: u32) -> Confusion {
    Confusion {
        true_positives: hits,
        false_negatives: 10 - hits,
        false_positives: 10 - rejections,
        true_negatives: rejections,
        unanswered: 1,
    }
}

fn labels() -> FeatureLabels {
    let judged = |model: &str, label: Option<&str>, detection| Judged {
        model: model.into(),
        label: label.map(str::to_owned),
        detection,
        fuzzing: detection.map(|_| answers(5, 6)),
    };
    FeatureLabels::from([
        (
            7,
            judged("big/judge", Some("Verbs of <img src=x onerror=hacked=5>"), Some(answers(9, 8))),
        ),
        (100, judged("small", Some("words that a KING says\u{202e}"), Some(answers(10, 10)))),
        (123, judged("big/judge", None, None)),
        (259, judged("big/judge", Some("verbs"), Some(answers(2, 1)))),
    ])
}

#[test]
fn labels_are_kept_with_the_pages_they_are_of() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    let open = || SavedFeatures::open(folder.path()).unwrap();
    assert_eq!(open().labels().unwrap(), FeatureLabels::new());
    open().write_labels(&labels()).unwrap();
    assert_eq!(open().labels().unwrap(), labels());
    // Made again they keep them, made of something else they do not.
    write(folder.path());
    assert_eq!(open().labels().unwrap(), labels());
    let mut pages = FeaturePages::create(folder.path(), vocabulary(), "key").unwrap();
    (0..N_FEATURES).for_each(|feature| pages.add(record(feature)).unwrap());
    let other = sae_config::FeatureSet { checkpoint_hash: "c1".into(), ..set() };
    pages.finish(&other, &pool()).unwrap();
    assert_eq!(open().labels().unwrap(), FeatureLabels::new());
    for (wrong, expected) in [
        (
            "softsae(\"labels\",{\"judges\":[],\"features\":{\"1\":[0,null,null,null]}});\n",
            "expected labels",
        ),
        ("softsae(\"labels\",{});\n", "expected data of feature pages"),
    ] {
        fs::write(folder.path().join("features-data/labels.js"), wrong).unwrap();
        let error = open().labels().unwrap_err();
        assert!(matches!(error, Error::Pages { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

const ROWS: &str =
    "[...document.querySelectorAll('#features tbody th')].map((th) => Number(th.textContent))";

#[test]
fn labels_are_shown_searched_and_sorted() {
    let Some(mut browser) = Browser::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let page = write(folder.path());
    SavedFeatures::open(folder.path()).unwrap().write_labels(&labels()).unwrap();
    browser.open(&page);
    browser.until("document.querySelectorAll('#features tbody tr').length === 100");
    let click = |name: &str| {
        format!(
            "[...document.querySelectorAll('#features thead button')].find((b) => b.textContent.startsWith('{name}')).click()"
        )
    };
    browser.value(&click("detection"));
    assert_eq!(browser.value(&format!("{ROWS}.slice(0, 3)")), json!([100, 7, 259]));
    let cell = "[...document.querySelectorAll('#features tbody tr')][1].children";
    let shown = browser.value(&format!("[...{cell}].map((td) => td.textContent)"));
    assert!(shown.as_array().unwrap().contains(&json!("0.85")), "{shown}");
    assert!(shown.to_string().contains("Verbs of <img src=x onerror=hacked=5>"), "{shown}");
    browser.value(&click("n-grams"));
    let score = |feature: u32| n_gram(feature).and_then(|of| of.balanced_accuracy());
    let mut best: Vec<u32> = (0..N_FEATURES).filter(|f| score(*f).is_some()).collect();
    best.sort_by(|a, b| score(*b).partial_cmp(&score(*a)).unwrap().then(a.cmp(b)));
    let found: Vec<u32> = serde_json::from_value(browser.value(ROWS)).unwrap();
    assert_eq!(found[..50], best[..50]);

    let set = |browser: &mut Browser, selector: &str, value: &str, event: &str| {
        browser.value(&format!(
            "(() => {{ const it = document.querySelector({}); it.value = {}; it.dispatchEvent(new Event({})); }})()",
            json!(selector), json!(value), json!(event)
        ))
    };
    set(&mut browser, "fieldset select", "label", "change");
    set(&mut browser, "#search", "verbs", "input");
    browser.until("document.getElementById('count').textContent.includes(' of 2 features')");
    let mut found: Vec<u32> = serde_json::from_value(browser.value(ROWS)).unwrap();
    found.sort_unstable();
    assert_eq!(found, [7, 259]);
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn a_feature_page_shows_its_label_and_scores() {
    let Some(mut browser) = Browser::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let page = write(folder.path());
    SavedFeatures::open(folder.path()).unwrap().write_labels(&labels()).unwrap();
    browser.open(&page);
    browser.until("document.querySelectorAll('#features tbody tr').length === 100");
    for (feature, label, rows) in [
        (7, Some("Verbs of <img src=x onerror=hacked=5> · by big/judge"), ["0.85", "0.55"]),
        (100, Some("words that a KING saysU+202E · by small"), ["1", "0.55"]),
    ] {
        browser.value(&format!("location.hash = '#feature={feature}'"));
        browser.until(&format!(
            "document.getElementById('heading')?.textContent === 'Feature {feature}'"
        ));
        let shown = browser.value("document.querySelector('.label')?.textContent ?? null");
        assert_eq!(shown, json!(label));
        let table = "[...document.querySelectorAll('section')].find((s) => s.textContent.startsWith('How well')).querySelectorAll('tbody tr')";
        let found = browser.value(&format!(
            "[...{table}].map((tr) => [...tr.children].map((td) => td.textContent))"
        ));
        for (row, expected) in rows.iter().enumerate() {
            assert_eq!(found[row][1], *expected, "{found}");
        }
        assert_eq!((&found[1][2], &found[1][3]), (&json!("5 of 10"), &json!("4 of 10")));
        assert_eq!(found[1][4], "1");
        assert_eq!(found[2][1].is_string(), n_gram(feature).is_some());
    }
    assert_eq!(browser.value("typeof hacked"), "undefined");
    assert_eq!(browser.value("document.querySelectorAll('img').length"), 0);
    browser.value("location.hash = '#feature=123'");
    browser.until("document.querySelector('.label')?.textContent.startsWith('No label')");
    assert_eq!(browser.barriers(), Vec::<String>::new());
    let exported: Value =
        serde_json::from_str(&browser.text("(pins.all.set(7, ''), exported())")).unwrap();
    assert_eq!(exported["features"][0]["label"], "Verbs of <img src=x onerror=hacked=5>");
    assert_eq!(browser.errors(), Vec::<String>::new());
}
