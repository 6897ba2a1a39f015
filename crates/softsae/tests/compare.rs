//! `softsae compare`: two seeds, two widths, what does not belong together.

use std::fs;

use sae_config::Comparison;

use crate::{fail, plant, run_toml, str, succeed};

#[test]
fn seeds_and_widths_are_compared() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    plant(&at("store"), 4000, 16);
    plant(&at("other"), 500, 12);
    let train = |name: &str, store: &str, change: (&str, &str)| {
        let text = run_toml(&at(store), "name = 'topk'\nk = 3", 400).replace(change.0, change.1);
        fs::write(at(name).with_extension("toml"), text).expect("writes");
        succeed(["train", str(&at(name).with_extension("toml")), "--out", str(&at(name))]);
    };
    train("a", "store", ("lr = 1e-3", "lr = 1e-2\nseed = 1"));
    train("b", "store", ("lr = 1e-3", "lr = 1e-2\nseed = 2"));
    train("narrow", "store", ("n_features = 256", "n_features = 32"));
    train("small", "other", ("", ""));
    let checkpoint = |name: &str| at(name).join("checkpoint");
    let [a, b, narrow, small] = ["a", "b", "narrow", "small"].map(checkpoint);
    let (store, out) = (at("store"), at("comparison.json"));
    let compared = |args: &[&str]| -> Comparison {
        let args = ["compare"].into_iter().chain(args.iter().copied());
        let told = succeed(args.chain(["--out", str(&out)]));
        assert!(told.contains("PW-MCC") && told.contains("random directions"), "{told}");
        sae_config::read_json(&out).expect("a comparison")
    };
    let seeds = compared(&[str(&a), str(&b)]);
    assert_eq!(seeds.n_features, [256, 256]);
    let active = compared(&[str(&a), str(&b), "--data", str(&store)]);
    assert!(active.n_features.iter().all(|n| *n > 8 && *n < 256), "{:?}", active.n_features);
    // Features that are used are found by both seeds; those that never are stay where they began.
    assert!(active.scores.pw_mcc > active.floor.pw_mcc + 0.1, "{active:?}");
    let same = compared(&[str(&a), str(&a)]);
    assert!((same.scores.pw_mcc - 1.0).abs() < 1e-9 && same.fates.kept == 256);
    let widths = compared(&[str(&a), str(&narrow)]);
    let f = widths.fates;
    assert_eq!((f.kept + f.split + f.changed + f.lost, widths.features.len()), (32, 32));

    fail(["compare", str(&a), str(&small)], 2, &["expected features of dimension 16", "got 12"]);
    let other = at("other");
    let data = ["compare", str(&a), str(&b), "--data", str(&other)];
    fail(data, 2, &["expected rows of dimension 16"]);
    let inside = a.join("comparison.json");
    fail(["compare", str(&a), str(&b), "--out", str(&inside)], 2, &["--out", "no part of"]);
    fail(["compare", str(&a), str(&at("none"))], 2, &["none"]);
}
