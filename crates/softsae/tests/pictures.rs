//! Feature pages of pictures: a real vision model, its patches against the codes, and the page in Chromium.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use self::browser::Browser;
use crate::features::{data, encoded, files, host};
use crate::{fail, plant, run_toml, str, succeed};

#[path = "../../sae-report/tests/browser.rs"]
#[expect(dead_code, reason = "the tests of the pages themselves use more of it")]
mod browser;

/// The images in the order of their names.
const NAMES: [&str; 4] = ["a/grey.png", "a/wide.png", "b/tall.png", "b/transparent.png"];

/// The real model that `cargo xtask test` fetches.
fn vit() -> PathBuf {
    let path = std::env::var_os("SOFTSAE_VIT");
    path.expect("SOFTSAE_VIT names the ONNX file; `cargo xtask test` fetches it").into()
}

/// Copies the images, and harvests and trains on them.
fn made(folder: &Path, positions: &str) {
    let at = |name: &str| folder.join(name);
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sae-hosts/testdata/images/photos");
    for name in NAMES {
        let to = at("photos").join(name);
        fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
        fs::copy(from.join(name), to).expect("an image");
    }
    let (host, images, store) = (vit(), at("photos"), at("store"));
    let harvest = ["harvest", "--host", str(&host), "--images", str(&images), "--out", str(&store)];
    let what = ["--hook", "resid_post.8", "--positions", positions, "--background", "white"];
    succeed(harvest.into_iter().chain(what));
    fs::write(at("run.toml"), run_toml(&store, "name = \"topk\"\nk = 4", 20)).expect("writes");
    succeed(["train", str(&at("run.toml")), "--out", str(&at("run"))]);
}

fn features<'a>(checkpoint: &'a Path, store: &'a Path, out: &'a Path) -> Vec<&'a str> {
    vec!["features", str(checkpoint), "--data", str(store), "--out", str(out)]
}

/// The contexts of a feature: of each picture in which it is active the positions and values, the
/// picture of the largest first.
fn expected(codes: &[Vec<f32>], feature: usize, first: usize) -> Vec<(usize, Vec<(usize, f32)>)> {
    let n_positions = codes.len() / NAMES.len();
    let of_picture = |(picture, rows): (usize, &[Vec<f32>])| {
        let values = rows.iter().enumerate().map(|(at, row)| (first + at, row[feature]));
        (picture, values.filter(|(_, value)| *value != 0.0).collect::<Vec<_>>())
    };
    let mut found: Vec<_> = codes.chunks(n_positions).enumerate().map(of_picture).collect();
    found.retain(|(_, patches)| !patches.is_empty());
    let most = |patches: &[(usize, f32)]| patches.iter().map(|of| of.1).fold(0.0, f32::max);
    found.sort_by(|a, b| most(&b.1).total_cmp(&most(&a.1)));
    found
}

#[test]
fn pages_of_a_real_vision_model_show_its_pictures_and_patches() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    for (positions, first) in [("patches", 1), ("all", 0)] {
        made(folder.path(), positions);
        let (checkpoint, store, out) = (at("run/checkpoint"), at("store"), at(positions));
        let (host, images) = (vit(), at("photos"));
        let with = ["--host", str(&host), "--images", str(&images)];
        succeed(features(&checkpoint, &store, &out).into_iter().chain(with));
        let codes = encoded(&checkpoint, &store, &at("codes"));
        let set = data(&out, "index")["set"].clone();
        let grid = &set["pictures"];
        let edge = (codes.len() / NAMES.len()).isqrt();
        assert_eq!((&grid["rows"], &grid["columns"]), (&json!(edge), &json!(edge)));
        assert_eq!((&grid["first_patch"], &set["n_contexts"]), (&json!(1), &json!(4)));
        let pictures = data(&out, "pictures/0");
        for (number, name) in NAMES.iter().enumerate() {
            assert_eq!(pictures[number][0], *name);
        }
        let mut shown = None;
        for feature in 0..256 {
            let record = &data(&out, &format!("features/{}", feature / 64))[feature % 64];
            let expected = expected(&codes, feature, first);
            let top = record["top"].as_array().expect("contexts");
            assert_eq!(top.len(), expected.len(), "feature {feature}");
            for (found, (picture, patches)) in top.iter().zip(&expected) {
                assert_eq!(found[1][0], *picture);
                let found: Vec<(usize, f32)> =
                    serde_json::from_value(found[5].clone()).expect("positions and values");
                assert_eq!(found, *patches);
            }
            if expected.len() > 1 {
                shown.get_or_insert((feature, expected));
            }
        }
        let (feature, expected) = shown.expect("a feature of two pictures");
        in_a_browser(&out, feature, &expected);
        fs::remove_dir_all(&store).expect("removed");
        fs::remove_dir_all(at("run")).expect("removed");
        fs::remove_dir_all(at("codes")).expect("removed");
    }
}

