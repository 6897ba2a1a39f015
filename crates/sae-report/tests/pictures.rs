//! Pictures on the pages, and the activations of their patches.

use std::fs;
use std::path::Path;

use sae_config::{FeatureContext, FeatureRecord, FeatureSet, Patch, PictureSet, Quantile};
use sae_report::{FeaturePages, Picture, SavedFeatures, Vocabulary};
use serde_json::json;

use crate::browser::Browser;
use crate::features::{data, set};

/// Pictures of 3 × 4 patches after a class token.
const GRID: PictureSet = PictureSet { rows: 3, columns: 4, first_patch: 1, per_file: 8 };

fn context(picture: u32, patches: &[(u32, f32)]) -> FeatureContext {
    let patch = |&(position, value): &(u32, f32)| Patch { position, value };
    let (position, value) = *patches.iter().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
    FeatureContext {
        row: u64::from(13 * picture + position),
        place: Some([picture, position]),
        value,
        patches: patches.iter().map(patch).collect(),
        ..FeatureContext::default()
    }
}

fn record(feature: u32) -> FeatureRecord {
    let top = vec![context(9, &[(0, 0.5), (1, 1.0), (12, 4.0)]), context(2, &[(6, 2.0)])];
    let quantiles = vec![Quantile { from: 0.1, to: 1.0, n: 1, contexts: vec![top[1].clone()] }; 5];
    FeatureRecord {
        feature,
        n_active: 4,
        max: 4.0,
        mean: 2.0,
        top,
        quantiles,
        ..FeatureRecord::default()
    }
}

fn jpeg() -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sae-hosts/testdata/images/kinds");
    fs::read(folder.join("subsampled.jpg")).unwrap()
}

fn write(folder: &Path) -> std::path::PathBuf {
    let mut pages = FeaturePages::create(folder, Vocabulary::default(), "key").unwrap();
    (0..2).for_each(|feature| pages.add(record(feature)).unwrap());
    assert_eq!(pages.pictures(), [2, 9]);
    let picture = |name: &str| Picture { name: name.into(), jpeg: jpeg() };
    assert!(!pages.has_pictures(0));
    pages.add_pictures(0, &[(2, picture("a/two \"<b>\".png"))]).unwrap();
    pages.add_pictures(1, &[(9, picture("nine.png"))]).unwrap();
    assert!(pages.has_pictures(0) && pages.has_pictures(1));
    let set =
        FeatureSet { n_features: 2, has_tokens: false, k_hat: None, pictures: Some(GRID), ..set() };
    pages.finish(&set, &[]).unwrap()
}

#[test]
fn pictures_come_back_and_lie_in_files_of_eight() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    let read = SavedFeatures::open(folder.path()).unwrap().read(0).unwrap();
    assert_eq!(read, [record(0), record(1)]);
    let first = data(folder.path(), "pictures/0");
    assert_eq!(first.as_array().unwrap().len(), 8);
    assert_eq!(first[2][0], "a/two \"<b>\".png");
    assert!(first[2][1].as_str().unwrap().starts_with("data:image/jpeg;base64,/9j/"));
    assert!(first[1].is_null() && data(folder.path(), "pictures/1")[1].is_array());
}

#[test]
fn a_browser_shows_pictures_with_patches_over_them() {
    let Some(mut browser) = Browser::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let page = write(folder.path());
    browser.open(&page);
    browser.until("document.querySelectorAll('#features tbody tr').length === 2");
    browser.value("location.hash = '#feature=1'");
    browser.until("document.querySelectorAll('.pictures img').length === 7");
    browser.until("[...document.querySelectorAll('ol.pictures')][0].querySelectorAll('img').length === 2 && [...document.querySelectorAll('ol.pictures')[0].querySelectorAll('img')].every((img) => img.complete && img.naturalWidth > 0)");
    let first = "document.querySelector('ol.pictures li')";
    let caption = browser.text(&format!("{first}.querySelector('figcaption').textContent"));
    assert_eq!(caption, "4 nine.png · class token 0.5");
    let rects = browser.value(&format!(
        "[...{first}.querySelectorAll('rect')].map((r) => [Number(r.getAttribute('x')), Number(r.getAttribute('y')), r.textContent])"
    ));
    assert_eq!(rects, json!([[0, 0, "row 0, column 0: 1"], [3, 2, "row 2, column 3: 4"]]));
    // The map covers the picture, and can be hidden.
    let covers = format!(
        "(() => {{ const [a, b] = ['img', '.map'].map((it) => {first}.querySelector(it).getBoundingClientRect()); \
         return a.width > 20 && ['x', 'y', 'width', 'height'].every((k) => Math.abs(a[k] - b[k]) < 1); }})()"
    );
    assert_eq!(browser.value(&covers), true);
    browser.value("[...document.querySelectorAll('button')].find((b) => b.textContent === 'Patch map').click()");
    let hidden =
        browser.text(&format!("getComputedStyle({first}.querySelector('.map')).visibility"));
    assert_eq!(hidden, "hidden");
    let alt =
        browser.text("document.querySelectorAll('ol.pictures li')[1].querySelector('img').alt");
    assert_eq!(alt, "a/two \"<b>\".png; active in 1 of its positions, most 2");
    assert_eq!(browser.barriers(), Vec::<String>::new());
    browser.screen(360, "dark");
    assert_eq!(browser.value("document.documentElement.scrollWidth <= 360"), true);
    assert_eq!(browser.errors(), Vec::<String>::new());
}
