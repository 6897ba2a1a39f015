//! Feature pages at the end of a sweep.

use std::fs;
use std::path::{Path, PathBuf};

use crate::bench::Bench;

/// The run of highest R² among those of k = 2.
fn best(bench: &Bench) -> String {
    let results = bench.results();
    let of_k = results.iter().filter(|run| run["config"]["architecture"]["k"] == 2);
    let r2 = |run: &&serde_json::Value| {
        run["evaluation"]["reconstruction"]["r2"].as_f64().expect("a number")
    };
    let best = of_k.max_by(|a, b| r2(a).total_cmp(&r2(b))).expect("a run");
    best["run_id"].as_str().expect("an id").to_owned()
}

fn pages(bench: &Bench) -> Vec<PathBuf> {
    let all = bench.runs().into_iter().map(|run| run.join("features/features.html"));
    all.filter(|page| page.exists()).collect()
}

#[test]
fn the_best_run_gets_pages_once_and_they_cost_no_run_anything() {
    let bench = Bench::new();
    let file = bench.write("mine.toml", 20, "k = [2, 4]\nseed = [0, 1]");
    let plain = fs::read_to_string(&file).expect("reads");
    let (_, before) = bench.asks(&["sweep", "mine.toml", "--dry-run"]);
    let with = |k: usize| {
        let table = format!("{plain}[features]\narchitectures = ['topk']\nk = {k}\n");
        fs::write(&file, table).expect("writes");
    };
    with(3);
    let (code, said) = bench.asks(&["sweep", "mine.toml", "--dry-run"]);
    assert!(code == Some(2) && said.contains("features.architectures"), "{said}");
    with(2);
    let (_, said) = bench.asks(&["sweep", "mine.toml", "--dry-run"]);
    assert_eq!(said, before, "the same runs");

    bench.ends(&file, &[], 0, &["feature pages of", "features of "]);
    let page = bench.at("out/runs").join(best(&bench)).join("features/features.html");
    assert_eq!(pages(&bench), [page.canonicalize().expect("it is there")]);
    let written = || fs::metadata(&page).expect("it is there").modified().expect("a time");
    let (time, link) = (written(), format!("runs/{}/features/features.html", best(&bench)));
    let report = || fs::read_to_string(bench.at("out/report.html")).expect("reads");
    assert!(report().contains(&link));

    bench.ends(&file, &[], 0, &["0 of 4 runs to do", &link]);
    assert_eq!(written(), time, "not made again");
    let folder = page.parent().expect("a folder");
    fs::remove_dir_all(folder).expect("removed");
    fs::write(folder, "in the way").expect("writes");
    bench.ends(&file, &[], 0, &["0 of 4 runs to do", "could not be made"]);
    assert!(pages(&bench).is_empty() && !report().contains(&link));
}

/// Four pictures, two to train on, and the real model that `cargo xtask test` fetches.
#[test]
fn a_sweep_over_images_hands_its_pictures_on() {
    let bench = Bench::new();
    let vit = std::env::var("SOFTSAE_VIT");
    let vit = vit.expect("SOFTSAE_VIT names the ONNX file; `cargo xtask test` fetches it");
    let photos = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../crates/sae-hosts/testdata/images/photos")
        .canonicalize()
        .expect("the pictures of sae-hosts");
    let text = format!(
        "[host]\npath = {vit:?}\n[harvest]\nhook = 'resid_post.8'\n\
         [images]\ntrain = {:?}\nheld_out = {:?}\n[base]\n\
         architecture = {{ name = 'topk', k = 4 }}\nsae.n_features = 32\n\
         [base.training]\nsteps = 5\nbatch_size = 32\n[axes]\nseed = [0]\n\
         [features]\narchitectures = ['topk']\nk = 4\n",
        photos.join("a"),
        photos.join("b"),
    );
    let file = bench.at("images.toml");
    fs::write(&file, text).expect("writes");
    bench.ends(&file, &[], 0, &["features of "]);
    let data = bench.runs()[0].join("features/features-data");
    let pictures = fs::read_to_string(data.join("pictures/0.js")).expect("reads");
    assert!(pictures.contains("tall.png") && !pictures.contains("wide.png"), "held-out ones");
    let index = fs::read_to_string(data.join("index.js")).expect("reads");
    assert!(index.contains("\"first_patch\":1"), "the grid of patches is known");
}