fn in_a_browser(out: &Path, feature: usize, expected: &[(usize, Vec<(usize, f32)>)]) {
    let Some(mut browser) = Browser::start() else { return };
    browser.open(&out.join("features.html"));
    browser.until("document.querySelectorAll('#features tbody tr').length > 0");
    browser.value(&format!("location.hash = '#feature={feature}'"));
    let images = "[...document.querySelector('ol.pictures').querySelectorAll('img')]";
    browser.until("document.querySelector('ol.pictures') !== null");
    browser.until(&format!("{images}.every((one) => one.complete && one.naturalWidth === 160)"));
    let names = browser.value(&format!("{images}.map((one) => one.alt.split(';')[0])"));
    let pictures: Vec<&str> = expected.iter().map(|(picture, _)| NAMES[*picture]).collect();
    assert_eq!(names, json!(pictures));
    let patches = browser.value(
        "[...document.querySelector('ol.pictures').querySelectorAll('svg')].map((map) => map.querySelectorAll('rect').length)",
    );
    let is_patch = |position: &usize| *position > 0;
    let counts: Vec<usize> = expected
        .iter()
        .map(|(_, patches)| patches.iter().filter(|(position, _)| is_patch(position)).count())
        .collect();
    assert_eq!(patches, json!(counts));
    assert_eq!(browser.barriers(), Vec::<String>::new());
    browser.picture("features-pictures");
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn pictures_that_are_not_those_of_the_store_are_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    made(folder.path(), "patches");
    let (checkpoint, store, out) = (at("run/checkpoint"), at("store"), at("pages"));
    let (of_images, images) = (vit(), at("photos"));
    let refused = |host: &Path, images: &Path, words: &[&str]| {
        let with = ["--host", str(host), "--images", str(images)];
        fail(features(&checkpoint, &store, &out).into_iter().chain(with), 2, words);
        assert!(!out.exists());
    };
    refused(&of_images, &at("nowhere"), &["nowhere/a/grey.png"]);
    host(&at("llama"), "llama");
    refused(&at("llama"), &images, &["--host", "expected a vision model"]);
    host(&at("vit"), "vit");
    refused(&at("vit"), &images, &["host: expected", "--elsewhere"]);
    let image = images.join("a/wide.png");
    let whole = fs::read(&image).expect("reads");
    fs::copy(images.join("a/grey.png"), &image).expect("another image");
    refused(&of_images, &images, &["a/wide.png", "expected the image that was harvested"]);
    fs::write(&image, whole).expect("writes");
    let without = features(&checkpoint, &store, &out).into_iter();
    fail(without.clone().chain(["--images", str(&images)]), 2, &["--host"]);
    let with_host = ["--host", str(&of_images)];
    fail(without.clone().chain(with_host), 2, &["--host", "or --images with a vision model"]);

    // A store of texts or of planted features has no pictures.
    plant(&at("planted"), 50, 384);
    let planted = at("planted");
    let of_planted = features(&checkpoint, &planted, &out).into_iter();
    let with = ["--host", str(&of_images), "--images", str(&images), "--elsewhere"];
    fail(of_planted.chain(with), 2, &["--images: expected a store that was harvested of images"]);

    succeed(without);
    let index: Value = data(&out, "index");
    assert!(index["set"]["notes"].to_string().contains("no --images"), "{index}");
    assert!(index["set"]["pictures"].is_null());
    assert!(files(&out).keys().all(|name| !name.starts_with("features-data/pictures")));
}
