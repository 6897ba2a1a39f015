//! What a judge is asked, against direct computations.

use std::collections::BTreeSet;

use sae_report::{Error, FeaturePages, SavedFeatures, Tasks, Vocabulary};

use crate::features::{N_FEATURES, activation, order, pool, record, set, window, write};

/// The pieces of a text that are marked.
fn marked<'a>(text: &'a str, [before, after]: [&str; 2]) -> Vec<&'a str> {
    text.split(before).skip(1).map(|rest| rest.split_once(after).expect("an end").0).collect()
}

#[test]
fn items_say_where_the_feature_is_active() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    let pages = SavedFeatures::open(folder.path()).unwrap();
    let mut tasks = Tasks::open(&pages).unwrap();
    let (mut n_tasks, mut orders) = (0, BTreeSet::new());
    for feature in 0..N_FEATURES {
        let order = order(feature);
        let held_out = record(feature).held_out;
        let Some(found) = tasks.of(feature).unwrap() else {
            assert!(held_out.active.is_empty() || held_out.inactive.is_empty(), "{feature}");
            continue;
        };
        n_tasks += 1;
        assert_eq!((found.feature, found.n_active), (feature, order.len() as u64));
        assert_eq!((&*found.checkpoint_hash, &*found.store_hash), ("c0", "5e"));
        let marks = [&*found.marks[0], &*found.marks[1]];
        // Those of the largest activations come first.
        assert!(found.examples.len() >= 10);
        for (example, row) in found.examples.iter().zip(&order[..10]) {
            let n_strong = strong(*row, feature).len();
            assert_eq!(example.tokens.len(), n_strong);
            assert!(marked(&example.text, marks).len() <= n_strong);
            assert!(example.tokens.iter().all(|(_, tenths)| (1..=10).contains(tenths)));
        }
        assert!(found.examples[0].tokens.iter().any(|(_, tenths)| *tenths == 10));
        let n = held_out.active.len() + held_out.inactive.len();
        assert_eq!((found.detection.len(), found.fuzzing.len()), (n, n));
        let mut n_marked = (0, 0);
        for (item, fuzzed) in found.detection.iter().flat_map(|item| {
            found.fuzzing.iter().filter(|other| other.row == item.row).map(move |of| (item, of))
        }) {
            let is_active = window(item.row as u32).any(|row| activation(row, feature) > 0.0);
            assert_eq!((item.active, fuzzed.active), (is_active, is_active), "{feature}");
            assert_eq!((item.fifth.is_some(), fuzzed.fifth), (is_active, item.fifth));
            assert_eq!(fuzzed.text.replace(marks[0], "").replace(marks[1], ""), item.text);
            let pieces = marked(&fuzzed.text, marks).len();
            assert!(pieces > 0 && marked(&item.text, marks).is_empty());
            if is_active {
                n_marked = (n_marked.0 + strong(item.row as u32, feature).len(), n_marked.1 + 1);
            }
        }
        assert_eq!(n_marked.1, held_out.active.len());
        orders.insert(found.detection.iter().map(|item| item.active).collect::<Vec<_>>());
    }
    assert!(n_tasks > 100 && orders.len() > 50, "{n_tasks} {}", orders.len());
}

/// The rows around one in which the feature has at least 0.3 of the largest activation there.
fn strong(row: u32, feature: u32) -> Vec<u32> {
    let most = window(row).map(|row| activation(row, feature)).fold(0.0, f32::max);
    window(row).filter(|row| activation(*row, feature) >= 0.3 * most.max(1e-9)).collect()
}

#[test]
fn marks_are_none_that_texts_have() {
    let folder = tempfile::tempdir().unwrap();
    for (name, piece, expected) in
        [("plain", " a", "<<"), ("code", " <<", "⟦"), ("both", "⟧>>", "⟪")]
    {
        let folder = folder.path().join(name);
        let texts = (0..20).map(|id| (id, piece.as_bytes().to_vec()));
        let mut pages = FeaturePages::create(&folder, Vocabulary::new(texts, []), "key").unwrap();
        (0..40).for_each(|feature| pages.add(record(feature)).unwrap());
        let set = sae_config::FeatureSet { n_features: 40, ..set() };
        pages.finish(&set, &pool()).unwrap();
        let pages = SavedFeatures::open(&folder).unwrap();
        let found = Tasks::open(&pages).unwrap().of(39).unwrap().expect("tasks");
        assert_eq!(found.marks[0], expected);
        assert!(found.fuzzing.iter().all(|item| item.text.contains(expected)));
        assert!(found.detection.iter().all(|item| !item.text.contains(expected)));
    }
}

#[test]
fn pages_without_texts_have_no_tasks() {
    let folder = tempfile::tempdir().unwrap();
    let mut pages = FeaturePages::create(folder.path(), Vocabulary::default(), "key").unwrap();
    pages.add(record(0)).unwrap();
    pages.finish(&sae_config::FeatureSet { n_features: 1, ..set() }, &pool()).unwrap();
    let pages = SavedFeatures::open(folder.path()).unwrap();
    let error = Tasks::open(&pages).unwrap_err();
    assert!(matches!(error, Error::Export { .. }), "{error}");
    assert!(error.to_string().contains("made with --host"), "{error}");
}

#[test]
fn samples_are_of_active_features_and_hold_smaller_ones() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    let pages = SavedFeatures::open(folder.path()).unwrap();
    let alive: BTreeSet<u32> = (0..N_FEATURES).filter(|f| !order(*f).is_empty()).collect();
    let all = pages.sample(1000);
    assert_eq!(all.iter().copied().collect::<BTreeSet<u32>>(), alive);
    assert_eq!(pages.sample(30), all[..30]);
    assert!(!all.is_sorted());
}
