//! Pages whose making was cut off.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use sae_config::FeatureSet;
use sae_report::{Error, FeaturePages};

use crate::features::{N_FEATURES, N_ROWS, data, pool, record, set, vocabulary, write};

#[test]
fn pages_appear_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let create = |key: &str| FeaturePages::create(folder.path(), vocabulary(), key).unwrap();
    let mut pages = create("key");
    (0..100).for_each(|feature| pages.add(record(feature)).unwrap());
    drop(pages);
    assert!(!at("features.html").exists() && !at("features-data").exists());
    write(folder.path());
    assert!(!at("features-data.partial").exists());
    // An earlier page stays until the new one is whole.
    fs::write(at("mine.txt"), "mine").unwrap();
    let mut pages = create("another");
    pages.add(record(0)).unwrap();
    assert_eq!(data(folder.path(), "index")["set"]["n_rows"], N_ROWS);
    let other = FeatureSet { n_rows: 7, n_features: 1, ..set() };
    pages.finish(&other, &[]).unwrap();
    assert_eq!(data(folder.path(), "index")["set"]["n_rows"], 7);
    assert!(!at("features-data/features/1.js").exists(), "nothing is left of the old data");
    assert_eq!(fs::read_to_string(at("mine.txt")).unwrap(), "mine");
    // A folder of somebody else is not replaced.
    fs::remove_file(at("features-data/index.js")).unwrap();
    let refused = FeaturePages::create(folder.path(), vocabulary(), "key").unwrap_err();
    assert!(matches!(refused, Error::Occupied { .. }), "{refused}");
}

/// All files below a folder, by name.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => drop(found.insert(path.clone(), fs::read(path).unwrap())),
        }
    }
    found
}

#[test]
fn pages_that_were_begun_are_gone_on_with_and_end_in_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    let expected = files(folder.path());
    // Killed after so many features, perhaps while a file was written.
    for (n_added, damaged, n_kept) in [
        (0, None, 0),
        (63, None, 0),
        (64, None, 64),
        (200, None, 192),
        (200, Some("features/2.js"), 128),
        (200, Some("held-out/1.js"), 64),
        (200, Some("features/0.js"), 0),
        (260, None, 256),
    ] {
        let mut pages = FeaturePages::create(folder.path(), vocabulary(), "key").unwrap();
        (0..n_added).for_each(|feature| pages.add(record(feature)).unwrap());
        drop(pages);
        let partial = folder.path().join("features-data.partial");
        if let Some(name) = damaged {
            let path = partial.join(name);
            let whole = fs::read(&path).unwrap();
            fs::write(&path, &whole[..whole.len() - 9]).unwrap();
        }
        let mut pages = FeaturePages::create(folder.path(), vocabulary(), "key").unwrap();
        assert_eq!(pages.n_features(), n_kept, "{n_added} {damaged:?}");
        fs::write(pages.scratch().join("codes"), "x").unwrap();
        (n_kept as u32..N_FEATURES).for_each(|feature| pages.add(record(feature)).unwrap());
        assert_eq!(pages.n_features(), N_FEATURES as usize);
        pages.finish(&set(), &pool()).unwrap();
        assert_eq!(files(folder.path()), expected, "{n_added} {damaged:?}");
    }
    let mut pages = FeaturePages::create(folder.path(), vocabulary(), "key").unwrap();
    (0..200).for_each(|feature| pages.add(record(feature)).unwrap());
    drop(pages);
    let pages = FeaturePages::create(folder.path(), vocabulary(), "other").unwrap();
    assert_eq!(pages.n_features(), 0);
}

/// Whichever of the steps in which new data take the place of earlier ones was the last.
#[test]
fn nothing_is_lost_where_new_pages_take_the_place_of_earlier_ones() {
    for n_steps in 0..6 {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let create = |key: &str| FeaturePages::create(folder.path(), vocabulary(), key).unwrap();
        write(folder.path());
        let earlier = files(&at("features-data"));
        let mut pages = create("new");
        (0..N_FEATURES).for_each(|feature| pages.add(record(feature)).unwrap());
        fs::write(pages.scratch().join("codes"), "x").unwrap();
        drop(pages);
        let index = at("features-data.partial/index.js");
        fs::copy(at("features-data/index.js"), index).unwrap();
        let steps: [&dyn Fn(); 5] = [
            &|| fs::remove_file(at("features.html")).unwrap(),
            &|| fs::rename(at("features-data"), at("features-data.earlier")).unwrap(),
            &|| fs::rename(at("features-data.partial"), at("features-data")).unwrap(),
            &|| fs::write(at("features.html"), "new").unwrap(),
            &|| fs::remove_dir_all(at("features-data/pass")).unwrap(),
        ];
        steps[..n_steps].iter().for_each(|step| step());
        let pages = create("new");
        assert!(!at("features-data.earlier").exists());
        if n_steps < 4 {
            // What was computed is gone on with, and the earlier data are in their place.
            assert_eq!(pages.n_features(), 256, "{n_steps}");
            assert_eq!(fs::read_to_string(pages.scratch().join("codes")).unwrap(), "x");
            assert_eq!(files(&at("features-data")), earlier, "{n_steps}");
        } else {
            // The new page is there, and nothing beside its data.
            assert_eq!(fs::read_to_string(at("features.html")).unwrap(), "new");
            let left = ["key", "pass"].map(|name| at("features-data").join(name).exists());
            assert_eq!(left, [false; 2], "{n_steps}");
        }
    }
}
