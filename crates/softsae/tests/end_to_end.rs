//! Harvest, inspect, train, resume, eval and encode on SmolLM2; the same of images on a tiny host.

use std::fs;
use std::path::Path;

use sae_config::Evaluation;

use crate::{fail, run_toml, smollm2, softsae, str, succeed};

/// Public-domain prose (Dickens, A Tale of Two Cities) and the shape of a list.
const TEXT: &str = "It was the best of times, it was the worst of times, it was the age of wisdom, \
    it was the age of foolishness, it was the epoch of belief, it was the epoch of incredulity, \
    it was the season of Light, it was the season of Darkness, it was the spring of hope, it was \
    the winter of despair, we had everything before us, we had nothing before us, we were all \
    going direct to Heaven, we were all going direct the other way.\n";

#[test]
fn from_text_to_cross_entropy_recovered() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    let prose = at("a text, with spaces é.txt");
    let long: String = (0..12).map(|i| format!("Chapter {i}. {TEXT}")).collect();
    fs::write(&prose, long).expect("writes");
    let (host, store, codes) = (smollm2(), at("store"), at("codes"));

    let hook = ["--hook", "resid_post.3", "--context-length", "64"];
    let harvest = ["harvest", "--host", str(&host), "--text", str(&prose), "--out", str(&store)];
    succeed(harvest.into_iter().chain(hook));
    let inspected = succeed(["inspect", str(&store)]);
    assert!(inspected.contains("576") && inspected.contains("resid_post.3"), "{inspected}");

    let mut fidelity = Vec::new();
    for (k, architecture) in [
        (4, "name = \"topk\"\nk = 4"),
        (32, "name = \"topk\"\nk = 32"),
        (16, "name = \"batch_topk\"\nk = 16"),
        (16, "name = \"soft\"\nk = 16\nhard_steps = 10"),
    ] {
        let (config, run) = (at("run.toml"), at(&format!("run-{}", fidelity.len())));
        fs::write(&config, run_toml(&store, architecture, 60)).expect("writes");
        succeed(["train", str(&config), "--out", str(&run)]);
        let (checkpoint, out) = (run.join("checkpoint"), run.join("eval.json"));
        let data = ["eval", str(&checkpoint), "--data", str(&store), "--out", str(&out)];
        let splice = ["--host", str(&host), "--text", str(&prose), "--context-length", "64"];
        let bound = ["--max-tokens", "192"];
        let printed = succeed(data.into_iter().chain(splice).chain(bound));
        assert!(printed.contains("CE recovered"), "{printed}");
        let evaluation: Evaluation = sae_config::read_json(&out).expect("a result");
        check(&evaluation, k as f64, architecture);
        fidelity.push(evaluation.reconstruction.r2);
    }
    assert!(fidelity[1] > fidelity[0], "R² must rise with k: {fidelity:?}");

    let checkpoint = at("run-3").join("checkpoint");
    succeed(["encode", str(&checkpoint), "--data", str(&store), "--out", str(&codes)]);
    assert!(codes.join("codes.json").is_file() && codes.join("codes-00000.safetensors").is_file());
    assert!(succeed(["inspect", str(&checkpoint)]).contains("k_estimator"));
}

fn check(evaluation: &Evaluation, k: f64, architecture: &str) {
    let l0 = evaluation.sparsity.l0_mean;
    let slack = if architecture.contains("\"topk\"") { 1e-9 } else { k };
    assert!((l0 - k).abs() <= slack, "{architecture}: L0 {l0}, expected about {k}");
    let r2 = evaluation.reconstruction.r2;
    assert!(r2 > 0.0 && r2 < 1.0, "{architecture}: R² {r2}");
    let ce = evaluation.cross_entropy.as_ref().expect("a host was given");
    assert!(ce.clean < ce.spliced && ce.spliced < ce.zero, "{architecture}: {ce:?}");
}

#[test]
fn from_images_to_an_evaluation() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    let hosts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sae-hosts/testdata");
    let host = at("dinov2-tiny");
    fs::create_dir(&host).expect("a folder");
    for (from, file) in [
        ("golden/hosts/dinov2", "config.json"),
        ("golden/hosts/dinov2", "model.safetensors"),
        ("images/dinov2", "preprocessor_config.json"),
    ] {
        fs::copy(hosts.join(from).join(file), host.join(file)).expect("a golden file");
    }
    let (photos, store) = (hosts.join("images/photos"), at("store"));
    let harvest = ["harvest", "--host", str(&host), "--images", str(&photos)];
    let more = ["--hook", "resid_post.1", "--out", str(&store), "--positions", "all"];
    let printed = succeed(harvest.into_iter().chain(more));
    assert!(printed.ends_with("68 rows from 4 images\n"), "{printed}");
    let config = at("run.toml");
    fs::write(&config, run_toml(&store, "name = \"soft\"\nk = 3", 20)).expect("writes");
    let run = at("run");
    succeed(["train", str(&config), "--out", str(&run)]);
    let printed = succeed(["eval", str(&run.join("checkpoint")), "--data", str(&store)]);
    assert!(printed.contains("rows            68"), "{printed}");
    on_images(&host, &photos, &run.join("checkpoint"), &store, folder.path());

    let other = at("other");
    let harvest = harvest.into_iter().chain(["--hook", "resid_post.1", "--out", str(&other)]);
    fail(harvest.clone().chain(["--context-length", "9"]), 2, &["--images", "--context-length"]);
    fail(harvest.clone().chain(["--max-images", "0"]), 2, &["--max-images"]);
    let printed = succeed(harvest.chain(["--max-images", "3"]));
    assert!(printed.ends_with("48 rows from 3 images\n"), "{printed}");
    fs::remove_file(host.join("preprocessor_config.json")).expect("a file");
    let out = at("out");
    let blind = ["harvest", "--host", str(&host), "--images", str(&photos)];
    let blind = blind.into_iter().chain(["--hook", "resid_post.1", "--out", str(&out)]);
    fail(blind, 2, &["preprocessor_config.json"]);
    assert!(!out.exists(), "nothing may be written");
    let neither = ["harvest", "--host", str(&host), "--hook", "resid_post.1", "--out", str(&out)];
    fail(neither, 2, &["--text <FILE>|--corpus <PATH>|--images <DIR>"]);
}

/// Embeddings of images with the reconstruction spliced in, and images that cannot be read.
fn on_images(host: &Path, photos: &Path, checkpoint: &Path, store: &Path, folder: &Path) {
    let out = folder.join("eval.json");
    let eval = |images: &Path| {
        ["eval", str(checkpoint), "--data", str(store), "--host", str(host), "--out", str(&out)]
            .map(str::to_owned)
            .into_iter()
            .chain(["--images".to_owned(), str(images).to_owned()])
            .collect::<Vec<_>>()
    };
    let args = eval(photos);
    let printed = succeed(args.iter().map(String::as_str));
    assert!(printed.contains("over 4 images") && printed.contains("class_token"), "{printed}");
    let evaluation: Evaluation = sae_config::read_json(&out).expect("a result");
    let images = evaluation.images.expect("images were given");
    assert!(images.cosine < 1.0 && images.cosine > -1.0, "{images:?}");
    assert_eq!(images.labels.as_ref().map(|labels| labels.n_labels), Some(2));

    let broken = folder.join("broken");
    fs::create_dir_all(broken.join("a")).expect("a folder");
    fs::copy(photos.join("a/wide.png"), broken.join("a/wide.png")).expect("an image");
    fs::write(broken.join("a/broken.png"), b"\x89PNG\r\n\x1a\nnothing").expect("writes");
    fail(eval(&broken).iter().map(String::as_str), 2, &["broken.png", "decoded"]);
    let empty = folder.join("empty");
    fs::create_dir(&empty).expect("a folder");
    fail(eval(&empty).iter().map(String::as_str), 2, &["empty", "expected files that end in"]);
    let alone = ["eval", str(checkpoint), "--data", str(store), "--images", str(photos)];
    fail(alone, 2, &["--host"]);

    let rest = folder.join("rest");
    let harvest = ["harvest", "--host", str(host), "--images", str(&broken), "--hook"];
    let harvest = harvest.into_iter().chain(["resid_post.1", "--out", str(&rest)]);
    fail(harvest.clone(), 2, &["broken.png", "decoded"]);
    let output = softsae(harvest.chain(["--skip-broken", "--background", "white"]));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("skipped 1 of 2 images"), "{said}");
    assert!(said.contains("skipped: ") && said.contains("broken.png: image:"), "{said}");
    let inspected = succeed(["inspect", str(&rest)]);
    assert!(
        inspected.contains("skipped_images") && inspected.contains("a/broken.png"),
        "{inspected}"
    );
    assert!(inspected.contains("background") && inspected.contains("white"), "{inspected}");
}
